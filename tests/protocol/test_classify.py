"""Figure 3, lines 700-712, 800, 1100-1118 and 1200-1206, with proof in place of order >= q for objects."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qunfs.protocol.classify import (
    Request,
    RequestRefused,
    Setup,
    classify,
    proven,
    setup,
    setup_classified,
    setup_unanimous,
    unanimous,
)
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    Candidate,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.operation import Credentials, Operation
from qunfs.protocol.quorum import QuorumSystem, threshold

Q = threshold(1)
O, P = 7, 8  # noqa: E741
QUORUM, SESSION = 0b11111, b"s" * 16


def _lt(time: int, is_barrier: int = 0, digest: bytes = b"d") -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, digest * 32)


ONE = method(_lt(1), (O,), (ZERO.lt,))
RIVAL = method(_lt(1, digest=b"e"), (O,), (ZERO.lt,))
TWO = method(_lt(2), (O,), (ONE.lt,))
BAR = barrier(_lt(2, 1), (O,), (ZERO.lt,))
HIGH = barrier(_lt(9, 1), (O,), (ZERO.lt,))
JOINT = method(_lt(1), (O, P), (ZERO.lt, ZERO.lt))


def _rh(*records: Candidate) -> ReplicaHistory:
    return ReplicaHistory(records)


def _view(*histories: ReplicaHistory, obj: int = O) -> ObjectHistorySet:
    shown = dict(enumerate(histories))
    return ObjectHistorySet.of(obj, shown, (1 << len(histories)) - 1)


def _classify(
    *histories: ReplicaHistory, evidence: tuple[ObjectHistorySet, ...] = ()
) -> tuple[Kind, Candidate, object]:
    view = _view(*histories)
    result = classify(Q, view, proven(Q, (view, *evidence)))
    return result.kind, result.obj_cand, result.bar_cand


WITH_ONE, BASED_ON_ONE = _rh(ZERO, ONE), _rh(ONE)


def test_lines_710_711_method_on_the_initial_candidate() -> None:
    assert _classify(*[ZERO_HISTORY] * 5) == (Kind.METHOD, ZERO, None)


def test_lines_710_711_method_when_the_latest_is_in_a_quorum() -> None:
    assert _classify(*[WITH_ONE] * 5) == (Kind.METHOD, ONE, None)


@pytest.mark.parametrize("holders", [3, 4])
def test_line_705_barrier_when_the_latest_is_repairable_only(holders: int) -> None:
    """Line 1201: order >= r makes ONE the object candidate; it is latest but not proven."""
    assert _classify(*[WITH_ONE] * holders, *[ZERO_HISTORY] * (5 - holders)) == (Kind.BARRIER, ONE, None)


@pytest.mark.parametrize("holders", [1, 2])
def test_line_705_barrier_when_the_latest_is_incomplete(holders: int) -> None:
    assert _classify(*[WITH_ONE] * holders, *[ZERO_HISTORY] * (5 - holders)) == (Kind.BARRIER, ZERO, None)


def test_line_705_barrier_for_contenders() -> None:
    rival = _rh(ZERO, RIVAL)
    assert _classify(WITH_ONE, WITH_ONE, WITH_ONE, rival, rival)[:2] == (Kind.BARRIER, ONE)


def test_proof_by_base_needs_more_than_can_lie() -> None:
    """A repairable candidate that b+1 histories have as their base is established; one base may be a lie."""
    mixed = [BASED_ON_ONE, BASED_ON_ONE, WITH_ONE, ZERO_HISTORY, ZERO_HISTORY]
    assert _classify(*mixed) == (Kind.METHOD, ONE, None)
    assert _classify(BASED_ON_ONE, WITH_ONE, WITH_ONE, *[ZERO_HISTORY] * 2)[0] is Kind.BARRIER
    twice = [BASED_ON_ONE, BASED_ON_ONE, *[ZERO_HISTORY] * 3]
    assert _classify(*twice) == (Kind.METHOD, ONE, None), "proven makes an object candidate whatever its order"


def test_lines_707_708_copy_when_a_quorum_has_the_latest_barrier() -> None:
    with_barrier = _rh(ZERO, ONE, BAR)
    assert _classify(*[with_barrier] * 5) == (Kind.COPY, ONE, BAR)


def test_line_707_a_repairable_barrier_is_not_enough() -> None:
    """Line 1201 makes it the barrier candidate; copying needs it in a quorum."""
    with_barrier = _rh(ZERO, ONE, BAR)
    assert _classify(*[with_barrier] * 4, WITH_ONE) == (Kind.BARRIER, ONE, BAR)


def test_line_707_the_barrier_must_be_the_latest() -> None:
    with_barrier = _rh(ZERO, ONE, BAR)
    kind, _, bar = _classify(*[with_barrier] * 4, _rh(ZERO, ONE, BAR, HIGH))
    assert (kind, bar) == (Kind.BARRIER, BAR)


def test_line_710_a_later_barrier_forbids_a_method() -> None:
    assert _classify(*[WITH_ONE] * 4, _rh(ZERO, ONE, BAR))[0] is Kind.BARRIER


def test_barriers_are_never_proven() -> None:
    view = _view(*[_rh(ZERO, BAR)] * 5)
    assert proven(Q, [view]) == {ZERO}


def test_a_proof_on_one_object_holds_for_the_whole_operation() -> None:
    """JOINT is repairable on O; histories of P, where it is a base twice, prove it."""
    shown = [_rh(ZERO, JOINT)] * 4 + [ZERO_HISTORY]
    assert _classify(*shown)[0] is Kind.BARRIER
    proof = _view(_rh(JOINT), _rh(JOINT), *[ZERO_HISTORY] * 3, obj=P)
    assert _classify(*shown, evidence=(proof,)) == (Kind.METHOD, JOINT, None)


# ---- s_setup


def _operation(*objects: int) -> Operation:
    return Operation(
        objects, ("ledger",) * len(objects), "ledger.append", 1, b"\xc0", Credentials(0, 0), 1, objects[0], SESSION, 1
    )


def _request(kind: Kind, *views: ObjectHistorySet, evidence: tuple[ObjectHistorySet, ...] = ()) -> Request:
    operation = _operation(*(v.obj for v in views)) if kind is Kind.METHOD else None
    return Request(kind, 3, SESSION, operation, views, evidence)


def test_lines_1101_1108_method() -> None:
    made = setup(Q, _request(Kind.METHOD, _view(*[WITH_ONE] * 5))).candidate
    assert (made.kind, made.lt.time, made.lt.barrier, made.lt.client) == (Kind.METHOD, 2, 0, 3)
    assert made.conditioned_on(O) == ONE.lt
    assert made.current(O) == ONE.lt


def test_lines_1109_1112_barrier() -> None:
    made = setup(Q, _request(Kind.BARRIER, _view(*[WITH_ONE] * 2, *[ZERO_HISTORY] * 3))).candidate
    assert (made.kind, made.lt.time, made.lt.barrier) == (Kind.BARRIER, 2, 1)
    assert made.current(O) == made.lt


def test_lines_1113_1116_copy() -> None:
    made = setup(Q, _request(Kind.COPY, _view(*[_rh(ZERO, ONE, BAR)] * 5))).candidate
    assert (made.kind, made.lt.time, made.lt.barrier) == (Kind.COPY, 3, 0)
    assert made.conditioned_on(O) == ONE.lt
    assert made.current(O) == BAR.lt
    assert made.starts_segment, "ONE is in a quorum: the copy starts a segment"


def test_copy_of_a_repairable_record_goes_on_with_its_segment() -> None:
    shown = [_rh(ZERO, TWO, HIGH)] * 3 + [_rh(ZERO, HIGH)] * 2
    made = setup(Q, _request(Kind.COPY, _view(*shown))).candidate
    assert (made.src, made.bottom(O)) == (TWO.src, TWO.bottom(O))


def test_a_repairable_record_of_several_objects_is_copied_on_all_of_them() -> None:
    joint_barrier = barrier(_lt(2, 1), (O, P), (ZERO.lt, ZERO.lt))
    shown = [_rh(ZERO, JOINT, joint_barrier)] * 3 + [_rh(ZERO, joint_barrier)] * 2
    with pytest.raises(RequestRefused, match="on all its objects"):
        setup(Q, _request(Kind.COPY, _view(*shown)))
    both = setup(Q, _request(Kind.COPY, _view(*shown), _view(*shown, obj=P))).candidate
    assert both.objects == (O, P)
    assert not both.starts_segment


def test_a_joint_copy_copies_one_record() -> None:
    bar_p = barrier(_lt(2, 1), (P,), (ZERO.lt,))
    one_p = method(_lt(1), (P,), (ZERO.lt,))
    views = _view(*[_rh(ZERO, ONE, BAR)] * 5), _view(*[_rh(ZERO, one_p, bar_p)] * 5, obj=P)
    with pytest.raises(RequestRefused, match="one record"):
        setup(Q, _request(Kind.COPY, *views))


@pytest.mark.parametrize("kind", [Kind.METHOD, Kind.BARRIER, Kind.COPY])
def test_kinds_must_be_what_the_views_call_for(kind: Kind) -> None:
    views = {
        Kind.METHOD: _view(*[WITH_ONE] * 5),
        Kind.BARRIER: _view(*[WITH_ONE] * 3, *[ZERO_HISTORY] * 2),
        Kind.COPY: _view(*[_rh(ZERO, ONE, BAR)] * 5),
    }
    for shown, view in views.items():
        sound = kind is shown or (kind, shown) == (Kind.BARRIER, Kind.COPY)
        if sound:
            assert setup(Q, _request(kind, view)).candidate.kind is kind
        else:
            with pytest.raises(RequestRefused):
                setup(Q, _request(kind, view))


def test_a_view_is_exactly_a_quorum_or_nothing_at_the_initial_version() -> None:
    with pytest.raises(RequestRefused, match="exactly a quorum"):
        setup(Q, _request(Kind.METHOD, _view(*[WITH_ONE] * 6)))
    with pytest.raises(RequestRefused, match="exactly a quorum"):
        setup(Q, _request(Kind.BARRIER, _view(WITH_ONE)))
    with pytest.raises(RequestRefused, match="exactly a quorum"):
        setup(Q, _request(Kind.BARRIER, ObjectHistorySet(O, ())))
    made = setup(Q, _request(Kind.METHOD, ObjectHistorySet(O, ()))).candidate
    assert (made.lt.time, made.conditioned_on(O), made.current(O)) == (1, ZERO.lt, ZERO.lt)


def test_one_timestamp_for_all_objects_above_all_of_them() -> None:
    one_p = [method(_lt(time), (P,), (ZERO.lt,)) for time in (1, 8)]
    views = _view(*[WITH_ONE] * 5), _view(*[_rh(ZERO, *one_p)] * 5, obj=P)
    made = setup(Q, _request(Kind.METHOD, *views)).candidate
    assert made.lt.time == 9
    assert made.lt_co == (ONE.lt, one_p[1].lt)


def test_the_digest_binds_client_operation_views_and_evidence() -> None:
    """Compact timestamps, section 3.5: no two different requests make one timestamp."""
    view, zero = _view(*[WITH_ONE] * 5), _view(*[ZERO_HISTORY] * 5, obj=P)
    others = ObjectHistorySet.of(O, dict.fromkeys(range(1, 6), WITH_ONE), 0b111110)
    operation = _operation(O)
    requests = [
        Request(Kind.METHOD, 3, SESSION, operation, (view,), ()),
        Request(Kind.METHOD, 4, SESSION, operation, (view,), ()),
        Request(Kind.METHOD, 3, b"t" * 16, operation, (view,), ()),
        Request(Kind.METHOD, 3, SESSION, _operation(O), (others,), ()),
        Request(Kind.METHOD, 3, SESSION, operation, (view,), (zero,)),
        Request(Kind.METHOD, 3, SESSION, operation, (view,), (view, zero)),
    ]
    assert len({setup(Q, request).candidate.lt.digest for request in requests}) == len(requests)


# ---- the shorter way to the same candidate

HISTORIES = {
    obj: [
        ZERO_HISTORY,
        *[
            _rh(*records)
            for first in (method(_lt(1), (obj,), (ZERO.lt,)), method(_lt(1), (O, P), (ZERO.lt, ZERO.lt)))
            for second in (method(_lt(7), (obj,), (first.lt,)), barrier(_lt(2, 1), (obj,), (ZERO.lt,)))
            for records in ((ZERO, first), (first,), (ZERO, first, second), (first, second), (ZERO, second))
        ],
    ]
    for obj in (O, P)
}


@st.composite
def _sets(draw: st.DrawFn, obj: int) -> ObjectHistorySet:
    servers = draw(st.sampled_from([5, 5, 5, 5, 0, 0, 1, 4, 6]))
    pool = HISTORIES[obj]
    shown = draw(
        st.sampled_from(pool).map(lambda h: [h] * servers)
        | st.lists(st.sampled_from(pool), min_size=servers, max_size=servers)
    )
    first = draw(st.integers(0, 6 - servers))
    histories = {first + i: history for i, history in enumerate(shown)}
    return ObjectHistorySet.of(obj, histories, ((1 << servers) - 1) << first)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    objects = draw(st.sampled_from([(O,), (P,), (O, P)]))
    views = [draw(_sets(obj)) for obj in objects]
    evidence = [draw(_sets(obj)) for obj in draw(st.sampled_from([(), (), (O,), (O, P)]))]
    kind = draw(st.sampled_from([Kind.METHOD, Kind.METHOD, Kind.BARRIER, Kind.COPY]))
    return _request(kind, *views, evidence=tuple(evidence))


_FIELDS = ("kind", "lt", "objects", "lt_co", "bot", "src", "cur", "wire")


def _outcome(make: Callable[[QuorumSystem, Request], Setup], request: Request) -> object:
    try:
        made = make(Q, request)
    except RequestRefused as error:
        return str(error)
    fields = [getattr(made.candidate, name) for name in _FIELDS]
    return fields, made.conditioned


@given(_requests())
@example(_request(Kind.METHOD, ObjectHistorySet(O, ()), _view(*[_rh(ZERO, JOINT)] * 5, obj=P)))
def test_unanimous_views_make_the_candidate_that_classification_makes(request: Request) -> None:
    assert _outcome(setup, request) == _outcome(setup_classified, request)
    exact = all(view.mask == 0 or Q.is_view(view.mask) for view in request.views)
    if request.kind is Kind.METHOD:
        usual = exact and all(unanimous(Q, view) for view in request.views)
        assert (setup_unanimous(Q, request) is not None) == usual
