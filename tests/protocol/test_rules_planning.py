"""One step of a repair (DESIGN, "Client", repair; Figure 3, ``c_repair``), one rule at a time."""

from collections.abc import Mapping, Sequence

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.history import ZERO, Candidate, Kind, LogicalTimestamp, ReplicaHistory, barrier, method
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.messages import Shown
from qunfs.protocol.operation import Operation
from qunfs.protocol.planning import Identity, Inline, NeedObjects, Plan, Planner, Ready, Repair
from qunfs.protocol.quorum import threshold
from qunfs.protocol.trust import Trust
from tests.protocol.scripted import CREDENTIALS, A, B
from tests.simulation.objects import LEDGER, pack

Q = threshold(1)
Histories = Mapping[int, Sequence[tuple[Candidate, ...]]]
"""Per object the history of each server, from 0 on."""


def _lt(time: int, is_barrier: int = 0, digest: bytes = b"d") -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, digest * 32)


ONE = {obj: method(_lt(1), (obj,), (ZERO.lt,)) for obj in (A, B)}
FIVE = method(_lt(5), (B,), (ZERO.lt,))
JOINT = method(_lt(2), (A, B), (ZERO.lt, ZERO.lt))
RIVAL = method(_lt(3), (B,), (ZERO.lt,))
BAR = {obj: barrier(_lt(7, 1), (obj,), (ZERO.lt,)) for obj in (A, B)}


def _planner(histories: Histories) -> Planner:
    trust = Trust(Q)
    cache = HistoryCache(Q, trust)
    for obj, by_server in histories.items():
        for server, records in enumerate(by_server):
            vector = {server: bytes(MAC_BYTES * Q.n)}
            cache.note((obj,), (Shown(ReplicaHistory(records), b"?"),), 1 << server, vector)
    return Planner(Q, cache, Identity(1, bytes(16)), trust, 100)


def _plan(histories: Histories, wanted: Sequence[int], turn: int = 0) -> Plan:
    return _planner(histories).repair(frozenset(histories), tuple(wanted), turn)


def _sent(plan: Plan) -> tuple[Kind, tuple[int, ...]]:
    """The kind and objects of a repair."""
    assert isinstance(plan, Repair)
    return plan.prepared.request.kind, plan.prepared.made.candidate.objects


def _plans(histories: Histories, wanted: Sequence[int]) -> set[tuple[Kind, tuple[int, ...]]]:
    """The repairs of many turns."""
    plans = [_plan(histories, wanted, turn) for turn in range(24)]
    return {_sent(plan) for plan in plans if isinstance(plan, Repair)}


def _split(*records: Candidate, obj: int) -> list[tuple[Candidate, ...]]:
    """A server with a barrier that nobody else has, four with these records, and one with nothing."""
    return [(ZERO, BAR[obj]), *[(ZERO, *records)] * 4, (ZERO,)]


def test_ready_when_all_wanted_objects_call_for_a_method() -> None:
    shown = {A: [(ZERO, ONE[A])] * 6, B: _split(ONE[B], obj=B)}
    assert _plan(shown, (A,)) == Ready()
    assert _plan(shown, (A, B)) != Ready()


def test_the_greatest_candidate_is_repaired_first() -> None:
    """Each object is under a barrier at one server only."""
    shown = {A: _split(ONE[A], obj=A), B: _split(FIVE, obj=B)}
    assert _sent(_plan(shown, (A, B))) == (Kind.BARRIER, (B,))


def test_plans_rotate() -> None:
    """Whatever a liar does to one of them."""
    shown = {obj: _split(ONE[obj], obj=obj) for obj in (A, B)}
    assert _plans(shown, (A, B)) == {(Kind.BARRIER, (A,)), (Kind.BARRIER, (B,))}


def test_inline_repair_where_the_candidate_is_the_latest() -> None:
    """By those that lack it; and not for ever, since a liar may claim to hold what nobody can adopt."""
    shown = {A: [(ZERO, ONE[A])] * 4 + [(ZERO,)] * 2}
    for turn in (0, 1):
        assert _plan(shown, (A,), turn) == Inline(ONE[A], 0b1111)
    assert _sent(_plan(shown, (A,), 2)) == (Kind.BARRIER, (A,))


def test_no_inline_repair_below_something_later() -> None:
    """Who has the barrier would refuse it."""
    later = {A: [(ZERO, ONE[A], BAR[A]), *[(ZERO, ONE[A])] * 3, (ZERO,)]}
    for turn in range(6):
        assert _sent(_plan(later, (A,), turn)) == (Kind.BARRIER, (A,))


def test_the_siblings_of_a_joint_record_are_read() -> None:
    shown = {A: [(ZERO, JOINT)] * 4 + [(ZERO,)] * 2}
    assert _plan(shown, (A,)) == NeedObjects(frozenset((A, B)), (A, B))


def test_a_joint_record_is_repaired_on_all_its_objects() -> None:
    shown = {
        A: [(ZERO, JOINT, BAR[A]), *[(ZERO, JOINT)] * 3, (ZERO,)],
        B: [(ZERO, JOINT)] * 4 + [(ZERO,)],
    }
    assert _plans(shown, (A,)) == {(Kind.BARRIER, (A, B))}
    under = {obj: [(ZERO, JOINT, BAR[obj])] * 4 + [(ZERO, BAR[obj])] for obj in (A, B)}
    assert _plans(under, (A,)) == {(Kind.COPY, (A, B))}
    half = {A: under[A], B: [(ZERO, JOINT)] * 4 + [(ZERO,)]}
    assert _plans(half, (A,)) == {(Kind.BARRIER, (B,))}, "A is under its barrier already"


def test_a_sibling_that_has_another_candidate_goes_first() -> None:
    """JOINT may be repairable on A; on B something later is, which decides about JOINT."""
    shown = {
        A: [(ZERO, JOINT)] * 4 + [(ZERO,)],
        B: [(ZERO, JOINT), (ZERO,), *[(ZERO, RIVAL)] * 3],
    }
    assert _plans(shown, (A,)) == {(Kind.BARRIER, (B,))}
    inline = [plan for turn in range(24) if isinstance(plan := _plan(shown, (A,), turn), Inline)]
    assert {plan.record for plan in inline} <= {RIVAL}


def _append() -> Operation:
    return Operation((A,), (LEDGER,), "ledger.append", 1, pack((b"x", None)), CREDENTIALS, 1, A, bytes(16), 1)


def test_proofs_pool_over_all_replies() -> None:
    """The first view does not prove ONE; the histories beside it do, and go along as evidence."""
    shown = {A: [(ZERO,), *[(ZERO, ONE[A])] * 3, (ONE[A],), (ONE[A],)]}
    prepared = _planner(shown).method(_append(), frozenset())
    assert prepared is not None
    assert prepared.made.conditioned == (ONE[A],)


def test_no_more_evidence_than_is_needed() -> None:
    """One history with a bad MAC has a request refused."""
    agreed = _planner({A: [(ZERO, ONE[A])] * 6}).method(_append(), frozenset())
    assert agreed is not None
    assert agreed.request.evidence == ()
    plan = _plan({A: [(ZERO, ONE[A], BAR[A]), *[(ZERO, ONE[A])] * 3, (ZERO,)]}, (A,))
    assert isinstance(plan, Repair)
    assert plan.prepared.request.evidence == ()
