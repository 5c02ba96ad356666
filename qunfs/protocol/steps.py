"""Operations of a client as generators: what they may wait for, and what all of one client's share."""

from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final

from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.limits import Limits
from qunfs.protocol.operation import Call, Registry
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.quorum_rpc import Phase, QuorumRpc
from qunfs.protocol.trust import Trust

BACKOFF_FIRST_S: Final = 0.001
"""The paper's first back-off period (section 4.3, contention); it doubles at each back-off."""
BACKOFF_MAX_S: Final = 0.128


class Pause:
    """Wait so long."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds


class Queue:
    """Join the queues of some objects, ascending, and wait to be first in all of them."""

    __slots__ = ("objects",)

    def __init__(self, objects: tuple[int, ...]) -> None:
        self.objects: Final = objects


class Leave:
    """Leave all queues."""

    __slots__ = ()


def ids_and_types(call: Call) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The objects of a call in ascending order, and the type of each."""
    if len(call.objects) == 1:
        obj, kind = call.objects[0]
        return (obj,), (kind,)
    pairs = sorted(call.objects)
    return tuple([obj for obj, _ in pairs]), tuple([kind for _, kind in pairs])


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
    counters: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    sequence: int = 0
    """That of the last update."""

    def backoff(self, attempt: int, stretch: int = 1) -> Pause:
        """Randomised exponential back-off (paper section 3.5, "retry and backoff policies"), so many times as long."""
        self.counters["backoffs"] += 1
        period = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(attempt, 20)))
        return Pause(stretch * period * (0.5 + self.uniform()))
