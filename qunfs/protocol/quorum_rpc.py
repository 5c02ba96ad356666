"""Sending to a quorum and probing for one (Figure 3, ``c_quorum_rpc``; paper section 3.5, "quorum access strategy").

A phase asks the preferred servers first, others when replies are late or do not suffice, and asks silent servers again
for as long as it lasts: nobody is dropped for good.  Its judge decides when the replies are enough.  Replicas that
agree send the same bytes but for their MACs: a phase keeps replies by those bytes, which are read and judged once.
"""

import math
from abc import ABCMeta, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.history import ReplicaHistory
from qunfs.protocol.messages import BODY_HEADER, Reply
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.wire import (
    number_untrusted,
    parse_reply_body_untrusted,
    pending_vectors,
    reply_head_untrusted,
)

PROBE_MIN_S: Final = 0.05
"""No probe before this: a busy scheduler delays replies by tens of milliseconds."""
PROBE_MAX_S: Final = 1.0
RESEND_MIN_S: Final = 0.5
RESEND_MAX_S: Final = 4.0
SLOW_FOR_S: Final = 2.0
"""How long a server that missed a probe deadline is asked last."""


class Alike:
    """The replies of one phase that are the same bytes up to the vectors of MACs."""

    __slots__ = ("head", "length", "noted", "reply", "servers", "vectors")

    def __init__(self, head: bytes, reply: Reply, length: int) -> None:
        self.head: Final = head
        """The whole reply but the vectors."""
        self.reply: Final = reply
        """What it says; a history that comes with a vector has a stand-in for it."""
        self.length: Final = length
        """That of a whole reply, vectors included."""
        self.vectors: Final[dict[int, bytes]] = {}
        """By server; those of servers that have since replied otherwise stay."""
        self.servers = 0
        self.noted = 0
        """Those of the servers that the phase has noted."""


class Phase(metaclass=ABCMeta):
    """One round trip to a quorum: a subclass says what is asked and when the replies are enough."""

    __slots__ = (
        "alike", "asked", "everyone", "expected", "name", "number", "objects", "order",
        "probe_at", "replied", "replies", "resend_at", "resend_wait", "sufficient", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        order: Sequence[int],
        objects: tuple[tuple[int, ...], ...],
        expected: tuple[ReplicaHistory, ...] = (),
        everyone: bool = False,
    ) -> None:
        self.name, self.order, self.objects, self.expected = name, order, objects, expected
        self.everyone: Final = everyone
        """Ask all servers at once: some that are asked may say that they have accepted what they later deny."""
        self.alike: list[Alike] = []
        self.replied = self.replies = 0
        """The bitmap of the servers that have replied, and how many they are."""
        self.asked: dict[int, float] = {}
        self.number = self.wanted = self.sufficient = 0
        self.probe_at = self.resend_at = 0.0
        self.resend_wait = RESEND_MIN_S

    @abstractmethod
    def message(self, server: int) -> bytes:
        """The request for a server."""

    @abstractmethod
    def note(self, alike: Alike, servers: int) -> None:
        """Take notice of what some servers have just replied; comes before the judgement."""

    @abstractmethod
    def judge(self, final: bool) -> Any:
        """The outcome, or None to go on; ``final`` says that nobody else is likely to reply soon."""

    def take_untrusted(self, server: int, payload: bytes, servers: int) -> None:
        """Keep a server's reply, in place of any earlier one of its.  Raises MalformedMessage."""
        for alike in self.alike:
            if payload.startswith(alike.head):
                break
        else:
            kind, _, end = reply_head_untrusted(payload)
            reply = parse_reply_body_untrusted(kind, payload[BODY_HEADER.size : end], self.objects, self.expected)
            alike = Alike(payload[:end], reply, end + pending_vectors(reply) * servers * MAC_BYTES)
        if len(payload) != alike.length:
            raise MalformedMessage("more or fewer vectors of MACs than histories")
        bit = 1 << server
        if self.replied & bit:
            self._forget(server)
        else:
            self.replied |= bit
            self.replies += 1
        alike.vectors[server] = payload[len(alike.head) :]
        if not alike.servers:
            self.alike.append(alike)
        alike.servers |= bit

    def _forget(self, server: int) -> None:
        for alike in self.alike:
            alike.servers &= ~(1 << server)
            alike.noted &= ~(1 << server)
        self.alike = [alike for alike in self.alike if alike.servers]

    def note_new(self) -> None:
        """Have :meth:`note` see what it has not seen."""
        for alike in self.alike:
            if alike.servers != alike.noted:
                self.note(alike, alike.servers & ~alike.noted)
                alike.noted = alike.servers


class QuorumRpc:
    """All phases of a client.  ``outgoing`` is drained by the driver; ``finished`` gets (phase, outcome)."""

    def __init__(self, quorums: QuorumSystem) -> None:
        self._quorums = quorums
        self._phases: dict[int, Phase] = {}
        self._next_number = 1
        self.reachable: set[int] = set()
        """The servers with a connection; not to be changed from outside."""
        self._slow: dict[int, float] = {}
        """Servers that have been late and silent since, and until when they are asked last."""
        self.silent_again: list[int] = []
        """Servers that were late, had their time, and were late again with nothing said in between."""
        self._round_trip = 0.002
        self.outgoing: list[tuple[int, bytes]] = []
        self.finished: list[tuple[Phase, Any]] = []
        self.counters: defaultdict[str, int] = defaultdict(int)

    # ---- the driver's side

    def connected(self, server: int, now: float) -> None:
        """A server can be reached: ask it what is still open."""
        self.reachable.add(server)
        self._slow.pop(server, None)
        for phase in list(self._phases.values()):
            if server in phase.asked and not phase.replied >> server & 1:
                self._send(phase, [server], now)
            else:
                self._ask(phase, now)

    def disconnected(self, server: int, now: float) -> None:
        """A server cannot be reached: ask others instead."""
        self.reachable.discard(server)
        for phase in list(self._phases.values()):
            if server in phase.asked and not phase.replied >> server & 1:
                self._ask(phase, now)
                self._judge(phase, now)

    def silent(self, now: float) -> list[int]:
        """The servers that cannot be reached or have been late with a reply and still are."""
        return [s for s in range(self._quorums.n) if s not in self.reachable or self._slow.get(s, 0.0) > now]

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        soonest = math.inf
        for phase in self._phases.values():
            soonest = min(soonest, phase.probe_at, phase.resend_at)
        return None if soonest == math.inf else soonest

    # ---- phases

    def start(self, phase: Phase, now: float) -> None:
        """Begin a phase."""
        phase.number, self._next_number = self._next_number, self._next_number % 0xFFFFFFFF + 1
        phase.resend_at = now + phase.resend_wait
        phase.sufficient = self._quorums.q if self._quorums.q < len(phase.order) else len(phase.order)
        phase.wanted = len(phase.order) if phase.everyone else phase.sufficient
        self._phases[phase.number] = phase
        self.counters["round_trips"] += 1
        self._ask(phase, now)

    def cancel(self, phase: Phase) -> None:
        """End a phase without an outcome."""
        self._phases.pop(phase.number, None)

    def _ask(self, phase: Phase, now: float) -> None:
        """Ask further servers until as many as wanted, and a quorum, are asked and may still reply, or have."""
        hopeful = prompt = 0
        for server in phase.asked:
            if phase.replied >> server & 1:
                hopeful += 1
                prompt |= 1 << server
            elif server in self.reachable:
                hopeful += 1
                if self._slow.get(server, 0.0) <= now:
                    prompt |= 1 << server
        if hopeful < phase.wanted or not self._quorums.contains_quorum(prompt):
            order = phase.order
            if phase.asked or len(self.reachable) < self._quorums.n:
                order = [s for s in order if s not in phase.asked and s in self.reachable]
            if self._slow:
                order = sorted(order, key=lambda s: self._slow.get(s, 0.0) > now)
            self._send(phase, self._quorums.to_ask(prompt, order, phase.wanted - hopeful), now)
        patience = 8 * self._round_trip
        if patience < PROBE_MIN_S:
            patience = PROBE_MIN_S
        phase.probe_at = now + (patience if patience < PROBE_MAX_S else PROBE_MAX_S)

    def _send(self, phase: Phase, servers: Sequence[int], now: float) -> None:
        self.counters["requests"] += len(servers)
        for server in servers:
            phase.asked[server] = now
            self.outgoing.append((server, phase.message(server)))

    def tick(self, now: float) -> None:
        """Probe and resend what is due."""
        for phase in list(self._phases.values()):
            if now >= phase.probe_at:
                self._probe(phase, now)
            if now >= phase.resend_at and phase.number in self._phases:
                self._resend(phase, now)

    def _probe(self, phase: Phase, now: float) -> None:
        late = [s for s in phase.asked if not phase.replied >> s & 1 and s in self.reachable]
        for server in late:
            if self._slow.get(server, now + 1.0) <= now:
                self.silent_again.append(server)
            self._slow[server] = now + SLOW_FOR_S
        self.counters["probes"] += 1
        phase.wanted = min(self._quorums.n, phase.wanted + max(1, len(late)))
        self._ask(phase, now)
        self._judge(phase, now)

    def _resend(self, phase: Phase, now: float) -> None:
        phase.resend_wait = min(RESEND_MAX_S, 2 * phase.resend_wait)
        phase.resend_at = now + phase.resend_wait
        self.counters["resends"] += 1
        self._send(phase, [s for s in phase.asked if not phase.replied >> s & 1 and s in self.reachable], now)

    def _final(self, phase: Phase, now: float) -> bool:
        """Whether everybody who can be reached has been asked and has replied, or is late."""
        for server in self.reachable:
            if server not in phase.asked:
                return False
            if not phase.replied >> server & 1 and self._slow.get(server, 0.0) <= now:
                return False
        return True

    def _judge(self, phase: Phase, now: float) -> None:
        replies = phase.replies
        if (replies < phase.sufficient and replies < len(phase.asked)) or phase.number not in self._phases:
            return
        phase.note_new()
        outcome = phase.judge(False)
        if outcome is None and self._final(phase, now):
            outcome = phase.judge(True)
        if outcome is not None:
            del self._phases[phase.number]
            self.finished.append((phase, outcome))
        elif all(phase.replied >> s & 1 or s not in self.reachable for s in phase.asked):
            phase.wanted = min(self._quorums.n, max(phase.wanted, replies) + 1)
            if len(phase.asked) < self._quorums.n:
                self._ask(phase, now)

    def receive(self, server: int, payload: bytes, now: float) -> None:
        """Take a server's payload in, unless nobody waits for it any more.

        Raises MalformedMessage; the driver then closes the connection.
        """
        if self._slow:
            self._slow.pop(server, None)
        phase = self._phases.get(number_untrusted(payload))
        asked_at = None if phase is None else phase.asked.get(server)
        if phase is None or asked_at is None:
            reply_head_untrusted(payload)
            return
        replies = phase.replies
        phase.take_untrusted(server, payload, self._quorums.n)
        if phase.replies > replies:
            self._round_trip += ((now - asked_at) - self._round_trip) / 16
        if phase.replies >= phase.sufficient or phase.replies >= len(phase.asked):
            self._judge(phase, now)
