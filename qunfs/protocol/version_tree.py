"""The versions of one object as a tree, and the record that each is stored as.

A version's record holds its parent, its answer and its *changes*: for every key in which the two states differ, the
value in the parent and the value in the version.  They can be walked both ways, so that any version is reached from
any other along the tree.  The root's changes mean nothing: its parent is not held.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

import msgpack

from qunfs.protocol.history import LT_BYTES, LogicalTimestamp, unpack_timestamp
from qunfs.protocol.store import Changes, FlatChanges

_LENGTH: Final = Struct(">I")
_ANSWER: Final = LT_BYTES + _LENGTH.size
_pack: Final = msgpack.Packer().pack


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


def flattened(changes: Changes) -> FlatChanges:
    """The same one behind the other."""
    flat: FlatChanges = []
    for key, (before, after) in changes.items():
        flat += (key, before, after)
    return flat


def pack_record(parent: bytes, answer: bytes, changes: FlatChanges) -> bytes:
    """A version's stored form; the parent as packed timestamp."""
    return b"".join((parent, _LENGTH.pack(len(answer)), answer, _pack(changes)))


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


class Version:
    """One version's place in the tree, and its record as long as no row holds that."""

    __slots__ = ("children", "heavy", "lt", "parent", "record", "stored", "wire")

    def __init__(self, lt: LogicalTimestamp, parent: "Version | None" = None) -> None:
        self.lt: Final = lt
        self.wire: Final = lt.pack()
        self.record: bytes | None = None
        """Its record, while that waits to be stored."""
        self.stored = False
        """Whether a row holds a record of it, this one or an older one."""
        self.parent = parent
        """None at the root."""
        self.children: tuple[Version, ...] = ()
        self.heavy = False
        """Whether its record is so long that it is worth cutting down when its changes mean nothing any more."""

    def ancestry(self) -> "Iterator[Version]":
        """This version, its parent and so on to the root."""
        version: Version | None = self
        while version is not None:
            yield version
            version = version.parent


class VersionTree:
    """The versions of one object; ``held`` has their timestamps in ascending order."""

    __slots__ = ("held", "root", "versions")

    def __init__(self, root: LogicalTimestamp) -> None:
        self.root = Version(root)
        self.versions: dict[LogicalTimestamp, Version] = {root: self.root}
        self.held: list[LogicalTimestamp] = [root]

    def load(self, parents: Iterable[tuple[LogicalTimestamp, LogicalTimestamp]]) -> None:
        """Fill in (version, parent) pairs in any order.  Raises KeyError when a parent is missing."""
        pairs = list(parents)
        for lt, _ in pairs:
            self.versions[lt] = Version(lt)
        for lt, parent in pairs:
            self.move(self.versions[lt], self.versions[parent])
        self.held = sorted(self.versions)

    def add(self, lt: LogicalTimestamp, parent: Version) -> Version:
        """A new leaf."""
        version = self.versions[lt] = Version(lt, parent)
        parent.children += (version,)
        if lt > self.held[-1]:
            self.held.append(lt)
        else:
            insort(self.held, lt)
        return version

    def move(self, version: Version, parent: Version | None) -> None:
        """Hang a version and what descends from it elsewhere; None makes it the root."""
        self._detach(version)
        version.parent = parent
        if parent is None:
            self.root = version
        else:
            parent.children += (version,)

    def shift_root(self, heir: Version) -> None:
        """Forget the root; its only child takes its place."""
        old = self.root
        heir.parent = None
        self.root = heir
        del self.versions[old.lt]
        held = self.held
        del held[0 if held[0] == old.lt else bisect_left(held, old.lt)]

    def remove(self, version: Version) -> None:
        """Forget a version that has no children any more."""
        self._detach(version)
        del self.versions[version.lt]
        del self.held[bisect_left(self.held, version.lt)]

    def _detach(self, version: Version) -> None:
        if version.parent is not None:
            version.parent.children = tuple([child for child in version.parent.children if child is not version])


def path(start: Version, end: Version) -> tuple[list[Version], list[Version]]:
    """The versions to undo, then those to redo, on the way from one version of a tree to another."""
    up = list(start.ancestry())
    above = set(up)
    down: list[Version] = []
    for version in end.ancestry():
        if version in above:
            return up[: up.index(version)], down[::-1]
        down.append(version)
    raise AssertionError("two versions of a tree have no common ancestor")
