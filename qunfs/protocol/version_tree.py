"""The versions of one object as a tree, and the record that each is stored as.

A version's record holds its parent, its answer and its *changes*: for every key in which the two states differ, the
value in the parent and the value in the version.  They can be walked both ways, so that any version is reached from
any other along the tree.  The root's changes mean nothing: its parent is not held.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from struct import Struct
from typing import Final

import msgpack

from qunfs.protocol.history import LT_BYTES, LogicalTimestamp, unpack_timestamp

Changes = dict[bytes, tuple[bytes | None, bytes | None]]
"""Per key that differs: the value before and the value after, None where the key is absent."""

_LENGTH: Final = Struct(">I")
_ANSWER: Final = LT_BYTES + _LENGTH.size


def compose(first: Changes, second: Changes) -> Changes:
    """Both changes one after the other, less what the second one takes back."""
    both = dict(first)
    for key, (before, after) in second.items():
        before = first[key][0] if key in first else before
        if before == after:
            both.pop(key, None)
        else:
            both[key] = (before, after)
    return both


def inverse(changes: Changes) -> Changes:
    """The way back."""
    return {key: (after, before) for key, (before, after) in changes.items()}


def pack_record(parent: LogicalTimestamp, answer: bytes, changes: Changes) -> bytes:
    """A version's stored form."""
    flat = [part for key, (before, after) in changes.items() for part in (key, before, after)]
    return b"".join((parent.pack(), _LENGTH.pack(len(answer)), answer, msgpack.packb(flat)))


def record_parent(record: bytes) -> LogicalTimestamp:
    """The parent of a stored version."""
    return unpack_timestamp(record)


def record_answer(record: bytes) -> bytes:
    """The answer of a stored version."""
    return record[_ANSWER : _ANSWER + _LENGTH.unpack_from(record, LT_BYTES)[0]]


def record_changes(record: bytes) -> Changes:
    """The changes of a stored version."""
    flat = iter(msgpack.unpackb(record[_ANSWER + _LENGTH.unpack_from(record, LT_BYTES)[0] :]))
    return {key: (before, after) for key, before, after in zip(flat, flat, flat, strict=True)}


class VersionTree:
    """Who descends from whom; ``held`` has the timestamps in ascending order."""

    __slots__ = ("held", "parents", "root")

    def __init__(self, root: LogicalTimestamp) -> None:
        self.root = root
        self.parents: dict[LogicalTimestamp, LogicalTimestamp] = {root: root}
        self.held: list[LogicalTimestamp] = [root]

    def __contains__(self, lt: LogicalTimestamp) -> bool:
        return lt in self.parents

    def __len__(self) -> int:
        return len(self.held)

    def add(self, lt: LogicalTimestamp, parent: LogicalTimestamp) -> None:
        """A new leaf."""
        self.parents[lt] = parent
        insort(self.held, lt)

    def remove(self, lt: LogicalTimestamp) -> None:
        """Forget a version that has no children any more."""
        del self.parents[lt]
        del self.held[bisect_left(self.held, lt)]

    def children(self, lt: LogicalTimestamp) -> list[LogicalTimestamp]:
        """The versions made from this one."""
        return [child for child, parent in self.parents.items() if parent == lt != child]

    def ancestry(self, lt: LogicalTimestamp) -> Iterator[LogicalTimestamp]:
        """A version, its parent and so on to the root."""
        while True:
            yield lt
            if lt == self.root:
                return
            lt = self.parents[lt]

    def path(
        self, start: LogicalTimestamp, end: LogicalTimestamp
    ) -> tuple[list[LogicalTimestamp], list[LogicalTimestamp]]:
        """The versions to undo, then those to redo, on the way from one version to another."""
        if self.parents[end] == start:
            return [], [end] if end != start else []
        up = list(self.ancestry(start))
        above = set(up)
        down: list[LogicalTimestamp] = []
        for lt in self.ancestry(end):
            if lt in above:
                return up[: up.index(lt)], down[::-1]
            down.append(lt)
        raise AssertionError("two versions of a tree have no common ancestor")
