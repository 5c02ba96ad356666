"""The query and snapshot rules (DESIGN, "Queries"), where no other test needs one of them alone."""

from qunfs.protocol.answering import (
    Agreed,
    Fresh,
    Snapshot,
    Unsettled,
    judge,
    newest_established,
    newest_snapshot,
    unanimous_answer,
)
from qunfs.protocol.execution import Code
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    Candidate,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    method,
)
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.messages import QueryReply, QueryResult, Shown
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.querying import Item, QueryRound
from qunfs.protocol.quorum import threshold
from qunfs.protocol.trust import Trust
from tests.protocol.scripted import CREDENTIALS
from tests.simulation.objects import LEDGER, SIMULATED, pack

Q = threshold(1)
O, P = 7, 8  # noqa: E741


def _method(time: int, on: Candidate, objects: tuple[int, ...] = (O,)) -> Candidate:
    return method(LogicalTimestamp(time, 0, 1, b"d" * 32), objects, (on.lt,) * len(objects))


B1 = _method(1, ZERO)
C2 = _method(2, B1)
D3 = _method(3, C2)
E4 = _method(4, D3)
F5 = _method(5, E4)
P1 = _method(1, ZERO, (P,))
P2 = _method(2, P1, (P,))
JOINT = _method(1, ZERO, (O, P))


def _rh(*records: Candidate) -> ReplicaHistory:
    return ReplicaHistory(records)


def _proof(record: Candidate, obj: int = O) -> ObjectHistorySet:
    """Evidence that a record is established: the base of two histories."""
    return ObjectHistorySet.of(obj, dict.fromkeys((0, 1), _rh(record)), 0b11)


def test_a_version_proven_on_a_sibling_counts() -> None:
    shown = dict(enumerate([_rh(ZERO, JOINT)] * 4 + [ZERO_HISTORY]))
    assert newest_established(Q, O, shown, (), 100) is None
    assert newest_established(Q, O, shown, (_proof(JOINT, P),), 100) == JOINT


def test_a_version_that_one_of_the_quorum_holds_does_not_count() -> None:
    """It is proven and nothing later is repairable; but the one that holds it may be the liar, and answers alone."""
    replies = {0: _rh(B1, C2), 1: _rh(D3, E4), 2: _rh(E4, F5), 3: _rh(B1), 4: _rh(B1)}
    assert newest_established(Q, O, replies, (_proof(C2),), 100) is None
    held_by_two = replies | {3: _rh(B1, C2)}
    assert newest_established(Q, O, held_by_two, (_proof(C2),), 100) == C2


def _fresh(history: ReplicaHistory, answer: bytes = b"right") -> Fresh:
    return Fresh(history, history.head.lt, Code.OK, answer)


def test_fewer_than_a_quorum_settle_nothing_however_much_they_agree() -> None:
    replies = {server: _fresh(ZERO_HISTORY) for server in range(4)}
    assert judge(Q, O, replies, (), 100) == Unsettled()
    assert newest_established(Q, O, dict.fromkeys(range(4), ZERO_HISTORY), (), 100) is None
    assert judge(Q, O, replies | {4: _fresh(ZERO_HISTORY)}, (), 100) == Agreed(Code.OK, b"right", 0b11)


def test_the_short_way_to_an_answer_is_no_other_rule() -> None:
    """It needs a quorum, at the heads, that holds the version."""
    one = _fresh(_rh(B1, C2))
    assert unanimous_answer(Q, (one,), 0b11111) == Agreed(Code.OK, b"right", 0b11111)
    assert unanimous_answer(Q, (one,), 0b1111) is None
    assert unanimous_answer(Q, (one._replace(lt=B1.lt),), 0b11111) is None
    assert unanimous_answer(Q, (one, one._replace(lt=B1.lt)), 0b11111) is None
    assert unanimous_answer(Q, (one._replace(code=Code.NO_VERSION),), 0b11111) is None


# ---- snapshots


def test_a_snapshot_is_not_joint_where_something_later_is_repairable() -> None:
    """All hold both versions; but no quorum leaves out enough of those that are ahead on O and of those on P."""
    ahead_o, ahead_p = (_rh(C2, D3), _rh(P1)), (_rh(C2), _rh(P1, P2))
    shown = dict(enumerate([ahead_o] * 3 + [ahead_p] * 3))
    assert newest_snapshot(Q, (O, P), shown, (), 100) == Snapshot((C2.lt, P1.lt), joint=False)
    fewer = dict(enumerate([ahead_o] * 2 + [ahead_p] * 3))
    assert newest_snapshot(Q, (O, P), fewer | {5: (_rh(C2), _rh(P1))}, (), 100) == Snapshot((C2.lt, P1.lt), joint=True)


def _judged(item: Item) -> None:
    """One round of a joint read in which no quorum holds both versions."""
    both, behind_o, behind_p = (_rh(C2), _rh(P1)), (_rh(B1), _rh(P1)), (_rh(C2), _rh(ZERO))
    query_round = QueryRound(Q, HistoryCache(Q, Trust(Q)), [item], range(6), None, False, 100)
    for server, histories in enumerate([both, both, both, both, behind_o, behind_p]):
        query_round.message(server)
        lts = tuple(history.head.lt for history in histories)
        shown = tuple(Shown(history, b"") for history in histories)
        answer = b"both" if histories == both else b"behind"
        reply = QueryReply((QueryResult(Code.OK, lts, answer, shown),))
        query_round.take_untrusted(server, reply.pack(query_round.number), 6)
    query_round.note_new()
    query_round.judge(True)


def test_versions_that_no_quorum_holds_together_are_read_twice() -> None:
    """Two successive joint reads with the same versions: each was the newest of its object between the two."""
    fetch = SIMULATED.find("ledger.fetch", 1)
    assert fetch is not None
    call = Call("ledger.fetch", ((O, LEDGER), (P, LEDGER)), pack(None), CREDENTIALS)
    item = Item(call, fetch, Operation((O, P), (LEDGER, LEDGER), call.method, 1, call.argument, CREDENTIALS))
    _judged(item)
    assert item.result is None
    assert item.at is None
    assert item.seen == (C2.lt, P1.lt)
    _judged(item)
    assert item.result is not None
    assert item.result.answer == b"both"
