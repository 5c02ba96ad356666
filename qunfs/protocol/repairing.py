"""Repair: barriers, copies and inline repairs (Figure 3, ``c_repair``, lines 500-507)."""

from typing import Final

from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import QueryItem
from qunfs.protocol.planning import Inline, NeedObjects, Ready, Stuck
from qunfs.protocol.querying import Reading
from qunfs.protocol.steps import Means, Running
from qunfs.protocol.update_round import adopt, send

_TOGETHER_MAX: Final = DEFAULT_LIMITS.objects_per_operation_max


def repair(means: Means, wanted: tuple[int, ...], home: int, ahead: int = 0) -> Running:
    """Barriers, copies and inline repairs until every wanted object calls for a METHOD.

    ``ahead``: servers that took no METHOD, so go at first by what they show.  When candidates overlap in a chain of
    more objects than fit into one read, the greatest is repaired by itself and then everything looked at anew.
    """
    need = aim = everything = frozenset(wanted)
    turn, alone, too_late = 0, False, False
    while True:
        if turn > 1:  # before the read: a plan must not outlive the histories it shows
            means.trust.reconsider()
            yield means.backoff(turn, means.trust.stretch() if too_late else 1)
            too_late = False
        read = JointRead(means, need, tuple(sorted(aim)), home)
        yield read
        plan = means.planner.repair(need, tuple(sorted(aim)), turn, ahead if turn == 0 else 0, alone)
        if isinstance(plan, Ready):
            if aim == everything:
                return
            need = aim = everything
            alone = False
            continue
        if isinstance(plan, NeedObjects) and len(need | plan.objects) <= _TOGETHER_MAX:
            need |= plan.objects
            continue
        turn += 1
        if isinstance(plan, NeedObjects):
            need = aim = frozenset(plan.greatest)
            alone = True
            continue
        if isinstance(plan, Stuck):
            means.counters["stuck"] += 1
            continue
        means.counters["repairs"] += 1
        everyone = turn > 1 or bool(means.trust.suspicion)
        if isinstance(plan, Inline):
            outcome, phase = yield from adopt(means, plan, home, everyone)
        else:
            outcome, phase = yield from send(means, plan.prepared, home, everyone)
        too_late = phase.too_late and not outcome.done
        if means.planner.method_views(wanted, frozenset()) is not None:
            return


class JointRead(Reading):
    """Current histories of some objects, read together at each server."""

    __slots__ = ("_means", "_wanted")

    def __init__(self, means: Means, objects: frozenset[int], wanted: tuple[int, ...], home: int) -> None:
        order = means.trust.preference(home).to_ask
        super().__init__("READ", order, means.cache, (tuple(sorted(objects)),), want_auth=True)
        self._means, self._wanted = means, wanted

    def items(self, claims: tuple[bytes, ...], _chosen: bool) -> tuple[QueryItem, ...]:
        return (QueryItem(self.objects[0], claims, want_auth=True),)

    def judge(self, final: bool) -> bool | None:
        """True when the wanted objects call for a METHOD, or when nobody else will reply soon."""
        if not self._means.quorums.contains_quorum(self.replied):
            return None
        return True if final or self._means.planner.method_views(self._wanted, frozenset()) is not None else None
