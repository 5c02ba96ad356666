"""What malevolent clients may send without stopping a replica or filling its memory."""

from dataclasses import replace

import pytest

from qunfs.protocol import wire
from qunfs.protocol.classify import Request
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.history import (
    ZERO,
    ZERO_TIMESTAMP,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    method,
    parse_history_untrusted,
)
from qunfs.protocol.messages import Query, QueryItem, Status, Sync, Vouch, VouchReply, pack_update, pack_update_body
from qunfs.protocol.replica import Origin
from qunfs.protocol.wire import parse_reply_untrusted
from tests.protocol.scripted import A, Scripted, altered
from tests.simulation.clock import WALL_ORIGIN_NS

CLIENT = Origin(False, 1, 1)


def history_at(time: int) -> ReplicaHistory:
    return ReplicaHistory((method(LogicalTimestamp(time, 0, 1, bytes(32)), (A,), (ZERO_TIMESTAMP,)),))


@pytest.mark.parametrize("time", [1 << 63, (1 << 64) - 1])
def test_a_time_that_has_no_successor_is_malformed(time: int) -> None:
    world = Scripted(liar=False)
    operation = world.operation((A,))
    view = ObjectHistorySet(A, [(history_at(time), 0b11111)])
    request = Request(Kind.METHOD, 1, operation.session, operation, (view,))
    with pytest.raises(MalformedMessage):
        world.replicas[0].step(CLIENT, pack_update(7, pack_update_body(request), bytes(16 * 5)), 0.0, WALL_ORIGIN_NS)


def test_the_version_that_an_update_is_conditioned_on_outlives_the_update() -> None:
    world = Scripted(objects=(A,), liar=False)
    most = (0, 1, 2, 3, 5)
    early = None
    for turn in range(36):
        world.send(world.request(Kind.METHOD, (A,), most), most)
        idle = altered(world.operation((A,)), argument=b"\xc1")
        request = Request(Kind.METHOD, 1, idle.session, idle, (world.view(A, most),))
        if turn >= 1:
            assert world.reply_to(request, 4).status is Status.ANSWERED
        held = sorted(lt for lt in world.stores[4].kept(A) if world.stores[4].history(A).find(lt) is None)
        if held and (early is None or early[0] not in held):
            early = (world.view(A, most).groups[0][0].latest.lt, world.view(A, most))
    assert early is not None
    effective = world.operation((A,))
    request = Request(Kind.METHOD, 1, effective.session, effective, (early[1],))
    assert world.reply_to(request, 4).status is Status.ACCEPTED
    assert world.stores[4].history(A).base.lt == early[0]


def test_only_servers_ask_for_contents_and_records() -> None:
    world = Scripted(liar=False)
    for question in (Vouch(A, ZERO.lt), Sync(A, ZERO.lt, ZERO.lt, b"", True)):
        with pytest.raises(MalformedMessage):
            world.replicas[0].step(CLIENT, question.pack(1), 0.0, WALL_ORIGIN_NS)


def test_nobody_vouches_for_the_initial_candidate() -> None:
    """Every object has it and no record of it touches one: whoever asks is no correct server, and must stop nobody."""
    world = Scripted(liar=False)
    for time in (0.0, 1.0):
        (send,) = world.replicas[0].step(Origin(True, 5, 1), Vouch(A, ZERO.lt).pack(7), time, WALL_ORIGIN_NS)
        assert parse_reply_untrusted(send.payload) == (7, VouchReply(b""))


def test_a_query_gets_no_more_than_a_reply_can_hold() -> None:
    world = Scripted(objects=(A,), liar=False)
    replica = world.replicas[0]
    replica.limits = replace(replica.limits, reply_bytes_max=4 * len(replica.store.history(A).wire))
    item = QueryItem((A,), (b"",))
    replica.step(CLIENT, Query((item,) * 4).pack(1), 0.0, WALL_ORIGIN_NS)
    with pytest.raises(MalformedMessage):
        replica.step(CLIENT, Query((item,) * 5).pack(1), 0.0, WALL_ORIGIN_NS)


def test_long_histories_are_not_remembered() -> None:
    records = [method(LogicalTimestamp(t, 0, 1, bytes(32)), (A,), (ZERO_TIMESTAMP,)) for t in range(1, 200)]
    long = ReplicaHistory(records)
    before = wire._parse_short_history_untrusted.cache_info().currsize
    assert wire._parse_history_untrusted(long.wire, A) == long == parse_history_untrusted(long.wire, A)
    assert wire._parse_short_history_untrusted.cache_info().currsize == before
