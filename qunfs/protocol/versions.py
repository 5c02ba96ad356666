"""The versioned store: every object version that a replica holds, in one ordered map of bytes.

The rows of an object's *head*, the version that the next operation most likely builds on, lie there as they are.  The
other versions form a tree with it (:mod:`version_tree`), of which each is stored as its changes against its parent:

    "m"                    format and genesis that the rows were made for
    "o" id                 head, root of the tree, replica history; absent while nothing was accepted
    "r" id key             value in the head
    "v" id timestamp       parent, answer, changes

An update of the head therefore costs what it changes, whatever the object's size, and so does going back to a version
nearby.  What is in the history stays; other versions stay until there are too many (DESIGN: "never collect a version
whose record is in a history").  The initial version is the object's genesis rows, always there, in the tree or not.

Trees and histories of the objects in use are held in memory as well; rows are not.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from struct import Struct
from typing import Final

import msgpack

from qunfs.protocol.errors import LocalError, MalformedMessage, StorageError, VersionMissing
from qunfs.protocol.history import (
    LT_BYTES,
    ZERO_HISTORY,
    ZERO_TIMESTAMP,
    Kind,
    LogicalTimestamp,
    ReplicaHistory,
    parse_history_untrusted,
    unpack_timestamp,
)
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits
from qunfs.protocol.store import KEY_BYTES_MAX, Difference, MemoryRows, Overlay, Rows, compare
from qunfs.protocol.version_tree import (
    Changes,
    VersionTree,
    compose,
    inverse,
    pack_record,
    record_answer,
    record_changes,
    record_parent,
)

Genesis = Mapping[int, Mapping[bytes, bytes]]
"""The initial state of the few objects that have one."""

CACHED_VERSIONS: Final = 400_000
"""Versions, over all objects, whose place in the tree is held in memory: some 200 MB when that many are in use."""

_FORMAT: Final = b"qunfs 1 "
_HEAVY_BYTES: Final = 16 * 1024
"""Records longer than this are cut down when their changes stop meaning anything."""
_META: Final = b"m"
_OBJECT: Final = Struct(">cQ")
_KEY_CUT: Final = _OBJECT.size


class _Known:
    """What is held in memory of an object."""

    __slots__ = ("added", "head", "heavy", "history", "recorded", "tree")

    def __init__(self, history: ReplicaHistory, head: LogicalTimestamp, root: LogicalTimestamp) -> None:
        self.history = history
        self.recorded = _recorded(history)
        self.head = head
        self.tree = VersionTree(root)
        self.heavy: set[LogicalTimestamp] = set()
        self.added: tuple[LogicalTimestamp, Changes] | None = None
        """The version added last, most likely the next head."""


class VersionStore:
    """A :class:`StoreView` on rows that may hold a store already.

    Raises StorageError when the rows were made for another genesis or by another release.
    """

    def __init__(
        self, rows: Rows, genesis: Genesis, limits: Limits = DEFAULT_LIMITS, cached_versions: int = CACHED_VERSIONS
    ) -> None:
        self._rows = rows
        self._kept_max = limits.versions_kept_per_object
        self._cached_max = cached_versions
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._cached = 0
        self._genesis = MemoryRows()
        for obj, state in genesis.items():
            for key, value in state.items():
                self._genesis.put(_OBJECT.pack(b"r", obj) + key, value)
        self._check_or_write_genesis()

    def _check_or_write_genesis(self) -> None:
        initial = list(self._genesis.scan(b""))
        expected = _FORMAT + blake2b(msgpack.packb(initial), digest_size=16).digest()
        found = self._rows.get(_META)
        if found is None:
            self._rows.put(_META, expected)
            for key, value in initial:
                self._rows.put(key, value)
        elif found != expected:
            what = "another genesis" if found.startswith(_FORMAT) else "another release of qunfs"
            raise StorageError(f"the stored data was made for {what}: use the cluster directory it belongs to")

    def history(self, obj: int) -> ReplicaHistory:
        return self._get(obj).history

    def has_version(self, obj: int, lt: LogicalTimestamp) -> bool:
        return lt in self._get(obj).tree.parents or lt == ZERO_TIMESTAMP

    def kept(self, obj: int) -> list[LogicalTimestamp]:
        known = self._get(obj)
        others = [lt for lt in reversed(known.tree.held) if lt != known.head]
        if ZERO_TIMESTAMP not in known.tree:
            others.append(ZERO_TIMESTAMP)
        return [known.head, *others]

    def open(self, obj: int, lt: LogicalTimestamp) -> Overlay:
        return self._open(obj, self._get(obj), lt)

    def answer(self, obj: int, lt: LogicalTimestamp) -> bytes | None:
        if lt == ZERO_TIMESTAMP or lt not in self._get(obj).tree:
            return None
        return record_answer(self._record(obj, lt))

    def add_version(
        self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: Difference, answer: bytes
    ) -> None:
        if lt == ZERO_TIMESTAMP:
            raise LocalError("the initial version cannot be added")
        known = self._get(obj)
        if lt in known.tree:
            return
        if not all(0 < len(key) <= KEY_BYTES_MAX for key in redo):
            raise LocalError(f"a difference with a key that is not 1 to {KEY_BYTES_MAX} bytes long")
        old = self._open(obj, known, parent)
        if parent in known.tree:
            changes = {key: (old.get(key), value) for key, value in redo.items()}
            changes = {key: change for key, change in changes.items() if change[0] != change[1]}
        else:
            for key, value in redo.items():
                _set(old, key, value)
            parent = known.head
            head = self._open(obj, known, parent)
            changes = {key: (before, after) for key, before, after in compare(head.scan(), old.scan())}
        self._put_record(obj, known, lt, parent, answer, changes)
        known.tree.add(lt, parent)
        self._cached += 1
        known.added = (lt, changes)
        root = known.tree.root
        self._collect(obj, known, lt)
        if known.tree.root != root:
            self._put_header(obj, known)

    def set_history(self, obj: int, history: ReplicaHistory) -> None:
        known = self._get(obj)
        tree = known.tree
        recorded = _recorded(history)
        if not recorded <= tree.parents.keys():
            raise VersionMissing(f"object {obj:x}: the new history has a record whose version is not held")
        head = history.head.lt
        if head != known.head:
            prefix = _OBJECT.pack(b"r", obj)
            for key, (_, value) in self._changes(obj, known, known.head, head).items():
                _set(self._rows, prefix + key, value)
            known.head = head
        known.history = history
        known.recorded = recorded
        known.added = None
        if tree.root == ZERO_TIMESTAMP and ZERO_TIMESTAMP not in recorded:
            self._drop(obj, known, ZERO_TIMESTAMP)  # it can be opened without
        self._collect(obj, known)
        self._put_header(obj, known)

    def difference(
        self, obj: int, base: LogicalTimestamp, target: LogicalTimestamp, after: bytes, limit_bytes: int
    ) -> tuple[list[tuple[bytes, bytes | None]], bool]:
        known = self._get(obj)
        entries: Iterator[tuple[bytes, bytes | None]]
        if ZERO_TIMESTAMP in (base, target):
            start = after[:KEY_BYTES_MAX] + b"\x00" if after else b""
            old, new = self._open(obj, known, base), self._open(obj, known, target)
            entries = ((key, value) for key, _, value in compare(old.scan(start), new.scan(start)))
        else:
            changes = self._changes(obj, known, base, target)
            entries = ((key, changes[key][1]) for key in sorted(changes) if key > after)
        part: list[tuple[bytes, bytes | None]] = []
        size = 0
        for key, value in entries:
            if part and size >= limit_bytes:
                return part, True
            part.append((key, value))
            size += len(key) + len(value or b"")
        return part, False

    def commit(self) -> None:
        self._rows.commit()

    def _get(self, obj: int) -> _Known:
        known = self._known.get(obj)
        if known is None:
            return self._load(obj)
        self._known.move_to_end(obj)
        return known

    def _load(self, obj: int) -> _Known:
        header = self._rows.get(_OBJECT.pack(b"o", obj))
        if header is None:
            known = _Known(ZERO_HISTORY, ZERO_TIMESTAMP, ZERO_TIMESTAMP)
        else:
            try:
                history = parse_history_untrusted(header[2 * LT_BYTES :], obj)
            except MalformedMessage as error:
                raise _damaged(obj) from error
            known = _Known(history, unpack_timestamp(header), unpack_timestamp(header, LT_BYTES))
        tree = known.tree
        prefix = _OBJECT.pack(b"v", obj)
        for key, record in self._rows.scan(prefix, prefix + b"\xff" * (LT_BYTES + 1)):
            lt = unpack_timestamp(key, _KEY_CUT)
            if lt != tree.root:
                tree.add(lt, record_parent(record))
            if len(record) > _HEAVY_BYTES:
                known.heavy.add(lt)
        if known.head not in tree or not all(parent in tree for parent in tree.parents.values()):
            raise _damaged(obj)
        self._known[obj] = known
        self._cached += len(tree)
        while self._cached > self._cached_max and len(self._known) > 1:
            self._cached -= len(self._known.popitem(last=False)[1].tree)
        return known

    def _open(self, obj: int, known: _Known, lt: LogicalTimestamp) -> Overlay:
        prefix = _OBJECT.pack(b"r", obj)
        if lt == ZERO_TIMESTAMP:
            return Overlay(self._genesis, prefix, {})
        if lt == known.head:
            return Overlay(self._rows, prefix, {})
        changes = self._changes(obj, known, known.head, lt)
        return Overlay(self._rows, prefix, {key: value for key, (_, value) in changes.items()})

    def _changes(self, obj: int, known: _Known, start: LogicalTimestamp, end: LogicalTimestamp) -> Changes:
        """The net changes from one version to another.  Raises VersionMissing."""
        tree = known.tree
        for lt in (start, end):
            if lt not in tree:
                raise VersionMissing(f"object {obj:x} has no version {lt}")
        if start == end:
            return {}
        if known.added is not None and known.added[0] == end and tree.parents[end] == start:
            return known.added[1]
        undo, redo = tree.path(start, end)
        changes: Changes = {}
        for lt in undo:
            changes = compose(changes, inverse(record_changes(self._record(obj, lt))))
        for lt in redo:
            changes = compose(changes, record_changes(self._record(obj, lt)))
        return changes

    def _collect(self, obj: int, known: _Known, spared: LogicalTimestamp | None = None) -> None:
        """Drop the oldest versions outside the history, except the spared one, until there are few enough."""
        tree, recorded = known.tree, known.recorded
        excess = len(tree.held) - len(recorded) - (spared is not None) - self._kept_max
        if excess > 0:
            surplus = (lt for lt in tree.held if lt not in recorded and lt != spared)
            for lt in list(islice(surplus, excess)):
                self._drop(obj, known, lt)

    def _drop(self, obj: int, known: _Known, lt: LogicalTimestamp) -> None:
        """Take a version other than the head out of the tree; its children move to its parent or to each other."""
        tree = known.tree
        children = tree.children(lt)
        known.added = None  # it may get another parent
        if lt == tree.root:
            parent = self._new_root(obj, known, children)
            children.remove(parent)
            way = inverse(record_changes(self._record(obj, parent))) if children else {}
            self._put_root(obj, known, parent)
        else:
            parent = tree.parents[lt]
            way = record_changes(self._record(obj, lt)) if children else {}
        for child in children:
            record = self._record(obj, child)
            changes = compose(way, record_changes(record))
            self._put_record(obj, known, child, parent, record_answer(record), changes)
            tree.parents[child] = parent
        tree.remove(lt)
        self._cached -= 1
        known.heavy.discard(lt)
        if lt != ZERO_TIMESTAMP:
            self._rows.delete(_OBJECT.pack(b"v", obj) + lt.pack())

    def _new_root(self, obj: int, known: _Known, children: list[LogicalTimestamp]) -> LogicalTimestamp:
        if len(children) == 1:
            return children[0]
        for lt in known.tree.ancestry(known.head):
            if lt in children:
                return lt
        raise _damaged(obj)

    def _put_root(self, obj: int, known: _Known, lt: LogicalTimestamp) -> None:
        """Make a version the root; its changes are left as they are unless that wastes much."""
        known.tree.root = known.tree.parents[lt] = lt
        if lt in known.heavy:
            self._put_record(obj, known, lt, lt, record_answer(self._record(obj, lt)), {})

    def _record(self, obj: int, lt: LogicalTimestamp) -> bytes:
        record = self._rows.get(_OBJECT.pack(b"v", obj) + lt.pack())
        if record is None:
            raise _damaged(obj)
        return record

    def _put_record(
        self,
        obj: int,
        known: _Known,
        lt: LogicalTimestamp,
        parent: LogicalTimestamp,
        answer: bytes,
        changes: Changes,
    ) -> None:
        record = pack_record(parent, answer, changes)
        self._rows.put(_OBJECT.pack(b"v", obj) + lt.pack(), record)
        if len(record) - len(answer) > _HEAVY_BYTES:
            known.heavy.add(lt)
        else:
            known.heavy.discard(lt)

    def _put_header(self, obj: int, known: _Known) -> None:
        value = known.head.pack() + known.tree.root.pack() + known.history.wire
        self._rows.put(_OBJECT.pack(b"o", obj), value)


def _recorded(history: ReplicaHistory) -> set[LogicalTimestamp]:
    return {record.lt for record in history.records if record.kind is not Kind.BARRIER}


def _set(target: Rows | Overlay, key: bytes, value: bytes | None) -> None:
    if value is None:
        target.delete(key)
    else:
        target.put(key, value)


def _damaged(obj: int) -> StorageError:
    return StorageError(f"the stored data of object {obj:x} is damaged: rebuild this server from the others")
