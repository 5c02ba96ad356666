"""A version store that reports what the replica does to it, so that oracles need not reach into the replica."""

from dataclasses import dataclass

from qunfs.protocol.history import LogicalTimestamp, ReplicaHistory
from qunfs.protocol.limits import Limits
from qunfs.protocol.store import Difference, MemoryRows
from qunfs.protocol.versions import VersionStore

State = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class VersionAdded:
    """A version came to be held, by execution or by sync."""

    obj: int
    lt: LogicalTimestamp
    state: State
    answer: bytes


@dataclass(frozen=True, slots=True)
class HistoryChanged:
    """An object's history was replaced."""

    obj: int
    old: ReplicaHistory
    new: ReplicaHistory


Change = VersionAdded | HistoryChanged


class WatchedStore(VersionStore):
    """A store whose ``changes`` are what happened since the last commit."""

    def __init__(self, rows: MemoryRows, limits: Limits) -> None:
        super().__init__(rows, {}, limits)
        self.changes: list[Change] = []

    def add_version(
        self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: Difference, answer: bytes
    ) -> None:
        known = self.has_version(obj, lt)
        super().add_version(obj, lt, parent, redo, answer)
        if not known:
            self.changes.append(VersionAdded(obj, lt, tuple(self.open(obj, lt).scan()), answer))

    def set_history(self, obj: int, history: ReplicaHistory) -> None:
        old = self.history(obj)
        super().set_history(obj, history)
        self.changes.append(HistoryChanged(obj, old, history))
