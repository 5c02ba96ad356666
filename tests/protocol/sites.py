"""A client and replicas of any quorum system; some are silent, and nothing else goes wrong."""

from collections import Counter
from collections.abc import Collection, Sequence
from random import Random

from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.client import Client
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Call
from qunfs.protocol.planning import Identity
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import MemoryRows
from tests.protocol.scripted import CREDENTIALS, RIGHTS
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.simulation.objects import LEDGER, SIMULATED, pack
from tests.simulation.watched import WatchedStore


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
        return self.finish()

    def fetch(self, obj: int) -> Counter[int]:
        """Whom a query asks, and how often."""
        self.client.submit_query([Call("ledger.fetch", ((obj, LEDGER),), pack(None), CREDENTIALS)], self.now)
        return self.finish()

    def finish(self) -> Counter[int]:
        """Go on until the operation is complete; whom it asks, and how often."""
        asked: Counter[int] = Counter()
        while not self.client.completions:
            outgoing, self.client.rpc.outgoing = self.client.rpc.outgoing, []
            for server, payload in outgoing:
                asked[server] += 1
                self._deliver(server, Origin(False, 1, 1), payload)
            if not outgoing:
                self._pass_time()
        assert self.client.completions.pop().error is None
        return asked

    def _pass_time(self) -> None:
        """Until the client has something to do, or a replica that waits for another."""
        due = self.client.next_tick()
        assert due is not None
        busy = [server for server, replica in enumerate(self.replicas) if replica.busy()]
        self.now = max(self.now, min(due, self.now + 0.1) if busy else due)
        assert self.now < 60, "not done"
        for server in busy:
            self._send(server, self.replicas[server].tick(self.now, WALL_ORIGIN_NS))
        self.client.tick(self.now)

    def _deliver(self, server: int, origin: Origin, payload: bytes) -> None:
        if server not in self.silent:
            self._send(server, self.replicas[server].step(origin, payload, self.now, WALL_ORIGIN_NS))

    def _send(self, server: int, sends: Sequence[Send]) -> None:
        self.stores[server].commit()
        for send in sends:
            if send.origin is None:
                self._deliver(send.server, Origin(True, server, 0), send.payload)
            elif send.origin.is_server:
                self._deliver(send.origin.principal, Origin(True, server, 0), send.payload)
            else:
                self.client.receive(server, send.payload, self.now)
