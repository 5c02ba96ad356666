"""One run: servers, clients and adversaries on one clock, made from a seed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from qunfs.protocol.history import Candidate, LogicalTimestamp
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.quorum import mask_of, threshold
from qunfs.protocol.recursive_quorum import recursive_threshold
from tests.simulation.clients import ClientNode
from tests.simulation.clock import Clock
from tests.simulation.journal import Journal
from tests.simulation.justified import Justification
from tests.simulation.liars import Liar
from tests.simulation.network import Address, Network, Weather
from tests.simulation.objects import SIMULATED
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.rogues import Rogue
from tests.simulation.servers import READ_ONLY, READ_WRITE, BenignServer
from tests.simulation.trace import show
from tests.simulation.watched import NOTHING, Change

STORM_EVENTS: Final = 3_000
"""How long the worst of it lasts; then faults get rarer, or clients might never have done anything."""
EVENTS_MAX: Final = 12_000
SECONDS_MAX: Final = 60.0
EXTENT_MAX: Final = 8
"""How many times as long a run with too few operations may last: liars hold up for as long as clocks differ."""
OPERATIONS_MIN: Final = 20
"""A run that has seen fewer when its events or seconds are over goes on as long again, in fair weather."""
ISOLATED_SECONDS_MAX: Final = 120.0
DEFAULT_WORKLOAD: Final = "ledgers"
ISOLATED: Final = 40
ROGUES: Final = 50


@dataclass(frozen=True)
class Plan:
    """What kind of run a seed makes."""

    seed: int
    b: int = 1
    t: int | None = None
    mode: str = "safety"
    malevolent: int | None = None
    """How many servers lie; chance decides up to b when None."""
    levels: tuple[tuple[int, int], ...] = ()
    """Of a recursive threshold, in place of b and t; chance decides who lies, as many as may."""
    workload: str = DEFAULT_WORKLOAD
    """What clients work on: ledgers and counters, or (files) a file system."""


class World:
    """A run in progress."""

    CLIENT: type[ClientNode] = ClientNode
    ROGUE: type[Rogue] = Rogue

    def __init__(self, plan: Plan, trace: Callable[[str], None] | None = None) -> None:
        sizes = f"{plan.levels}" if plan.levels else f"{plan.b} {plan.t}"
        self.registry, self.genesis = SIMULATED, NOTHING
        self.plan, self.seed = plan, f"{sizes} {plan.mode} {plan.seed}"
        chance = self.chance = Random(self.seed)
        self.clock = Clock()
        self._trace = trace
        self.seen: Counter[str] = Counter()
        self.conspiracy: dict[LogicalTimestamp, Candidate] = {}
        """Records that rogues want adopted and that liars therefore vouch for."""
        self.quorums = recursive_threshold(plan.levels) if plan.levels else threshold(plan.b, plan.t)
        self.limits = replace(
            DEFAULT_LIMITS,
            versions_kept_per_object=chance.choice((3, 8, 32)),
            sync_chunk_bytes=chance.choice((32, 256 * 1024)),
        )
        self._make_objects()
        self._make_oracles()
        self.justification = Justification(self.oracles, self.quorums)
        self._make_weather()
        self._make_servers()
        self._make_clients()

    # ---- making it

    def _make_objects(self) -> None:
        chance = self.chance
        self.ledgers = sorted(chance.getrandbits(61) + 1 for _ in range(chance.choice((1, 2, 3, 3, 4))))
        self.counters = sorted(chance.getrandbits(61) + 1 for _ in range(chance.choice((0, 1, 1))))
        self.objects = sorted(self.ledgers + self.counters)

    def _make_oracles(self) -> None:
        self.oracles = Oracles(self.quorums, self.objects, self._choose_liars())
        self.journal = Journal(self.oracles, self.counters)

    def _choose_liars(self) -> list[int]:
        if not self.plan.levels:
            liars = self._how_many_liars()
            return self.chance.sample(range(self.quorums.n), liars)
        if self.chance.random() < 0.25:
            return []
        return self._as_many_as([], range(self.quorums.n), self.quorums.exceeds_malevolent)

    def _as_many_as(self, chosen: list[int], others: Sequence[int], exceeds: Callable[[int], bool]) -> list[int]:
        """The chosen servers and as many others, by chance, as do not make it too many."""
        for server in self.chance.sample(others, len(others)):
            if not exceeds(mask_of([*chosen, server])):
                chosen = [*chosen, server]
        return chosen

    def _how_many_liars(self) -> int:
        if self.plan.malevolent is not None:
            return self.plan.malevolent
        if self.chance.random() < 0.25:
            return 0
        return self.chance.choice((self.plan.b, self.plan.b, self.chance.randint(0, self.plan.b)))

    def _make_weather(self) -> None:
        chance = self.chance
        weather = Weather(
            delay_s=chance.choice((0.0003, 0.001, 0.005, 0.02)),
            loss=chance.choice((0, 0, 0.01, 0.1)),
            duplication=chance.choice((0, 0, 0.05, 0.3)),
            straggling=chance.choice((0, 0, 0.01, 0.05)),
            reordering=chance.random() < 0.2,
        )
        self.network = Network(self.clock, Random(f"{self.seed} network"), weather)
        self.think_s = chance.choice((0.0005, 0.005, 0.05))
        self._fault_every_s = chance.choice((0.003, 0.01, 0.03))
        self.rates = {
            "crash in batch": chance.choice((0, 0, 0.002, 0.01)),
            "crash after commit": chance.choice((0, 0, 0.002, 0.01)),
            "crash of client": chance.choice((0, 0, 0.002, 0.02)),
            "server crash": chance.choice((0, 0.01, 0.05)),
            "broken link": chance.choice((0, 0.05, 0.3)),
            "partition": chance.choice((0, 0.02, 0.1)),
            "rogue": chance.choice((0, 0, 0.2, 0.8)),
        }
        self._fault_chance = Random(f"{self.seed} faults")
        self._survivor_chance = Random(f"{self.seed} survivor")

    def _make_servers(self) -> None:
        chance, n = self.chance, self.quorums.n
        keys = {(i, j): chance.randbytes(32) for i in range(n) for j in range(i, n)}
        correct = 1 + chance.choice((1, 1, 2, 3))
        self.rights = dict.fromkeys((*range(1, correct), ISOLATED, ROGUES, ROGUES + 1), READ_WRITE)
        self._reader = correct if chance.random() < 0.3 else None
        if self._reader is not None:
            self.rights[self._reader] = READ_ONLY
        self._correct = correct
        self.servers: list[BenignServer | Liar] = []
        for i in range(n):
            kind = Liar if i in self.oracles.malevolent else BenignServer
            self.servers.append(kind(self, i, {j: keys[min(i, j), max(i, j)] for j in range(n)}))
        self._mimicked = chance.choice(self.oracles.benign)
        self.victims = chance.sample(self.oracles.benign, chance.choice((1, 1, 2)))
        """Servers that all liars issue bad MACs to, if they do that."""

    def _make_clients(self) -> None:
        chance = self.chance
        self._incarnations = 0
        self._loops = chance.choice((1, 1, 2, 3))
        self.clients = [self.CLIENT(self, i, 0, self._loops) for i in range(1, self._correct)]
        if self._reader is not None:
            self.clients.append(self.CLIENT(self, self._reader, 0, 1, read_only=True))
        self.rogues = [self.ROGUE(self, ROGUES + i) for i in range(chance.choice((0, 1, 2)))]
        self._operations_wanted = chance.choice((20, 25, 40)) if self.plan.mode == "safety" else 20
        self._faults_on = True
        self._extent = 1

    # ---- what its parts ask

    def chance_of(self, fault: str) -> bool:
        """Whether a fault strikes now."""
        rate = self.rates[fault]
        return self._faults_on and rate > 0 and self._fault_chance.random() < rate

    def may_misbehave(self, address: Address) -> bool:
        """Whether a node is malevolent."""
        if address.kind == "server":
            return address.index in self.oracles.malevolent
        return address.index >= ROGUES

    def more_work(self) -> bool:
        """Whether clients go on."""
        return self._faults_on and len(self.journal.operations) < self._operations_wanted

    def mimicked(self) -> int:
        """The benign server that the adversaries imitate for now."""
        if self._fault_chance.random() < 0.05:
            self._mimicked = self._fault_chance.choice(self.oracles.benign)
        return self._mimicked

    def committed(self, server: int, changes: Sequence[Change]) -> None:
        """A benign server made changes durable."""
        for line in show(self, server, changes) if self._trace else ():
            self.trace(line)
        self.oracles.committed(server, changes)

    def client_crashed(self, node: ClientNode) -> None:
        """A client process dies and another takes over its principal."""
        node.crash()
        self._incarnations += 1
        successor = self.CLIENT(self, node.address.index, self._incarnations, self._loops, node.read_only)
        self.clients[self.clients.index(node)] = successor
        self.clock.after(0.01, successor.start)

    def trace(self, line: str) -> None:
        """Say what happens, if anybody listens."""
        if self._trace is not None:
            self._trace(f"{self.clock.now:10.6f}  {line}")

    def name_of(self, obj: int) -> str:
        """A letter for each object: lower case for ledgers, upper case for counters."""
        if obj in self.counters:
            return chr(ord("A") + self.counters.index(obj))
        return chr(ord("a") + self.ledgers.index(obj))

    def names(self, objects: Sequence[int]) -> str:
        """Objects by the letters of the trace."""
        return "".join(map(self.name_of, objects))

    # ---- running it

    def run(self) -> None:
        """Run to the end.  Raises Violation."""
        for server in self.servers:
            if isinstance(server, Liar):
                self.trace(f"{server.address} is malevolent: {server.describe()}")
        for client in self.clients:
            client.start()
        self.clock.after(self._fault_every_s, self._fault)
        while not self._exhausted() and not self._work_done():
            if not self.clock.step():
                break
            if self.clock.events == STORM_EVENTS:
                self._abate()
        if self.plan.mode == "liveness":
            self._isolate()
        self._conclude()
        self.journal.finish()
        for server in self.servers:
            if isinstance(server, BenignServer):
                server.check_kept()
                server.conclude_counting()
        for client in self.clients:
            self.seen.update(client.client.counters)
            client.check_evidence()
        self.seen.update(self.oracles.seen)
        self.seen.update(self.journal.seen)

    def _conclude(self) -> None:
        """Do what belongs to the run and not to its faults."""

    def _work_done(self) -> bool:
        return not self.more_work() and self.clock.events >= 300 and all(client.idle() for client in self.clients)

    def _exhausted(self) -> bool:
        if self.clock.events < EVENTS_MAX * self._extent and self.clock.now < SECONDS_MAX * self._extent:
            return False
        if self._extent >= EXTENT_MAX or len(self.journal.operations) >= OPERATIONS_MIN:
            return True
        self._extent *= 2
        self.rates = dict.fromkeys(self.rates, 0.0)
        self.network.heal()
        return False

    def _abate(self) -> None:
        self.rates = {fault: rate / 10 for fault, rate in self.rates.items()}
        weather = self.network.weather
        self.network.weather = replace(weather, delay_s=0.001, loss=weather.loss / 10, straggling=0)

    def _fault(self) -> None:
        if not self._faults_on:
            return
        chance = self._fault_chance
        if self.chance_of("server crash"):
            server = chance.choice(self.servers)
            if isinstance(server, BenignServer) and server.up:
                server.crash()
        if self.chance_of("broken link") and self.network.links:
            self.network.break_link(self.network.links[chance.choice(sorted(self.network.links))])
        if self.chance_of("partition"):
            self._partition()
        if self.rogues and self.chance_of("rogue"):
            chance.choice(self.rogues).act()
        self.clock.after(chance.expovariate(1 / self._fault_every_s), self._fault)

    def _partition(self) -> None:
        chance = self._fault_chance
        nodes = [s.address for s in self.servers] + [c.address for c in self.clients]
        one = chance.choice(nodes)
        seconds = chance.choice((0.01, 0.2, 1.0))
        direction = chance.choice((0, 1, 2))
        for other in chance.sample(nodes, chance.randint(1, len(nodes) - 1)):
            if direction != 1:
                self.network.block(one, other, seconds)
            if direction != 0:
                self.network.block(other, one, seconds)
        self.trace(f"{one} is cut off for {seconds} s")
        self.seen["partitions"] += 1

    # ---- liveness

    def _isolate(self) -> None:
        """Faults stop; t servers stay faulty; one correct client alone must get everything done.

        First one that has seen all of it, with what it holds and suspects, and then one that knows nothing.
        """
        self._faults_on = False
        self.network.heal()
        old = self._survivor_chance.choice([client for client in self.clients if not client.read_only])
        for client in self.clients:
            if client is not old:
                client.crash()
        for server in self.servers:
            if isinstance(server, BenignServer):
                server.restart()
        for index in self._choose_crashed():
            self._stop(self.servers[index])
        self.trace(f"from here on {old.address} is alone")
        self.clients = [old]
        self._await(old)
        self._complete_alone(old, self._tasks(self._survivor_chance))
        old.crash()
        self._complete_alone(self._newcomer(), self._tasks(self.chance))

    def _newcomer(self) -> ClientNode:
        """A client that knows nothing and is alone."""
        self.trace("from here on a new client is alone")
        client = self.CLIENT(self, ISOLATED, 0, loops=0)
        self.clients = [client]
        client.start()
        return client

    def _choose_crashed(self) -> list[int]:
        malevolent, benign = sorted(self.oracles.malevolent), self.oracles.benign
        if not self.plan.levels:
            spare = self.plan.t if self.plan.t is not None else self.plan.b
            return self.chance.sample(benign, spare - len(malevolent))
        return self._as_many_as(malevolent, benign, self.quorums.exceeds_faulty)[len(malevolent) :]

    def _stop(self, server: BenignServer | Liar) -> None:
        self.trace(f"{server.address} stops for good")
        server.up = False
        server.drop_links()

    def _tasks(self, chance: Random) -> Sequence[tuple[Any, ...]]:
        tasks: list[tuple[str, tuple[int, ...]]] = []
        for obj in chance.sample(self.objects, len(self.objects)):
            first = "increment" if obj in self.counters else "append"
            second = "count" if obj in self.counters else "fetch"
            pair = [(first, (obj,)), (second, (obj,))]
            tasks += pair if chance.random() < 0.5 else pair[::-1]
        joint = tuple(sorted(chance.sample(self.ledgers, min(3, len(self.ledgers)))))
        return [*tasks, ("append", joint), ("fetch", joint)]

    def _complete_alone(self, client: ClientNode, tasks: Sequence[tuple[Any, ...]]) -> None:
        for task in tasks:
            client.submit(*task)
            self._await(client)

    def _await(self, client: ClientNode) -> None:
        """Let a client complete what it has begun."""
        rounds, since = client.client.rpc.counters["round_trips"], self.clock.now
        allowed = client.rounds_allowed
        while not client.idle():
            used = client.client.rpc.counters["round_trips"] - rounds
            bound = client.rounds_allowed + client.rounds_owed() - allowed
            if used > bound or self.clock.now - since > ISOLATED_SECONDS_MAX or not self.clock.step():
                raise Violation(
                    f"liveness: {client.under_way()} by {client.address}, alone, is not done after {used} round trips "
                    f"and {self.clock.now - since:.1f} s; client { ({**client.client.counters}) }"
                )
        used = client.client.rpc.counters["round_trips"] - rounds
        self.seen["most rounds alone"] = max(self.seen["most rounds alone"], used)
