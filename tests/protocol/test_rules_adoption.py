"""Vouched adoption and object sync, as replicas do it among each other (DESIGN, "Object sync", "Inline repair")."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from qunfs.protocol.history import (
    ZERO,
    ZERO_TIMESTAMP,
    Candidate,
    Kind,
    LogicalTimestamp,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Adopt, Status, Sync, SyncReply, Vouch, VouchReply
from qunfs.protocol.quorum import threshold
from qunfs.protocol.replica import Origin, Send
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.sync import ANSWER_WAIT_S, Rows, Synchroniser, answer_sync, rows_digest
from qunfs.protocol.versions import VersionStore
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.protocol.scripted import A, B, Scripted

QUORUM = range(5)
CLIENT = Origin(False, 1, 1)
OTHER_CLIENT = Origin(False, 2, 2)


def _joint(world: Scripted, servers: tuple[int, ...] = (0, 1, 2, 3)) -> Candidate:
    """A record of two objects that some servers have accepted."""
    assert world.send(world.request(Kind.METHOD, (A, B)), servers) == [Status.ACCEPTED] * len(servers)
    return world.history(servers[0], A).latest


def _step(world: Scripted, server: int, origin: Origin, payload: bytes) -> list[Send]:
    sends = world.replicas[server].step(origin, payload, world.now, world.wall_ns)
    world._commit(server)
    return sends


def test_an_adopted_version_has_its_contents_on_every_object() -> None:
    world = Scripted((A, B), liar=False)
    record = _joint(world)
    reply = world.adopt(record, 5)
    assert reply is not None
    assert reply.status is Status.ACCEPTED
    assert reply.answer == world.stores[0].answer(A, record.lt)
    for obj in (A, B):
        assert world.history(5, obj).latest == record
        theirs = dict(world.stores[0].open(obj, record.lt).scan())
        assert dict(world.stores[5].open(obj, record.lt).scan()) == theirs
        assert theirs


def test_one_server_s_word_is_not_enough_to_adopt() -> None:
    world = Scripted((A, B), liar=False)
    record = _joint(world, (0,))
    reply = world.adopt(record, 5)
    assert reply is not None
    assert reply.status is Status.FAIL
    assert world.history(5, A).latest == ZERO


def test_what_nobody_holds_is_not_adopted() -> None:
    """A barrier has no contents that would be missing; a record at a known time has them, and is another record."""
    world = Scripted((A, B), liar=False)
    record = _joint(world)
    invented = barrier(LogicalTimestamp(9, 1, 1, b"i" * 32), (A,), (ZERO.lt,))
    altered = method(record.lt, record.objects, (LogicalTimestamp(0, 0, 1, b"a" * 32),) * 2)
    for made_up in (invented, altered):
        (payload,) = world.deliver(5, CLIENT, Adopt(made_up, 0b1111).pack(3))
        reply = parse_reply_untrusted(payload, (made_up.objects,), 6)[1]
        assert reply.status is Status.FAIL  # type: ignore[union-attr]
        assert world.history(5, A).records == (ZERO,)


def _invented(time: int) -> Candidate:
    return barrier(LogicalTimestamp(time, 1, 1, b"i" * 32), (A,), (ZERO.lt,))


@pytest.mark.parametrize("times", [range(1, 1 + 2 * DEFAULT_LIMITS.sync_jobs_max), [1] * 10_000])
def test_one_client_does_not_take_what_others_need_to_adopt(times: Sequence[int]) -> None:
    """Whose questions a silent server keeps open, be they many or one that many requests wait for."""
    world = Scripted((A, B), liar=False)
    record = _joint(world)
    for time in times:
        _step(world, 5, CLIENT, Adopt(_invented(time), 0b1111).pack(3))
    (payload,) = world.deliver(5, OTHER_CLIENT, Adopt(record, 0b1111).pack(3))
    reply = parse_reply_untrusted(payload, (record.objects,), 6)[1]
    assert reply.status is Status.ACCEPTED  # type: ignore[union-attr]


def test_a_made_up_record_of_the_same_time_keeps_nobody_from_adopting_the_real_one() -> None:
    world = Scripted((A, B), liar=False)
    record = _joint(world)
    made_up = method(record.lt, record.objects, (LogicalTimestamp(0, 0, 1, b"a" * 32),) * 2)
    _step(world, 5, CLIENT, Adopt(made_up, 0b1111).pack(3))  # and nobody answers
    (payload,) = world.deliver(5, OTHER_CLIENT, Adopt(record, 0b1111).pack(3))
    reply = parse_reply_untrusted(payload, (record.objects,), 6)[1]
    assert reply.status is Status.ACCEPTED  # type: ignore[union-attr]


def test_no_adoption_over_something_later() -> None:
    """Of METHODs that contend only what is current goes in: latest <= cur, on each of its objects."""
    for later in (A, B):
        world = Scripted((A, B), liar=False)
        record = _joint(world)
        world.send(world.request(Kind.BARRIER, (later,), (1, 2, 3, 4, 5)), (4,))
        reply = world.adopt(record, 4)
        assert reply is not None
        assert reply.status is Status.FAIL
        assert not any(record in world.history(4, obj) for obj in (A, B))


def test_currentness_is_checked_again_after_a_sync() -> None:
    """While peers vouch for a record and send its contents, a barrier comes in."""
    world = Scripted((A, B), liar=False)
    record = _joint(world)
    late = world.request(Kind.BARRIER, (A,), (1, 2, 3, 4, 5))
    waiting = _step(world, 5, CLIENT, Adopt(record, 0b1111).pack(3))
    assert {send.server for send in waiting} <= {0, 1, 2, 3}
    assert world.send(late, (5,)) == [Status.ACCEPTED]
    replies: list[bytes] = []
    while waiting:
        asked = waiting.pop(0)
        for answer in _step(world, asked.server, Origin(True, 5, 2), asked.payload):
            for send in _step(world, 5, Origin(True, asked.server, 3), answer.payload):
                replies += [send.payload] if send.origin == CLIENT else []
                waiting += [send] if send.origin is None else []
    (payload,) = replies
    reply = parse_reply_untrusted(payload, ((A, B),), 6)[1]
    assert reply.status is Status.FAIL  # type: ignore[union-attr]
    assert record not in world.history(5, A)
    assert record not in world.history(5, B)


def _vouches(world: Scripted, server: int, obj: int, lt: LogicalTimestamp) -> VouchReply:
    (send,) = _step(world, server, Origin(True, 5, 1), Vouch(obj, lt).pack(4))
    reply = parse_reply_untrusted(send.payload)[1]
    assert isinstance(reply, VouchReply)
    return reply


def test_who_holds_a_record_vouches_with_its_answer() -> None:
    world = Scripted((A, B), liar=False)
    record = _joint(world)
    vouched = _vouches(world, 0, A, record.lt)
    assert (vouched.record, vouched.answer) == (record.wire, world.stores[0].answer(A, record.lt))
    assert _vouches(world, 4, A, record.lt) == VouchReply(b"")


def test_who_lacks_a_record_on_a_sibling_does_not_vouch() -> None:
    """A and B have one record; on B it has been pruned: adopting it now is what that server itself would not do."""
    world = Scripted((A, B), liar=False)
    record = _joint(world, (0, 1, 2, 3, 4))
    for _ in range(2):
        world.send(world.request(Kind.METHOD, (B,)), QUORUM)
    assert record in world.history(0, A)
    assert record not in world.history(0, B)
    assert _vouches(world, 0, A, record.lt) == VouchReply(b"")


def test_who_has_not_run_a_method_does_not_vouch() -> None:
    """Server 5 got the version by object sync and the record as a base: it knows no answer."""
    world = Scripted((A,), liar=False)
    world.send(world.request(Kind.METHOD, (A,)), QUORUM)
    record = world.history(0, A).latest
    assert world.send(world.request(Kind.METHOD, (A,)), (5,)) == [Status.ACCEPTED]
    assert world.history(5, A).base == record
    assert _vouches(world, 5, A, record.lt) == VouchReply(b"")


def test_a_server_that_missed_a_version_fetches_it() -> None:
    """Line 1014: from those that the view shows to have it; then the request runs from the start."""
    world = Scripted((A,), liar=False)
    for _ in range(3):
        world.send(world.request(Kind.METHOD, (A,)), QUORUM)
    base = world.history(0, A).latest
    assert world.send(world.request(Kind.METHOD, (A,)), (5, 0)) == [Status.ACCEPTED] * 2
    assert world.history(5, A) == world.history(0, A)
    assert dict(world.stores[5].open(A, base.lt).scan()) == dict(world.stores[0].open(A, base.lt).scan())


# ---- the jobs themselves

OBJ = 7
TARGET = LogicalTimestamp(3, 0, 1, b"t" * 32)
MINE = LogicalTimestamp(1, 0, 1, b"m" * 32)


def _asked(sync: Synchroniser) -> list[tuple[int, int, Sync]]:
    outgoing, sync.outgoing = sync.outgoing, []
    asked: list[tuple[int, int, Sync]] = []
    for server, payload in outgoing:
        number, question = parse_to_server_untrusted(payload, 0)
        assert isinstance(question, Sync)
        asked.append((server, number, question))
    return asked


def test_rows_that_do_not_match_the_digest_are_no_vote_for_it() -> None:
    """A liar sends other rows under the digest that an honest host confirms."""
    store = VersionStore(MemoryRows(), {})
    sync = Synchroniser(0, threshold(1), store, DEFAULT_LIMITS)
    sync.want_version(OBJ, TARGET, 0b110, b"", 0.0)
    truth: Rows = ((b"k", b"v"),)
    digest = rows_digest(truth, False)
    (liar, its, question), (_, number, _) = _asked(sync)
    assert question.whole
    sync.on_reply(liar, its, SyncReply(True, digest, ((b"k", b"lie"),), False), 0.0)
    assert sync.on_reply(2, number, SyncReply(True, digest, (), False), 0.0) is None
    assert not store.has_version(OBJ, TARGET)


def test_one_host_that_replies_twice_is_one() -> None:
    store = VersionStore(MemoryRows(), {})
    sync = Synchroniser(0, threshold(1), store, DEFAULT_LIMITS)
    sync.want_version(OBJ, TARGET, 0b110, b"", 0.0)
    lie: Rows = ((b"k", b"lie"),)
    (one, number, _), _ = _asked(sync)
    for _ in range(2):
        assert sync.on_reply(one, number, SyncReply(True, rows_digest(lie, False), lie, False), 0.0) is None
    assert len(sync) == 1


def test_a_late_difference_from_one_version_is_no_vote_on_that_from_another() -> None:
    """Two hosts lack the asker's version, so that all rows are asked for; a third's difference comes late.

    With a liar that says the same, it would pass for the whole state.
    """
    store, host = VersionStore(MemoryRows(), {}), VersionStore(MemoryRows(), {})
    for one in (store, host):
        one.add_version(OBJ, MINE, ZERO_TIMESTAMP, {b"old": b"row"}, b"")
        one.set_history(OBJ, ReplicaHistory((ZERO, method(MINE, (OBJ,), (ZERO.lt,)))))
    host.add_version(OBJ, TARGET, MINE, {b"new": b"row"}, b"")
    sync = Synchroniser(0, threshold(1), store, replace(DEFAULT_LIMITS))
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    first = _asked(sync)
    assert list(sync.tick(ANSWER_WAIT_S + 0.01)) == []
    first += _asked(sync)
    assert len(first) >= 3
    for server, number, _ in first[:2]:
        sync.on_reply(server, number, SyncReply(False, b"", (), False), 0.3)
    second = _asked(sync)
    assert {question.base for _, _, question in second} == {ZERO_TIMESTAMP}
    _, late, question = first[2]
    difference = answer_sync(host, question, DEFAULT_LIMITS)
    sync.on_reply(first[2][0], late, difference, 0.3)
    liar, number, _ = next(asked for asked in second if asked[0] != first[2][0])
    whole = replace_rows(answer_sync(host, Sync(OBJ, MINE, TARGET, b"", True), DEFAULT_LIMITS))
    assert sync.on_reply(liar, number, whole, 0.3) is None
    assert not store.has_version(OBJ, TARGET)


def replace_rows(reply: SyncReply) -> SyncReply:
    """The reply as a liar repeats it."""
    return reply._replace(digest=rows_digest(reply.rows, reply.more))
