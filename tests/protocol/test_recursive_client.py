"""Whom a client asks and shows where not any q servers are a quorum (paper sections 3.3 and 3.5, preferred quorums)."""

from collections import Counter
from random import Random

import pytest

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.history import ZERO_HISTORY
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Shown
from qunfs.protocol.operation import Call
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import mask_of, servers_of, threshold
from qunfs.protocol.recursive_quorum import recursive_threshold
from qunfs.protocol.trust import Trust
from tests.protocol.scripted import CREDENTIALS
from tests.protocol.sites import Sites
from tests.simulation.objects import LEDGER, pack

LEVELS = [[(0, 1), (0, 1)], [(1, 1), (0, 1)], [(0, 1), (1, 1)]]


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_a_round_trip_asks_one_quorum_and_no_server_more(levels: list[tuple[int, int]]) -> None:
    """And over all objects each server is asked as often as any other."""
    sites = Sites(recursive_threshold(levels))
    shares: Counter[int] = Counter()
    for obj in range(sites.quorums.n * 5, sites.quorums.n * 6):
        first, then, read = sites.append(obj), sites.append(obj), sites.fetch(obj)
        assert sites.quorums.is_view(mask_of(list(first)))
        assert set(first.values()) == {2}, "a new object: its histories, then the update"
        assert then == read == Counter(first.keys())
        shares += first + then + read
    assert set(shares.values()) == {4 * sites.quorums.q}
    assert sites.client.rpc.counters["probes"] == 0


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_a_silent_server_costs_one_request_and_a_silent_group_a_few(levels: list[tuple[int, int]]) -> None:
    """Another server of the same group, or as many as another group takes; and the next operation asks them at once."""
    system = recursive_threshold(levels)
    within = system.n // threshold(*levels[0]).n
    for silent, more in (([1], 1), (list(range(within)), threshold(*levels[1]).q)):
        sites = Sites(system)
        sites.silent = silent
        obj = system.n * 5
        asked = sites.append(obj)
        assert system.contains_quorum(mask_of([s for s in asked if s not in silent]))
        assert len(asked) == system.q + more
        assert sites.client.rpc.counters["probes"] == 1
        for again in (sites.append(obj), sites.fetch(obj), sites.append(obj + 1)):
            assert not set(again) & set(silent)
            assert system.is_view(mask_of(list(again)))


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_whoever_cannot_be_reached_is_replaced_at_once(levels: list[tuple[int, int]]) -> None:
    """Before the operation and while it waits, as long as a quorum can be reached."""
    chance = Random(3)
    for _ in range(5):
        system = recursive_threshold(levels)
        sites = Sites(system)
        down: list[int] = []
        for server in chance.sample(range(system.n), system.n):
            if not system.exceeds_faulty(mask_of([*down, server])):
                down.append(server)
        sites.silent = down
        for server in down[::2]:
            sites.client.disconnected(server, 0.0)
        obj = system.n * 5
        sites.client.submit_query([Call("ledger.fetch", ((obj, LEDGER),), pack(None), CREDENTIALS)], 0.0)
        for server in down[1::2]:
            sites.client.disconnected(server, 0.0)
        sites.finish()
        assert sites.client.rpc.counters["probes"] == 0
        assert system.is_view(mask_of(list(sites.append(obj))))


def test_suspected_servers_come_last_and_the_others_as_a_quorum_first() -> None:
    """Four sites of four: without the suspects, the first nine servers of the order are no quorum."""
    system = recursive_threshold([(0, 1), (0, 1)])
    trust = Trust(system)
    for server in (0, 1, 5):
        for _ in range(4):
            trust.suspect(server)
    preference = trust.preference(16 * 7)
    assert sorted(preference.to_ask) == list(range(16))
    assert system.is_view(mask_of(preference.to_ask[:9]))
    assert preference.view == mask_of(preference.to_ask[:9])
    assert set(preference.to_ask[:9]) == {4, 6, 7, 8, 9, 10, 12, 13, 14}
    assert set(preference.to_ask[-3:]) == {0, 1, 5}


def test_explanations_of_bad_macs_leave_a_quorum() -> None:
    """Six sites of four, the first one malevolent: its servers complain of two in each of two other sites.

    Without those four no quorum is left, though fewer would make one elsewhere: only the liars can be done without.
    """
    system = recursive_threshold([(1, 1), (0, 1)])
    trust = Trust(system)
    for reporter, issuer in ((0, 4), (1, 5), (2, 8), (3, 9)):
        trust.accuse(issuer, reporter)
    trust.reconsider()
    assert (0, 1, 2, 3) in trust._explanations
    for servers in trust._explanations:
        assert system.contains_quorum((1 << 24) - 1 & ~mask_of(servers))
        assert all(pair[0] in servers or pair[1] in servers for pair in ((0, 4), (1, 5), (2, 8), (3, 9)))
    for _ in range(200):
        trust.reconsider()
        assert trust.preference(24).view != 0


def test_evidence_grows_from_a_quorum() -> None:
    """Of fewer histories nothing can be proven by a quorum, however many they are."""
    system = recursive_threshold([(0, 1), (0, 1)])
    trust = Trust(system)
    cache = HistoryCache(system, trust)
    planner = Planner(system, cache, Identity(1, bytes(16)), trust, DEFAULT_LIMITS.views_tried_max)
    everyone = {server: bytes(MAC_BYTES * 16) for server in range(16)}
    cache.note((80,), (Shown(ZERO_HISTORY, b"?"),), (1 << 16) - 1, everyone)
    for server in (0, 1, 5, 6, 10):
        trust.suspect(server)
    for count in range(9, 17):
        (evidence,) = planner._evidence([80], count)
        assert system.contains_quorum(evidence.mask)
        assert len(servers_of(evidence.mask)) == count
    assert system.is_view(planner._evidence([80], 9)[0].mask)
    assert not planner._evidence([81], 9)
