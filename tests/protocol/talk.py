"""A client and six replicas, its messages let through when a test says so."""

from collections.abc import Sequence
from random import Random

from qunfs.protocol.client import BUFFERS, Client
from qunfs.protocol.messages import Update
from qunfs.protocol.operation import Call, Operation
from qunfs.protocol.planning import Identity
from qunfs.protocol.replica import Origin
from qunfs.protocol.wire import parse_to_server_untrusted
from tests.protocol.scripted import CREDENTIALS, Scripted
from tests.simulation.objects import LEDGER, SIMULATED, pack


class Talk:
    """A client whose messages a test lets through."""

    def __init__(self, world: Scripted, buffers: int = BUFFERS, number: int = 1) -> None:
        self.world, self.number = world, number
        identity = Identity(number, bytes([number]) * 16)
        self.client = Client(identity, world.quorums, SIMULATED, Random(7).random, buffers=buffers)
        self.client.wall_ns = world.wall_ns
        self.operations: list[Operation] = []
        """Those of the METHODs sent."""
        self.names = 0
        for server in range(world.quorums.n):
            self.client.connected(server, world.now)

    def append(self, objects: Sequence[int], fresh: Sequence[int] = ()) -> int:
        self.names += 1
        name = b"talk%d" % self.names if self.number == 1 else b"talk%d of %d" % (self.names, self.number)
        self.world.oracles.touched[name] = tuple(objects)
        self.world.oracles.once.add(name)
        typed = tuple((obj, LEDGER) for obj in objects)
        call = Call("ledger.append", typed, pack((name, None)), CREDENTIALS, objects[0], frozenset(fresh))
        return self.client.submit_update(call, self.world.now)

    def fetch(self, objects: Sequence[int]) -> int:
        call = Call("ledger.fetch", tuple((obj, LEDGER) for obj in objects), pack(None), CREDENTIALS)
        return self.client.submit_query([call], self.world.now)

    def waiting(self) -> set[tuple[int, ...]]:
        """The objects of what the client has sent and nobody has received."""
        messages = [parse_to_server_untrusted(payload, self.number)[1] for _, payload in self.client.rpc.outgoing]
        return {
            tuple(view.obj for view in m.request.views) if isinstance(m, Update) else m.items[0].objects  # type: ignore[union-attr]
            for m in messages
        }

    def exchange(self) -> None:
        """Let everything that is waiting through, and the replies."""
        outgoing, self.client.rpc.outgoing = self.client.rpc.outgoing, []
        for server, payload in outgoing:
            message = parse_to_server_untrusted(payload, self.number)[1]
            operation = message.request.operation if isinstance(message, Update) else None
            if operation is not None and operation not in self.operations:
                self.operations.append(operation)
            for reply in self.world.deliver(server, Origin(False, self.number, 1), payload):
                self.client.receive(server, reply, self.world.now)

    def finish(self, operations: int = 1) -> None:
        """Go on until so many operations are complete; in vain for 100 steps is never."""
        for _ in range(100):
            if len(self.client.completions) >= operations:
                return
            if not self.client.rpc.outgoing:
                self.pass_time()
            self.exchange()
        raise AssertionError("not done")

    def pass_time(self) -> None:
        """Until the client has something to do."""
        due = self.client.next_tick()
        assert due is not None, "the client waits for nothing"
        self.world.now = max(self.world.now, due)
        self.client.tick(self.world.now)
