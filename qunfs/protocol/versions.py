"""The versioned store: every object version that a replica holds, in one ordered map of bytes with a log in front.

The rows of an object's *head*, the version that the next operation most likely builds on, lie there as they are.  The
other versions form a tree with it (:mod:`version_tree`), of which each is stored as its changes against its parent:

    "m"                    format and genesis that the rows were made for
    "o" id                 root of the tree, replica history; absent while there is nothing else of the object
    "r" id key             value in the head
    "v" id timestamp       parent, answer, changes

An update of the head therefore costs what it changes, whatever the object's size, and so does going back to a version
nearby.  A version whose record is in the history is never collected; of the others the oldest go when there are too
many.  The initial version is the object's genesis rows: it can always be opened, in the tree or not.

What becomes durable with a commit are not rows but the *calls* that changed something (``add_version``,
``set_history``), as one record of the log.  What they do to the rows waits in memory (:mod:`held_object`) and is worked
out at the next checkpoint only, once for whatever has changed often.  A store that finds records makes the same calls
again; they do the same, for they depend on nothing but the rows, the calls before and the number of versions kept,
which the record says.  Who changes what a call does to the rows has to give the log another format.

Trees and histories of the objects in use are held in memory as well.
"""

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final

import msgpack
from mypy_extensions import mypyc_attr

from qunfs.protocol.errors import LocalError, MalformedMessage, StorageError, VersionMissing
from qunfs.protocol.held_object import HEAVY_BYTES, HeldObject, Row
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
from qunfs.protocol.roll import page
from qunfs.protocol.store import (
    KEY_BYTES_MAX,
    NO_ROWS,
    Changes,
    Difference,
    FlatChanges,
    Listed,
    MemoryRows,
    Overlay,
    Redo,
    Rows,
    compare,
)
from qunfs.protocol.version_tree import (
    Version,
    VersionTree,
    compose,
    flattened,
    inverse,
    path,
    record_answer,
    record_changes,
    record_parent,
)

Genesis = Mapping[int, Mapping[bytes, bytes]]
"""The initial state of the few objects that have one."""

CACHED_VERSIONS: Final = 400_000
"""Versions, over all objects, whose place in the tree is held in memory: some 500 MB of objects with one each."""

_FORMAT: Final = b"qunfs 3 "
_META: Final = b"m"
_NOTHING: Final[Difference] = {}
_NO_CHANGES: Final[FlatChanges] = []
_NONE: Final[set[LogicalTimestamp]] = set()
_OBJECT: Final = struct.Struct(">cQ")
_ID_END: Final = _OBJECT.size
_NUMBER: Final = struct.Struct(">I")
_UNLOGGED_BYTES: Final = 1024
"""So much in memory that is not in the log counts as one more row that waits."""
_ZERO_KIND: Final = Kind.ZERO


@mypyc_attr(allow_interpreted_subclasses=True)
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
        self._known: dict[int, HeldObject] = {}
        self._turns: deque[HeldObject] = deque()
        """The same in the order of their turn to be forgotten, which those in use let pass."""
        self._cached = 0
        self._dirty: dict[int, HeldObject] = {}
        """The objects of which something waits to be written."""
        self._waiting = 0
        """How many rows wait, at most; what else waits in memory and is not in the log counts as some more."""
        self._calls: list[bytes] = []
        """What was called since the last commit, as the log has it."""
        self._genesis = MemoryRows()
        self._genesis_objects: Final = frozenset(genesis)
        for obj, state in genesis.items():
            for key, value in state.items():
                self._genesis.put(_OBJECT.pack(b"r", obj) + key, value)
        initial = list(self._genesis.scan(b""))
        digest = blake2b(msgpack.packb(initial), digest_size=16).digest()
        expected = _FORMAT + digest
        found = self._rows.get(_META)
        if found is None:
            self._rows.apply([(_META, expected), *initial])
        elif not found.startswith(_FORMAT):
            raise StorageError(
                "the stored data was made by another release of qunfs: go on with that one, or make a new cluster"
            )
        elif found != expected:
            raise StorageError("the stored data was made for another genesis: use the cluster directory it belongs to")
        elif self._rows.recovered():
            self._replay()
            self.checkpoint()

    def _replay(self) -> None:
        """Make the calls again that an earlier process made last."""
        kept_max = self._kept_max
        try:
            for record in self._rows.recovered():
                self._calls_again(record)
        except (MalformedMessage, VersionMissing, LocalError, ValueError, TypeError, struct.error) as error:
            raise StorageError(
                f"the log does not fit the stored data ({error}): rebuild this server from the others"
            ) from error
        self._kept_max = kept_max

    def _calls_again(self, record: bytes) -> None:
        self._kept_max = _NUMBER.unpack_from(record)[0]
        at = _NUMBER.size
        while at < len(record):
            kind, obj = _OBJECT.unpack_from(record, at)
            at += _ID_END
            lt = at
            if kind == b"v":
                at += LT_BYTES
            elif kind != b"o":
                raise LocalError(f"an entry of kind {kind!r}")
            end = at + _NUMBER.size + _NUMBER.unpack_from(record, at)[0]
            entry = record[at + _NUMBER.size : end]
            if end > len(record):
                raise LocalError("a truncated entry")
            if kind == b"v":
                self._add_again(obj, unpack_timestamp(record, lt), entry)
            else:
                VersionStore.set_history(self, obj, parse_history_untrusted(entry, obj))
            at = end

    def _add_again(self, obj: int, lt: LogicalTimestamp, record: bytes) -> None:
        known = self._known.get(obj) or self._load(obj)
        if lt not in known.tree.versions:
            origin = self._find(known, record_parent(record))
            changes = record_changes(record)
            redo = {key: after for key, (_, after) in changes.items()}
            self._add(known, lt, origin, flattened(changes), redo, record_answer(record))

    def history(self, obj: int) -> ReplicaHistory:
        known = self._known.get(obj)
        return self._load(obj).history if known is None else known.history

    def has_version(self, obj: int, lt: LogicalTimestamp) -> bool:
        return lt in (self._known.get(obj) or self._load(obj)).tree.versions or lt == ZERO_TIMESTAMP

    def kept(self, obj: int) -> list[LogicalTimestamp]:
        known = self._known.get(obj) or self._load(obj)
        others = [lt for lt in reversed(known.tree.held) if lt != known.head.lt]
        if ZERO_TIMESTAMP not in known.tree.versions:
            others.append(ZERO_TIMESTAMP)
        return [known.head.lt, *others]

    def open(self, obj: int, lt: LogicalTimestamp) -> Overlay:
        known = self._known.get(obj)
        if known is None:
            known = self._load(obj)
        else:
            known.used = True  # here only: no request is served without opening its objects
        head = known.head
        if lt == head.lt and head.parent is not None:  # the usual case, and not the initial version
            return Overlay(self._rows if known.stored else NO_ROWS, known.prefix, known.rows, head, known.keys)
        return self._open(known, lt)

    def answer(self, obj: int, lt: LogicalTimestamp) -> bytes | None:
        known = self._known.get(obj) or self._load(obj)
        version = known.tree.versions.get(lt)
        return None if version is None or lt == ZERO_TIMESTAMP else self._answer_of(known, version)

    def add_version(self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: Redo, answer: bytes) -> None:
        if lt == ZERO_TIMESTAMP:
            raise LocalError("the initial version cannot be added")
        known = self._known.get(obj)
        if known is None:
            known = self._load(obj)
        versions = known.tree.versions
        if lt in versions:
            return
        origin = versions.get(parent)
        if not isinstance(redo, Overlay):
            origin, net = self._against_held(known, parent, redo)
        elif origin is not None and redo.version is origin:
            self._add(known, lt, origin, redo.settle(), redo.writes, answer)
            return
        else:
            origin, net = self._against_held(known, parent, redo.changes())
        self._add(known, lt, origin, flattened(net), {key: after for key, (_, after) in net.items()}, answer)

    def _add(
        self,
        known: HeldObject,
        lt: LogicalTimestamp,
        origin: Version,
        changes: FlatChanges,
        redo: Difference,
        answer: bytes,
    ) -> None:
        tree = known.tree
        version = tree.add(lt, origin)
        self._waiting += known.record(version, origin.wire, answer, changes)
        known.added, known.redo = version, redo
        record = version.record
        assert record is not None
        self._calls += (known.record_prefix, version.wire, _NUMBER.pack(len(record)), record)
        if known.gone and version.wire in known.gone:
            known.gone.remove(version.wire)
            version.stored = True
            self._waiting -= 1
        self._cached += 1
        if not known.dirty:
            self._soil(known)
        if len(tree.held) - known.recorded > self._kept_max + 1:  # the one just added does not count
            self._collect(known, version)

    def _against_held(self, known: HeldObject, parent: LogicalTimestamp, redo: Difference) -> tuple[Version, Changes]:
        """A version of the tree and the changes against it that are ``redo`` against the parent.

        Raises VersionMissing, and LocalError for a key that no state can hold.
        """
        old = self._open(known, parent)
        changes: Changes = {}
        for key, value in redo.items():
            if not 0 < len(key) <= KEY_BYTES_MAX:
                raise LocalError(f"a difference with a key of {len(key)} bytes: state keys have 1 to {KEY_BYTES_MAX}")
            before = old.get(key)
            if before != value:
                changes[key] = (before, value)
        origin = known.tree.versions.get(parent)
        if origin is not None:
            return origin, changes
        # made from the initial version, which has left the tree
        for key, (_, value) in changes.items():
            if value is None:
                old.delete(key)
            else:
                old.put(key, value)
        head = self._open(known, known.head.lt)
        return known.head, {key: (before, value) for key, before, value in compare(head.scan(), old.scan())}

    def set_history(self, obj: int, history: ReplicaHistory) -> None:
        known = self._known.get(obj)
        if known is None:
            known = self._load(obj)
        tree, old = known.tree, known.head
        known.take(history)
        self._calls += (known.header_key, _NUMBER.pack(len(history.wire)), history.wire)
        if not known.dirty:
            self._soil(known)
        head = known.head
        if head is not old:
            rows = known.rows
            before = len(rows)
            rows.update(known.redo if head is known.added and head.parent is old else self._way(known, old, head))
            self._waiting += len(rows) - before
        root = tree.root
        if root.lt == ZERO_TIMESTAMP and history.base.kind is not _ZERO_KIND:
            self._drop(known, root)  # it can be opened without
        if len(tree.held) - known.recorded > self._kept_max:
            self._collect(known)

    def _way(self, known: HeldObject, start: Version, end: Version) -> dict[bytes, bytes | None]:
        """What is to be put into the rows where another version becomes the head."""
        changes = self._changes(known, start, end)
        self._waiting += _size(changes) // _UNLOGGED_BYTES
        return {key: after for key, (_, after) in changes.items()}

    def _soil(self, known: HeldObject) -> None:
        known.dirty = True
        self._dirty[known.obj] = known
        self._waiting += 1  # its header

    def difference(
        self, obj: int, base: LogicalTimestamp, target: LogicalTimestamp, after: bytes, limit_bytes: int
    ) -> tuple[list[tuple[bytes, bytes | None]], bool]:
        known = self._known.get(obj) or self._load(obj)
        entries: Iterator[tuple[bytes, bytes | None]]
        if ZERO_TIMESTAMP in (base, target):
            start = after[:KEY_BYTES_MAX] + b"\x00" if after else b""
            old, new = self._open(known, base), self._open(known, target)
            entries = ((key, value) for key, _, value in compare(old.scan(start), new.scan(start)))
        else:
            changes = self._changes(known, self._find(known, base), self._find(known, target))
            entries = ((key, changes[key][1]) for key in sorted(changes) if key > after)
        part: list[tuple[bytes, bytes | None]] = []
        size = 0
        for key, value in entries:
            if part and size >= limit_bytes:
                return part, True
            part.append((key, value))
            size += len(key) + len(value or b"")
        return part, False

    def roll(self, after: int, most: int) -> tuple[list[Listed], bool]:
        return page(self._rows, self._dirty, after, most)

    def commit(self) -> None:
        if not self._calls:
            return
        if self._rows.append(b"".join([_NUMBER.pack(self._kept_max), *self._calls]), self._waiting):
            self._calls = []
        else:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Make everything so far durable, in the rows; the log may begin anew.  Raises StorageError."""
        headers: list[Row] = []
        states: list[Row] = []
        records: list[Row] = []
        dirty, self._dirty, self._waiting = self._dirty, {}, 0
        for obj in sorted(dirty):
            dirty[obj].take_rows(headers, states, records)
        try:
            self._rows.apply([*headers, *states, *records])
        except StorageError:
            self._known.clear()  # what is held there has not been written, and is not to be believed
            self._turns.clear()
            raise
        self._calls = []

    def _load(self, obj: int) -> HeldObject:
        known = self._dirty.get(obj)
        if known is None:
            prefix = _OBJECT.pack(b"r", obj)
            header = self._rows.get(b"o" + prefix[1:])
            if header is None:
                stored = obj in self._genesis_objects
                known = HeldObject(obj, prefix, ZERO_HISTORY, VersionTree(ZERO_TIMESTAMP), stored)
            else:
                known = self._read(obj, prefix, header)
        self._known[obj] = known
        self._turns.append(known)
        self._cached += len(known.tree.held)
        if self._cached > self._cached_max:
            self._forget(known)
        return known

    def _forget(self, spared: HeldObject) -> None:
        """Let go of objects that have not been opened for long, until few enough versions are held."""
        turns = self._turns
        while self._cached > self._cached_max and len(turns) > 1:
            known = turns.popleft()
            if known.used or known is spared:
                known.used = False
                turns.append(known)
                continue
            del self._known[known.obj]
            self._cached -= len(known.tree.held)
            if known.dirty:  # which keeps it until the next checkpoint
                self._waiting += len(known.tree.held)

    def _read(self, obj: int, prefix: bytes, header: bytes) -> HeldObject:
        records = b"v" + prefix[1:]
        parents: list[tuple[LogicalTimestamp, LogicalTimestamp]] = []
        heavy: list[LogicalTimestamp] = []
        try:
            history = parse_history_untrusted(header[LT_BYTES:], obj)
            tree = VersionTree(unpack_timestamp(header))
            for key, record in self._rows.scan(records, records + b"\xff" * (LT_BYTES + 1)):
                lt = unpack_timestamp(key, _ID_END)
                if lt == tree.root.lt:
                    tree.root.stored = True
                else:
                    parents.append((lt, record_parent(record)))
                if len(record) > HEAVY_BYTES:
                    heavy.append(lt)
            tree.load(parents)
            known = HeldObject(obj, prefix, history, tree, stored=True)
        except (MalformedMessage, VersionMissing, KeyError, struct.error) as error:
            raise _damaged(prefix) from error
        for lt, _ in parents:
            tree.versions[lt].stored = True
        for lt in heavy:
            tree.versions[lt].heavy = True
        return known

    def _open(self, known: HeldObject, lt: LogicalTimestamp) -> Overlay:
        if lt == ZERO_TIMESTAMP:
            rows: Rows = self._genesis if known.obj in self._genesis_objects else NO_ROWS
            return Overlay(rows, known.prefix, _NOTHING, known.tree.versions.get(lt))
        rows = self._rows if known.stored else NO_ROWS
        version = known.head
        if lt == version.lt:
            return Overlay(rows, known.prefix, known.rows, version, known.keys)
        version = self._find(known, lt)
        under = dict(known.rows)
        under.update({key: value for key, (_, value) in self._changes(known, known.head, version).items()})
        return Overlay(rows, known.prefix, under, version)

    def _find(self, known: HeldObject, lt: LogicalTimestamp) -> Version:
        version = known.tree.versions.get(lt)
        if version is None:
            raise VersionMissing(f"object {known.prefix[1:].hex()} has no version {lt}")
        return version

    def _changes(self, known: HeldObject, start: Version, end: Version) -> Changes:
        """The net changes from one version to another."""
        undo, redo = path(start, end)
        changes: Changes = {}
        for version in undo:
            changes = compose(changes, inverse(self._changes_of(known, version)))
        for version in redo:
            changes = compose(changes, self._changes_of(known, version))
        return changes

    def _changes_of(self, known: HeldObject, version: Version) -> Changes:
        """A version's changes against its parent."""
        return record_changes(self._record(known, version))

    def _answer_of(self, known: HeldObject, version: Version) -> bytes:
        return record_answer(self._record(known, version))

    def _record(self, known: HeldObject, version: Version) -> bytes:
        record = version.record or self._rows.get(known.record_prefix + version.wire)
        if record is None:
            raise _damaged(known.prefix)
        return record

    def _collect(self, known: HeldObject, spared: Version | None = None) -> None:
        """Drop the oldest versions outside the history until there are few enough.

        The spared one stays, and so does its parent: the history may be about to begin with it.
        """
        held = known.tree.held
        safe = _NONE
        if spared is not None:
            safe = {spared.lt}
            if spared.parent is not None and known.history.find(spared.parent.lt) is None:
                safe.add(spared.parent.lt)
        excess = len(held) - known.recorded - len(safe) - self._kept_max
        if excess <= 0:
            return
        if excess == 1 and held[0] < known.history.base.lt and held[0] not in safe:
            self._drop(known, known.tree.versions[held[0]])
            return
        needed = {record.lt for record in known.history.records} | safe
        for lt in [lt for lt in held if lt not in needed][:excess]:
            self._drop(known, known.tree.versions[lt])

    def _drop(self, known: HeldObject, version: Version) -> None:
        """Take a version other than the head out of the tree; its children move to its parent or to each other."""
        tree, children, parent = known.tree, version.children, version.parent
        if parent is None and len(children) == 1:  # the usual one
            heir = children[0]
            tree.shift_root(heir)
            self._lighten(known, heir)
        else:
            way: Changes = {}
            if parent is None:
                parent = next(heir for heir in known.head.ancestry() if heir.parent is version)
                children = tuple(child for child in children if child is not parent)
                way = inverse(self._changes_of(known, parent))
                tree.move(parent, None)
                self._lighten(known, parent)
            elif children:
                way = self._changes_of(known, version)
            known.added = None  # which may get another parent
            for child in children:
                answer, changes = self._answer_of(known, child), compose(way, self._changes_of(known, child))
                tree.move(child, parent)
                self._waiting += known.record(child, parent.wire, answer, flattened(changes))
                self._waiting += (_size(changes) + len(answer)) // _UNLOGGED_BYTES
            tree.remove(version)
        self._cached -= 1
        self._waiting += known.forget(version)

    def _lighten(self, known: HeldObject, root: Version) -> None:
        """The changes of what has become the root mean nothing any more."""
        if root.heavy:
            answer = self._answer_of(known, root)
            self._waiting += known.record(root, root.wire, answer, _NO_CHANGES) + len(answer) // _UNLOGGED_BYTES


def _size(changes: Changes) -> int:
    return sum([len(key) + len(before or b"") + len(after or b"") for key, (before, after) in changes.items()])


def _damaged(prefix: bytes) -> StorageError:
    return StorageError(f"the stored data of object {prefix[1:].hex()} is damaged: rebuild this server from the others")
