"""Rounds of queries: long answers, named versions, proofs on siblings."""

from random import Random

from qunfs.protocol.client import Client
from qunfs.protocol.execution import Code
from qunfs.protocol.fetching import _fetch
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    ZERO_TIMESTAMP,
    LogicalTimestamp,
    ReplicaHistory,
    method,
)
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.messages import Query, QueryReply, QueryResult, Shown
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.planning import Identity
from qunfs.protocol.querying import Item, QueryRound, answer_digest
from qunfs.protocol.quorum import threshold
from qunfs.protocol.steps import Queue
from qunfs.protocol.trust import Trust
from qunfs.protocol.wire import parse_to_server_untrusted
from tests.protocol.scripted import CREDENTIALS
from tests.simulation.objects import LEDGER, SIMULATED, pack

OBJ = 60
LONG = b"a long answer"


def _item() -> Item:
    fetch = SIMULATED.find("ledger.fetch", 1)
    assert fetch is not None
    call = Call("ledger.fetch", ((OBJ, LEDGER),), pack(None), CREDENTIALS, large=True)
    return Item(call, fetch, Operation((OBJ,), (LEDGER,), call.method, 1, call.argument, CREDENTIALS))


def _cache() -> HistoryCache:
    return HistoryCache(threshold(1), Trust(threshold(1)))


def _round(item: Item, cache: HistoryCache) -> QueryRound:
    return QueryRound(threshold(1), cache, [item], range(6), whole_from=0, want_auth=False, views_max=100)


def _asked_for_whole(query_round: QueryRound, server: int) -> bool:
    message = parse_to_server_untrusted(query_round.message(server), 1)[1]
    assert isinstance(message, Query)
    return message.items[0].whole


def _reply(answer: bytes) -> QueryReply:
    return QueryReply((QueryResult(Code.OK, (ZERO_TIMESTAMP,), answer, (Shown(ZERO_HISTORY, b""),)),))


def _judged(query_round: QueryRound, answers: dict[int, bytes]) -> bool | None:
    outcome: bool | None = None
    for server, answer in answers.items():
        query_round.message(server)
        query_round.take_untrusted(server, _reply(answer).pack(query_round.number), 6)
        query_round.note_new()
        outcome = query_round.judge(False)
    return outcome


def test_one_server_sends_a_long_answer_and_the_others_its_digest() -> None:
    item = _item()
    query_round = _round(item, _cache())
    assert [_asked_for_whole(query_round, s) for s in range(3)] == [True, False, False]
    assert _judged(query_round, {0: LONG, **dict.fromkeys(range(1, 5), answer_digest(LONG))}) is True
    assert item.answer().value == LONG


def test_servers_asked_after_a_version_is_settled_are_asked_for_it() -> None:
    """Two of the histories are ahead with an incomplete version, so that too few answer at the settled one."""
    item = _item()
    query_round = _round(item, _cache())
    ahead = method(LogicalTimestamp(1, 0, 1, b"d" * 32), (OBJ,), (ZERO_TIMESTAMP,))
    for server in range(5):
        query_round.message(server)
        history = ZERO_HISTORY if server < 3 else ReplicaHistory((ZERO, ahead))
        lt = ZERO_TIMESTAMP if server < 1 else ahead.lt
        reply = QueryReply((QueryResult(Code.OK, (lt,), answer_digest(LONG), (Shown(history, b""),)),))
        query_round.take_untrusted(server, reply.pack(query_round.number), 6)
    query_round.note_new()
    assert query_round.judge(False) is None
    assert item.at == (ZERO_TIMESTAMP,)
    for server in (5, 1):
        message = parse_to_server_untrusted(query_round.message(server), 1)[1]
        assert isinstance(message, Query)
        assert message.items[0].at == ZERO_TIMESTAMP.pack()


def test_when_the_long_answer_is_a_lie_everybody_is_asked_for_it_next() -> None:
    """Also when more digests come in the same round: they are no long answers."""
    item, cache = _item(), _cache()
    lied = _round(item, cache)
    assert _judged(lied, {0: b"a lie", **dict.fromkeys(range(1, 6), answer_digest(LONG))}) is None
    assert item.result is None
    assert item.everyone_whole
    again = _round(item, cache)
    assert all(_asked_for_whole(again, server) for server in range(6))
    assert _judged(again, {0: b"a lie", **dict.fromkeys(range(1, 5), LONG)}) is True
    assert item.answer().value == LONG


def test_a_query_that_wants_all_answers_whole_is_repaired_too() -> None:
    """The long answer was a lie; before everybody was asked for it a partial update had taken the quorum away."""
    client = Client(Identity(1, bytes(16)), threshold(1), SIMULATED, Random(1).random)
    item = _item()
    steps = _fetch(client._means, [item])
    lied = next(steps)
    assert isinstance(lied, QueryRound)
    assert _judged(lied, {0: b"a lie", **dict.fromkeys(range(1, 6), answer_digest(LONG))}) is None
    asks_all = steps.send(True)
    assert isinstance(asks_all, QueryRound), "it agreed on what to ask for"
    assert isinstance(steps.send(True), Queue), "nobody agreed on anything: a repair begins"
