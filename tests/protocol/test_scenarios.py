"""Seven minimal attacks and accidents that the skip, proof and joint-copy rules are there for.

In each, server 5 is malevolent and mimics the server that the adversary needs.  Afterwards a correct client alone gets
its work done on every object, the malevolent server silent or lying; the oracles watch everything.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from qunfs.protocol.classify import setup
from qunfs.protocol.history import (
    ZERO,
    Candidate,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.messages import Shown, Status, Type
from qunfs.protocol.quorum import servers_of
from tests.protocol.scripted import LIAR, A, B, C, Scripted

ALL = range(5)
ROUNDS_MAX = 60
Servers = Sequence[int]


def _accepted(world: Scripted, kind: Kind, objects: Servers, shown: Servers, to: Servers, like: int = 0) -> Candidate:
    request = world.request(kind, objects, shown, like)
    assert world.send(request, to) == [Status.ACCEPTED] * len(to)
    return world.stores[to[0]].history(objects[0]).latest


def lineage() -> Scripted:
    """y on {a, b} against g on {a}; a partial copy of g; a copy of that copy: y must leave b too."""
    for turn in range(64):  # the digests decide which of the two is the later; try others until y is not
        world = Scripted()
        for _ in range(turn):
            world.operation((A,))
        y, g = world.request(Kind.METHOD, (A, B)), world.request(Kind.METHOD, (A,))
        world.send(y, (0, 1, 4))
        world.send(g, (2, 3))
        if world.history(0, A).latest.lt < world.history(2, A).latest.lt:
            break
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    _accepted(world, Kind.COPY, (A,), (2, 3, LIAR, 0, 1), (2, 3), like=2)
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    _accepted(world, Kind.COPY, (A,), (2, 3, LIAR, 0, 1), ALL, like=2)
    assert all(len(world.history(s, B).records) == 1 for s in ALL)
    _accepted(world, Kind.METHOD, (A,), ALL, ALL)
    return world


def proof_through_a_segment() -> Scripted:
    """c on {a, b} is established; copies within one segment on a prove it for b as well."""
    world = Scripted()
    c = _accepted(world, Kind.METHOD, (A, B), ALL, (0, 1, 2, 3))
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    _accepted(world, Kind.COPY, (A,), (0, 1, 2, 3, LIAR), (3, 4))
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    _accepted(world, Kind.COPY, (A,), (3, 4, LIAR, 0, 1), ALL, like=3)
    _accepted(world, Kind.METHOD, (A,), ALL, ALL)
    assert [world.history(s, B).base == c for s in ALL] == [True] * 4 + [False]
    return world


def proof_at_a_copy() -> Scripted:
    """The copy of an established source carries the proof to the source's other object."""
    world = Scripted()
    c = _accepted(world, Kind.METHOD, (A, B), ALL, (0, 1, 2, 3))
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    _accepted(world, Kind.COPY, (A,), (0, 1, 2, 3, LIAR), ALL)
    assert [world.history(s, B).base == c for s in ALL] == [True] * 4 + [False]
    _accepted(world, Kind.METHOD, (A,), ALL, ALL)
    return world


def barrier_on_a_sibling() -> Scripted:
    """c on {a, b} is established, then a barrier on b only: a goes on, b needs a copy, the late server gets no c."""
    world = Scripted()
    c = _accepted(world, Kind.METHOD, (A, B), ALL, (0, 1, 2, 3))
    _accepted(world, Kind.BARRIER, (B,), ALL, ALL)
    late = world.adopt(c, 4)
    assert late is not None
    assert late.status is Status.FAIL
    _accepted(world, Kind.METHOD, (A,), (0, 1, 2, 3, LIAR), (0, 1))
    return world


def removal_from_siblings() -> Scripted:
    """y on {a, b} at three servers; rival copies of the initial version on a remove it from both objects."""
    world = Scripted()
    _accepted(world, Kind.METHOD, (A, B), ALL, (0, 1, 2))
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    rivals = [world.request(Kind.COPY, (A,), (0, 1, 3, 4, LIAR), 3, client=20 + i) for i in range(3)]
    for server, rival in enumerate(rivals):
        assert world.send(rival, (server,)) == [Status.ACCEPTED]
        assert len(world.history(server, B).records) == 1
    return world


def copy_of_one_object_alone() -> Scripted:
    """A merely repairable record of two objects is not copied on one of them."""
    world = Scripted()
    _accepted(world, Kind.METHOD, (A, B), ALL, (0, 1))
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    alone = world.request(Kind.COPY, (A,), (0, 1, 2, 3, LIAR))
    assert world.send(alone, ALL) == [Status.REFUSED] * 5
    return world


def adoption_has_side_effects() -> Scripted:
    """Servers that adopt a copy drop what it skips, from the siblings too, as those that executed it did."""
    world = Scripted()
    _accepted(world, Kind.METHOD, (A, B), ALL, (0, 1, 2))
    _accepted(world, Kind.BARRIER, (A,), ALL, ALL)
    copied = _accepted(world, Kind.COPY, (A,), (0, 1, 3, 4, LIAR), (3, 4), like=3)
    for server in (0, 1, 2):
        adopted = world.adopt(copied, server)
        assert adopted is not None
        assert adopted.status is Status.ACCEPTED
        assert len(world.history(server, B).records) == 1
    _accepted(world, Kind.METHOD, (A,), ALL, ALL)
    return world


SCENARIOS = [
    lineage,
    proof_through_a_segment,
    proof_at_a_copy,
    barrier_on_a_sibling,
    removal_from_siblings,
    copy_of_one_object_alone,
    adoption_has_side_effects,
]


@pytest.mark.parametrize("lying", [False, True], ids=["silent", "lying"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_a_client_alone_gets_on(scenario: Callable[[], Scripted], lying: bool) -> None:
    for obj in (A, B, C):
        for what in ("append", "fetch"):
            world = scenario()
            world.mimicked = 4
            assert world.isolated(what, (obj,), lying) <= ROUNDS_MAX
    assert scenario().isolated("append", (A, B), lying) <= ROUNDS_MAX
    assert scenario().isolated("fetch", (A, B, C), lying) <= ROUNDS_MAX


def test_updates_of_all_objects_follow_each_other() -> None:
    """Several clients in a row, the liar always behind: nothing is lost."""
    world = lineage()
    for number, objects in enumerate([(A, B), (B,), (A, B, C), (C,), (A,)]):
        world.isolated("append", objects, lying=True, number=number)
    assert [e for e in world.oracles.entries(B) if e.startswith(b"isolated")] == [
        b"isolated0",
        b"isolated1",
        b"isolated2",
    ]


def test_one_liar_cannot_wedge_an_object_with_high_times() -> None:
    """The bound on time is absolute: a barrier far ahead that one server took leaves the others free to go on.

    Relative to the other histories shown, it would have those servers refuse the history of the one that took it.
    """
    world = Scripted()
    _accepted(world, Kind.METHOD, (A,), ALL, ALL)
    ahead = world.history(0, A)
    record = ahead.latest
    forged = _with_barrier_at(ahead, record.lt.time + (1 << 31))
    request = world.request(Kind.BARRIER, (A,), (0, 1, 2, 3, LIAR))
    view = _replacing(request.views[0], LIAR, forged)
    request = type(request)(Kind.BARRIER, 1, bytes(16), None, (view,), ())
    assert world.send(request, (0,)) == [Status.ACCEPTED]
    assert world.times(0, A)[-1] == f"{record.lt.time + (1 << 31) + 1}b"
    assert world.isolated("append", (A,), lying=False) <= ROUNDS_MAX


@pytest.mark.parametrize("culls", [0, 1, 100])
@pytest.mark.parametrize("victims", [(0,), (1,), (2,), (3,), (4,), (0, 1), (0, 1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("obj", range(60, 66))
def test_bad_macs_for_some_servers_hold_nobody_up(victims: tuple[int, ...], culls: int, obj: int) -> None:
    """All benign servers are needed and some refuse whatever shows the liar: its histories must not be shown.

    Nobody can tell a server that issues bad MACs from one that says so of good ones, and this liar does both.
    """
    world = Scripted((obj,))
    _accepted(world, Kind.METHOD, (obj,), ALL, (0, 1, 2))
    world.bad_macs_for, world.liar_culls = frozenset(victims), culls
    for number in range(3):
        assert world.isolated("append", (obj,), lying=True, number=number) <= ROUNDS_MAX


def test_times_beyond_the_bound_are_culled() -> None:
    world = Scripted()
    _accepted(world, Kind.METHOD, (A,), ALL, ALL)
    bound = world.wall_ns // 1000 + (1 << 32)
    bad = {LIAR: bytes(16)}
    for time, status, spoilt, culled in (
        (bound, Status.ACCEPTED, {}, ()),
        (bound + 1, Status.CULLED, {}, ((A, LIAR, True),)),
        (bound + 1, Status.CULLED, bad, ((A, LIAR, False),)),
    ):
        forged = _with_barrier_at(world.history(0, A), time)
        request = world.request(Kind.BARRIER, (A,), (0, 1, 2, 3, LIAR))
        view = _replacing(request.views[0], LIAR, forged)
        reply = world.reply_to(type(request)(Kind.BARRIER, 1, bytes(16), None, (view,), ()), 4, spoilt)
        assert reply is not None
        assert (reply.status, reply.culled) == (status, culled)


def _with_barrier_at(history: ReplicaHistory, time: int, obj: int = A) -> ReplicaHistory:
    lt = LogicalTimestamp(time, 1, 9, bytes(32))
    return ReplicaHistory((*history.records, barrier(lt, (obj,), (history.base.lt,))))


def _replacing(view: ObjectHistorySet, server: int, history: ReplicaHistory) -> ObjectHistorySet:
    histories = {s: view.of_server(s) for s in servers_of(view.mask)} | {server: history}
    return ObjectHistorySet.of(view.obj, histories, view.mask)


def test_a_refusal_is_told_although_a_server_that_is_down_agreed_once() -> None:
    """Server 5 is ahead with a record that lost; server 4 is down, and a view with its old history calls for a METHOD.

    All others answer that the operation fails, which makes no version and so changes nothing: without a barrier that
    server 5 accepts too there is never a quorum.
    """
    system = Scripted(liar=False)
    system.send(system.request(Kind.METHOD, [A]), to=range(6))
    rivals = [system.request(Kind.METHOD, [A], client=client) for client in (1, 2)]
    rivals.sort(key=lambda request: setup(system.quorums, request).candidate.lt)
    assert system.send(rivals[0], to=range(5)) == [Status.ACCEPTED] * 5
    assert system.send(rivals[1], to=[5]) == [Status.ACCEPTED]
    client = system.client()
    for server in range(6):
        client.connected(server, system.now)
    assert system.refused_append(client) == 2  # a read and the METHOD
    client.disconnected(4, system.now)
    assert system.refused_append(client) < 12


class Unwilling(Scripted):
    """The liar shows what most servers have when it is read, and takes no METHOD; ``later``: as if it were ahead."""

    later = updating = False

    def _signed(self, objects: Sequence[int]) -> tuple[Shown, ...]:
        if not self.later or not self.updating:
            return super()._signed(objects)
        histories = [_with_barrier_at(h, h.latest.lt.time + 5, o) for o in objects for h in (self.history(LIAR, o),)]
        vectors = [self.authenticators[LIAR].tags(o, h).vector for o, h in zip(objects, histories, strict=True)]
        return tuple(map(Shown, histories, vectors))

    def _answer(self, server: int, client: int, payload: bytes) -> list[bytes]:
        self.updating = payload[0] == Type.UPDATE
        return super()._answer(server, client, payload)


@pytest.mark.parametrize("later", [False, True])
def test_a_refusal_is_told_although_a_liar_agrees_and_takes_no_method(later: bool) -> None:
    """Of B server 0 is shown last: it is ahead with a record that lost, and server 5 says that it agrees with the rest.

    Whatever the liar shows when it refuses, what it shows to the repair after that calls for a METHOD again.
    """
    system = Unwilling((B,))
    system.send(system.request(Kind.METHOD, [B]), to=range(5))
    rivals = [system.request(Kind.METHOD, [B], client=client) for client in (1, 2)]
    rivals.sort(key=lambda request: setup(system.quorums, request).candidate.lt)
    assert system.send(rivals[0], to=range(1, 5)) == [Status.ACCEPTED] * 4
    assert system.send(rivals[1], to=[0]) == [Status.ACCEPTED]
    system.mimicked, system.later = 1, later
    client = system.client()
    for server in range(6):
        client.connected(server, system.now)
    assert system.refused_append(client, B) < 15


class TwoFaced(Scripted):
    """The liar shows one server's history to reads, and another's to whoever sends it an update."""

    def _answer(self, server: int, client: int, payload: bytes) -> list[bytes]:
        self.mimicked = 1 if payload[0] == Type.QUERY else 0
        return super()._answer(server, client, payload)


@pytest.mark.parametrize("objects", [(B,), (B, C)])
def test_an_update_takes_its_proofs_along(objects: tuple[int, ...]) -> None:
    """Unlike a query it does not ask the liar again: servers judge by what the client was shown."""
    world = TwoFaced(objects)
    world.send(world.request(Kind.METHOD, objects), range(5))
    world.send(world.request(Kind.METHOD, objects, servers=range(5)), (1, 2, 3, 4))
    assert world.isolated("append", objects, lying=True) < 20


@pytest.mark.parametrize("what", ["append", "fetch"])
def test_rivals_in_a_longer_chain_than_one_message_takes(what: str) -> None:
    """Each on two neighbours, at three servers: every repair needs the next, and a message holds eight objects."""
    objects = range(A, A + 14)
    for wanted in (objects[:1], objects[5:6], objects[-2:]):
        world = Scripted(objects, liar=False)
        rivals = [world.request(Kind.METHOD, pair, client=1 + i) for i, pair in enumerate(pairwise(objects))]
        for i, rival in enumerate(rivals):
            world.send(rival, (0, 1, 2) if i % 2 else (3, 4, 5))
        assert world.isolated(what, wanted, lying=False) <= 2 * ROUNDS_MAX


class Hiding(Scripted):
    """The liar hides candidates on some objects, and shows them on their siblings."""

    def __init__(self, wanted: Sequence[int], hidden: Sequence[int], phantoms: bool) -> None:
        super().__init__((*wanted, *[_sibling(obj) for obj in hidden]))
        self._hidden, self._phantoms = hidden, phantoms
        self._read = False

    def history(self, server: int, obj: int) -> ReplicaHistory:
        if server in self.benign or not self._read:
            return super().history(server, obj)
        if obj not in self._hidden:
            return self.stores[0].history(obj)
        behind = self.stores[4].history(obj)
        if not self._phantoms:
            return behind
        named = (*range(10 + 7 * self._hidden.index(obj), 17 + 7 * self._hidden.index(obj)), obj)
        return ReplicaHistory((*behind.records, method(LogicalTimestamp(9, 0, 7, b"p" * 32), named, (ZERO.lt,) * 8)))

    def _answer(self, server: int, client: int, payload: bytes) -> list[bytes]:
        self._read = True
        try:
            return super()._answer(server, client, payload)
        finally:
            self._read = False


def _sibling(obj: int) -> int:
    return obj + 1000


@pytest.mark.parametrize("what", ["append", "fetch"])
@pytest.mark.parametrize(("wanted", "hidden", "phantoms"), [(6, 3, False), (2, 2, True), (2, 2, False)])
def test_what_is_proven_only_on_siblings_is_found_there(what: str, wanted: int, hidden: int, phantoms: bool) -> None:
    """Also where they are too many for one read, and where a liar names others that take their place."""
    objects = range(A, A + wanted)
    world = Hiding(objects, objects[:hidden], phantoms)
    for obj in objects[:hidden]:
        assert world.send(world.request(Kind.METHOD, (obj, _sibling(obj))), range(4)) == [Status.ACCEPTED] * 4
    assert world.isolated(what, objects, lying=True) <= ROUNDS_MAX
