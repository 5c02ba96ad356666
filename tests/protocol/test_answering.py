"""The query rule: what an answer needs, and the stale answers that looser rules give."""

from collections.abc import Mapping

from qunfs.protocol.answering import (
    Agreed,
    Fresh,
    Named,
    Snapshot,
    Unsettled,
    judge,
    newest_established,
    newest_snapshot,
)
from qunfs.protocol.execution import Code
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    Candidate,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.quorum import threshold

Q = threshold(1)
O, P = 7, 8  # noqa: E741


def _method(time: int, on: Candidate, objects: tuple[int, ...] = (O,), digest: bytes = b"d") -> Candidate:
    return method(LogicalTimestamp(time, 0, 1, digest * 32), objects, (on.lt,) * len(objects))


B1 = _method(1, ZERO)
C2 = _method(2, B1)
D3 = _method(3, C2)
E4 = _method(4, D3)
F5 = _method(5, E4)
BAR = barrier(LogicalTimestamp(9, 1, 1, b"d" * 32), (O,), (C2.lt,))


def _rh(*records: Candidate) -> ReplicaHistory:
    return ReplicaHistory(records)


def _newest(*histories: ReplicaHistory) -> Candidate | None:
    return newest_established(Q, O, dict(enumerate(histories)), (), 100)


def test_a_quorum_at_one_version() -> None:
    assert _newest(*[_rh(B1, C2)] * 5) == C2
    assert _newest(*[ZERO_HISTORY] * 5) == ZERO


def test_a_later_incomplete_version_does_not_matter() -> None:
    assert _newest(*[_rh(B1, C2)] * 3, *[_rh(C2, D3)] * 2) == C2


def test_a_later_repairable_version_does() -> None:
    assert _newest(*[_rh(B1, C2)] * 2, *[_rh(C2, D3)] * 3) is None


def test_later_barriers_do_not_matter() -> None:
    assert _newest(*[_rh(B1, C2, BAR)] * 5) == C2


def test_one_base_is_no_proof() -> None:
    assert _newest(*[_rh(B1, C2)] * 5, _rh(D3)) == C2
    assert _newest(*[_rh(B1)] * 3, _rh(B1, C2), _rh(C2)) == B1
    assert _newest(*[_rh(B1)] * 2, *[_rh(B1, C2)] * 3) is None


def test_pruning_must_not_hide_a_version() -> None:
    """D is established at servers 1 to 4, and E and F after it; the replies straddle them, and the liar is behind.

    No later version is in r histories, since those that hold the newer ones have pruned the older; counting histories
    whose base is later than C as holders of D tells.
    """
    replies = {0: _rh(B1, C2), 5: _rh(B1, C2), 1: _rh(C2, D3), 2: _rh(D3, E4), 3: _rh(E4, F5)}
    everything = ObjectHistorySet.of(O, replies, 0b101111)
    assert all(mask.bit_count() < Q.r for r, mask in everything.orders().items() if r.lt > C2.lt)
    proof = ObjectHistorySet.of(O, {0: _rh(C2), 1: _rh(C2)}, 0b11)
    assert newest_established(Q, O, replies, (proof,), 100) is None


def test_a_reader_that_looks_at_more_replies_leaves_the_doubtful_out() -> None:
    """Six replies: some quorum of them settles the version, though all together do not."""
    assert _newest(*[_rh(B1, C2)] * 3, *[_rh(C2, D3)] * 3) == C2
    assert _newest(*[_rh(B1, C2)] * 2, *[_rh(C2, D3)] * 4) is None


def _fresh(history: ReplicaHistory, answer: bytes, lt: LogicalTimestamp | None = None) -> Fresh:
    return Fresh(history, history.head.lt if lt is None else lt, Code.OK, answer)


def _judge(replies: Mapping[int, Fresh]) -> object:
    return judge(Q, O, replies, (), 100)


def test_answers_count_when_more_agree_than_can_lie() -> None:
    honest = {s: _fresh(_rh(B1, C2), b"right") for s in range(4)}
    assert _judge({**honest, 4: _fresh(_rh(B1, C2), b"wrong")}) == Agreed(Code.OK, b"right", 0b11)


def test_too_few_replies_settle_nothing() -> None:
    assert _judge({s: _fresh(_rh(B1, C2), b"right") for s in range(4)}) == Unsettled()


def test_answers_at_other_versions_do_not_count() -> None:
    """Two have run on the incomplete D, two on B: the version is settled, its answer must be asked for by name."""
    replies = {s: _fresh(_rh(C2, D3), b"new") for s in (0, 1)} | {s: _fresh(_rh(B1), b"old") for s in (2, 3)}
    replies[4] = _fresh(_rh(B1, C2), b"right")
    assert _judge(replies) == Named((C2.lt,))


# ---- snapshots

JOINT = _method(4, C2, (O, P))


def _snapshot(*pairs: tuple[ReplicaHistory, ReplicaHistory]) -> Snapshot | None:
    return newest_snapshot(Q, (O, P), dict(enumerate(pairs)), (), 100)


def test_a_snapshot_is_joint_when_one_quorum_holds_all_its_versions() -> None:
    assert _snapshot(*[(_rh(C2), ZERO_HISTORY)] * 5) == Snapshot((C2.lt, ZERO.lt), joint=True)
    one_ahead = [(_rh(C2, D3), ZERO_HISTORY)] * 2
    assert _snapshot(*[(_rh(C2), ZERO_HISTORY)] * 3, *one_ahead) == Snapshot((C2.lt, ZERO.lt), joint=True)


def test_versions_that_no_quorum_holds_together_need_a_second_read() -> None:
    """Each object is settled, but the servers that lack one object's version are not those that lack the other's."""
    p1 = _method(1, ZERO, (P,))
    behind_o, behind_p = (_rh(B1), _rh(p1)), (_rh(C2), _rh(ZERO))
    both = (_rh(C2), _rh(p1))
    assert _snapshot(both, both, both, both, behind_o, behind_p) == Snapshot((C2.lt, p1.lt), joint=False)


def test_no_snapshot_while_an_object_is_unsettled() -> None:
    assert _snapshot(*[(_rh(C2), ZERO_HISTORY)] * 2, *[(_rh(C2, JOINT), _rh(ZERO, JOINT))] * 4) is None
