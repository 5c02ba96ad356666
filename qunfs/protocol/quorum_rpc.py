"""Sending to a quorum and probing for one (Figure 3, ``c_quorum_rpc``; paper section 3.5, "quorum access strategy").

A phase asks the preferred servers first, others when replies are late or do not suffice, and asks silent servers again
for as long as it lasts: nobody is dropped for good.  Its judge decides when the replies are enough.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qunfs.protocol.messages import Reply, Type
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.wire import (
    parse_reply_body_untrusted,
    split_reply_untrusted,
    split_untrusted,
    with_vectors_untrusted,
)

PROBE_MIN_S: Final = 0.05
"""No probe before this: a busy scheduler delays replies by tens of milliseconds."""
PROBE_MAX_S: Final = 1.0
RESEND_MIN_S: Final = 0.5
RESEND_MAX_S: Final = 4.0
SLOW_FOR_S: Final = 2.0
"""How long a server that missed a probe deadline is asked last."""


@dataclass(slots=True)
class Phase:
    """One round trip to a quorum.

    ``message(server, number)`` packs the request for a server; ``judge(replies, final)`` returns the outcome or None to
    go on; ``final`` says that nobody else is likely to reply soon.  ``note(server, reply)`` sees every reply first.
    """

    name: str
    order: Sequence[int]
    message: Callable[[int, int], bytes]
    objects: tuple[tuple[int, ...], ...]
    judge: Callable[[dict[int, Reply], bool], Any]
    note: Callable[[int, Reply], None]
    replies: dict[int, Reply] = field(default_factory=dict)
    asked: dict[int, float] = field(default_factory=dict)
    probe_at: float = 0.0
    resend_at: float = 0.0
    resend_wait: float = RESEND_MIN_S
    number: int = 0
    everyone: bool = False
    """Ask all servers at once: some that are asked may say that they have accepted what they later deny."""
    wanted: int = 0
    parsed: tuple[Type, bytes, Reply] | None = None
    """The last body read: replicas that agree send the same bytes."""


class QuorumRpc:
    """All phases of a client.  ``outgoing`` is drained by the driver; ``finished`` gets (phase, outcome)."""

    def __init__(self, quorums: QuorumSystem) -> None:
        self._quorums = quorums
        self._phases: dict[int, Phase] = {}
        self._next_number = 1
        self._reachable: set[int] = set()
        self._slow: dict[int, float] = {}
        self._round_trip = 0.002
        self.outgoing: list[tuple[int, bytes]] = []
        self.finished: list[tuple[Phase, Any]] = []
        self.counters: Counter[str] = Counter()

    # ---- the driver's side

    def connected(self, server: int, now: float) -> None:
        """A server can be reached: ask it what is still open."""
        self._reachable.add(server)
        self._slow.pop(server, None)
        for phase in list(self._phases.values()):
            if server in phase.asked and server not in phase.replies:
                self._send(phase, server, now)
            else:
                self._ask(phase, now)

    def disconnected(self, server: int, now: float) -> None:
        """A server cannot be reached: ask others instead."""
        self._reachable.discard(server)
        for phase in list(self._phases.values()):
            if server in phase.asked and server not in phase.replies:
                self._ask(phase, now)
                self._judge(phase, now)

    @property
    def reachable(self) -> frozenset[int]:
        """The servers with a connection."""
        return frozenset(self._reachable)

    def silent(self, now: float) -> list[int]:
        """The servers that cannot be reached or have been late with a reply and still are."""
        return [s for s in range(self._quorums.n) if s not in self._reachable or self._slow.get(s, 0.0) > now]

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        return min((min(p.probe_at, p.resend_at) for p in self._phases.values()), default=None)

    # ---- phases

    def start(self, phase: Phase, now: float) -> None:
        """Begin a phase."""
        phase.number, self._next_number = self._next_number, self._next_number % 0xFFFFFFFF + 1
        phase.resend_at = now + phase.resend_wait
        phase.wanted = len(phase.order) if phase.everyone else self._quorums.preferred(phase.order)
        self._phases[phase.number] = phase
        self.counters["round_trips"] += 1
        self._ask(phase, now)

    def cancel(self, phase: Phase) -> None:
        """End a phase without an outcome."""
        self._phases.pop(phase.number, None)

    def _ask(self, phase: Phase, now: float) -> None:
        """Ask further servers until as many as wanted are asked and may still reply, or have."""
        hopeful = sum(1 for s in phase.asked if s in phase.replies or s in self._reachable)
        if hopeful < phase.wanted:
            order = [s for s in phase.order if s not in phase.asked and s in self._reachable]
            order.sort(key=lambda s: self._slow.get(s, 0.0) > now)
            for server in order[: phase.wanted - hopeful]:
                self._send(phase, server, now)
        phase.probe_at = now + min(PROBE_MAX_S, max(PROBE_MIN_S, 8 * self._round_trip))

    def _send(self, phase: Phase, server: int, now: float) -> None:
        phase.asked[server] = now
        self.counters["requests"] += 1
        self.outgoing.append((server, phase.message(server, phase.number)))

    def tick(self, now: float) -> None:
        """Probe and resend what is due."""
        for phase in list(self._phases.values()):
            if now >= phase.probe_at:
                self._probe(phase, now)
            if now >= phase.resend_at and phase.number in self._phases:
                self._resend(phase, now)

    def _probe(self, phase: Phase, now: float) -> None:
        late = [s for s in phase.asked if s not in phase.replies and s in self._reachable]
        for server in late:
            self._slow[server] = now + SLOW_FOR_S
        self.counters["probes"] += 1
        phase.wanted = min(self._quorums.n, phase.wanted + max(1, len(late)))
        self._ask(phase, now)
        self._judge(phase, now)

    def _resend(self, phase: Phase, now: float) -> None:
        phase.resend_wait = min(RESEND_MAX_S, 2 * phase.resend_wait)
        phase.resend_at = now + phase.resend_wait
        self.counters["resends"] += 1
        for server in list(phase.asked):
            if server not in phase.replies and server in self._reachable:
                self._send(phase, server, now)

    def _final(self, phase: Phase, now: float) -> bool:
        """Whether everybody who can be reached has been asked and has replied, or is late."""
        for server in self._reachable:
            if server not in phase.asked:
                return False
            if server not in phase.replies and self._slow.get(server, 0.0) <= now:
                return False
        return True

    def _judge(self, phase: Phase, now: float) -> None:
        if phase.number not in self._phases:
            return
        if len(phase.replies) < self._quorums.preferred(phase.order) and len(phase.replies) < len(phase.asked):
            return
        outcome = phase.judge(phase.replies, self._final(phase, now))
        if outcome is not None:
            del self._phases[phase.number]
            self.finished.append((phase, outcome))
        elif all(s in phase.replies or s not in self._reachable for s in phase.asked):
            phase.wanted = min(self._quorums.n, max(phase.wanted, len(phase.replies)) + 1)
            if len(phase.asked) < self._quorums.n:
                self._ask(phase, now)

    def receive(self, server: int, payload: bytes, now: float) -> None:
        """Take a server's payload in, unless nobody waits for it any more.

        Raises MalformedMessage; the driver then closes the connection.
        """
        self._slow.pop(server, None)
        kind, number, rest = split_untrusted(payload)
        phase = self._phases.get(number)
        if phase is None or server not in phase.asked:
            return
        body, vectors = split_reply_untrusted(rest)
        if phase.parsed is None or phase.parsed[0] is not kind or phase.parsed[1] != body:
            phase.parsed = (kind, body, parse_reply_body_untrusted(kind, body, phase.objects))
        reply = with_vectors_untrusted(phase.parsed[2], vectors, self._quorums.n)
        if server not in phase.replies:
            self._round_trip += ((now - phase.asked[server]) - self._round_trip) / 16
        phase.replies[server] = reply
        phase.note(server, reply)
        self._judge(phase, now)
