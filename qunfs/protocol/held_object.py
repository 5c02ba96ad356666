"""What a store holds in memory of one object in use: its versions, its history, and the rows that wait to be written.

The head's state is the object's rows with ``rows`` laid over them.  A version's record waits on the version itself.
"""

from typing import Final

from qunfs.protocol.errors import LocalError, VersionMissing
from qunfs.protocol.history import Kind, ReplicaHistory
from qunfs.protocol.store import Difference, FlatChanges
from qunfs.protocol.version_tree import Version, VersionTree, pack_record

Row = tuple[bytes, bytes | None]
"""Key and value; None where it goes away."""

HEAVY_BYTES: Final = 16 * 1024
"""Records longer than this are cut down when their changes stop meaning anything."""
_BARRIER: Final = Kind.BARRIER
_NOTHING: Final[Difference] = {}


class HeldObject:
    """One object; ``stored`` says whether it has any rows, ``prefix`` where those of its head begin."""

    __slots__ = (
        "added",
        "dirty",
        "gone",
        "head",
        "header_key",
        "history",
        "keys",
        "obj",
        "prefix",
        "record_prefix",
        "recorded",
        "redo",
        "rows",
        "stored",
        "tree",
        "used",
    )

    def __init__(self, obj: int, prefix: bytes, history: ReplicaHistory, tree: VersionTree, stored: bool) -> None:
        self.obj: Final = obj
        self.prefix: Final = prefix
        self.header_key: Final = b"o" + prefix[1:]
        self.record_prefix: Final = b"v" + prefix[1:]
        self.tree = tree
        self.stored = stored
        self.rows: dict[bytes, bytes | None] = {}
        """What may differ from the head's rows; None where a row goes away."""
        self.keys: list[bytes] = []
        """Some of the keys of ``rows``, in order: see :class:`~qunfs.protocol.store.Overlay`."""
        self.gone: set[bytes] | None = None
        """The versions whose stored record is of no use any more."""
        self.added: Version | None = None
        """The version added last, as long as ``redo`` are what it changes in its parent."""
        self.redo: Difference = _NOTHING
        self.dirty = False
        """Whether anything waits to be written."""
        self.used = False
        """Whether a request has opened it since its turn to be forgotten came last."""
        self.take(history)

    def take(self, history: ReplicaHistory) -> None:
        """Set the history, the head and the number of versions that the history needs.  Raises VersionMissing."""
        head, recorded, added = None, 0, self.added
        for record in history.records:
            if record.kind is not _BARRIER:
                head = added if added is not None and record.lt is added.lt else self.tree.versions.get(record.lt)
                recorded += 1
                if head is None:
                    raise VersionMissing(f"the version of {record} is in the history but not held")
        if head is None:
            raise LocalError("a history without an object version")
        self.history, self.head, self.recorded = history, head, recorded

    def record(self, version: Version, parent: bytes, answer: bytes, changes: FlatChanges) -> int:
        """Let a version's record wait, instead of the one it may have; how many more rows wait."""
        more = 1 if version.record is None else 0
        record = version.record = pack_record(parent, answer, changes)
        version.heavy = len(record) - len(answer) > HEAVY_BYTES
        return more

    def forget(self, version: Version) -> int:
        """A version is gone from the tree, and its record with it; how many more rows wait."""
        more = 0
        if version is self.added:
            self.added = None
        if version.record is not None:
            version.record = None
            more = -1
        if version.stored:
            if self.gone is None:
                self.gone = set()
            self.gone.add(version.wire)
            more += 1
        return more

    def take_rows(self, headers: list[Row], states: list[Row], records: list[Row]) -> None:
        """Add what is to be written, None where a row goes away; it waits no more."""
        tree, prefix = self.tree, self.prefix
        headers.append((self.header_key, tree.root.wire + self.history.wire))
        for key, value in self.rows.items():
            states.append((prefix + key, value))
        prefix = self.record_prefix
        for version in tree.versions.values():
            record = version.record
            if record is not None:
                version.record, version.stored = None, True
                records.append((prefix + version.wire, record))
        for wire in self.gone or ():
            records.append((prefix + wire, None))
        self.gone = None
        self.rows.clear()
        self.keys.clear()
        self.added, self.redo = None, _NOTHING
        self.stored, self.dirty = True, False
