"""Correct clients: the production client state machine and the work it is given."""

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Final

from qunfs.protocol.client import Client, Completion
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.planning import Identity
from tests.simulation.journal import Done
from tests.simulation.network import Address, Link
from tests.simulation.objects import COUNTER, LEDGER, pack, unpack
from tests.simulation.oracles import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

CREDENTIALS: Final = Credentials(1000, 1000)
REDIAL_FIRST_S: Final = 0.05
REDIAL_MAX_S: Final = 1.0
ISOLATED_ROUNDS_MAX: Final = 80
"""Round trips that an isolated client may need per operation and object; runs of the rules' model stay below 40."""


class ClientNode:
    """One client process; ``index`` is its principal, and a restart makes another process of the same principal."""

    def __init__(self, world: "World", index: int, incarnation: int, loops: int, read_only: bool = False) -> None:
        self.world, self.read_only = world, read_only
        self.address = Address("client", index)
        self.chance = Random(f"{world.seed} client {index} {incarnation}")
        self._name = f"{index}.{incarnation}"
        self._operations = 0
        self._loops = loops
        self.up = True
        self.skew_s = self.chance.uniform(-2.0, 2.0)
        self.client = Client(
            Identity(index, self.chance.randbytes(16)),
            world.quorums,
            world.registry,
            self.chance.random,
            world.limits,
            buffers=world.quorums.n * self.chance.choice((1, 2, 100)),
        )
        self._links: dict[int, Link] = {}
        self._redial_wait: dict[int, float] = {}
        self._waiting: dict[int, Done] = {}
        self._allowed: dict[int, int] = {}
        self.rounds_allowed = 0
        """Round trips that it might need, alone, for all that it has ever asked for and is not waiting for any more."""
        self._tick_at: float | None = None
        self.done = 0

    def start(self) -> None:
        """Dial every server and begin working."""
        for server in range(self.world.quorums.n):
            self.world.clock.after(self.world.network.delay(), lambda server=server: self._dial(server))  # type: ignore[misc]
        for _ in range(self._loops):
            self.world.clock.after(self.chance.random() * 0.01, self._next)

    def crash(self) -> None:
        """Die; what was under way may or may not take effect."""
        self.up = False
        self.world.trace(f"{self.address} crashes")
        self.world.seen["client crashes"] += 1
        self.world.seen.update(self.client.counters)
        self.check_evidence()
        for link in list(self._links.values()):
            self.world.network.break_link(link)

    def check_evidence(self) -> None:
        """Raises Violation when a correct server is proven to lie."""
        for finding in self.client.findings():
            oracles = self.world.oracles
            oracles.told(f"{self.address}", finding.server, finding.ground.value, finding.proof, finding.others)

    def idle(self) -> bool:
        """Whether all it began has completed."""
        return not self._waiting

    def under_way(self) -> str:
        """What it has begun and not completed, in words."""
        return " and ".join(f"{done.what} of {self.world.names(done.objects)}" for done in self._waiting.values())

    def rounds_owed(self) -> int:
        """Round trips that it might need, alone, for what it is waiting for."""
        return sum(self._allowed.values())

    # ---- connections

    def _dial(self, server: int) -> None:
        if not self.up or server in self._links:
            return
        node = self.world.servers[server]
        reachable = node.up and not self.world.network.blocked(self.address, node.address)
        if not reachable or self.world.network.blocked(node.address, self.address):
            wait = min(REDIAL_MAX_S, 2 * self._redial_wait.get(server, REDIAL_FIRST_S / 2))
            self._redial_wait[server] = wait
            self.world.clock.after(wait, lambda: self._dial(server))
            return
        self._redial_wait.pop(server, None)
        self._links[server] = self.world.network.connect(self, node)
        self.client.connected(server, self.world.clock.now)
        self._settle()

    def on_broken(self, link: Link) -> None:
        server = link.called.address.index
        if not self.up or self._links.get(server) is not link:
            return
        del self._links[server]
        self.client.disconnected(server, self.world.clock.now)
        self.world.clock.after(REDIAL_FIRST_S * self.chance.random(), lambda: self._dial(server))
        self._settle()

    def on_message(self, link: Link, payload: bytes) -> None:
        server = link.called.address.index
        if not self.up or self._links.get(server) is not link:
            return
        self.client.wall_ns = self.world.clock.wall_ns(self.skew_s)
        try:
            self.client.receive(server, payload, self.world.clock.now)
        except MalformedMessage as error:
            if not self.world.may_misbehave(link.called.address):
                raise Violation(f"{self.address} takes a correct reply of s{server} for malformed: {error}") from error
            self.client.malformed(server, str(error))
            self.world.network.break_link(link)
        self._settle()

    # ---- the state machine

    def _settle(self) -> None:
        """Send what is to be sent, hand out completions, and wake up in time."""
        while True:
            outgoing, self.client.rpc.outgoing = self.client.rpc.outgoing, []
            for server, payload in outgoing:
                if self.world.chance_of("crash of client"):
                    self.world.client_crashed(self)
                    return
                link = self._links.get(server)
                if link is not None:
                    self.world.network.send(link, self, payload)
            completions, self.client.completions = self.client.completions, []
            if not completions:
                break
            for completion in completions:
                self.rounds_allowed += self._allowed.pop(completion.ticket)
                self._complete(completion)
        due = self.client.next_tick()
        if due is not None and (self._tick_at is None or due < self._tick_at):
            self._tick_at = due
            self.world.clock.after(due - self.world.clock.now, self._tick)

    def _tick(self) -> None:
        if not self.up:
            return
        self._tick_at = None
        due = self.client.next_tick()
        if due is not None and due <= self.world.clock.now + 1e-9:
            self.client.wall_ns = self.world.clock.wall_ns(self.skew_s)
            self.client.tick(self.world.clock.now + 1e-9)
        self._settle()

    def _complete(self, completion: Completion) -> None:
        done = self._waiting.pop(completion.ticket)
        self.done += 1
        if completion.error is not None:
            raise Violation(f"{self.address} was refused {done.what} {done.name!r}: {completion.error}")
        result = completion.result
        answer = result[0].value if isinstance(result, list) else result
        self.world.trace(f"{self.address} is told {done.name.decode()} {done.what}: {answer!r}")
        self.world.journal.end(done, answer, self.world.clock.now)
        self.world.clock.after(self.chance.expovariate(1 / self.world.think_s), self._next)

    # ---- work

    def _next(self) -> None:
        if self.up and self.world.more_work():
            self.submit_random()

    def submit_random(self) -> None:
        """Begin one operation of some kind."""
        chance, world = self.chance, self.world
        dice = chance.random()
        if world.counters and dice < 0.25:
            obj = chance.choice(world.counters)
            what = "count" if self.read_only or dice < 0.08 else "increment"
            self.submit(what, (obj,))
            return
        what = "fetch" if self.read_only or dice > 0.75 else "append"
        most = min(len(world.ledgers), chance.choice((1, 1, 1, 2, 2, 3)))
        self.submit(what, tuple(sorted(chance.sample(world.ledgers, most))))

    def submit(self, what: str, objects: tuple[int, ...]) -> None:
        """Begin an operation."""
        self._operations += 1
        name = f"{self._name}.{self._operations}".encode()
        done = self.world.journal.begin(name, what, objects, self.world.clock.now)
        self.world.trace(f"{self.address} begins {name.decode()} {what} of {self.world.names(objects)}")
        call = self._call(what, name, objects)
        done.argument = unpack(call.argument)
        if what in ("append", "increment"):
            self.world.oracles.touched[name] = objects
            self.world.oracles.once.add(name)
            ticket = self.ask_update(call)
        else:
            ticket = self.ask_queries([call])
        self._waiting[ticket] = done
        self._settle()

    def ask_update(self, call: Call) -> int:
        """Hand an update to the state machine: its ticket."""
        self.client.wall_ns = self.world.clock.wall_ns(self.skew_s)
        ticket = self.client.submit_update(call, self.world.clock.now)
        self._allowed[ticket] = ISOLATED_ROUNDS_MAX * (1 + len(call.objects))
        return ticket

    def ask_queries(self, calls: Sequence[Call]) -> int:
        """Hand queries to the state machine: the ticket of all of them."""
        self.client.wall_ns = self.world.clock.wall_ns(self.skew_s)
        ticket = self.client.submit_query(calls, self.world.clock.now)
        self._allowed[ticket] = sum(ISOLATED_ROUNDS_MAX * (1 + len(call.objects)) for call in calls)
        return ticket

    def _call(self, what: str, name: bytes, objects: tuple[int, ...]) -> Call:
        kind = COUNTER if what in ("increment", "count") else LEDGER
        typed = tuple((obj, kind) for obj in objects)
        if what == "fetch":
            return Call("ledger.fetch", typed, pack(None), CREDENTIALS, large=self.chance.random() < 0.3)
        if what == "count":
            return Call("counter.fetch", typed, pack(None), CREDENTIALS)
        home = self.chance.choice(objects)
        fresh = frozenset(objects) if self.chance.random() < 0.1 else frozenset()
        if what == "increment":
            return Call("counter.increment", typed, pack(None), CREDENTIALS, home, fresh)
        expected = None
        if self.chance.random() < 0.2:
            expected = [len(self.world.oracles.entries(obj)) + (self.chance.random() < 0.3) for obj in objects]
        return Call("ledger.append", typed, pack((name, expected)), CREDENTIALS, home, fresh)
