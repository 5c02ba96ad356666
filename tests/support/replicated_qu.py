"""The update core with all of the protocol and nothing else: real clients, replicas and stores in one thread.

Messages arrive at once and in order, nothing fails, rows lie in memory.  Round trips can be counted, and calls.
"""

from collections.abc import Mapping, Sequence
from random import Random

import trio

from qunfs.objects import REGISTRY
from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.client import Client
from qunfs.protocol.operation import Answer, Call
from qunfs.protocol.planning import Identity
from qunfs.protocol.quorum import threshold
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.versions import VersionStore
from tests.simulation.clock import WALL_ORIGIN_NS

RIGHTS = Rights(True, Squash.NONE, (0, 1 << 31), (0, 1 << 31))


class Replicas:
    """A group of replicas that clients share."""

    def __init__(self, genesis: Mapping[int, Mapping[bytes, bytes]], b: int = 1) -> None:
        self.quorums = threshold(b)
        n, chance = self.quorums.n, Random(1)
        keys = {(i, j): chance.randbytes(32) for i in range(n) for j in range(i, n)}
        self.stores = [VersionStore(MemoryRows(), genesis) for _ in range(n)]
        self.servers = []
        for i in range(n):
            authenticator = Authenticator(i, {j: keys[min(i, j), max(i, j)] for j in range(n)})
            rights = dict.fromkeys(range(1, 10), RIGHTS)
            self.servers.append(Replica(i, self.quorums, authenticator, REGISTRY, self.stores[i], rights))
        self.now = 0.0


class ReplicatedQu:
    """QueryUpdate of one client of theirs."""

    def __init__(self, replicas: Replicas, number: int = 1) -> None:
        self.replicas, self.number = replicas, number
        identity = Identity(number, bytes((number,)) * 16)
        self.client = Client(identity, replicas.quorums, REGISTRY, Random(number).random)
        self.calls: list[tuple[str, tuple[Call, ...]]] = []
        """What was asked for since somebody emptied this."""
        for server in range(replicas.quorums.n):
            self.client.connected(server, replicas.now)

    @property
    def round_trips(self) -> int:
        return self.client.rpc.counters["round_trips"]

    async def query(self, *calls: Call) -> list[Answer]:
        await trio.lowlevel.checkpoint()
        self.calls.append(("query", calls))
        self.client.submit_query(calls, self.replicas.now)
        return self._finish()

    async def update(self, call: Call) -> bytes:
        await trio.lowlevel.checkpoint()
        self.calls.append(("update", (call,)))
        self._pass(0.001)
        self.client.submit_update(call, self.replicas.now)
        return self._finish()

    def _pass(self, seconds: float) -> None:
        self.replicas.now += seconds
        self.client.wall_ns = self._wall_ns

    @property
    def _wall_ns(self) -> int:
        return WALL_ORIGIN_NS + int(self.replicas.now * 1e9)

    def _finish(self):
        while not self.client.completions:
            outgoing, self.client.rpc.outgoing = self.client.rpc.outgoing, []
            for server, payload in outgoing:
                self._deliver(server, Origin(False, self.number, 1), payload)
            if not outgoing:
                due = self.client.next_tick()
                assert due is not None
                self._pass(max(0.0, due - self.replicas.now))
                self.client.tick(self.replicas.now)
        done = self.client.completions.pop()
        assert done.error is None
        return done.result

    def _deliver(self, server: int, origin: Origin, payload: bytes) -> None:
        sends: Sequence[Send] = self.replicas.servers[server].step(origin, payload, self.replicas.now, self._wall_ns)
        self.replicas.stores[server].commit()
        for send in sends:
            if send.origin is None:
                self._deliver(send.server, Origin(True, server, 0), send.payload)
            elif send.origin.is_server:
                self._deliver(send.origin.principal, Origin(True, server, 0), send.payload)
            else:
                self.client.receive(server, send.payload, self.replicas.now)
