"""What a store holds in memory of one object in use: its versions, its history, and the rows that wait to be written.

The head's state is the object's rows with ``rows`` laid over them.  A version's record waits on the version itself,
and header and records are packed only when they are written: most are superseded before.
"""

from typing import Final

from qunfs.protocol.errors import LocalError, VersionMissing
from qunfs.protocol.history import Kind, LogicalTimestamp, ReplicaHistory
from qunfs.protocol.store import Redo
from qunfs.protocol.version_tree import Version, VersionTree, pack_record

_BARRIER: Final = Kind.BARRIER


class HeldObject:
    """One object; ``stored`` says whether it has any rows, ``prefix`` where those of its head begin."""

    __slots__ = ("gone", "head", "history", "keys", "obj", "prefix", "recorded", "rows", "stored", "tree")

    def __init__(self, obj: int, prefix: bytes, history: ReplicaHistory, tree: VersionTree, stored: bool) -> None:
        self.obj = obj
        self.prefix = prefix
        self.tree = tree
        self.stored = stored
        self.rows: dict[bytes, bytes | None] = {}
        """What may differ from the head's rows; None where a row goes away."""
        self.keys: list[bytes] = []
        """Some of the keys of ``rows``, in order: see :class:`~qunfs.protocol.store.Overlay`."""
        self.gone: list[LogicalTimestamp] = []
        """The versions whose stored record is of no use any more."""
        self.take(history)

    def take(self, history: ReplicaHistory) -> None:
        """Set the history, the head and the number of versions that the history needs.  Raises VersionMissing."""
        head, recorded, versions = None, 0, self.tree.versions
        for record in history.records:
            if record.kind is not _BARRIER:
                head = versions.get(record.lt)
                recorded += 1
                if head is None:
                    raise VersionMissing(f"the version of {record} is in the history but not held")
        if head is None:
            raise LocalError("a history without an object version")
        self.history, self.head, self.recorded = history, head, recorded

    def record(self, version: Version, answer: bytes, redo: Redo) -> int:
        """Let a version's record wait, instead of the one it may have; how many more rows wait."""
        more = 1 if version.redo is None else 0
        version.answer, version.redo = answer, redo
        return more

    def forget(self, version: Version) -> int:
        """A version is gone from the tree, and its record with it; how many more rows wait."""
        more = 0
        if version.redo is not None:
            version.redo = None
            more = -1
        if version.stored:
            self.gone.append(version.lt)
            more += 1
        return more

    def take_rows(self, heavy_bytes: int) -> list[tuple[bytes, bytes | None]]:
        """What is to be written, None where a row goes away; it waits no more."""
        tree, prefix, tail = self.tree, self.prefix, self.prefix[1:]
        taken: list[tuple[bytes, bytes | None]] = [(b"o" + tail, tree.root.lt.pack() + self.history.wire)]
        taken += [(prefix + key, value) for key, value in self.rows.items()]
        prefix = b"v" + tail
        for version in tree.versions.values():
            redo = version.redo
            if redo is not None:
                wire = version.lt.pack()
                parent = version.parent
                record = pack_record(wire if parent is None else parent.lt.pack(), version.answer, redo)
                version.heavy = len(record) - len(version.answer) > heavy_bytes
                version.redo, version.answer, version.stored = None, b"", True
                taken.append((prefix + wire, record))
        if self.gone:
            taken += [(prefix + lt.pack(), None) for lt in self.gone]
            self.gone.clear()
        self.rows.clear()
        self.keys.clear()
        self.stored = True
        return taken
