"""Times that some correct clocks allow and others do not (docs/protocol.md, "The bound on time").

Server 5 is malevolent and shows times as late as the fastest clock allows; of B server 0 is asked and shown last.
"""

from collections.abc import Sequence

import pytest

from qunfs.protocol.client import Client
from qunfs.protocol.history import Kind, ReplicaHistory
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Status, Update
from qunfs.protocol.operation import Call
from qunfs.protocol.quorum import threshold
from qunfs.protocol.replica import Origin, Send
from qunfs.protocol.steps import BACKOFF_MAX_S
from qunfs.protocol.trust import Trust
from qunfs.protocol.wire import parse_to_server_untrusted
from tests.protocol.scripted import CREDENTIALS, LIAR, A, B, Scripted
from tests.protocol.test_scenarios import _with_barrier_at
from tests.simulation.objects import LEDGER, pack

FAST = 1
AHEAD_US = DEFAULT_LIMITS.time_ahead_max


class Clocks(Scripted):
    """The clock of server 1 goes before those of the others, and the liar shows a barrier as late as it allows."""

    def __init__(self, fast_by_s: float, future_us: int = 0) -> None:
        super().__init__((A, B))
        self.fast_by_s, self.future_us = fast_by_s, future_us
        self.lying = False
        self.rivals = 0
        """How many more of the client's requests arrive after a barrier of somebody else's."""
        self._outrun = 0
        self.send(self.request(Kind.METHOD, (B,)), self.benign)
        self.lying = True

    def _step(self, server: int, origin: Origin, payload: bytes) -> list[Send]:
        wall_ns = self.wall_ns + (int(self.fast_by_s * 1e9) if server == FAST else 0)
        sends = self.replicas[server].step(origin, payload, self.now, wall_ns)
        self._commit(server)
        return sends

    def latest_for_fast(self) -> int:
        return self.wall_ns // 1000 + int(self.fast_by_s * 1e6) + AHEAD_US

    def history(self, server: int, obj: int) -> ReplicaHistory:
        history = super().history(server, obj)
        if server != LIAR or not self.lying or obj != B:
            return history
        return _with_barrier_at(history, self.latest_for_fast() + self.future_us, B)

    def hand_over(self, to: Sequence[int]) -> list[Status | None]:
        """A client shows the liar's history of now to some servers, which build a barrier on it if they can."""
        return self.send(self.request(Kind.BARRIER, (B,), (1, 2, 3, 4, LIAR)), to)

    def append(self, client: Client, name: bytes = b"late") -> int:
        for server in range(6):
            client.connected(server, self.now)
        client.submit_update(Call("ledger.append", ((B, LEDGER),), pack((name, None)), CREDENTIALS, B), self.now)
        self.oracles.touched[name] = (B,)
        self.oracles.once.add(name)
        return self._finish(client, 0)

    def _answer(self, server: int, client: int, payload: bytes) -> list[bytes]:
        number, message = parse_to_server_untrusted(payload, client)
        if self.rivals and isinstance(message, Update) and number != self._outrun:
            self.rivals, self._outrun = self.rivals - 1, number
            for kind in (Kind.METHOD, Kind.BARRIER, Kind.COPY):
                if Status.REFUSED not in self.send(self.request(kind, (B,), client=2), (0, FAST, 2)):
                    break
        return super()._answer(server, client, payload)

    def _finish(self, client: Client, number: int) -> int:
        client.wall_ns = self.wall_ns
        return super()._finish(client, number)


def test_what_slow_clocks_may_refuse_is_not_shown_when_there_is_another_quorum() -> None:
    """Nobody needs to refuse anything, nor is moved to times that others refuse, though there is much to repair."""
    world = Clocks(3.0)
    world.lying = False
    rivals = [world.request(Kind.METHOD, (B,), client=client) for client in (1, 2)]
    assert world.send(rivals[0], (1, 2)) + world.send(rivals[1], (0, 3, 4)) == [Status.ACCEPTED] * 5
    world.lying = True
    client = world.client()
    assert world.append(client) < 20
    assert client.counters["too late"] == 0
    assert all(world.history(server, B).latest.lt.time < 100 for server in world.benign)
    assert client.findings() == []


def test_times_that_no_correct_clock_allows_are_noted_and_not_shown() -> None:
    world = Clocks(0.0, future_us=1 << 40)
    client = world.client()
    assert world.append(client) < 20
    assert [(f.server, f.ground.value, f.proof) for f in client.findings()] == [(LIAR, "future-times", False)]


def test_a_clock_that_goes_before_others_holds_an_object_up_for_that_long() -> None:
    """The fast server has accepted what the others refuse, and is needed; the liar would move it on and on."""
    world = Clocks(3.0)
    assert world.hand_over((FAST, 2)) == [Status.ACCEPTED, Status.CULLED]
    client = world.client()
    world.append(client)
    assert 3.0 < world.now < 60.0
    assert client.counters["too late"] > 0
    assert client.findings() == []
    assert client._trust.suspicion == {}


def test_a_late_history_is_shown_when_there_is_no_other_way() -> None:
    """The liar pretends to know of nothing: with its old history there is a quorum without the one server ahead."""
    world = Clocks(0.0)
    assert world.hand_over((FAST,)) == [Status.ACCEPTED]
    world.lying = False
    client = world.client()
    assert world.append(client) < 60
    assert client.findings() == []


def test_few_attempts_are_made_while_clocks_catch_up() -> None:
    """Time alone helps: pauses get longer, or a client would try some 570 times."""
    world = Clocks(24.0)
    assert world.hand_over((FAST, 2)) == [Status.ACCEPTED, Status.CULLED]
    client = world.client()
    world.append(client)
    assert world.now > 24.0
    assert client.counters["backoffs"] < 160


def test_late_times_of_a_minute_ago_stretch_no_pause() -> None:
    now_ns = 10**18
    trust = Trust(threshold(2), lambda: now_ns)
    for _ in range(200):
        trust.met_late = True
        trust.reconsider()
    assert trust.stretch() == 8
    now_ns += 61 * 10**9
    trust.met_late = True
    trust.reconsider()
    assert trust.stretch() == 1


def test_where_others_are_in_the_way_pauses_are_no_longer() -> None:
    """Late times have held the client up before, and the liar shows on what every clock just allows."""
    world = Clocks(24.0)
    assert world.hand_over((FAST, 2)) == [Status.ACCEPTED, Status.CULLED]
    client = world.client()
    world.append(client)
    world.fast_by_s, world.rivals, began = 0.0, 30, world.now
    world.append(client, b"contended")
    assert world.rivals == 0
    assert world.now - began < 30 * 1.5 * BACKOFF_MAX_S


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_each_number_of_histories_to_do_without_gets_time_enough(needed: int) -> None:
    """However long clocks differ: liars that are shown meanwhile begin it anew, and each turn is longer."""
    now_ns = 10**18
    trust = Trust(threshold(2), lambda: now_ns)
    longest = run = 0
    for _ in range(2000):
        trust.met_late = True
        trust.reconsider()
        run = run + 1 if trust._late.dropped == needed else 0
        longest = max(longest, run)
    assert longest > 150
    before = trust._late.dropped, trust._late._turns
    trust.reconsider()
    assert (trust._late.dropped, trust._late._turns) == before, "another operation, on another object"
    now_ns += 61 * 10**9
    trust.reconsider()
    assert (trust._late.dropped, trust._late._turns) == (2, 0), "from the start when it is over"
