"""A group of replicas of the baseline and its clients on a network in memory, which a seed lets misbehave."""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

import msgpack

from bench.baselines.pbft.core.client import NAME_BYTES, PbftClient
from bench.baselines.pbft.core.macs import ClientMacs, ReplicaMacs
from bench.baselines.pbft.core.ordering import Origin, Replica
from bench.baselines.pbft.core.state import ServiceState
from bench.baselines.pbft.core.tuning import DEFAULT_TUNING, Tuning, replicas_for
from qunfs.objects import REGISTRY
from qunfs.protocol.client import Completion
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.store import MemoryRows, Rows

NOBODY = Credentials(0, 0)
Node = tuple[str, int]


def key(*ends: object) -> bytes:
    return blake2b(repr(ends).encode(), digest_size=32).digest()


def increment(obj: int, step: int | None = None) -> Call:
    return Call("counter.increment", ((obj, "counter"),), msgpack.packb(step), NOBODY, home=obj)


def fetch(obj: int) -> Call:
    return Call("counter.fetch", ((obj, "counter"),), msgpack.packb(None), NOBODY)


class LoggedState(ServiceState):
    """A state that remembers what was executed on it."""

    def __init__(self, rows: Rows) -> None:
        self.batches: list[bytes] = []
        super().__init__(REGISTRY, rows)

    def execute(self, sequence, batch, entries):
        self.batches.append(batch)
        return super().execute(sequence, batch, entries)


@dataclass(frozen=True)
class Packet:
    source: Node
    target: Node
    payload: bytes


@dataclass
class Group:
    faults: int = 1
    clients: int = 1
    seed: int = 0
    tuning: Tuning = DEFAULT_TUNING
    loss: float = 0.0
    duplication: float = 0.0
    reorders: bool = False
    now: float = 100.0
    packets: list[Packet] = field(default_factory=list)
    done: dict[tuple[int, int], Completion] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    crashed: set[int] = field(default_factory=set)
    change: Callable[[Packet], Packet | None] = field(default=lambda packet: packet)
    """What a malevolent network or replica makes of a packet."""

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        n = self.n = replicas_for(self.faults)
        people = range(1, self.clients + 1)
        pair_keys = [{s: key("pair", *sorted((r, s))) for s in range(n)} for r in range(n)]
        self.macs = [
            ReplicaMacs(r, pair_keys[r], {c: key("client", r, c) for c in people}, self.tuning.authenticators)
            for r in range(n)
        ]
        self.rows = [MemoryRows() for _ in range(n)]
        self.states = [LoggedState(rows) for rows in self.rows]
        self.replicas = [Replica(r, self.faults, self.macs[r], self.states[r], self.tuning) for r in range(n)]
        self.people = {
            c: PbftClient(
                c,
                c.to_bytes(NAME_BYTES, "big"),
                1000 * c,
                self.faults,
                ClientMacs({r: key("client", r, c) for r in range(n)}),
                self.tuning,
            )
            for c in people
        }
        for client in people:
            for r, replica in enumerate(self.replicas):
                replica.connected(Origin(False, client, client))
                self.people[client].connected(r, self.now)

    # ---- clients

    def update(self, client: int, call: Call) -> tuple[int, int]:
        ticket = self.people[client].submit_update(call, self.now)
        self._collect(client)
        return client, ticket

    def query(self, client: int, *calls: Call) -> tuple[int, int]:
        ticket = self.people[client].submit_query(calls, self.now)
        self._collect(client)
        return client, ticket

    def answer(self, which: tuple[int, int]) -> int:
        completion = self.done[which]
        if completion.error is not None:
            raise completion.error
        return msgpack.unpackb(completion.result)

    def read(self, which: tuple[int, int]) -> list[int]:
        completion = self.done[which]
        if completion.error is not None:
            raise completion.error
        return [msgpack.unpackb(answer.value) for answer in completion.result]

    # ---- running

    def run(self, until: Callable[[], bool] | None = None, seconds: float = 60.0) -> None:
        """Deliver and let time pass until something holds, by default until nothing is under way."""
        end = self.now + seconds
        while not (until() if until is not None else self._idle()):
            if self.now > end:
                raise AssertionError(f"not within {seconds} s; waiting: {self._waiting()}")
            if self.packets:
                self.wake_up()
                self.now += 0.0001
            else:
                self.now += 0.01
            self.let_time_pass()

    def settle(self, seconds: float = 3.0) -> None:
        """Let everything arrive and time pass, so that nothing waits for a timer."""
        end = self.now + seconds
        while self.packets or self.now < end:
            if self.packets:
                self.wake_up()
            else:
                self.now += 0.01
                self.let_time_pass()

    def wake_up(self) -> None:
        """Some packets for one receiver arrive together."""
        first = self._take(self.random.randrange(len(self.packets)) if self.reorders else 0)
        batch = [first]
        for packet in [p for p in self.packets if p.target == first.target]:
            if self.random.random() < 0.5:
                break
            self.packets.remove(packet)
            batch.append(packet)
        self.deliver(batch)

    def _take(self, at: int) -> Packet:
        packet = self.packets.pop(at)
        if self.random.random() < self.duplication:
            self.packets.append(packet)
        return packet

    def deliver(self, batch: list[Packet]) -> None:
        kind, index = batch[0].target
        for packet in batch:
            changed = None if self.random.random() < self.loss else self.change(packet)
            if changed is None:
                continue
            if kind == "client":
                self.people[index].receive(changed.source[1], changed.payload, self.now)
            elif index not in self.crashed:
                self._step(index, changed)
        if kind == "client":
            self._collect(index)
        else:
            self._finish(index)

    def _step(self, index: int, packet: Packet) -> None:
        where, who = packet.source
        try:
            self.replicas[index].step(Origin(where == "server", who, who), packet.payload, self.now)
        except MalformedMessage as error:
            self.refused.append(str(error))

    def _finish(self, index: int) -> None:
        if index in self.crashed:
            return
        outgoing = self.replicas[index].finish(self.now)
        self.states[index].commit()
        here = ("server", index)
        self.packets += [Packet(here, ("server", peer), payload) for peer, payload in outgoing.to_replicas]
        self.packets += [Packet(here, ("client", link), payload) for link, payload in outgoing.to_links]

    def _collect(self, client: int) -> None:
        core = self.people[client]
        outgoing, core.outgoing = core.outgoing, []
        self.packets += [Packet(("client", client), ("server", s), payload) for s, payload in outgoing]
        for completion in core.completions:
            assert (client, completion.ticket) not in self.done
            self.done[client, completion.ticket] = completion
        core.completions = []

    def let_time_pass(self) -> None:
        for client, core in self.people.items():
            due = core.next_tick()
            if due is not None and due <= self.now:
                core.tick(self.now)
                self._collect(client)
        for index, replica in enumerate(self.replicas):
            due = replica.due()
            if due is not None and due <= self.now and index not in self.crashed:
                replica.tick(self.now)
                self._finish(index)

    def _waiting(self) -> dict[int, int]:
        return {client: len(core.overdue(self.now)) for client, core in self.people.items()}

    def _idle(self) -> bool:
        return not self.packets and not any(self._waiting().values())

    # ---- looking

    def check_same(self, *, complete: bool = False) -> None:
        """Every correct replica has executed a prefix of one sequence; ``complete``: all of it."""
        alive = [r for r in range(self.n) if r not in self.crashed]
        longest = max((self.states[r].batches for r in alive), key=len)
        for r in alive:
            batches = self.states[r].batches
            assert batches == (longest if complete else longest[: len(batches)]), f"replica {r} diverges"
        if complete:
            assert len({self.states[r].digest() for r in alive}) == 1
