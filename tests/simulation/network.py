"""The network: links between nodes that delay, lose, duplicate, stall and break.

A link keeps the order of its messages, as TCP does, unless the run's weather says otherwise.  What is on its way when a
link breaks is lost, except that requests may still arrive late: a server can read from a connection whose other end
has long gone.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple, Protocol

from tests.simulation.clock import Clock

BROKEN_NOTICE_S: Final = 0.002


class Address(NamedTuple):
    """A node: a client or server and its number; a restarted client is another incarnation."""

    kind: str
    index: int

    def __str__(self) -> str:
        return f"{self.kind[0]}{self.index}"


class Node(Protocol):
    """What the network asks of its ends."""

    address: Address

    def on_message(self, link: "Link", payload: bytes) -> None:
        """A payload has come."""

    def on_broken(self, link: "Link") -> None:
        """The link is gone."""


@dataclass
class Weather:
    """How bad the network is."""

    delay_s: float = 0.0005
    """The usual delay; actual ones are exponentially distributed around it."""
    loss: float = 0.0
    duplication: float = 0.0
    """Requests only: servers may see anything twice, while a client's replies come in order or not at all."""
    straggling: float = 0.0
    """How often a message takes up to a second."""
    reordering: bool = False
    late_after_break: float = 0.3


@dataclass(eq=False)
class Link:
    """A connection between the node that opened it and the one that was called."""

    number: int
    caller: Node
    called: Node
    up: bool = True
    queues: dict[bool, deque[bytes]] = field(default_factory=lambda: {True: deque(), False: deque()})
    """By direction: True towards the called node."""

    def other(self, node: Node) -> Node:
        """The other end."""
        return self.called if node is self.caller else self.caller


class Network:
    """All links of a run."""

    def __init__(self, clock: Clock, chance: Random, weather: Weather) -> None:
        self._clock, self._chance, self.weather = clock, chance, weather
        self._blocked: dict[tuple[Address, Address], int] = {}
        self._next_number = 1
        self.links: dict[int, Link] = {}
        self.on_delivery: Callable[[Address, Address, bytes], None] | None = None

    def connect(self, caller: Node, called: Node) -> Link:
        """A new link; the caller has made sure that both ends are up and can reach each other."""
        link = Link(self._next_number, caller, called)
        self._next_number += 1
        self.links[link.number] = link
        return link

    def delay(self) -> float:
        """How long the next message takes."""
        if self._chance.random() < self.weather.straggling:
            return self._chance.random()
        return self._chance.expovariate(1 / self.weather.delay_s)

    def send(self, link: Link, sender: Node, payload: bytes) -> None:
        """Put a payload on its way."""
        if not link.up or self._chance.random() < self.weather.loss:
            return
        towards = sender is link.caller
        copies = 2 if towards and self._chance.random() < self.weather.duplication else 1
        for _ in range(copies):
            link.queues[towards].append(payload)
            self._clock.after(self.delay(), lambda: self._deliver(link, towards))

    def _deliver(self, link: Link, towards: bool) -> None:
        queue = link.queues[towards]
        if not queue:
            return
        sender, receiver = (link.caller, link.called) if towards else (link.called, link.caller)
        if link.up and self.blocked(sender.address, receiver.address):
            self._clock.after(0.02 + self.delay(), lambda: self._deliver(link, towards))
            return
        at = self._chance.randrange(len(queue)) if self.weather.reordering else 0
        payload = queue[at]
        del queue[at]
        if link.up or towards:
            receiver.on_message(link, payload)

    def break_link(self, link: Link) -> None:
        """Reset a connection."""
        if not link.up:
            return
        link.up = False
        del self.links[link.number]
        link.queues[False].clear()
        if self._chance.random() >= self.weather.late_after_break:
            link.queues[True].clear()
        for end in (link.caller, link.called):
            self._clock.after(BROKEN_NOTICE_S, lambda end=end: end.on_broken(link))  # type: ignore[misc]

    # ---- partitions

    def blocked(self, sender: Address, receiver: Address) -> bool:
        """Whether messages in this direction stall now."""
        return self._blocked.get((sender, receiver), 0) > 0

    def block(self, sender: Address, receiver: Address, seconds: float) -> None:
        """Let messages in one direction stall for a while."""
        pair = (sender, receiver)
        self._blocked[pair] = self._blocked.get(pair, 0) + 1

        def heal() -> None:
            if pair in self._blocked:
                self._blocked[pair] -= 1

        self._clock.after(seconds, heal)

    def heal(self) -> None:
        """End all partitions and all bad weather."""
        self._blocked.clear()
        self.weather = Weather()
