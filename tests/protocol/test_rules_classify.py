"""Rules of quorums, records and classification that no broader test pins down alone."""

import pytest

from qunfs.protocol.classify import Request, RequestRefused, classify, proven, setup
from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    Candidate,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    barrier,
    copy,
    method,
)
from qunfs.protocol.operation import Credentials, Operation
from qunfs.protocol.quorum import ThresholdQuorums, threshold

Q = threshold(1)
O, P = 7, 8  # noqa: E741


def _lt(time: int, is_barrier: int = 0, digest: bytes = b"d") -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, digest * 32)


ONE = method(_lt(1), (O,), (ZERO.lt,))
TWO = method(_lt(2), (O,), (ONE.lt,))
LATER = method(_lt(3), (O,), (ONE.lt,))
BAR = barrier(_lt(2, 1), (O,), (ONE.lt,))
JOINT = method(_lt(1), (O, P), (ZERO.lt, ZERO.lt))


def _view(*histories: tuple[Candidate, ...], obj: int = O) -> ObjectHistorySet:
    shown = {server: ReplicaHistory(records) for server, records in enumerate(histories)}
    return ObjectHistorySet.of(obj, shown, (1 << len(shown)) - 1)


def _request(kind: Kind, *views: ObjectHistorySet, evidence: tuple[ObjectHistorySet, ...] = ()) -> Request:
    objects = tuple(view.obj for view in views)
    types = ("ledger",) * len(objects)
    operation = Operation(objects, types, "ledger.append", 1, b"\xc0", Credentials(0, 0), 1, objects[0], b"s" * 16, 1)
    return Request(kind, 3, b"s" * 16, operation if kind is Kind.METHOD else None, views, evidence)


# ---- DESIGN, sizes; paper 3.3


@pytest.mark.parametrize(
    ("why", "n", "q", "r"), [(r"\(2\)", 6, 6, 4), (r"\(3\)", 6, 5, 4), (r"\(4\)", 6, 5, 2)], ids=["2", "3", "4"]
)
def test_each_constraint_is_checked_for_itself(why: str, n: int, q: int, r: int) -> None:
    """Systems that break this constraint and neither of the two others, with b=1."""
    t = 1
    broken = {
        r"\(2\)": q + t > n,
        r"\(3\)": 2 * q - 1 - n < r,
        r"\(4\)": q + r - n <= 1,
    }
    assert [name for name, wrong in broken.items() if wrong] == [why]
    with pytest.raises(LocalError, match=why):
        ThresholdQuorums(n=n, b=1, t=t, q=q, r=r)


# ---- records


def test_a_copy_of_a_copy_belongs_to_the_segment_of_the_first() -> None:
    first = copy(_lt(3), (O,), (ONE.lt,), (BAR.lt,), continues=ONE)
    second = copy(_lt(5), (O,), (first.lt,), (_lt(4, 1),), continues=first)
    assert (second.src, second.bot) == (ONE.lt, ONE.bot)


# ---- proof


def test_a_request_may_prove_on_a_sibling_what_it_builds_on() -> None:
    """JOINT is repairable on O and proven by two bases among the evidence on P."""
    shown = _view(*[(ZERO, JOINT)] * 4, (ZERO,))
    proof = _view((JOINT,), (JOINT,), *[(ZERO,)] * 3, obj=P)
    with pytest.raises(RequestRefused):
        setup(Q, _request(Kind.METHOD, shown))
    assert setup(Q, _request(Kind.METHOD, shown, evidence=(proof,))).candidate.lt_co == (JOINT.lt,)


# ---- classify(o)


def test_line_707_an_established_barrier_below_the_latest_is_no_ground_to_copy() -> None:
    """All of the view hold the barrier, and one holds something later that it cannot exclude."""
    view = _view(*[(ZERO, ONE, BAR)] * 4, (ZERO, ONE, BAR, LATER))
    found = classify(Q, view, proven(Q, (view,)))
    assert (found.kind, found.obj_cand, found.bar_cand) == (Kind.BARRIER, ONE, BAR)


def test_line_710_a_repairable_candidate_that_is_proven_is_the_latest_there() -> None:
    """ONE is proven; a later candidate that only one server has keeps it from being built on."""
    view = _view(*[(ZERO, ONE)] * 4, (ZERO, ONE, TWO))
    assert classify(Q, view, {ZERO, ONE}).kind is Kind.BARRIER


# ---- METHOD, BARRIER and COPY of several objects

READY = {obj: _view(*[(ZERO, method(_lt(1), (obj,), (ZERO.lt,)))] * 5, obj=obj) for obj in (O, P)}
UNDER_BARRIER = {
    obj: _view(*[(ZERO, method(_lt(1), (obj,), (ZERO.lt,)), barrier(_lt(2, 1), (obj,), (ZERO.lt,)))] * 5, obj=obj)
    for obj in (O, P)
}
UNREADY = {obj: _view(*[(ZERO, method(_lt(1), (obj,), (ZERO.lt,)))] * 3, *[(ZERO,)] * 2, obj=obj) for obj in (O, P)}


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (Kind.METHOD, READY, UNREADY),
        (Kind.METHOD, READY, UNDER_BARRIER),
        (Kind.BARRIER, UNREADY, READY),
        (Kind.COPY, UNDER_BARRIER, UNREADY),
        (Kind.COPY, UNDER_BARRIER, READY),
    ],
)
def test_every_object_of_a_request_calls_for_its_kind(
    kind: Kind, one: dict[int, ObjectHistorySet], other: dict[int, ObjectHistorySet]
) -> None:
    for views in ((one[O], other[P]), (other[O], one[P])):
        with pytest.raises(RequestRefused, match=kind.name):
            setup(Q, _request(kind, *views))
    if kind is Kind.COPY:
        return  # two objects without a common record have no joint COPY at all
    assert setup(Q, _request(kind, one[O], one[P])).candidate.objects == (O, P)


def test_a_joint_copy_needs_a_barrier_on_every_object() -> None:
    """Both objects show the same record; only one is under a barrier in a quorum."""
    bar = {obj: barrier(_lt(2, 1), (obj,), (ZERO.lt,)) for obj in (O, P)}
    under = {obj: _view(*[(ZERO, JOINT, bar[obj])] * 3, *[(ZERO, bar[obj])] * 2, obj=obj) for obj in (O, P)}
    unready = _view(*[(ZERO, JOINT)] * 3, (ZERO, bar[P]), (ZERO,), obj=P)
    assert setup(Q, _request(Kind.COPY, under[O], under[P])).candidate.objects == (O, P)
    with pytest.raises(RequestRefused, match="COPY requested"):
        setup(Q, _request(Kind.COPY, under[O], unready))


def test_a_view_of_one_history_needs_a_quorum_too() -> None:
    """The short way for views that agree does not let fewer servers through."""
    few = ObjectHistorySet(O, ((ZERO_HISTORY, 0b1111),))
    with pytest.raises(RequestRefused, match="exactly a quorum"):
        setup(Q, _request(Kind.METHOD, few))
