"""The log: what a replica knows of each batch between the water marks."""

from collections.abc import Iterator
from typing import Final

from bench.baselines.pbft.core.macs import Tags
from bench.baselines.pbft.core.messages import Entry


class Slot:
    """One sequence number."""

    __slots__ = (
        "batch",
        "commits",
        "committed",
        "digest",
        "early_commits",
        "early_prepares",
        "entries",
        "macs",
        "missing",
        "prepared",
        "prepares",
        "sequence",
        "tags",
        "tags_to_be",
    )

    def __init__(self, sequence: int) -> None:
        self.sequence: Final = sequence
        self.tags: Tags | None = None
        """Set when the batch is there with all its bundles: only then are votes looked at."""
        self.tags_to_be: Tags | None = None
        self.digest = b""
        self.batch = b""
        """As it travels."""
        self.entries: list[Entry] = []
        """All of it, once ``tags`` are set."""
        self.macs: tuple[tuple[bytes, ...], ...] = ()
        """At the primary, for sending it again: by replica, the clients' MACs for it."""
        self.missing: set[bytes] = set()
        """Digests of bundles that the clients have not sent yet."""
        self.prepares = 0
        """Bitmap of the backups whose PREPARE is valid."""
        self.commits = 0
        self.early_prepares: dict[int, bytes] = {}
        """What came before the batch."""
        self.early_commits: dict[int, bytes] = {}
        self.prepared = False
        self.committed = False


class Log:
    """The slots between the water marks, and those of the interval before: where messages are lost, replicas that have
    fallen behind by no more than that are helped without a state transfer.
    """

    def __init__(self, start: int, batches_max: int) -> None:
        self.low = start
        """The newest stable checkpoint."""
        self._kept_from = start
        self._batches_max = batches_max
        self._slots: dict[int, Slot] = {}

    @property
    def high(self) -> int:
        """The last sequence number that may be talked about."""
        return self.low + self._batches_max

    def find(self, sequence: int) -> Slot | None:
        """A slot that something has been heard of."""
        return self._slots.get(sequence)

    def slot(self, sequence: int) -> Slot | None:
        """The slot of a sequence number, None when it is forgotten or beyond the water marks."""
        slot = self._slots.get(sequence)
        if slot is None and self.low < sequence <= self.low + self._batches_max:
            slot = self._slots[sequence] = Slot(sequence)
        return slot

    def above(self, sequence: int, count_max: int) -> Iterator[Slot]:
        """Some slots behind a sequence number, in order."""
        for number in range(max(sequence, self._kept_from) + 1, min(sequence + count_max, self.high) + 1):
            slot = self._slots.get(number)
            if slot is not None:
                yield slot

    def stabilise(self, sequence: int) -> list[Slot]:
        """The low water mark rises to a stable checkpoint; the slots that are forgotten."""
        first, last = self._kept_from + 1, self.low
        self._kept_from, self.low = self.low, sequence
        return [self._slots.pop(number) for number in range(first, last + 1) if number in self._slots]

    def __len__(self) -> int:
        return len(self._slots)
