"""What a client takes for done, whom it shows to whom, and what it waits for (DESIGN, "Client"), one rule at a time."""

from random import Random

import pytest

from qunfs.protocol.client import BUFFERS, Client
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ZERO, ZERO_HISTORY, Kind, LogicalTimestamp, ReplicaHistory, barrier, method
from qunfs.protocol.history_cache import HistoryCache, to_claim
from qunfs.protocol.messages import Culled, Shown, Status, UpdateReply
from qunfs.protocol.operation import Credentials, Operation
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import servers_of, threshold
from qunfs.protocol.trust import Trust
from qunfs.protocol.update_round import Outcome, UpdateRound, _note_complaints
from tests.protocol.scripted import A, B, C, Scripted
from tests.protocol.talk import Talk
from tests.simulation.objects import LEDGER, SIMULATED, pack, unpack

Q = threshold(1)
RECORD = method(LogicalTimestamp(1, 0, 1, b"d" * 32), (A,), (ZERO.lt,))
TAKEN = ReplicaHistory((ZERO, RECORD))
RIVAL = ReplicaHistory((ZERO, method(LogicalTimestamp(1, 0, 2, b"e" * 32), (A,), (ZERO.lt,))))
PRUNED = ReplicaHistory((method(LogicalTimestamp(7, 0, 2, b"f" * 32), (A,), (ZERO.lt,)),))


def _client(buffers: int = BUFFERS) -> Client:
    return Client(Identity(1, b"s" * 16), Q, SIMULATED, Random(7).random, buffers=buffers)


# ---- when an update is done


class Round(UpdateRound):
    def message(self, _server: int) -> bytes:
        return b""


def _accepted(answer: bytes = b"answer", history: ReplicaHistory = TAKEN) -> UpdateReply:
    return UpdateReply(Status.ACCEPTED, Code.OK, answer, (Shown(history, b""),))


ANSWERED = UpdateReply(Status.ANSWERED, Code.FAILED, b"no", (Shown(ZERO_HISTORY, b""),))
FAIL = UpdateReply(Status.FAIL, histories=(Shown(RIVAL, b""),))


def _judged(*replies: UpdateReply, name: str = Kind.METHOD.name) -> Outcome | None:
    update_round = Round(name, _client()._means, RECORD, A, False)
    for server, reply in enumerate(replies):
        update_round.take_untrusted(server, reply.pack(0), Q.n)
    update_round.note_new()
    outcome: Outcome | None = update_round.judge(False)
    return outcome


@pytest.mark.pure
def test_an_update_is_done_when_a_quorum_has_accepted_it() -> None:
    assert _judged(*[_accepted()] * 4) is None
    assert _judged(*[_accepted()] * 4, FAIL) is None, "the sixth server may still accept it"
    assert _judged(*[_accepted()] * 5) == Outcome(True, Code.OK, b"answer")
    assert _judged(*[_accepted()] * 4, FAIL, FAIL) == Outcome(False)


@pytest.mark.pure
def test_an_answer_counts_when_more_gave_it_than_can_lie() -> None:
    assert _judged(_accepted(b"lie"), *[_accepted()] * 4) == Outcome(True, Code.OK, b"answer")
    assert _judged(*[_accepted(b"%d" % i) for i in range(5)]) is None


@pytest.mark.pure
def test_an_acceptance_counts_only_when_its_histories_show_it() -> None:
    """Or when they begin behind it: that server has accepted it long ago."""
    assert _judged(*[_accepted()] * 4, _accepted(history=RIVAL)) is None
    assert _judged(*[_accepted()] * 4, _accepted(history=ZERO_HISTORY)) is None
    assert _judged(*[_accepted()] * 4, UpdateReply(Status.ACCEPTED, Code.OK, b"answer")) is None
    assert _judged(*[_accepted()] * 4, _accepted(history=PRUNED)) == Outcome(True, Code.OK, b"answer")


@pytest.mark.pure
def test_acceptances_without_an_answer_count_and_settle_no_answer() -> None:
    """A server that holds the version by object sync has accepted and not run the method."""
    assert _judged(*[_accepted(b"")] * 2, *[_accepted()] * 3) == Outcome(True, Code.OK, b"answer")
    assert _judged(*[_accepted(b"")] * 4, _accepted()) is None
    assert _judged(*[_accepted(b"")] * 5, name=Kind.COPY.name) == Outcome(True, Code.OK, b"")


@pytest.mark.pure
def test_acceptances_and_answers_do_not_add_up() -> None:
    """A deterministic failure counts with q servers that ran it at the conditioned-on versions."""
    assert _judged(*[ANSWERED] * 5) == Outcome(True, Code.FAILED, b"no")
    assert _judged(*[ANSWERED] * 4) is None
    assert not (_judged(*[ANSWERED] * 3, *[_accepted()] * 2) or Outcome(False)).done


# ---- a client and six replicas


@pytest.fixture
def talk() -> Talk:
    world = Scripted((A, B, C), liar=False)
    world.send(world.request(Kind.METHOD, (A,)), range(6))
    return Talk(world)


def test_a_reissue_has_the_same_sequence_and_home(talk: Talk) -> None:
    """A is no new object: the first try fails, whatever is tried again is the same operation."""
    talk.append((A, B), fresh=(A, B))
    talk.finish()
    assert talk.client.counters["retries"] == 1
    assert len({(o.session, o.sequence, o.home) for o in talk.operations}) == 1
    talk.append((A,))
    talk.finish(2)
    assert talk.operations[-1].sequence == talk.operations[0].sequence + 1


def test_one_server_s_refusal_does_not_fail_an_update(talk: Talk) -> None:
    talk.world.replicas[0]._rights = {}
    talk.append((A,), fresh=(A,))
    talk.finish()
    assert talk.client.completions[0].error is None
    assert unpack(talk.client.completions[0].result) == ("ok", (1,))


def test_an_update_refused_by_more_than_can_lie_fails(talk: Talk) -> None:
    for replica in talk.world.replicas.values():
        replica._rights = {}
    talk.append((A,), fresh=(A,))
    talk.finish()
    assert "only clients of the cluster file" in str(talk.client.completions[0].error)


def test_an_update_refused_by_the_clock_is_stamped_anew(talk: Talk) -> None:
    right, talk.client.wall_ns = talk.client.wall_ns, 1
    talk.append((B,), fresh=(B,))
    talk.client.wall_ns = right
    talk.finish()
    assert talk.client.completions[0].error is None
    assert [o.client_time for o in talk.operations] == [1, right]
    assert len({o.sequence for o in talk.operations}) == 1


def test_updates_of_one_object_queue_up(talk: Talk) -> None:
    """A client never contends with itself; other objects need not wait."""
    talk.append((B,), fresh=(B,))
    talk.append((A, B))
    talk.append((A,))
    talk.append((C,), fresh=(C,))
    assert talk.waiting() == {(B,), (C,)}
    talk.finish(4)
    assert talk.client.counters["retries"] == 0
    assert talk.world.oracles.entries(B) == (b"talk1", b"talk2")


def test_an_operation_waits_for_n_buffers() -> None:
    """FIRST and LAST of the second paper: as many operations as buffers allow, and the others in their turn."""
    talk = Talk(Scripted((A, B, C), liar=False), buffers=Q.n)
    for obj in (A, B, C):
        talk.append((obj,), fresh=(obj,))
    assert talk.waiting() == {(A,)}
    talk.exchange()
    assert talk.waiting() == {(B,)}
    talk.finish(3)
    assert talk.client._buffers == Q.n


def test_silent_servers_are_asked_again_and_others_too(talk: Talk) -> None:
    """All of the preferred quorum are asked, then the rest; who has said nothing is asked again, for ever."""
    asked: list[int] = []
    talk.append((B,), fresh=(B,))
    for _ in range(40):
        outgoing, talk.client.rpc.outgoing = talk.client.rpc.outgoing, []
        asked += [server for server, _ in outgoing]
        talk.pass_time()
    assert asked[:5] == [1, 2, 3, 4, 5]
    assert set(asked[:7]) >= {0}
    assert all(asked.count(server) > 2 for server in range(6))


# ---- whose histories are shown


@pytest.mark.pure
def test_a_history_with_a_bad_mac_is_forgotten() -> None:
    """A liar could lock it in behind "unchanged" replies; and its issuer is suspected, as is who says so."""
    client = _complained_to(Culled(A, 3, False), Culled(A, 3, False), Culled(A, 0, False), Culled(A, 77, False))
    trust, cache = client._trust, client._means.cache
    assert sorted(cache.histories(A)) == [0, 1, 2, 4, 5], "but not what the reporter says of itself"
    assert trust.suspicion == {0: 1, 3: 1}
    assert trust.preference(A).to_show[-1] == 3
    assert client.findings()


@pytest.mark.pure
def test_a_time_that_is_too_late_for_a_server_is_held_against_nobody() -> None:
    """Clocks differ; the history is held as before, for its MACs are sound."""
    client = _complained_to(*[Culled(A, server, True) for server in range(1, 6)])
    assert sorted(client._means.cache.histories(A)) == [0, 1, 2, 3, 4, 5]
    assert client._trust.suspicion == {}
    assert not client._trust._reporters
    assert client.findings() == []
    assert client.counters["too late"] == 1


@pytest.mark.pure
def test_what_keeps_nothing_from_being_done_is_noted_all_the_same() -> None:
    client = _complained_to(Culled(A, 3, False), Culled(A, 4, True), done=True)
    assert [(f.server, f.others) for f in client.findings()] == [(0, (3,)), (3, (0,))]
    assert client._trust.suspicion == {}
    assert sorted(client._means.cache.histories(A)) == [0, 1, 2, 3, 4, 5]


def _complained_to(*culled: Culled, done: bool = False) -> Client:
    """A client that holds histories of all servers, and was told this by server 0."""
    client = _client()
    vectors = {server: bytes(16 * Q.n) for server in range(6)}
    client._means.cache.note((A,), (Shown(TAKEN, b"?"),), 0b111111, vectors)
    phase = Round("METHOD", client._means, RECORD, A, False)
    phase.take_untrusted(0, UpdateReply(Status.CULLED, culled=culled).pack(0), Q.n)
    _note_complaints(client._means, phase, done)
    return client


def test_who_issued_bad_macs_to_more_than_can_lie_is_left_out() -> None:
    trust = Trust(Q)
    trust.accuse(3, 0)
    trust.accuse(3, 0)
    assert not trust.left_out(3)
    trust.accuse(3, 1)
    assert trust.left_out(3)
    assert 3 not in servers_of(trust.preference(A).view)


@pytest.mark.parametrize("late", [False, True])
def test_a_proof_that_only_a_late_history_completes_is_none(late: bool) -> None:
    """All servers would refuse it, again and again, and nothing would be repaired, though the object needs that."""
    joint = method(LogicalTimestamp(1, 0, 1, b"j" * 32), (A, B), (ZERO.lt, ZERO.lt))
    end_of_time = barrier(LogicalTimestamp((1 << 63) - 1, 1, 2, b"z" * 32), (B,), (joint.lt,))
    trust = Trust(Q, lambda: 1_700_000_000_000_000_000)
    cache = HistoryCache(Q, trust)
    vectors = {server: bytes(16 * Q.n) for server in range(6)}
    taken, liars = ReplicaHistory((ZERO, joint)), ReplicaHistory((ZERO, joint, *[end_of_time] * late))
    cache.note((A,), (Shown(ZERO_HISTORY, b"?"),), 0b010000, vectors)
    cache.note((A,), (Shown(taken, b"?"),), 0b001111, vectors)
    cache.note((B,), (Shown(taken, b"?"),), 0b001111, vectors)
    cache.note((B,), (Shown(liars, b"?"),), 0b100000, vectors)
    planner = Planner(Q, cache, Identity(1, b"s" * 16), trust, 128)
    argument = pack((b"entry", None))
    operation = Operation((A,), (LEDGER,), "ledger.append", 1, argument, Credentials(0, 0), 1, A, b"s" * 16, 1)
    assert (planner.method(operation, frozenset()) is None) is late


def test_what_a_client_says_that_it_holds() -> None:
    """Of each server the last history shown; when MACs are needed, only one that came with them."""
    cache = HistoryCache(Q, Trust(Q))
    vectors = {server: bytes(16 * Q.n) for server in range(6)}
    cache.note((A,), (Shown(ZERO_HISTORY, b"?"),), 0b111111, vectors)
    cache.note((A,), (Shown(TAKEN, b""),), 0b1, vectors)
    held = cache.of(A)
    assert to_claim(held, 0, want_auth=False) == TAKEN
    assert to_claim(held, 0, want_auth=True) is None
    assert to_claim(held, 1, want_auth=True) == ZERO_HISTORY
    assert sorted(cache.authenticated(A)) == [1, 2, 3, 4, 5]
    assert sum(one.servers for one in held) == 0b111111, "each server in one history"


def test_what_waited_behind_a_cancelled_operation_has_its_time_from_then_on() -> None:
    talk = Talk(Scripted((A,)))
    first = talk.append((A,))
    talk.append((A,))
    talk.client.cancel(first, 100.0)
    due = talk.client.next_tick()
    assert due is not None
    assert due > 100.0
