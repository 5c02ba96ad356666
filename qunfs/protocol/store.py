"""What a replica asks of its store, and the parts every store is made of.

At the bottom lies one ordered map of bytes with a log in front (:class:`Rows`), in memory or on disk.
:mod:`qunfs.protocol.versions` keeps all versions of all objects in it.  A method sees one version through an
:class:`Overlay`, whose writes stay its own until the replica accepts the operation.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from mypy_extensions import mypyc_attr

from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import LogicalTimestamp, ReplicaHistory

Difference = Mapping[bytes, bytes | None]
"""Keys that change and their new values; None where the key goes away."""

Changes = dict[bytes, tuple[bytes | None, bytes | None]]
"""Per key that differs: the value before and the value after, None where the key is absent."""

FlatChanges = list[bytes | None]
"""The same one behind the other: key, before, after, key, before, after ..."""

KEY_BYTES_MAX: Final = 480
"""The longest key of an object's state: LMDB takes 511 bytes and the store puts 9 in front.  NFS names have 255."""
_RECORDS_MAX: Final = 50
"""Records that rows in memory take before they ask for what the log says."""


class Rows(Protocol):
    """An ordered map of bytes, and a log of records that say what is to become of it.

    What has been appended or applied outlives the process.  Only ``apply`` changes the map, and it takes the place of
    every record before it.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, ascending and lazily; may be abandoned, must not see changes meanwhile."""

    def append(self, record: bytes, waiting: int) -> bool:
        """Log a record; False, and nothing done, when it is time to apply what all of them say.

        So many rows wait for it.  Raises StorageError.
        """

    def apply(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Change rows, None removing one, and drop the records; all or nothing.  Raises StorageError."""

    def recovered(self) -> Sequence[bytes]:
        """The records that an earlier process has appended and nobody applied."""


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryRows:
    """Rows in memory, which survive whoever uses them."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._records: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        if key not in self._values:
            insort(self._keys, key)
        self._values[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key if present."""
        if self._values.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        keys, values = self._keys, self._values
        for at in range(bisect_left(keys, start), len(keys) if stop is None else bisect_left(keys, stop)):
            yield keys[at], values[keys[at]]

    def append(self, record: bytes, waiting: int) -> bool:  # noqa: ARG002 - of any number of rows
        if len(self._records) >= _RECORDS_MAX:
            return False
        self._records.append(record)
        return True

    def apply(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        for key, value in rows:
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)
        self._records.clear()

    def recovered(self) -> Sequence[bytes]:
        return tuple(self._records)


NO_ROWS: Final = MemoryRows()
"""The rows of an object that has none; nothing is ever put there."""


class Overlay:
    """One version of an object's state; what is written here is seen here only.

    ``rows`` below ``prefix`` hold a materialised version and ``under`` what the wanted one differs in; ``version`` is
    the store's own mark of it.  Valid until its object's next change in the store.

    ``keys``, where given, is a list that goes with ``under`` and starts empty: its keys in order, as far as somebody
    has needed them.  It is brought up to date here and may serve again, as long as ``under`` only ever gains keys.
    """

    __slots__ = ("_keys", "_prefix", "_read", "_rows", "_under", "version", "writes")

    def __init__(
        self, rows: Rows, prefix: bytes, under: Difference, version: object = None, keys: list[bytes] | None = None
    ) -> None:
        self._rows = rows
        self._prefix = prefix
        self._under = under
        self.version: Final = version
        self._keys = keys
        self._read: dict[bytes, bytes | None] = {}
        """What the rows were asked for, so that nothing is asked twice."""
        self.writes: Final[dict[bytes, bytes | None]] = {}
        """What was written; None where a key goes away."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        if key in self.writes:
            return self.writes[key]
        if key in self._under:
            return self._under[key]
        if key in self._read:
            return self._read[key]
        return None if self._rows is NO_ROWS else self._fetch(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key.  Raises LocalError for a key that no state can hold."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise LocalError(f"a key of {len(key)} bytes: state keys have 1 to {KEY_BYTES_MAX}")
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key if present."""
        self.writes[key] = None

    def scan(self, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with start <= key < stop, ascending, as they are at this call."""
        rows, under, writes = self._rows, self._under, self.writes
        if rows is NO_ROWS and not writes and not under:
            return iter(())
        if len(start) > KEY_BYTES_MAX:
            start = start[:KEY_BYTES_MAX] + b"\x00"  # no key lies in between, and rows take no longer ones
        patches = self._patches(start, stop) if under else []
        if writes:
            changed = dict(patches)
            for key, value in writes.items():
                if key >= start and (stop is None or key < stop):
                    changed[key] = value
            patches = sorted(changed.items())  # keys differ, so that values are never compared
        if rows is NO_ROWS:
            return iter([(key, value) for key, value in patches if value is not None])
        end = end_of(self._prefix) if stop is None else self._prefix + stop
        return patched(rows.scan(self._prefix + start, end), len(self._prefix), patches)

    def changes(self) -> dict[bytes, bytes | None]:
        """The net difference to the version this was opened on."""
        self.settle()
        return dict(self.writes)

    def settle(self) -> FlatChanges:
        """Forget what was written and changes nothing; what changes, with the values before."""
        flat: FlatChanges = []
        idle: list[bytes] = []
        under, read, no_rows = self._under, self._read, self._rows is NO_ROWS
        for key, value in self.writes.items():
            if key in under:
                old = under[key]
            elif key in read:
                old = read[key]
            else:
                old = None if no_rows else self._fetch(key)
            if old == value:
                idle.append(key)
            else:
                flat += (key, old, value)
        for key in idle:
            del self.writes[key]
        return flat

    def _fetch(self, key: bytes) -> bytes | None:
        value = self._rows.get(self._prefix + key) if len(key) <= KEY_BYTES_MAX else None
        self._read[key] = value
        return value

    def _patches(self, start: bytes, stop: bytes | None) -> list[tuple[bytes, bytes | None]]:
        """What lies under, from one key to another."""
        keys, under = self._keys, self._under
        if keys is None:
            keys = self._keys = []
        if len(keys) != len(under):
            keys += islice(under, len(keys), None)
            keys.sort()
        first = bisect_left(keys, start) if start else 0
        return [(key, under[key]) for key in keys[first : len(keys) if stop is None else bisect_left(keys, stop)]]


def end_of(prefix: bytes) -> bytes:
    """The least bytes above everything that begins with a prefix."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,))


def patched(
    rows: Iterator[tuple[bytes, bytes]], cut: int, patches: list[tuple[bytes, bytes | None]]
) -> Iterator[tuple[bytes, bytes]]:
    """Rows less their prefix, with sorted patches laid over them."""
    at, end = 0, len(patches)
    for row, value in rows:
        key = row[cut:]
        while at < end and patches[at][0] < key:
            added, new = patches[at]
            at += 1
            if new is not None:
                yield added, new
        if at < end and patches[at][0] == key:
            new = patches[at][1]
            at += 1
            if new is not None:
                yield key, new
        else:
            yield key, value
    for added, new in patches[at:]:
        if new is not None:
            yield added, new


def compare(
    old: Iterable[tuple[bytes, bytes]], new: Iterable[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """(key, before, after) wherever two sorted states differ, in key order, holding one row of each."""
    olds, news = iter(old), iter(new)
    before, after = next(olds, None), next(news, None)
    while before is not None or after is not None:
        if after is None or (before is not None and before[0] < after[0]):
            assert before is not None
            yield before[0], before[1], None
            before = next(olds, None)
        elif before is None or after[0] < before[0]:
            yield after[0], None, after[1]
            after = next(news, None)
        else:
            if before[1] != after[1]:
                yield before[0], before[1], after[1]
            before, after = next(olds, None), next(news, None)


Redo = Difference | Overlay
"""What changes from one version to another; an overlay that was opened on the first one knows the values before too."""


class Listed(NamedTuple):
    """An object that a replica holds: its newest version, and whether that has a state that methods can see."""

    obj: int
    lt: LogicalTimestamp
    present: bool


class StoreView(Protocol):
    """Every version of every object that a replica holds.

    A method that changes something changes nothing when it raises VersionMissing or LocalError; after a StorageError
    the store is of no use any more.
    """

    def history(self, obj: int) -> ReplicaHistory:
        """The object's replica history; ZERO_HISTORY when nothing was ever accepted on it."""

    def has_version(self, obj: int, lt: LogicalTimestamp) -> bool:
        """Whether a version is held; ZERO_TIMESTAMP always is."""

    def kept(self, obj: int) -> list[LogicalTimestamp]:
        """The versions held: the head first, then the others, newest first, down to ZERO_TIMESTAMP."""

    def open(self, obj: int, lt: LogicalTimestamp) -> Overlay:
        """A version's state.  Raises VersionMissing."""

    def answer(self, obj: int, lt: LogicalTimestamp) -> bytes | None:
        """The answer stored with a version, or None when the version is not held; ZERO_TIMESTAMP has none."""

    def add_version(self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: Redo, answer: bytes) -> None:
        """Hold one more version: the parent's state changed by ``redo``; one that is held already stays as it is.

        An overlay is taken as what was written to it, and is not to be written to any more.  Raises VersionMissing when
        the parent is not held.
        """

    def set_history(self, obj: int, history: ReplicaHistory) -> None:
        """Replace the history; its head becomes the object's head, and surplus versions are collected.

        Raises VersionMissing when a record's version is not held.
        """

    def difference(
        self, obj: int, base: LogicalTimestamp, target: LogicalTimestamp, after: bytes, limit_bytes: int
    ) -> tuple[list[tuple[bytes, bytes | None]], bool]:
        """The part behind key ``after`` of the net sorted difference from one version to another.

        Every replica that holds both versions cuts it at the same key: behind the first entry that reaches
        ``limit_bytes``.  The flag says that more follows.  Raises VersionMissing.
        """

    def roll(self, after: int, most: int) -> tuple[list[Listed], bool]:
        """The objects held with the next higher ids, and whether there are more; none that is as it was at genesis."""

    def commit(self) -> None:
        """Make everything so far durable.  Raises StorageError."""
