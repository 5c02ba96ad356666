"""Operations of a client as generators: what they may wait for, and what all of one client's share."""

from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.limits import Limits
from qunfs.protocol.operation import Registry
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.quorum_rpc import Phase, QuorumRpc
from qunfs.protocol.trust import Trust

BACKOFF_FIRST_S: Final = 0.001
"""The paper's first back-off period (section 4.3, contention); it doubles at each retry."""
BACKOFF_MAX_S: Final = 0.128


class Pause(NamedTuple):
    """Wait so long."""

    seconds: float


class Queue(NamedTuple):
    """Join the queues of some objects, ascending, and wait to be first in all of them."""

    objects: tuple[int, ...]


class Leave(NamedTuple):
    """Leave all queues."""


Step = Phase | Pause | Queue | Leave
Running = Generator[Step, Any, Any]


@dataclass(slots=True)
class Means:
    """What the operations of one client work with."""

    identity: Identity
    quorums: QuorumSystem
    registry: Registry
    uniform: Callable[[], float]
    """Chance in [0, 1)."""
    wall_ns: Callable[[], int]
    limits: Limits
    rpc: QuorumRpc
    trust: Trust
    cache: HistoryCache
    planner: Planner
    counters: Counter[str] = field(default_factory=Counter)
    sequence: int = 0
    """That of the last update."""

    def backoff(self, attempt: int) -> Pause:
        """Randomised exponential back-off (paper section 3.5, "retry and backoff policies")."""
        self.counters["backoffs"] += 1
        period = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(attempt, 20)))
        return Pause(period * (0.5 + self.uniform()))
