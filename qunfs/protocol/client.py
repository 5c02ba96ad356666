"""The client: operations in, requests out; replies in, answers out (Figure 3, functions ``c_*``).

An operation is a generator that yields what it waits for: a phase of requests, a pause, or the queues of some objects.
Operations of one client on one object queue up in the order they came, so that a client never contends with itself; and
each takes n of a finite pool of buffers before it starts (Small Byzantine Quorum Systems, FIRST and LAST).
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from qunfs.protocol.asking import Question, ask
from qunfs.protocol.errors import QunfsError
from qunfs.protocol.evidence import Finding
from qunfs.protocol.fetching import fetch
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits
from qunfs.protocol.operation import Call, Registry
from qunfs.protocol.planning import Identity, Planner
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.quorum_rpc import Phase, QuorumRpc
from qunfs.protocol.steps import Leave, Means, Pause, Queue, Running
from qunfs.protocol.trust import Trust
from qunfs.protocol.updating import update

BUFFERS: Final = 4096
"""Request buffers of a client: at n=26, more operations at once than a FUSE mount has."""


class _Work:
    """An operation under way."""

    __slots__ = ("began", "phase", "queued", "run", "ticket", "waits_for_buffers", "waits_for_queue", "wake_at")

    def __init__(self, ticket: int, run: Running, began: float) -> None:
        self.ticket: Final = ticket
        self.run: Final = run
        self.began: Final = began
        self.phase: Phase | None = None
        self.wake_at: float | None = None
        self.queued: tuple[int, ...] = ()
        self.waits_for_queue = False
        self.waits_for_buffers = True


class Completion:
    """What became of an operation: ``result`` (bytes, or a list of Answer) or ``error``."""

    __slots__ = ("error", "result", "ticket")

    def __init__(self, ticket: int, result: Any, error: QunfsError | None) -> None:
        self.ticket: Final = ticket
        self.result: Final = result
        self.error: Final = error


class Client:
    """One client process.  ``uniform()`` gives chance in [0, 1); ``wall_ns`` is set by the driver before each call."""

    def __init__(
        self,
        identity: Identity,
        quorums: QuorumSystem,
        registry: Registry,
        uniform: Callable[[], float],
        limits: Limits = DEFAULT_LIMITS,
        buffers: int = BUFFERS,
    ) -> None:
        self._quorums = quorums
        self._trust = Trust(quorums, lambda: self.wall_ns)
        self.rpc = QuorumRpc(quorums)
        cache = HistoryCache(quorums, self._trust)
        planner = Planner(quorums, cache, identity, self._trust, limits.views_tried_max)
        self.wall_ns = 0
        self._means = Means(
            identity, quorums, registry, uniform, lambda: self.wall_ns, limits, self.rpc, self._trust, cache, planner
        )
        self.counters: defaultdict[str, int] = self._means.counters
        self._now = 0.0
        self._known: set[int] = set()
        """The servers that were connected before."""
        self._next_ticket = 1
        self._works: dict[int, _Work] = {}
        self._by_phase: dict[int, _Work] = {}
        self._queues: dict[int, list[_Work]] = {}
        self._buffers = buffers
        self._for_buffers: deque[_Work] = deque()
        self._ready: deque[_Work] = deque()
        self.completions: list[Completion] = []

    # ---- the driver's side

    def submit_query(self, calls: Sequence[Call], now: float) -> int:
        """Begin queries; the ticket of their completion, whose result is a list of Answer in the order of the calls."""
        return self._submit(fetch(self._means, list(calls)), now)

    def submit_update(self, call: Call, now: float) -> int:
        """Begin an update; the ticket of its completion, whose result is the answer."""
        return self._submit(update(self._means, call), now)

    def submit_question(self, server: int, question: Question, now: float) -> int:
        """Ask one server something; the ticket of the completion, whose result is its reply."""
        return self._submit(ask(server, question), now)

    def cancel(self, ticket: int, now: float) -> None:
        """Stop waiting for an operation; an update may still take effect.  What waited behind it starts."""
        self._now = now
        work = self._works.get(ticket)
        if work is not None:
            work.run.close()
            self._end(work)
            self._settle()

    def connected(self, server: int, now: float) -> None:
        """A connection to a server is up."""
        self._now = now
        if server in self._known:
            self._trust.returned |= 1 << server
            self._pardon()
        self._known.add(server)
        self._trust.reached(self.rpc.reachable | {server})
        self.rpc.connected(server, now)

    def disconnected(self, server: int, now: float) -> None:
        """The connection to a server is gone."""
        self._now = now
        self._trust.reached(self.rpc.reachable - {server})
        self.rpc.disconnected(server, now)
        self._settle()

    def receive(self, server: int, payload: bytes, now: float) -> None:
        """Take in what a server sent.  Raises MalformedMessage; the driver then closes the connection."""
        self._now = now
        self.rpc.receive(server, payload, now)
        if self.rpc.finished:
            self._settle()

    def malformed(self, server: int, why: str) -> None:
        """What :meth:`receive` raised MalformedMessage for speaks against its sender."""
        self._trust.malformed(server, why)

    def findings(self) -> list[Finding]:
        """What speaks against servers, by server."""
        return self._trust.evidence.findings()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._now = now
        self.rpc.tick(now)
        while self.rpc.silent_again:
            self._trust.silent(self.rpc.silent_again.pop())
        for work in list(self._works.values()):
            if work.wake_at is not None and now >= work.wake_at:
                work.wake_at = None
                self._advance(work, None)
        self._settle()

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        soonest = self.rpc.next_tick()
        for work in self._works.values():
            if work.wake_at is not None and (soonest is None or work.wake_at < soonest):
                soonest = work.wake_at
        return soonest

    def overdue(self, since: float) -> list[float]:
        """When the operations that were begun before a time and are not complete were begun."""
        return [work.began for work in self._works.values() if work.began <= since]

    # ---- running operations

    def _pardon(self) -> None:
        for server in self._trust.pardon(self.counters["operations"]):
            self._means.cache.forget_all(server)
            self.counters["pardons"] += 1

    def _submit(self, run: Running, now: float) -> int:
        self._now = now
        work = _Work(self._next_ticket, run, now)
        self._next_ticket += 1
        self._works[work.ticket] = work
        self.counters["operations"] += 1
        if self._trust.returned:
            self._pardon()
        if self._for_buffers or self._buffers < self._quorums.n:
            self._for_buffers.append(work)
        else:
            self._begin(work)
        self._settle()
        return work.ticket

    def _begin(self, work: _Work) -> None:
        self._buffers -= self._quorums.n
        work.waits_for_buffers = False
        self._advance(work, None)

    def _settle(self) -> None:
        """Start and resume all that can go on."""
        n = self._quorums.n
        while True:
            if self.rpc.finished:
                finished, self.rpc.finished = self.rpc.finished, []
                for phase, outcome in finished:
                    owner = self._by_phase.pop(phase.number, None)
                    if owner is not None:
                        owner.phase = None
                        self._advance(owner, outcome)
            elif self._ready:
                work = self._ready.popleft()
                if work.ticket in self._works:
                    self._advance(work, None)
            elif self._for_buffers and self._buffers >= n:
                self._begin(self._for_buffers.popleft())
            else:
                return

    def _advance(self, work: _Work, value: Any) -> None:
        """Run an operation up to the next thing it waits for."""
        while True:
            try:
                step = work.run.send(value)
            except StopIteration as stop:
                self._complete(work, Completion(work.ticket, stop.value, None))
                return
            except QunfsError as error:
                self._complete(work, Completion(work.ticket, None, error))
                return
            value = None
            if isinstance(step, Queue):
                if not self._enter_queues(work, step.objects):
                    work.waits_for_queue = True
                    return
            elif isinstance(step, Leave):
                self._leave_queues(work)
            elif isinstance(step, Pause):
                work.wake_at = self._now + step.seconds
                return
            else:
                work.phase = step
                self.rpc.start(step, self._now)
                self._by_phase[step.number] = work
                return

    def _complete(self, work: _Work, completion: Completion) -> None:
        self.completions.append(completion)
        self._end(work)

    def _end(self, work: _Work) -> None:
        del self._works[work.ticket]
        if work.phase is not None:
            self._by_phase.pop(work.phase.number, None)
            self.rpc.cancel(work.phase)
        if work.waits_for_buffers:
            self._for_buffers.remove(work)
        else:
            self._buffers += self._quorums.n
        self._leave_queues(work)

    def _enter_queues(self, work: _Work, objects: tuple[int, ...]) -> bool:
        """Join the queues of all objects at once, lest two operations wait for each other; whether it is first."""
        for obj in objects:
            queue = self._queues.get(obj)
            if queue is None:
                self._queues[obj] = [work]
            else:
                queue.append(work)
        work.queued += objects
        return self._is_first(work)

    def _is_first(self, work: _Work) -> bool:
        for obj in work.queued:  # noqa: SIM110 - a generator costs more than all of this
            if self._queues[obj][0] is not work:
                return False
        return True

    def _leave_queues(self, work: _Work) -> None:
        if not work.queued:
            return
        left, work.queued = work.queued, ()
        for obj in left:
            queue = self._queues[obj]
            queue.remove(work)
            if not queue:
                del self._queues[obj]
        for obj in left:
            if obj not in self._queues:
                continue
            first = self._queues[obj][0]
            if first.waits_for_queue and self._is_first(first):
                first.waits_for_queue = False
                self._ready.append(first)
