"""Whom a client does without, and for how long."""

from itertools import pairwise

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.history import ZERO_HISTORY, Kind
from qunfs.protocol.messages import Shown
from qunfs.protocol.quorum import threshold
from qunfs.protocol.trust import Trust
from tests.protocol.scripted import LIAR, A, B, Scripted


def test_who_was_left_out_is_tried_again_when_nothing_helps() -> None:
    """Keys were changed while the client was at work: as many disagree as cannot lie."""
    trust = Trust(threshold(1))
    for issuer in (0, 2, 4, 5):
        for reporter in (1, 3):
            trust.accuse(issuer, reporter)
    assert trust.preference(7).view == 0, "every view has a server that is left out"
    attempts = 0
    while trust.preference(7).view == 0:
        trust.reconsider()
        attempts += 1
        assert attempts < 20
    assert not any(trust.left_out(server) for server in (0, 2, 4, 5))


def test_who_is_malevolent_is_left_out_again_as_soon_as_it_is_accused() -> None:
    trust = Trust(threshold(1))
    for _ in range(3):
        trust.accuse(5, 1)
        trust.accuse(5, 3)
        assert trust.left_out(5)
        for _ in range(20):
            trust.reconsider()
        assert trust.preference(0).view


def test_doubts_that_do_not_help_are_dropped() -> None:
    """Servers 2 and 7 lied once, are honest now, and are needed, since others are down."""
    system = threshold(b=1, t=2)
    trust = Trust(system)
    trust.reached([server for server in range(system.n) if server != 0])
    for reporter in (1, 3, 4, 8):
        trust.accuse(2, reporter)
    for reporter in (2, 3, 6, 1, 4, 8):
        trust.accuse(7, reporter)
    attempts, doubted = 0, set()
    while trust.left_out(2) or not attempts:
        trust.reconsider()
        doubted.add(trust.left_out(2))
        attempts += 1
        assert attempts < 20
    assert True in doubted, "they are what explains all complaints"


def _accused(trust: Trust, server: int) -> None:
    for reporter in (1, 2):
        trust.accuse(server, reporter)
    assert trust.left_out(server)


def test_who_was_left_out_and_is_connected_anew_is_pardoned() -> None:
    """What others said of it is forgotten, and what it said of others; not what others said of each other."""
    trust = Trust(threshold(1))
    trust.accuse(3, 5)
    trust.accuse(3, 1)
    _accused(trust, 5)
    assert trust.pardon(0) == [], "it was connected all the while"
    trust.returned |= 1 << 5
    assert trust.pardon(0) == [5]
    assert not trust.left_out(5)
    assert not trust.left_out(3), "5 may have lied"
    trust.accuse(3, 2)
    assert trust.left_out(3)


def test_who_was_connected_anew_before_it_was_left_out_is_not_pardoned_for_that() -> None:
    trust = Trust(threshold(1))
    trust.returned |= 1 << 5
    _accused(trust, 5)
    assert trust.pardon(0) == []
    assert trust.left_out(5)


def test_a_liar_that_connects_again_and_again_is_pardoned_ever_less() -> None:
    trust = Trust(threshold(1))
    pardons = []
    for operation in range(10_000):
        trust.returned |= 1 << 5
        if trust.pardon(operation):
            pardons.append(operation)
        if not trust.left_out(5):
            _accused(trust, 5)
    gaps = [later - earlier for earlier, later in pairwise(pardons)]
    assert 5 < len(pardons) <= 12
    assert all(later >= 2 * earlier for earlier, later in pairwise(gaps))


def test_a_client_shows_a_server_again_that_was_replaced() -> None:
    """Its MACs were bad for all; an honest one is there now, whose history is the same."""
    world = Scripted((B,))
    world.send(world.request(Kind.METHOD, (B,)), range(5))
    world.bad_macs_for = frozenset(range(5))
    client = world.client()
    for server in range(6):
        client.connected(server, world.now)
    world.refused_append(client, B)
    assert client._trust.left_out(LIAR)
    cache = client._means.cache
    cache.note((A,), (Shown(ZERO_HISTORY, b"?"),), 1 << LIAR, {LIAR: bytes(MAC_BYTES * world.quorums.n)})
    world.bad_macs_for = frozenset()
    client.disconnected(LIAR, world.now)
    client.connected(LIAR, world.now)
    assert client.counters["pardons"] == 1
    assert not client._trust.left_out(LIAR)
    assert LIAR not in cache.histories(A), "its MACs may be bad, and it would say that it is unchanged"
