"""What adversaries make up: histories that were, never were or could have been."""

from random import Random
from typing import Final

from qunfs.protocol.history import (
    ZERO_HISTORY,
    Candidate,
    Kind,
    LogicalTimestamp,
    ReplicaHistory,
    barrier,
    copy,
    method,
)
from qunfs.protocol.limits import DEFAULT_LIMITS
from tests.simulation.oracles import Oracles

TIME_LAST: Final = (1 << 63) - 1
"""No later time can be written."""


class Forger:
    """Makes histories of an object out of what all benign servers ever had: adversaries see everything."""

    def __init__(self, oracles: Oracles, chance: Random) -> None:
        self._oracles, self._chance = oracles, chance

    def history(self, obj: int) -> ReplicaHistory:
        """A history that a malevolent server might show."""
        chance, dice = self._chance, self._chance.random()
        current = [self._oracles.histories[s][obj] for s in self._oracles.benign]
        if dice < 0.25:
            return chance.choice(current)
        if dice < 0.32:
            return ZERO_HISTORY
        pool = self._pool(current)
        if dice < 0.45:
            return _history(pool)
        if dice < 0.6:
            return _history([r for r in pool if chance.random() < 0.6])
        if dice < 0.7:
            return self.archived(obj)
        if dice < 0.82:
            return _history([chance.choice(pool)])
        return _history([self._invented(obj, pool), *(r for r in pool if chance.random() < 0.4)])

    def archived(self, obj: int) -> ReplicaHistory:
        """What some benign server once had."""
        return self._chance.choice(self._oracles.archive[self._chance.choice(self._oracles.benign), obj])

    def high(self, obj: int, history: ReplicaHistory, wall_ns: int) -> ReplicaHistory:
        """The history and one more record, as late as there are times or as servers believe."""
        believed = wall_ns // 1000 + DEFAULT_LIMITS.time_ahead_max
        time = self._chance.choice((TIME_LAST, TIME_LAST, believed, believed - 1_000_000, believed + 10_000_000))
        is_barrier = self._chance.random() < 0.7
        lt = LogicalTimestamp(time, int(is_barrier), self._chance.randrange(9), self._chance.randbytes(32))
        make = barrier if is_barrier else method
        return ReplicaHistory([*history.records, make(lt, (obj,), (history.head.lt,))])

    def record(self, obj: int) -> Candidate:
        """Any record, real or invented."""
        pool = self._pool([self._oracles.histories[s][obj] for s in self._oracles.benign])
        return self._chance.choice(pool) if self._chance.random() < 0.7 else self._invented(obj, pool)

    def _pool(self, histories: list[ReplicaHistory]) -> list[Candidate]:
        return sorted({record for history in histories for record in history.records}, key=lambda r: r.lt)

    def _invented(self, obj: int, pool: list[Candidate]) -> Candidate:
        chance = self._chance
        model = chance.choice(pool)
        objects = {obj, *(o for o in self._oracles.objects if chance.random() < 0.2)}
        if chance.random() < 0.5 and obj in model.objects:
            objects = set(model.objects)
        ids = tuple(sorted(objects))
        is_barrier = chance.random() < 0.5
        ahead = chance.choice((0, 1, 1, 2, 9, 1 << 20, 1 << 45, 1 << 60))
        lt = LogicalTimestamp(
            model.lt.time + ahead + (model.lt.time == 0), int(is_barrier), chance.randrange(9), chance.randbytes(32)
        )
        if chance.random() < 0.2 and model.lt.time and model.lt.barrier == is_barrier:
            lt = model.lt
        some = tuple(chance.choice(pool).lt for _ in ids)
        if is_barrier:
            return barrier(lt, ids, some)
        if chance.random() < 0.5:
            return method(lt, ids, some)
        source = chance.choice(pool)
        continues = (
            source if source.kind is not Kind.ZERO and source.lt != lt and set(ids) <= set(source.objects) else None
        )
        return copy(lt, ids, some, tuple(chance.choice(pool).lt for _ in ids), continues)


def _history(records: list[Candidate]) -> ReplicaHistory:
    """The records as a history that parses: ascending, one per timestamp, based on no barrier."""
    by_time = {record.lt: record for record in records}
    ordered = [by_time[lt] for lt in sorted(by_time)]
    while ordered and ordered[0].kind is Kind.BARRIER:
        del ordered[0]
    return ReplicaHistory(ordered) if ordered else ZERO_HISTORY
