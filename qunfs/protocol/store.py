"""What a replica asks of its store, and the parts every store is made of.

At the bottom lies one ordered map of bytes (:class:`Rows`), in memory or on disk.  :mod:`qunfs.protocol.versions` keeps
all versions of all objects in it.  A method sees one version through an :class:`Overlay`, whose writes stay its own
until the replica accepts the operation.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import LogicalTimestamp, ReplicaHistory

Difference = Mapping[bytes, bytes | None]
"""Keys that change and their new values; None where the key goes away."""

KEY_BYTES_MAX: Final = 480
"""The longest key of an object's state: LMDB takes 511 bytes and the store puts 9 in front.  NFS names have 255."""


class Rows(Protocol):
    """An ordered map of bytes whose changes become durable together."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, changes that are not yet durable included."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""

    def delete(self, key: bytes) -> None:
        """Remove a key if present."""

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < stop, ascending and lazily; may be abandoned, must not see writes meanwhile."""

    def commit(self) -> None:
        """Make every change so far durable.  Raises StorageError."""


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryRows:
    """Rows in memory; what has not been committed can be lost, as in a crash."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._committed: dict[bytes, bytes | None] = {}
        """The committed value of each key that has changed since."""

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        old = self._values.get(key)
        self._committed.setdefault(key, old)
        if old is None:
            insort(self._keys, key)
        self._values[key] = value

    def delete(self, key: bytes) -> None:
        old = self._values.pop(key, None)
        if old is not None:
            self._committed.setdefault(key, old)
            del self._keys[bisect_left(self._keys, key)]

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        keys, values = self._keys, self._values
        for at in range(bisect_left(keys, start), len(keys) if stop is None else bisect_left(keys, stop)):
            yield keys[at], values[keys[at]]

    def commit(self) -> None:
        self._committed.clear()

    def crash(self) -> None:
        """Go back to the last commit."""
        for key, value in list(self._committed.items()):
            if value is None:
                self.delete(key)
            else:
                self.put(key, value)
        self._committed.clear()


NO_ROWS: Final = MemoryRows()
"""The rows of an object that has none; nothing is ever put there."""


class Redo(dict[bytes, bytes | None]):
    """What an overlay changed, with what it read to know: adding the version need not read the same keys again."""

    __slots__ = ("before", "version")

    def __init__(self, changes: Difference, before: Difference, version: object) -> None:
        super().__init__(changes)
        self.before: Final = before
        """The values on which the changes were made, of these keys and perhaps others."""
        self.version: Final = version
        """What the store opened the overlay on."""


class Overlay:
    """One version of an object's state; what is written here is seen here only.

    ``rows`` below ``prefix`` hold a materialised version and ``under`` what the wanted one differs in; ``version`` is
    the store's own mark of it.  Valid until its object's next change in the store.
    """

    __slots__ = ("_originals", "_prefix", "_rows", "_under", "_version", "_writes")

    def __init__(self, rows: Rows, prefix: bytes, under: Difference, version: object = None) -> None:
        self._rows = rows
        self._prefix = prefix
        self._under = under
        self._version = version
        self._originals: dict[bytes, bytes | None] = dict(under) if under else {}
        """The version's value of every key that was asked for, so that none is read twice."""
        self._writes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        if key in self._writes:
            return self._writes[key]
        if key in self._originals:
            return self._originals[key]
        return self._original(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key.  Raises LocalError for a key that no state can hold."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise LocalError(f"a key of {len(key)} bytes: state keys have 1 to {KEY_BYTES_MAX}")
        self._writes[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key if present."""
        self._writes[key] = None

    def scan(self, start: bytes = b"", stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with start <= key < stop, ascending, as they are at this call."""
        if self._rows is NO_ROWS and not self._writes and not self._under:
            return iter(())
        if len(start) > KEY_BYTES_MAX:
            start = start[:KEY_BYTES_MAX] + b"\x00"  # no key lies in between, and rows take no longer ones
        changed = {**self._under, **self._writes} if self._under else self._writes
        patches = sorted(
            item for item in changed.items() if item[0] >= start and (stop is None or item[0] < stop)
        )  # keys differ, so that values are never compared
        end = end_of(self._prefix) if stop is None else self._prefix + stop
        return patched(self._rows.scan(self._prefix + start, end), len(self._prefix), patches)

    def changes(self) -> Redo:
        """The net difference to the version this was opened on, in key order."""
        writes, originals = self._writes, self._originals
        for key in writes:
            if key not in originals:
                self._original(key)
        net = {key: writes[key] for key in sorted(writes) if originals[key] != writes[key]}
        return Redo(net, originals, self._version)

    def _original(self, key: bytes) -> bytes | None:
        value = self._rows.get(self._prefix + key) if len(key) <= KEY_BYTES_MAX else None
        self._originals[key] = value
        return value


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

    def add_version(
        self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: Difference, answer: bytes
    ) -> None:
        """Hold one more version: the parent's state changed by ``redo``; one that is held already stays as it is.

        Raises VersionMissing when the parent is not held.
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

    def commit(self) -> None:
        """Make everything so far durable.  Raises StorageError."""
