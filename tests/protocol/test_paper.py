"""The paper's mechanisms one by one, named after its sections and the lines of its Figure 3, seen from a client.

What single functions do is tested next to each of them, and what the paper does not have in ``test_rules_*.py``.  Six
replicas, ``b = t = 1``, unless a test says otherwise: quorums of five, repairable sets of three.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qunfs.protocol.authenticator import column
from qunfs.protocol.history import ZERO_HISTORY, Kind, LogicalTimestamp
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.messages import Status, Update, UpdateReply
from qunfs.protocol.quorum import mask_of, threshold
from qunfs.protocol.replica import Origin
from qunfs.protocol.steps import BACKOFF_FIRST_S, BACKOFF_MAX_S
from qunfs.protocol.trust import Trust
from qunfs.protocol.wire import parse_to_server_untrusted
from tests.protocol.scripted import LIAR, A, B, C, Scripted
from tests.protocol.sites import Sites
from tests.protocol.talk import Talk
from tests.simulation.objects import pack, unpack


def _world() -> Scripted:
    return Scripted((A, B, C), liar=False)


def _done(talk: Talk, number: int = 1) -> Any:
    """The result of the last of so many operations."""
    talk.finish(number)
    completion = talk.client.completions[-1]
    assert completion.error is None
    if isinstance(completion.result, list):
        return unpack(completion.result[0].value)
    return unpack(completion.result)


def _rounds(talk: Talk) -> int:
    return talk.client.rpc.counters["round_trips"]


# ---- Figure 3: client


def test_line_200_a_client_begins_with_nothing() -> None:
    """It holds no histories: an update reads them first, and of a new object shows none at all."""
    assert HistoryCache(threshold(1), Trust(threshold(1))).histories(A) == {}
    talk = Talk(_world())
    talk.append((A,))
    _done(talk)
    assert _rounds(talk) == 2
    talk.append((B,), fresh=(B,))
    _done(talk, 2)
    assert _rounds(talk) == 3


def test_lines_300_307_an_update_is_tried_again_until_a_quorum_has_accepted_it() -> None:
    talk = Talk(_world())
    talk.append((A,), fresh=(A,))
    _done(talk)
    rivals = [talk.world.request(Kind.METHOD, (A,), client=2) for _ in range(2)]
    for server, rival in enumerate(rivals):
        assert talk.world.send(rival, [server]) == [Status.ACCEPTED]
    talk.append((A,))
    assert _done(talk, 2) == ("ok", (1,))
    assert talk.client.counters["method"] > 2
    assert talk.client.counters["retries"] > 0


def test_lines_400_406_a_query_is_tried_again_until_its_answer_counts() -> None:
    """Four of six servers have an update: it is repairable in every quorum, and established once it is repaired."""
    world = _world()
    world.send(world.request(Kind.METHOD, (A,)), range(4))
    talk = Talk(world)
    talk.fetch((A,))
    assert _done(talk) == ((b"x1",),)
    assert _rounds(talk) > 1
    assert talk.client.counters["repairs"] > 0


def test_lines_500_507_repair_is_a_barrier_and_a_copy() -> None:
    """Two contenders, three servers and three: neither is a quorum's, and nothing may be done in place."""
    world = _world()
    first, second = world.request(Kind.METHOD, (A,)), world.request(Kind.METHOD, (A,), client=2)
    world.send(first, [0, 1, 2])
    world.send(second, [3, 4, 5])
    talk = Talk(world)
    talk.append((A,))
    _done(talk)
    assert talk.client.counters["barrier"] >= 1
    assert talk.client.counters["copy"] >= 1


def test_lines_600_604_requests_go_to_a_quorum_and_further_servers_when_replies_are_late() -> None:
    sites = Sites(threshold(1))
    assert set(sites.append(60)) == {0, 1, 2, 3, 4}
    sites.silent = [1]
    assert set(sites.append(60)) == {0, 1, 2, 3, 4, 5}
    assert sites.client.rpc.counters["probes"] >= 1
    assert set(sites.append(60)) == {0, 2, 3, 4, 5}, "who was late is asked last"


# ---- Figure 3: server


def test_lines_900_901_a_server_begins_with_the_initial_candidate() -> None:
    world = _world()
    for server in range(6):
        assert world.history(server, A) == ZERO_HISTORY
        vector = world.authenticators[server].tags(A, ZERO_HISTORY).vector
        for verifier in range(6):
            assert world.authenticators[verifier].valid(server, A, ZERO_HISTORY, column(vector, verifier))


def test_lines_1007_1008_a_server_refuses_what_is_not_current() -> None:
    world = _world()
    stale = world.request(Kind.METHOD, (A,))
    world.send(world.request(Kind.METHOD, (A,)), range(6))
    reply = world.reply_to(stale, 0)
    assert reply is not None
    assert reply.status is Status.FAIL
    assert reply.histories[0].history == world.history(0, A), "for the client to become current"


def test_line_1005_a_repeated_request_runs_nothing_and_gets_the_same_answer() -> None:
    world = _world()
    request = world.request(Kind.METHOD, (A,))
    first, history = world.reply_to(request, 0), world.history(0, A)
    assert first is not None
    assert first.status is Status.ACCEPTED
    assert world.reply_to(request, 0) == first
    assert world.history(0, A) == history
    assert world.replicas[0].counters["repeated"] == 1


def test_lines_1010_1015_a_server_that_missed_a_version_syncs_it() -> None:
    world = _world()
    world.send(world.request(Kind.METHOD, (A,)), range(5))
    (status,) = world.send(world.request(Kind.METHOD, (A,)), [5])
    assert status is Status.ACCEPTED
    assert world.replicas[5].status()["syncs"] == 1
    assert world.stores[5].has_version(A, world.history(0, A).head.lt)


def test_lines_1024_1029_history_version_and_answer_are_kept_together() -> None:
    world = _world()
    for time in (1, 2, 3):
        request = world.request(Kind.METHOD, (A,))
        assert world.send(request, range(6)) == [Status.ACCEPTED] * 6
        head = world.history(0, A).head
        assert head.lt.time == time
        assert world.stores[0].has_version(A, head.lt)
        assert world.stores[0].answer(A, head.lt) == pack(("ok", (time - 1,)))


# ---- section 3.1


def test_section_3_1_more_may_crash_than_lie() -> None:
    """Hybrid faults: n = 3t+2b+1 = 9 for b = 1 and t = 2; two silent servers hold nobody up, whichever they are."""
    sites = Sites(threshold(1, 2))
    assert (sites.quorums.n, sites.quorums.q, sites.quorums.r) == (9, 7, 4)
    sites.silent = [0, 3]
    for _ in range(3):
        sites.append(90)
    sites.silent = [5, 8]
    assert sites.quorums.contains_quorum(mask_of([s for s in sites.append(90) if s not in (5, 8)]))
    sites.fetch(90)
    sites.silent = [1, 2, 3]
    with pytest.raises(AssertionError, match="not done"):
        sites.append(90)


# ---- section 3.5


def test_section_3_5_cached_histories_save_the_first_phase() -> None:
    talk = Talk(_world())
    talk.append((A,))
    _done(talk)
    for number in range(2, 5):
        before = _rounds(talk)
        talk.append((A,))
        _done(talk, number)
        assert _rounds(talk) == before + 1


def test_section_3_5_optimistic_query_execution() -> None:
    """Who has never heard of an object, or last heard of it long ago, has its answer after one phase."""
    world = _world()
    writer, reader = Talk(world), Talk(world, number=2)
    for number in range(1, 4):
        writer.append((A,))
        _done(writer, number)
        reader.fetch((A,))
        assert len(_done(reader, number)[0]) == number
        assert _rounds(reader) == number
    assert reader.client.counters["repairs"] == 0


def test_section_3_5_a_query_next_to_an_incomplete_update_is_answered_without_repair() -> None:
    """At one server only it is not established, and can wait."""
    world = _world()
    world.send(world.request(Kind.METHOD, (A,)), range(6))
    world.send(world.request(Kind.METHOD, (A,), client=2), [2])
    talk = Talk(world)
    talk.fetch((A,))
    assert len(_done(talk)[0]) == 1
    assert talk.client.counters["repairs"] == 0
    assert world.times(2, A)[-1] == "2"


def test_section_3_5_a_query_next_to_a_repairable_update_completes_it_in_place() -> None:
    world = _world()
    world.send(world.request(Kind.METHOD, (A,)), range(6))
    world.send(world.request(Kind.METHOD, (A,), client=2), [0, 1, 2, 3])
    talk = Talk(world)
    talk.fetch((A,))
    assert len(_done(talk)[0]) == 2
    counters = talk.client.counters
    assert (counters["inline_repair"], counters["barrier"], counters["copy"]) == (1, 0, 0)


def test_section_3_5_preferred_quorums_go_by_the_object_id_modulo_n() -> None:
    sites = Sites(threshold(1))
    for obj in range(60, 66):
        assert set(sites.append(obj)) == {(obj + i) % 6 for i in range(5)}


def test_section_3_5_inline_repair_takes_one_round_trip() -> None:
    """A partial update of a client that crashed, nobody else about: neither barrier nor copy, and then the update."""
    world = _world()
    world.send(world.request(Kind.METHOD, (A,), client=2), [0, 1, 2, 3])
    talk = Talk(world)
    talk.append((A,))
    assert _done(talk) == ("ok", (1,))
    counters = talk.client.counters
    assert (counters["inline_repair"], counters["barrier"], counters["copy"]) == (1, 0, 0)
    assert _rounds(talk) == 3, "read, repair, update"


def test_section_3_5_retries_back_off_at_random_and_exponentially() -> None:
    means = Talk(_world()).client._means
    chance = iter([0.0, 0.5, 1.0] * 9)
    means.uniform = lambda: next(chance)
    periods = []
    for attempt in range(9):
        shortest, usual, longest = (means.backoff(attempt).seconds for _ in range(3))
        assert shortest == usual / 2
        assert longest == usual * 3 / 2
        periods.append(usual)
    assert periods[0] == BACKOFF_FIRST_S
    assert all(then == min(2 * before, BACKOFF_MAX_S) for before, then in pairwise(periods))
    assert periods[-1] == BACKOFF_MAX_S


def test_section_3_5_contending_clients_get_on() -> None:
    """Four clients, one object, every message of all at once: each gets its turn, and the repairs are theirs."""
    world = _world()
    talks = [Talk(world, number=number) for number in range(1, 5)]
    for talk in talks:
        talk.append((A,))
    for _ in range(400):
        waiting = [talk for talk in talks if not talk.client.completions]
        if not waiting:
            break
        for talk in waiting:
            if not talk.client.rpc.outgoing:
                talk.pass_time()
            talk.exchange()
    answers = sorted(unpack(talk.client.completions[0].result)[1][0] for talk in talks)
    assert answers == [0, 1, 2, 3]
    assert sum(talk.client.counters["backoffs"] for talk in talks) > 0


def test_section_3_5_whoever_pauses_is_not_beaten_by_each_pause() -> None:
    """Another client updates the object in every pause: histories from before it are old."""
    world = _world()
    slow = Talk(world)
    slow.append((A,))
    beaten = 3
    for _ in range(40):
        if slow.client.completions:
            break
        paused = not slow.client.rpc.outgoing
        if paused:
            slow.pass_time()
        if paused or beaten:
            beaten -= not paused
            assert world.send(world.request(Kind.METHOD, (A,), client=2), range(5)) == [Status.ACCEPTED] * 5
        slow.exchange()
    assert slow.client.counters["backoffs"] > 0
    assert slow.client.completions


def test_section_3_5_overloaded_servers_are_asked_after_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """They show nothing by which to try again at once, but for once: others may have room."""
    world = _world()
    talk = Talk(world)
    deliver = world.deliver

    def overloaded(server: int, origin: Origin, payload: bytes) -> list[bytes]:
        number, message = parse_to_server_untrusted(payload, 1)
        if isinstance(message, Update):
            return [UpdateReply(Status.BUSY).pack(number)]
        return deliver(server, origin, payload)

    with monkeypatch.context() as patch:
        patch.setattr(world, "deliver", overloaded)
        talk.append((A,))
        while talk.client.counters["retries"] < 8:
            if not talk.client.rpc.outgoing:
                talk.pass_time()
            talk.exchange()
    assert talk.client.counters["backoffs"] >= 7
    _done(talk, 1)


def test_section_3_5_object_syncing_asks_more_hosts_than_can_lie() -> None:
    """One of them sends the rows, another a hash: a lie of one is noticed."""
    world = _world()
    world.send(world.request(Kind.METHOD, (A,)), range(5))
    before = [world.replicas[i].counters["sync_chunks_served"] for i in range(6)]
    world.send(world.request(Kind.METHOD, (A,)), [5])
    served = [world.replicas[i].counters["sync_chunks_served"] - before[i] for i in range(6)]
    assert sum(count > 0 for count in served) == 2
    assert world.stores[5].has_version(A, world.history(0, A).head.lt)


def test_section_3_5_compact_timestamps_have_one_size_and_tell_requests_apart() -> None:
    world = _world()
    long, short = world.request(Kind.METHOD, (A, B, C)), world.request(Kind.METHOD, (A,))
    for server, request in enumerate((long, short)):
        world.send(request, [server])
    one, other = world.history(0, A).head.lt, world.history(1, A).head.lt
    assert one.time == other.time
    assert one != other
    assert len(one.pack()) == len(other.pack()) == len(LogicalTimestamp(1 << 40, 1, 1, b"d" * 32).pack())


def test_section_3_5_replica_histories_are_pruned() -> None:
    """To what the last update was conditioned on, and the update itself."""
    talk = Talk(_world())
    for number in range(1, 8):
        talk.append((A,))
        _done(talk, number)
        assert len(talk.world.history(0, A).records) == 2
    assert talk.world.times(0, A) == ["6", "7"]


@pytest.mark.parametrize("victims", [(0,), (0, 1, 2, 3, 4)], ids=str)
def test_section_3_5_a_malevolent_server_s_bad_authenticators_hold_nobody_up(victims: tuple[int, ...]) -> None:
    """Whatever its MACs are like for whom: the client finds a view that the others accept."""
    world = Scripted((A, B, C))
    world.bad_macs_for = frozenset(victims)
    for number in range(4):
        world.isolated("append", (A,), lying=True, number=number)
    assert len(world.oracles.entries(A)) == 4


def test_section_3_5_a_malevolent_server_s_high_timestamps_hold_nobody_up() -> None:
    """A forged candidate is incomplete: it takes a barrier above it and a copy, and the liar cannot go on for ever."""
    world = Scripted((A, B, C))
    world.send(world.request(Kind.METHOD, (A,), client=2), [0])  # what the liar mimics: nobody else has it
    assert LIAR not in world.benign
    for number in range(3):
        world.isolated("append", (A,), lying=True, number=number)
    assert len(world.oracles.entries(A)) >= 3


def test_section_3_5_a_malevolent_client_s_partial_updates_are_repaired() -> None:
    """One server, a repairable set, all but one: whatever it leaves behind, the next client gets on."""
    for servers in (range(1), range(2), range(3), range(4), range(5)):
        world = _world()
        world.send(world.request(Kind.METHOD, (A, B), client=2), servers)
        talk = Talk(world)
        talk.append((A,))
        assert _done(talk)[0] == "ok"
        talk.append((B,))
        assert _done(talk, 2)[0] == "ok"


# ---- section 3.7


def test_section_3_7_a_multi_object_update_is_one_candidate_of_all_its_objects() -> None:
    talk = Talk(_world())
    talk.append((A, B))
    _done(talk)
    for server in range(5):
        heads = {talk.world.history(server, obj).head for obj in (A, B)}
        assert len(heads) == 1
        assert heads.pop().objects == (A, B)
    assert talk.world.oracles.entries(A) == talk.world.oracles.entries(B) == (b"talk1",)


def test_section_3_7_one_object_that_is_not_current_refuses_it_for_all() -> None:
    world = _world()
    stale = world.request(Kind.METHOD, (A, B))
    world.send(world.request(Kind.METHOD, (B,)), range(6))
    assert world.send(stale, range(6)) == [Status.FAIL] * 6
    assert all(world.history(server, A) == ZERO_HISTORY for server in range(6))


@pytest.mark.parametrize("servers", [3, 4], ids="accepted by {}".format)
def test_section_3_7_a_repairable_multi_object_candidate_is_repaired_on_all_objects(servers: int) -> None:
    """Whoever turns to one of the objects fetches the histories of the others."""
    world = _world()
    world.send(world.request(Kind.METHOD, (A, B), client=2), range(servers))
    talk = Talk(world)
    talk.append((A,))
    assert _done(talk) == ("ok", (1,))
    assert world.oracles.entries(B) == (b"x1",)
    assert world.oracles.entries(A) == (b"x1", b"talk1")


def test_section_3_7_the_home_object_s_preferred_quorum_is_asked() -> None:
    """The paper takes that of the highest object; here the object that remembers the answer."""
    talk = Talk(_world())
    talk.append((C, A), fresh=(A, C))
    assert {server for server, _ in talk.client.rpc.outgoing} == {2, 3, 4, 5, 0}
    _done(talk)


def test_every_function_of_figure_3_is_in_the_table() -> None:
    """docs/protocol.md names ours for each."""
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    table = text.partition("## Figure 3, line by line")[2].partition("\n## ")[0]
    functions = [
        *("c_initialize", "c_increment", "c_fetch", "c_repair", "c_quorum_rpc", "classify", "order", "s_initialize"),
        *("s_request", "s_setup", "latest_candidate", "latest_time", "backoff", "hmac", "retrieve", "store"),
        *("object_sync", "reply"),
    ]
    for function in functions:
        assert re.search(rf"`{function}`", table), function
