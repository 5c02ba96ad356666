"""What client code does straight away when all servers agree is what the general rules come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.protocol.answering import Agreed, Fresh, judge, newest_snapshot, unanimous_answer
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ZERO_HISTORY, LogicalTimestamp, ObjectHistorySet, ReplicaHistory
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.messages import Shown, Status, UpdateReply
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import servers_of, threshold
from qunfs.protocol.quorum_rpc import Alike, Phase
from qunfs.protocol.trust import Trust
from qunfs.protocol.wire import parse_reply_untrusted
from tests.protocol.strategies import OBJ, histories, timestamps

Q = threshold(1)
EVERYONE = (1 << Q.n) - 1
MASKS = st.sampled_from([EVERYONE, 0b11111, 0b111110]) | st.integers(1, EVERYONE)
CODES = st.sampled_from(list(Code))
NOTHING_IS_LATE_NS = (1 << 63) * 1000
"""A clock that is past all times: where some are late, the search prefers views without them though all agree."""


# ---- queries


@st.composite
def fresh(draw: st.DrawFn, code: Code, answer: bytes) -> Fresh:
    """A reply that mostly ran at the head of its history."""
    history = draw(histories())
    heads: st.SearchStrategy[LogicalTimestamp] = st.just(history.head.lt)
    return Fresh(
        history, draw(heads | st.sampled_from(history.records).map(lambda r: r.lt) | timestamps()), code, answer
    )


@given(st.data(), MASKS, CODES, st.binary(max_size=2), st.lists(histories(), max_size=3))
def test_one_answer_of_a_quorum_is_what_the_query_rule_gives(
    data: st.DataObject, servers: int, code: Code, answer: bytes, proofs: list[ReplicaHistory]
) -> None:
    reply = data.draw(fresh(code, answer))
    straight = unanimous_answer(Q, (reply,), servers)
    if straight is None:
        assert code is Code.NO_VERSION or not Q.contains_quorum(servers) or reply.lt != reply.history.head.lt
        return
    evidence = [ObjectHistorySet(OBJ, ((history, data.draw(MASKS)),)) for history in proofs]
    general = judge(Q, OBJ, dict.fromkeys(servers_of(servers), reply), evidence, 100)
    assert isinstance(general, Agreed)
    assert (general.code, general.answer) == (straight.code, straight.answer)
    assert general.servers & ~straight.servers == 0


@given(st.data(), MASKS, CODES, st.integers(2, 3), st.lists(histories(), max_size=3))
def test_one_joint_answer_of_a_quorum_is_a_joint_snapshot(
    data: st.DataObject, servers: int, code: Code, count: int, proofs: list[ReplicaHistory]
) -> None:
    joint = tuple([data.draw(fresh(code, b"answer")) for _ in range(count)])
    if unanimous_answer(Q, joint, servers) is None:
        return
    evidence = [ObjectHistorySet(OBJ, ((history, data.draw(MASKS)),)) for history in proofs]
    shown = {server: [f.history for f in joint] for server in servers_of(servers)}
    snapshot = newest_snapshot(Q, range(OBJ, OBJ + count), shown, evidence, 100)
    assert snapshot is not None
    assert snapshot.joint
    assert snapshot.versions == tuple(f.lt for f in joint)


# ---- views


@given(st.data(), st.lists(histories(), min_size=1, max_size=2), st.lists(st.integers(0, Q.n - 1), max_size=3))
def test_the_preferred_quorum_s_one_history_is_the_first_view_of_the_search(
    data: st.DataObject, pool: list[ReplicaHistory], suspects: list[int]
) -> None:
    trust = Trust(Q, lambda: NOTHING_IS_LATE_NS)
    trust.reached(data.draw(st.just(range(Q.n)) | st.sets(st.integers(0, Q.n - 1))))
    cache = HistoryCache(Q, trust)
    ids = (OBJ, OBJ + 1)
    for obj in ids:
        for _ in range(data.draw(st.integers(1, 3))):
            servers, has_macs = data.draw(MASKS), data.draw(st.sampled_from([True, True, True, False]))
            vectors = {s: bytes([s]) * MAC_BYTES * Q.n for s in servers_of(servers)}
            shown = Shown(data.draw(st.sampled_from([*pool, ZERO_HISTORY])), b"?" if has_macs else b"")
            cache.note((obj,), (shown,), servers, vectors)
    for server in suspects:
        reporter = data.draw(st.integers(0, Q.n - 1))
        if reporter != server:
            cache.forget(OBJ, server)
            trust.accuse(server, reporter)
        if data.draw(st.booleans()):
            trust.reconsider()
    planner = Planner(Q, cache, Identity(1, bytes(16)), trust, 100)
    fresh_ids = data.draw(st.sampled_from([frozenset[int](), frozenset({OBJ})]))
    straight = planner.agreed_views(ids, fresh_ids)
    if straight is not None:
        general = planner.searched_views(ids, fresh_ids)
        assert general is not None
        assert [(v.obj, v.groups) for v in straight] == [(v.obj, v.groups) for v in general]
        for view in straight:
            assert [vector[0] for vector in cache.vectors(view)] == servers_of(view.mask)


# ---- replies


class _Sink(Phase):
    def message(self, _server: int) -> bytes:
        return b""

    def note(self, alike: Alike, servers: int) -> None:
        assert alike.servers & servers == servers != 0
        assert not alike.noted & servers

    def judge(self, _final: bool) -> None:
        return None


VECTORS = st.sampled_from([b"a" * MAC_BYTES * Q.n, b"b" * MAC_BYTES * Q.n])
UPDATE_REPLIES = st.builds(
    lambda status, history, vector: UpdateReply(status, answer=b"x", histories=(Shown(history, vector),)),
    st.sampled_from([Status.ACCEPTED, Status.FAIL]),
    st.sampled_from([ZERO_HISTORY, None]),
    VECTORS | st.just(b""),
)


@pytest.mark.pure
@given(st.lists(st.tuples(st.integers(0, Q.n - 1), UPDATE_REPLIES, st.booleans()), max_size=15))
def test_replies_kept_by_their_bytes_are_the_last_ones_of_all_servers(
    arrivals: list[tuple[int, UpdateReply, bool]],
) -> None:
    phase = _Sink("TEST", range(Q.n), ((OBJ,),))
    last: dict[int, UpdateReply] = {}
    for server, reply, judged in arrivals:
        payload = reply.pack(7)
        phase.take_untrusted(server, payload, Q.n)
        last[server] = reply
        assert parse_reply_untrusted(payload, ((OBJ,),), Q.n) == (7, reply)
        if judged:
            phase.note_new()
    kept: dict[int, UpdateReply] = {}
    for alike in phase.alike:
        assert isinstance(alike.reply, UpdateReply)
        (shown,) = alike.reply.histories
        for server in servers_of(alike.servers):
            assert server not in kept
            vector = alike.vectors[server]
            assert bool(vector) == bool(shown.vector)
            kept[server] = alike.reply._replace(histories=(Shown(shown.history, vector),))
    assert kept == last
    assert len({alike.head for alike in phase.alike}) == len(phase.alike)
    assert servers_of(phase.replied) == sorted(last)
