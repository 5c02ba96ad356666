"""A version store and a replica that report what they do, so that oracles need not reach into them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qunfs.protocol.admission import Rights
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.history import LogicalTimestamp, ReplicaHistory
from qunfs.protocol.limits import Limits
from qunfs.protocol.operation import Registry
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import Difference, MemoryRows
from qunfs.protocol.versions import VersionStore

State = tuple[tuple[bytes, bytes], ...]
NOTHING: Final[Mapping[int, Mapping[bytes, bytes]]] = {}
"""The genesis of stores whose objects all begin empty."""


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

    @property
    def is_longer(self) -> bool:
        """Whether something was accepted, not only pruned or skipped."""
        return self.new.latest.lt > self.old.latest.lt


Change = VersionAdded | HistoryChanged


class WatchedStore(VersionStore):
    """A store whose ``changes`` are what happened since the last commit."""

    def __init__(
        self, rows: MemoryRows, limits: Limits, genesis: Mapping[int, Mapping[bytes, bytes]] = NOTHING
    ) -> None:
        super().__init__(rows, genesis, limits)
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


class WatchedReplica(Replica):
    """A replica that reports what payloads change and are answered, when they are, be it after an object sync."""

    def __init__(
        self,
        server: int,
        quorums: QuorumSystem,
        authenticator: Authenticator,
        registry: Registry,
        store: WatchedStore,
        rights: Mapping[int, Rights],
        limits: Limits,
        stepped: Callable[[int, bytes, Sequence[Change], Sequence[Send]], None],
    ) -> None:
        super().__init__(server, quorums, authenticator, registry, store, rights, limits)
        self._changes_of, self._stepped = store, stepped

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        before, answered, counted = len(self._changes_of.changes), self.counters["answered"], self._counted()
        sends = super().step(origin, payload, now, wall_ns)
        changes = self._changes_of.changes[before:]
        # what is refused is not counted
        if changes or self.counters["answered"] > answered or self._counted() == counted:
            self._stepped(self.server, payload, changes, sends)
        return sends

    def _counted(self) -> int:
        return sum(self.counters.values())
