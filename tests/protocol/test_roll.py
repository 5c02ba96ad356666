"""Who may have a replica list what it holds, and how often; what else may come instead of a question or a reply."""

from dataclasses import replace

import msgpack
import pytest

from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.history import ZERO, Kind
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import HEADER, Roll, RollReply, Status, Type, join_reply
from qunfs.protocol.packing import pack
from qunfs.protocol.replica import Origin
from qunfs.protocol.store import Listed
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.protocol.scripted import RIGHTS, A, B, Scripted
from tests.simulation.clock import WALL_ORIGIN_NS

CLIENT = Origin(False, 1, 1)
MOST = DEFAULT_LIMITS.roll_entries_max
LT = ZERO.lt.pack()


def ask(world: Scripted, origin: Origin = CLIENT, now: float = 0.0, most: int = MOST) -> RollReply:
    (send,) = world.replicas[0].step(origin, Roll(0, most).pack(7), now, WALL_ORIGIN_NS)
    assert send.origin == origin
    number, reply = parse_reply_untrusted(send.payload)
    assert number == 7
    assert isinstance(reply, RollReply)
    return reply


def test_a_replica_lists_its_objects() -> None:
    world = Scripted(objects=(A, B), liar=False)
    assert ask(world) == RollReply(Status.ANSWERED)
    everyone = range(5)
    request = world.request(Kind.METHOD, (A,), everyone)
    assert world.send(request, everyone) == [Status.ACCEPTED] * 5
    (listed,) = ask(world).listed
    assert listed == Listed(A, world.history(0, A).head.lt, True)
    assert world.replicas[5].store.roll(0, MOST) == ([], False)


@pytest.mark.parametrize(
    "rights",
    [
        replace(RIGHTS, squash=Squash.ROOT),
        replace(RIGHTS, squash=Squash.ALL),
        replace(RIGHTS, uids=(1, 9)),
        replace(RIGHTS, gids=(1, 9)),
    ],
    ids=["root squashed", "all squashed", "no user 0", "no group 0"],
)
def test_who_may_not_act_for_root_learns_no_ids(rights: Rights) -> None:
    """What an id names can be asked without a look into any directory: ids are for those who may look."""
    world = Scripted(liar=False)
    world.replicas[0]._rights = {1: rights}
    assert ask(world) == RollReply(Status.REFUSED)


def test_strangers_and_servers_learn_none_either() -> None:
    world = Scripted(liar=False)
    assert ask(world, Origin(False, 99, 1)) == RollReply(Status.REFUSED)
    assert ask(world, Origin(True, 1, 1)) == RollReply(Status.REFUSED)


def test_a_reader_may_list() -> None:
    world = Scripted(liar=False)
    world.replicas[0]._rights = {1: replace(RIGHTS, read_write=False)}
    assert ask(world).status is Status.ANSWERED


def test_listing_takes_no_more_than_its_share_of_a_replica() -> None:
    world = Scripted(liar=False)
    allowed = int(DEFAULT_LIMITS.rolls_per_second)
    told = [ask(world, now=5.0).status for _ in range(allowed + 5)]
    assert told == [Status.ANSWERED] * allowed + [Status.BUSY] * 5
    assert ask(world, Origin(False, 2, 2), now=5.0).status is Status.ANSWERED
    assert ask(world, now=5.0 + 1.5 / allowed).status is Status.ANSWERED
    assert ask(world, now=5.0 + 1.5 / allowed).status is Status.BUSY


@pytest.mark.parametrize(
    "body",
    [(), (1,), (1, 2, 3), (b"1", 2), (True, 2), (-1, 2), ((1 << 64) - 1, 2), (1, 0), (1, MOST + 1), (1.0, 2), None],
)
def test_questions_out_of_bounds_are_malformed(body: object) -> None:
    with pytest.raises(MalformedMessage):
        parse_to_server_untrusted(HEADER.pack(Type.ROLL, 7) + msgpack.packb(body), 1)


@pytest.mark.parametrize(
    "body",
    [
        (1, [(5, LT, True), (5, LT, True)], False),
        (1, [(6, LT, True), (5, LT, True)], False),
        (1, [(0, LT, True)], False),
        (1, [(1 << 63, LT[:-1], True)], False),
        (1, [(5, LT, 1)], False),
        (1, [(5, LT)], False),
        (99, [], False),
        (1, [], 0),
        (1, [(n + 1, LT, True) for n in range(MOST + 1)], False),
        (1, [(b"5", LT, True)], False),
        None,
    ],
)
def test_replies_out_of_bounds_are_malformed(body: object) -> None:
    with pytest.raises(MalformedMessage):
        parse_reply_untrusted(join_reply(Type.ROLL_REPLY, 7, pack(body)))


def test_a_client_cannot_send_the_reply() -> None:
    world = Scripted(liar=False)
    payload = RollReply(Status.ANSWERED, (Listed(5, ZERO.lt, True),)).pack(7)
    with pytest.raises(MalformedMessage):
        world.replicas[0].step(CLIENT, payload, 0.0, WALL_ORIGIN_NS)
    with pytest.raises(MalformedMessage):
        world.replicas[0].step(Origin(True, 1, 1), payload, 0.0, WALL_ORIGIN_NS)
