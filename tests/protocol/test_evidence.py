"""What is proof that a server lies, what is suspicion only, and what is neither."""

import pytest

from qunfs.protocol.evidence import Evidence, Finding, Ground, is_vouched_for
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ZERO_HISTORY, Kind, LogicalTimestamp, ReplicaHistory, method
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import HEADER, QueryReply, QueryResult, Shown, Status, SyncReply, UpdateReply
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.querying import Item, QueryRound
from qunfs.protocol.quorum import servers_of, threshold
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.sync import Synchroniser, rows_digest
from qunfs.protocol.trust import Trust
from qunfs.protocol.update_round import Outcome, UpdateRound
from qunfs.protocol.versions import VersionStore
from tests.protocol.scripted import CREDENTIALS, A, B, Scripted
from tests.protocol.test_rules_client import RECORD, RIVAL, TAKEN, Round, _client
from tests.simulation.objects import LEDGER, SIMULATED, pack

Q = threshold(1)


def _found(evidence: Evidence) -> list[tuple[int, Ground, bool]]:
    return [(finding.server, finding.ground, finding.proof) for finding in evidence.findings()]


# ---- who disagrees with whom


def test_one_of_two_that_disagree_lies_and_nobody_can_tell_which() -> None:
    evidence = Evidence(Q)
    evidence.disagree(issuer=3, reporter=0, wall_ns=5)
    evidence.disagree(issuer=3, reporter=0, wall_ns=9)
    assert _found(evidence) == [(0, Ground.COMPLAINTS, False), (3, Ground.BAD_MACS, False)]
    finding = evidence.findings()[1]
    assert (finding.times, finding.first_ns, finding.last_ns) == (2, 5, 9)
    assert "server 0: one of the two lies" in finding.text
    assert not evidence.is_proven(3)
    assert not evidence.is_proven(0)


def test_who_disagrees_with_more_than_can_lie_lies() -> None:
    """Whether it issued what they refuse, or refuses what they issued: not all of them lie."""
    evidence = Evidence(Q)
    evidence.disagree(issuer=3, reporter=0, wall_ns=0)
    evidence.disagree(issuer=3, reporter=2, wall_ns=0)
    assert _found(evidence) == [(3, Ground.BAD_MACS, True)], "nothing is left to hold against 0 and 2"
    assert "more than can lie" in evidence.findings()[0].text
    assert [server for server in range(Q.n) if evidence.is_proven(server)] == [3]
    complainer = Evidence(Q)
    for issuer in (0, 1, 2):
        complainer.disagree(issuer, reporter=4, wall_ns=0)
    assert _found(complainer) == [(4, Ground.COMPLAINTS, True)]


def test_denials_and_silence_are_no_proof() -> None:
    trust = Trust(Q, lambda: 7)
    for _ in range(100):
        trust.denied(1)
        trust.silent(2)
    assert _found(trust.evidence) == [(1, Ground.DENIED, False), (2, Ground.SILENT, False)]
    assert trust.suspicion == {1: 100}, "silence has an order of its own"


def test_what_replicas_tell_is_proof_when_more_tell_it_than_can_lie() -> None:
    assert not is_vouched_for(Q, 3, [0, 0])
    assert not is_vouched_for(Q, 3, [0, 3])
    assert is_vouched_for(Q, 3, [0, 1])


# ---- what follows from it


def test_proven_liars_come_last_and_quorums_stay_possible() -> None:
    """Behind servers under any suspicion; and a view needs it all the same when too few others are left."""
    trust = Trust(Q)
    trust.reached(range(Q.n))
    for _ in range(100):
        trust.suspect(2)
    trust.contradicted(0b10)
    order = trust.preference(A)
    assert order.to_ask[-1] == order.to_show[-1] == 1
    assert sorted(order.to_ask) == list(range(Q.n))
    assert servers_of(order.view) == [0, 2, 3, 4, 5]
    for server in range(Q.n):
        trust.malformed(server, "?")
    assert sorted(trust.preference(A).to_ask) == list(range(Q.n))
    assert Q.contains_quorum(trust.preference(A).view)


# ---- answers of updates


def _reply(status: Status, answer: bytes, code: Code = Code.OK, history: ReplicaHistory = TAKEN) -> UpdateReply:
    return UpdateReply(status, code, answer, (Shown(history, b""),))


def _contradicted(*replies: UpdateReply, name: str = "METHOD") -> int:
    update_round: UpdateRound = Round(name, _client()._means, RECORD, A, False)
    for server, reply in enumerate(replies):
        update_round.take_untrusted(server, reply.pack(0), Q.n)
    return update_round.contradicted(Outcome(True, Code.OK, b"right"))


@pytest.mark.pure
def test_another_answer_than_what_counts_is_a_lie_and_none_is_not() -> None:
    right = _reply(Status.ACCEPTED, b"right")
    assert _contradicted(right, _reply(Status.ACCEPTED, b"wrong")) == 0b10
    assert _contradicted(right, _reply(Status.ANSWERED, b"wrong", Code.FAILED)) == 0b10
    assert _contradicted(right, _reply(Status.ACCEPTED, b"")) == 0, "it holds the version by object sync"
    assert _contradicted(right, _reply(Status.FAIL, b"", history=RIVAL)) == 0
    assert _contradicted(right, _reply(Status.REFUSED, b"another cluster file")) == 0
    assert _contradicted(right, _reply(Status.ACCEPTED, b"wrong"), name="INLINE_REPAIR") == 0


# ---- answers of queries


LATER = ReplicaHistory((RECORD, method(LogicalTimestamp(2, 0, 1, b"g" * 32), (A,), (RECORD.lt,))))


def _queried(*told: tuple[ReplicaHistory, Code, bytes], large: bool = False) -> int:
    fetch = SIMULATED.find("ledger.fetch", 1)
    assert fetch is not None
    call = Call("ledger.fetch", ((A, LEDGER),), pack(None), CREDENTIALS, large=large)
    item = Item(call, fetch, Operation((A,), (LEDGER,), call.method, 1, call.argument, CREDENTIALS))
    query_round = QueryRound(Q, HistoryCache(Q, Trust(Q)), [item], range(6), 0 if large else None, False, 100)
    for server, (history, code, answer) in enumerate(told):
        query_round.message(server)
        reply = QueryReply((QueryResult(code, (history.head.lt,), answer, (Shown(history, b""),)),))
        query_round.take_untrusted(server, reply.pack(query_round.number), 6)
    query_round.note_new()
    query_round.judge(True)
    assert item.result is not None
    return query_round.contradicted


def test_another_answer_at_the_same_version_is_a_lie() -> None:
    right = (TAKEN, Code.OK, b"right")
    assert _queried(*[right] * 5) == 0
    assert _queried(*[right] * 4, (TAKEN, Code.OK, b"wrong")) == 0b10000
    assert _queried(*[right] * 4, (TAKEN, Code.FAILED, b"wrong")) == 0b10000


def test_answers_at_other_versions_and_refusals_are_no_lies() -> None:
    right = (TAKEN, Code.OK, b"right")
    behind, ahead = (ZERO_HISTORY, Code.OK, b"old"), (LATER, Code.OK, b"new")
    assert _queried(*[right] * 5, behind) == 0
    assert _queried(*[right] * 5, ahead) == 0
    assert _queried(*[right] * 5, (TAKEN, Code.NO_VERSION, b"")) == 0
    assert _queried(*[right] * 5, (TAKEN, Code.BAD_ARGUMENT, b"")) == 0


def test_refusals_differ_between_whole_answers_and_digests() -> None:
    digest = rows_digest(((b"", None),), False)
    whole, short = (TAKEN, Code.WRONG_TYPE, b""), (TAKEN, Code.WRONG_TYPE, digest)
    assert _queried(whole, *[short] * 5, large=True) == 0


# ---- what replicas see of each other


def test_hosts_that_send_other_rows_than_more_than_can_lie_are_noted() -> None:
    """Not those that lack the version."""
    store = VersionStore(MemoryRows(), {})
    sync = Synchroniser(0, Q, store, DEFAULT_LIMITS)
    sync.want_version(A, RECORD.lt, 0b111110, b"", 0.0)
    rows = ((b"k", b"v"),)
    true = SyncReply(True, rows_digest(rows, False), rows, False)
    replies = {1: SyncReply(True, b"lie", (), False), 2: SyncReply(False, b"", (), False)}
    finished = None
    while finished is None:
        server, payload = sync.outgoing.pop(0)
        number = HEADER.unpack_from(payload)[1]
        finished = sync.on_reply(server, number, replies.get(server, true), 0.0)
    assert finished.success
    assert sync.contradicted == 0b10


# ---- a liar that changes its mind between a repair and the query after it


class TwoFaced(Scripted):
    """The liar shows one server's history to queries and another's to repairs."""

    def _answer(self, server: int, client: int, payload: bytes) -> list[bytes]:
        self.mimicked = 0 if b"ledger.fetch" in payload else 1
        return super()._answer(server, client, payload)


def test_what_a_repair_has_proven_holds_for_the_query_after_it() -> None:
    """The liar helps to prove a version whenever somebody would repair it, and never when it is read.

    Of B server 5 is asked among the first, and server 0 last.
    """
    world = TwoFaced((B,))
    world.send(world.request(Kind.METHOD, (B,)), range(5))
    world.send(world.request(Kind.METHOD, (B,), servers=range(5)), (1, 2, 3, 4))
    assert world.isolated("fetch", (B,), lying=True) < 20


def test_findings_say_what_and_how_often() -> None:
    trust = Trust(Q, lambda: 3)
    trust.malformed(2, "unknown " + "x" * 500)
    (finding,) = trust.evidence.findings()
    assert finding == Finding(2, Ground.MALFORMED, True, 1, 3, 3, finding.text)
    assert "unknown xxx" in finding.text
    assert len(finding.text) < 300
