"""The versioned store: every object version that a replica holds, in one ordered map of bytes.

The rows of an object's *head*, the version that the next operation most likely builds on, lie there as they are.  The
other versions form a tree with it (:mod:`version_tree`), of which each is stored as its changes against its parent:

    "m"                    format and genesis that the rows were made for
    "o" id                 root of the tree, replica history; absent while there is nothing else of the object
    "r" id key             value in the head
    "v" id timestamp       parent, answer, changes

An update of the head therefore costs what it changes, whatever the object's size, and so does going back to a version
nearby.  A version whose record is in the history is never collected; of the others the oldest go when there are too
many.  The initial version is the object's genesis rows: it can always be opened, in the tree or not.

Trees and histories of the objects in use are held in memory as well; rows are not.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Final

import msgpack
from mypy_extensions import mypyc_attr

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
from qunfs.protocol.store import (
    KEY_BYTES_MAX,
    NO_ROWS,
    Difference,
    MemoryRows,
    Overlay,
    Redo,
    Rows,
    compare,
    end_of,
)
from qunfs.protocol.version_tree import (
    Changes,
    Version,
    VersionTree,
    compose,
    inverse,
    pack_record,
    path,
    record_answer,
    record_changes,
    record_parent,
)

Genesis = Mapping[int, Mapping[bytes, bytes]]
"""The initial state of the few objects that have one."""

CACHED_VERSIONS: Final = 400_000
"""Versions, over all objects, whose place in the tree is held in memory: some 200 MB when that many are in use."""

_FORMAT: Final = b"qunfs 2 "
_FORMAT_WITHOUT_HEADERS: Final = b"qunfs 1 "
"""As written before versions that await acceptance had a header too."""
_HEAVY_BYTES: Final = 16 * 1024
"""Records longer than this are cut down when their changes stop meaning anything."""
_META: Final = b"m"
_NOTHING: Final[Difference] = {}
_OBJECT: Final = struct.Struct(">cQ")
_ID_END: Final = _OBJECT.size


class _Known:
    """What is held in memory of an object."""

    __slots__ = (
        "added",
        "head",
        "header_key",
        "history",
        "obj",
        "recorded",
        "rows_prefix",
        "stored",
        "tree",
        "versions_prefix",
    )

    def __init__(self, obj: int, history: ReplicaHistory, tree: VersionTree, stored: bool) -> None:
        self.obj = obj
        self.header_key = _OBJECT.pack(b"o", obj)
        self.rows_prefix = _OBJECT.pack(b"r", obj)
        self.versions_prefix = _OBJECT.pack(b"v", obj)
        self.tree = tree
        self.stored = stored
        """Whether the object has a header."""
        self.added: tuple[Version, Changes] | None = None
        """The version added last, most likely the next head, with its changes against its parent."""
        self.take(history)

    def take(self, history: ReplicaHistory) -> None:
        """Set the history, the head and the number of versions that the history needs.  Raises VersionMissing."""
        head, recorded, versions = None, 0, self.tree.versions
        for record in history.records:
            if record.kind is not Kind.BARRIER:
                head = versions.get(record.lt)
                recorded += 1
                if head is None:
                    raise VersionMissing(f"the version of {record} is in the history but not held")
        if head is None:
            raise LocalError("a history without an object version")
        self.history, self.head, self.recorded = history, head, recorded


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
        self._known: OrderedDict[int, _Known] = OrderedDict()
        self._cached = 0
        self._genesis = MemoryRows()
        self._genesis_objects: Final = frozenset(genesis)
        for obj, state in genesis.items():
            for key, value in state.items():
                self._genesis.put(_OBJECT.pack(b"r", obj) + key, value)
        self._check_or_write_genesis()

    def _check_or_write_genesis(self) -> None:
        initial = list(self._genesis.scan(b""))
        digest = blake2b(msgpack.packb(initial), digest_size=16).digest()
        expected = _FORMAT + digest
        found = self._rows.get(_META)
        if found is None:
            self._rows.put(_META, expected)
            for key, value in initial:
                self._rows.put(key, value)
        elif found == _FORMAT_WITHOUT_HEADERS + digest:
            self._add_headers()
            self._rows.put(_META, expected)
        elif found != expected:
            what = (
                "another genesis"
                if found.startswith((_FORMAT, _FORMAT_WITHOUT_HEADERS))
                else "another release of qunfs"
            )
            raise StorageError(f"the stored data was made for {what}: use the cluster directory it belongs to")

    def _add_headers(self) -> None:
        """Give a header to every object that has versions and none."""
        start = b"v"
        while (row := next(self._rows.scan(start, b"w"), None)) is not None:
            prefix = row[0][:_ID_END]
            header = b"o" + prefix[1:]
            if self._rows.get(header) is None:
                self._rows.put(header, ZERO_TIMESTAMP.pack() + ZERO_HISTORY.wire)
            start = end_of(prefix)

    def history(self, obj: int) -> ReplicaHistory:
        return (self._known.get(obj) or self._load(obj)).history

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
            self._known.move_to_end(obj)  # here only: no request is served without opening its objects
        return self._open(known, lt)

    def answer(self, obj: int, lt: LogicalTimestamp) -> bytes | None:
        known = self._known.get(obj) or self._load(obj)
        version = known.tree.versions.get(lt)
        return None if version is None or lt == ZERO_TIMESTAMP else record_answer(self._record(known, version))

    def add_version(
        self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: Difference, answer: bytes
    ) -> None:
        if lt == ZERO_TIMESTAMP:
            raise LocalError("the initial version cannot be added")
        known = self._known.get(obj) or self._load(obj)
        tree = known.tree
        if lt in tree.versions:
            return
        origin = tree.versions.get(parent)
        if isinstance(redo, Redo) and redo.version is origin and origin is not None:
            changes: Changes = {key: (redo.before[key], value) for key, value in redo.items()}
        else:
            origin, changes = self._against_held(known, parent, redo)
        root = tree.root
        version = tree.add(lt, origin)
        self._cached += 1
        self._put_record(known, version, answer, changes)
        known.added = (version, changes)
        if len(tree.held) - known.recorded > self._kept_max + 1:  # the one just added does not count
            self._collect(known, version)
        if not known.stored or tree.root is not root:
            self._put_header(known)

    def _against_held(self, known: _Known, parent: LogicalTimestamp, redo: Difference) -> tuple[Version, Changes]:
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
        known = self._known.get(obj) or self._load(obj)
        tree, old = known.tree, known.head
        known.take(history)
        if known.head is not old:
            rows, prefix = self._rows, known.rows_prefix
            for key, (_, value) in self._changes(known, old, known.head).items():
                if value is None:
                    rows.delete(prefix + key)
                else:
                    rows.put(prefix + key, value)
        known.added = None
        root = tree.root
        if root.lt == ZERO_TIMESTAMP and history.records[0].kind is not Kind.ZERO:
            self._drop(known, root)  # it can be opened without
        if len(tree.held) - known.recorded > self._kept_max:
            self._collect(known)
        self._put_header(known)

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

    def commit(self) -> None:
        self._rows.commit()

    def _load(self, obj: int) -> _Known:
        header = self._rows.get(_OBJECT.pack(b"o", obj))
        if header is None:
            known = _Known(obj, ZERO_HISTORY, VersionTree(ZERO_TIMESTAMP), stored=False)
        else:
            known = self._read(obj, header)
        self._known[obj] = known
        self._cached += len(known.tree.held)
        while self._cached > self._cached_max and len(self._known) > 1:
            self._cached -= len(self._known.popitem(last=False)[1].tree.held)
        return known

    def _read(self, obj: int, header: bytes) -> _Known:
        prefix = _OBJECT.pack(b"v", obj)
        parents: list[tuple[LogicalTimestamp, LogicalTimestamp]] = []
        heavy: list[LogicalTimestamp] = []
        try:
            history = parse_history_untrusted(header[LT_BYTES:], obj)
            tree = VersionTree(unpack_timestamp(header))
            for key, record in self._rows.scan(prefix, prefix + b"\xff" * (LT_BYTES + 1)):
                lt = unpack_timestamp(key, _ID_END)
                if lt != tree.root.lt:
                    parents.append((lt, record_parent(record)))
                if len(record) > _HEAVY_BYTES:
                    heavy.append(lt)
            tree.load(parents)
            known = _Known(obj, history, tree, stored=True)
        except (MalformedMessage, VersionMissing, KeyError, struct.error) as error:
            raise _damaged(prefix) from error
        for lt in heavy:
            tree.versions[lt].heavy = True
        return known

    def _open(self, known: _Known, lt: LogicalTimestamp) -> Overlay:
        if lt == ZERO_TIMESTAMP:
            rows = self._genesis if known.obj in self._genesis_objects else NO_ROWS
            return Overlay(rows, known.rows_prefix, _NOTHING, known.tree.versions.get(lt))
        version = self._find(known, lt)
        if version is known.head:
            return Overlay(self._rows, known.rows_prefix, _NOTHING, version)
        changes = self._changes(known, known.head, version)
        return Overlay(self._rows, known.rows_prefix, {key: value for key, (_, value) in changes.items()}, version)

    def _find(self, known: _Known, lt: LogicalTimestamp) -> Version:
        version = known.tree.versions.get(lt)
        if version is None:
            raise VersionMissing(f"object {known.rows_prefix[1:].hex()} has no version {lt}")
        return version

    def _changes(self, known: _Known, start: Version, end: Version) -> Changes:
        """The net changes from one version to another."""
        if known.added is not None and known.added[0] is end and end.parent is start:
            return known.added[1]
        undo, redo = path(start, end)
        changes: Changes = {}
        for version in undo:
            changes = compose(changes, inverse(record_changes(self._record(known, version))))
        for version in redo:
            changes = compose(changes, record_changes(self._record(known, version)))
        return changes

    def _collect(self, known: _Known, spared: Version | None = None) -> None:
        """Drop the oldest versions outside the history until there are few enough.

        The spared one stays, and so does its parent: the history may be about to begin with it.
        """
        held = known.tree.held
        safe: set[LogicalTimestamp] = set()
        if spared is not None:
            safe.add(spared.lt)
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

    def _drop(self, known: _Known, version: Version) -> None:
        """Take a version other than the head out of the tree; its children move to its parent or to each other."""
        children, parent = version.children, version.parent
        if parent is None and len(children) == 1:  # the usual one
            self._drop_root(known, version, children[0])
            return
        if known.added is not None and known.added[0] in children:
            known.added = None  # it gets another parent
        way: Changes = {}
        if parent is None:
            parent = next(heir for heir in known.head.ancestry() if heir.parent is version)
            children = tuple(child for child in children if child is not parent)
            way = inverse(record_changes(self._record(known, parent)))
            known.tree.move(parent, None)
            if parent.heavy:
                self._put_record(known, parent, record_answer(self._record(known, parent)), {})
        elif children:
            way = record_changes(self._record(known, version))
        for child in children:
            record = self._record(known, child)
            known.tree.move(child, parent)
            self._put_record(known, child, record_answer(record), compose(way, record_changes(record)))
        known.tree.remove(version)
        self._dropped(known, version)

    def _drop_root(self, known: _Known, version: Version, heir: Version) -> None:
        if known.added is not None and known.added[0] is heir:
            known.added = None
        known.tree.shift_root(heir)
        if heir.heavy:
            self._put_record(known, heir, record_answer(self._record(known, heir)), {})
        self._dropped(known, version)

    def _dropped(self, known: _Known, version: Version) -> None:
        self._cached -= 1
        if version.lt != ZERO_TIMESTAMP:
            self._rows.delete(known.versions_prefix + version.wire)

    def _record(self, known: _Known, version: Version) -> bytes:
        record = self._rows.get(known.versions_prefix + version.wire)
        if record is None:
            raise _damaged(known.rows_prefix)
        return record

    def _put_record(self, known: _Known, version: Version, answer: bytes, changes: Changes) -> None:
        record = pack_record((version.parent or version).wire, answer, changes)
        self._rows.put(known.versions_prefix + version.wire, record)
        version.heavy = len(record) - len(answer) > _HEAVY_BYTES

    def _put_header(self, known: _Known) -> None:
        known.stored = True
        self._rows.put(known.header_key, known.tree.root.wire + known.history.wire)


def _damaged(prefix: bytes) -> StorageError:
    return StorageError(f"the stored data of object {prefix[1:].hex()} is damaged: rebuild this server from the others")
