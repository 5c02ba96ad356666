"""Whom a client asks and shows where not any q servers are a quorum (paper sections 3.3 and 3.5, preferred quorums)."""

from collections import Counter
from collections.abc import Collection
from random import Random

import pytest

from qunfs.protocol.authenticator import MAC_BYTES, Authenticator
from qunfs.protocol.client import Client
from qunfs.protocol.history import ZERO_HISTORY
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Shown
from qunfs.protocol.operation import Call
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of, threshold
from qunfs.protocol.recursive_quorum import recursive_threshold
from qunfs.protocol.replica import Origin, Replica
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.trust import Trust
from tests.protocol.scripted import CREDENTIALS, RIGHTS
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.simulation.objects import LEDGER, SIMULATED, pack
from tests.simulation.watched import WatchedStore

LEVELS = [[(0, 1), (0, 1)], [(1, 1), (0, 1)], [(0, 1), (1, 1)]]


class Sites:
    """A client and replicas in groups; some are silent, and nothing else goes wrong."""

    def __init__(self, quorums: QuorumSystem) -> None:
        self.quorums = quorums
        n, chance = quorums.n, Random(1)
        keys = {(i, j): chance.randbytes(32) for i in range(n) for j in range(i, n)}
        self.stores = [WatchedStore(MemoryRows(), DEFAULT_LIMITS) for _ in range(n)]
        self.replicas = []
        for i in range(n):
            authenticator = Authenticator(i, {j: keys[min(i, j), max(i, j)] for j in range(n)})
            self.replicas.append(Replica(i, quorums, authenticator, SIMULATED, self.stores[i], {1: RIGHTS}))
        self.client = Client(Identity(1, b"s" * 16), quorums, SIMULATED, chance.random)
        self.client.wall_ns = WALL_ORIGIN_NS
        self.now = 0.0
        self.silent: Collection[int] = ()
        self._names = 0
        for server in range(n):
            self.client.connected(server, 0.0)

    def append(self, obj: int) -> Counter[int]:
        """Whom an update asks, and how often."""
        self._names += 1
        argument = pack((b"x%d" % self._names, None))
        self.client.submit_update(Call("ledger.append", ((obj, LEDGER),), argument, CREDENTIALS, obj), self.now)
        return self._asked()

    def fetch(self, obj: int) -> Counter[int]:
        """Whom a query asks, and how often."""
        self.client.submit_query([Call("ledger.fetch", ((obj, LEDGER),), pack(None), CREDENTIALS)], self.now)
        return self._asked()

    def _asked(self) -> Counter[int]:
        asked: Counter[int] = Counter()
        while not self.client.completions:
            outgoing, self.client.rpc.outgoing = self.client.rpc.outgoing, []
            for server, payload in outgoing:
                asked[server] += 1
                self._deliver(server, Origin(False, 1, 1), payload)
            if not outgoing:
                due = self.client.next_tick()
                assert due is not None
                self.now = max(self.now, due)
                assert self.now < 60, "not done"
                self.client.tick(self.now)
        assert self.client.completions.pop().error is None
        return asked

    def _deliver(self, server: int, origin: Origin, payload: bytes) -> None:
        if server in self.silent:
            return
        sends = self.replicas[server].step(origin, payload, self.now, WALL_ORIGIN_NS)
        self.stores[server].commit()
        for send in sends:
            if send.origin is None:
                self._deliver(send.server, Origin(True, server, 0), send.payload)
            elif send.origin.is_server:
                self._deliver(send.origin.principal, Origin(True, server, 0), send.payload)
            else:
                self.client.receive(server, send.payload, self.now)


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
        sites._asked()
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
