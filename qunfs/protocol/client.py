"""The client: operations in, requests out; replies in, answers out (Figure 3, functions ``c_*``).

An operation is a generator that yields what it waits for: a phase of requests, a pause, or the queues of some objects.
Operations of one client on one object queue up in the order they came, so that a client never contends with itself; and
each takes n of a finite pool of buffers before it starts (Small Byzantine Quorum Systems, FIRST and LAST).
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from qunfs.protocol.authenticator import column
from qunfs.protocol.errors import LocalError, OperationRefused, QunfsError
from qunfs.protocol.execution import Code
from qunfs.protocol.history import Candidate, Kind
from qunfs.protocol.history_cache import Held, HistoryCache
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits
from qunfs.protocol.messages import (
    HELD_BYTES,
    Adopt,
    Query,
    QueryItem,
    QueryReply,
    Reply,
    Status,
    StatusQuery,
    StatusReply,
    UpdateReply,
    pack_update,
    pack_update_body,
)
from qunfs.protocol.operation import Call, Operation, Registry
from qunfs.protocol.planning import Identity, Inline, NeedObjects, Planner, Prepared, Ready, Stuck
from qunfs.protocol.querying import Item, QueryRound
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of
from qunfs.protocol.quorum_rpc import Phase, QuorumRpc

BACKOFF_FIRST_S: Final = 0.001
"""The paper's first back-off period (section 4.3, contention); it doubles at each retry."""
BACKOFF_MAX_S: Final = 0.128
BUFFERS: Final = 4096
"""Request buffers of a client: at n=26, more operations at once than a FUSE mount has."""
CLOCK_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Queue:
    objects: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Leave:
    """Leave all queues."""


_Step = Phase | _Pause | _Queue | _Leave
_Running = Generator[_Step, Any, Any]


@dataclass(slots=True)
class _Work:
    """An operation under way."""

    ticket: int
    run: _Running
    began: float
    phase: Phase | None = None
    wake_at: float | None = None
    queued: list[int] = field(default_factory=list)
    waits_for_queue: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a phase of updates ended; ``answer`` counts when ``done``."""

    done: bool
    code: Code = Code.OK
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of an operation: ``result`` (bytes, or a list of Answer) or ``error``."""

    ticket: int
    result: Any
    error: QunfsError | None


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
        self._identity, self._quorums, self._registry = identity, quorums, registry
        self._uniform, self._limits = uniform, limits
        self._cache = HistoryCache(quorums)
        self.rpc = QuorumRpc(quorums)
        self._planner = Planner(quorums, self._cache, identity, self._reachable_first, limits.views_tried_max)
        self.wall_ns = 0
        self._now = 0.0
        self._sequence = 0
        self._next_ticket = 1
        self._works: dict[int, _Work] = {}
        self._by_phase: dict[int, _Work] = {}
        self._queues: dict[int, deque[_Work]] = {}
        self._buffers = buffers
        self._for_buffers: deque[_Work] = deque()
        self._ready: deque[_Work] = deque()
        self.completions: list[Completion] = []
        self.counters: Counter[str] = Counter()

    # ---- the driver's side

    def submit_query(self, calls: Sequence[Call], now: float) -> int:
        """Begin queries; the ticket of their completion, whose result is a list of Answer in the order of the calls."""
        return self._submit(self._queries(list(calls)), now)

    def submit_update(self, call: Call, now: float) -> int:
        """Begin an update; the ticket of its completion, whose result is the answer."""
        return self._submit(self._update(call), now)

    def submit_status(self, server: int, now: float) -> int:
        """Ask one server how it is; the ticket of the completion, whose result is a dict."""
        return self._submit(self._status(server), now)

    def cancel(self, ticket: int) -> None:
        """Stop waiting for an operation; an update may still take effect."""
        work = self._works.get(ticket)
        if work is not None:
            work.run.close()
            self._end(work)
            self._settle()

    def connected(self, server: int, now: float) -> None:
        """A connection to a server is up."""
        self._now = now
        self.rpc.connected(server, now)

    def disconnected(self, server: int, now: float) -> None:
        """The connection to a server is gone."""
        self._now = now
        self.rpc.disconnected(server, now)
        self._settle()

    def receive(self, server: int, payload: bytes, now: float) -> None:
        """Take in what a server sent.  Raises MalformedMessage; the driver then closes the connection."""
        self._now = now
        self.rpc.receive(server, payload, now)
        self._settle()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self._now = now
        self.rpc.tick(now)
        for work in list(self._works.values()):
            if work.wake_at is not None and now >= work.wake_at:
                work.wake_at = None
                self._advance(work, None)
        self._settle()

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        times = [w.wake_at for w in self._works.values() if w.wake_at is not None]
        phase = self.rpc.next_tick()
        return min([*times, phase] if phase is not None else times, default=None)

    def overdue(self, since: float) -> list[float]:
        """When the operations that were begun before a time and are not complete were begun."""
        return [work.began for work in self._works.values() if work.began <= since]

    def order_of(self, obj: int) -> list[int]:
        """Servers in the order of preference for an object: its preferred quorum, then a spread of the rest."""
        n = self._quorums.n
        first = obj % n
        order = [(first + i) % n for i in range(n)]
        preferred = self._quorums.preferred(order)
        rest = order[preferred:]
        turn = obj // n % len(rest) if rest else 0
        return order[:preferred] + rest[turn:] + rest[:turn]

    def _trusted_first(self, obj: int) -> list[int]:
        """The order in which servers are asked: the preferred ones, but those under much suspicion last.

        Whoever reports a bad MAC is suspected with whoever issued it, so that only orders of magnitude count.
        """
        suspicion = self._cache.suspicion
        return sorted(self.order_of(obj), key=lambda server: suspicion.get(server, 0).bit_length() // 2)

    def _reachable_first(self, obj: int) -> list[int]:
        """The order in which histories are shown: those of servers that cannot be reached age, and come last."""
        return sorted(self.order_of(obj), key=lambda server: server not in self.rpc.reachable)

    # ---- running operations

    def _submit(self, run: _Running, now: float) -> int:
        self._now = now
        work = _Work(self._next_ticket, run, now)
        self._next_ticket += 1
        self._works[work.ticket] = work
        self._for_buffers.append(work)
        self.counters["operations"] += 1
        self._settle()
        return work.ticket

    def _settle(self) -> None:
        """Start and resume all that can go on."""
        n = self._quorums.n
        while True:
            if self.rpc.finished:
                finished, self.rpc.finished = self.rpc.finished, []
                for phase, outcome in finished:
                    work = self._by_phase.pop(phase.number, None)
                    if work is not None:
                        work.phase = None
                        self._advance(work, outcome)
            elif self._ready:
                work = self._ready.popleft()
                if work.ticket in self._works:
                    self._advance(work, None)
            elif self._for_buffers and self._buffers >= n:
                self._buffers -= n
                self._advance(self._for_buffers.popleft(), None)
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
            if isinstance(step, Phase):
                work.phase = step
                self.rpc.start(step, self._now)
                self._by_phase[step.number] = work
                return
            if isinstance(step, _Pause):
                work.wake_at = self._now + step.seconds
                return
            if isinstance(step, _Leave):
                self._leave_queues(work)
            elif not self._enter_queues(work, step.objects):
                work.waits_for_queue = True
                return

    def _complete(self, work: _Work, completion: Completion) -> None:
        self.completions.append(completion)
        self._end(work)

    def _end(self, work: _Work) -> None:
        del self._works[work.ticket]
        if work.phase is not None:
            self._by_phase.pop(work.phase.number, None)
            self.rpc.cancel(work.phase)
        if work in self._for_buffers:
            self._for_buffers.remove(work)
        else:
            self._buffers += self._quorums.n
        self._leave_queues(work)

    def _enter_queues(self, work: _Work, objects: tuple[int, ...]) -> bool:
        """Join the queues of all objects at once, lest two operations wait for each other; whether it is first."""
        for obj in objects:
            self._queues.setdefault(obj, deque()).append(work)
            work.queued.append(obj)
        return self._is_first(work)

    def _is_first(self, work: _Work) -> bool:
        return all(self._queues[obj][0] is work for obj in work.queued)

    def _leave_queues(self, work: _Work) -> None:
        left, work.queued = work.queued, []
        for obj in left:
            queue = self._queues[obj]
            queue.remove(work)
            if not queue:
                del self._queues[obj]
        for obj in left:
            queue = self._queues.get(obj, deque())
            if queue and queue[0].waits_for_queue and self._is_first(queue[0]):
                queue[0].waits_for_queue = False
                self._ready.append(queue[0])

    # ---- updates (Figure 3, lines 300-307)

    def _update(self, call: Call) -> _Running:
        objects = tuple(sorted(call.objects))
        ids = tuple(obj for obj, _ in objects)
        if call.home not in ids:
            raise LocalError("the home object of an update must be one of its objects")
        yield _Queue(ids)
        self.counters["updates"] += 1
        self._sequence += 1
        operation = self._stamp(call, objects, self._sequence)
        fresh, clock_tries, attempt = call.fresh, 0, 0
        while True:
            prepared = self._planner.method(operation, fresh)
            if prepared is None:
                yield from self._repair(ids, call.home)
                prepared = self._planner.method(operation, frozenset())
                if prepared is None:
                    continue
            outcome, replies = yield from self._send(prepared, call.home, everyone=attempt > 0)
            if outcome.done:
                return self._result(outcome)
            fresh = frozenset()
            self._raise_refusals(replies)
            if self._refused_by_clock(replies):
                clock_tries += 1
                if clock_tries >= CLOCK_TRIES:
                    raise OperationRefused("the clocks of this client and the replicas differ too much; set the clock")
                operation = self._stamp(call, objects, operation.sequence)
            self.counters["retries"] += 1
            attempt += 1
            if attempt > 1:
                yield self._backoff(attempt)

    def _stamp(self, call: Call, objects: tuple[tuple[int, str], ...], sequence: int) -> Operation:
        return Operation(
            objects=tuple(obj for obj, _ in objects),
            types=tuple(kind for _, kind in objects),
            method=call.method,
            version=call.version,
            argument=call.argument,
            credentials=call.credentials,
            client_time=self.wall_ns,
            home=call.home,
            session=self._identity.session,
            sequence=sequence,
        )

    def _result(self, outcome: _Outcome) -> bytes:
        if outcome.code in (Code.OK, Code.FAILED):
            return outcome.answer
        raise OperationRefused(f"replicas refused the operation: {outcome.code.name.lower().replace('_', ' ')}")

    def _backoff(self, attempt: int) -> _Pause:
        """Randomised exponential back-off (paper section 3.5, "retry and backoff policies")."""
        self.counters["backoffs"] += 1
        period = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * (1 << min(attempt, 20)))
        return _Pause(period * (0.5 + self._uniform()))

    def _raise_refusals(self, replies: dict[int, Reply]) -> None:
        """Fail the operation when more replicas refuse it than can lie."""
        texts: dict[bytes, int] = {}
        for server, reply in replies.items():
            if isinstance(reply, UpdateReply) and reply.status is Status.REFUSED:
                texts[reply.answer] = texts.get(reply.answer, 0) | 1 << server
        for text, mask in texts.items():
            if self._quorums.exceeds_malevolent(mask):
                raise OperationRefused(f"replicas refuse the operation: {text.decode(errors='replace')}")

    def _refused_by_clock(self, replies: dict[int, Reply]) -> bool:
        late = [s for s, r in replies.items() if isinstance(r, UpdateReply) and r.status is Status.TIME]
        return self._quorums.exceeds_malevolent(mask_of(late))

    def _send(
        self, prepared: Prepared, home: int, everyone: bool
    ) -> Generator[_Step, Any, tuple[_Outcome, dict[int, Reply]]]:
        """Send a METHOD, BARRIER or COPY to a quorum or to everyone."""
        request, candidate = prepared.request, prepared.made.candidate
        body = pack_update_body(request)
        vectors: list[bytes] = []
        for histories in (*request.views, *request.evidence):
            held = self._cache.of(histories.obj)
            for history, mask in histories.groups:
                for server in servers_of(mask):
                    shown = held.get(server)
                    if shown is None or shown.history != history:
                        raise LocalError("a request shows a history that is not held")
                    vectors.append(shown.vector)

        def message(server: int, number: int) -> bytes:
            return pack_update(number, body, b"".join([column(v, server) for v in vectors]))

        return (yield from self._update_phase(request.kind.name, candidate, home, message, everyone))

    def _update_phase(
        self, name: str, candidate: Candidate, home: int, message: Callable[[int, int], bytes], everyone: bool
    ) -> Generator[_Step, Any, tuple[_Outcome, dict[int, Reply]]]:
        self.counters[name.lower()] += 1
        objects = candidate.objects

        def note(server: int, reply: Reply) -> None:
            if isinstance(reply, UpdateReply):
                for obj, shown in zip(objects, reply.histories, strict=False):
                    self._cache.note(obj, server, shown, None)

        judge = partial(self._judge_update, candidate, name == Kind.METHOD.name)
        phase = Phase(name, self._trusted_first(home), message, (objects,), judge, note, everyone=everyone)
        outcome: _Outcome = yield phase
        if not outcome.done:
            self._note_culled(phase.replies)
        self._note_denials(candidate, phase.replies)
        return outcome, phase.replies

    def _note_culled(self, replies: dict[int, Reply]) -> None:
        """Do without histories whose MACs did not hold; nobody can tell who of the two lies (section 3.5)."""
        complaints = {s: r.culled for s, r in replies.items() if isinstance(r, UpdateReply) and r.culled}
        for server, pairs in complaints.items():
            self._cache.culled(pairs, server)
            self._cache.suspect(server)
        if complaints:
            self.counters["culled"] += len(complaints)
            self._cache.reconsider()

    def _note_denials(self, candidate: Candidate, replies: dict[int, Reply]) -> None:
        """Suspect servers that say they have accepted a candidate and show histories without it."""
        for server, reply in replies.items():
            if isinstance(reply, UpdateReply) and reply.status is Status.ACCEPTED and not _shows(reply, candidate):
                self._cache.suspect(server)
                self.counters["denials"] += 1

    def _judge_update(
        self, candidate: Candidate, answer_needed: bool, replies: dict[int, Reply], final: bool
    ) -> _Outcome | None:
        """Count acceptances and answers; give up when neither can make a quorum any more."""
        accepted, answered, other = 0, 0, 0
        votes: dict[tuple[Status, Code, bytes], int] = {}
        for server, reply in replies.items():
            bit = 1 << server
            if not isinstance(reply, UpdateReply) or reply.status not in (Status.ACCEPTED, Status.ANSWERED):
                other |= bit
                continue
            if reply.status is Status.ACCEPTED and not _shows(reply, candidate):
                other |= bit
                continue
            accepted |= bit if reply.status is Status.ACCEPTED else 0
            answered |= bit if reply.status is Status.ANSWERED else 0
            if answer_needed and reply.status is Status.ACCEPTED and not reply.answer:
                continue  # that replica holds the version by object sync and has not run the method
            vote = (reply.status, reply.code, reply.answer)
            votes[vote] = votes.get(vote, 0) | bit
        quorum = self._quorums.contains_quorum
        for (status, code, answer), mask in votes.items():
            whole = accepted if status is Status.ACCEPTED else answered
            if quorum(whole) and self._quorums.exceeds_malevolent(mask):
                return _Outcome(True, code, answer)
        everyone = (1 << self._quorums.n) - 1
        hopeless = not quorum(everyone & ~(other | answered)) and not quorum(everyone & ~(other | accepted))
        if quorum(accepted | answered | other) and (hopeless or final):
            return _Outcome(False)
        return None

    # ---- repair (Figure 3, lines 500-507)

    def _repair(self, wanted: tuple[int, ...], home: int) -> _Running:
        """Barriers, copies and inline repairs until every wanted object calls for a METHOD."""
        need = frozenset(wanted)
        turn = 0
        while True:
            if turn > 1:  # before the read: a plan must not outlive the histories it shows
                self._cache.reconsider()
                yield self._backoff(turn)
            yield from self._joint_read(need, wanted, home)
            plan = self._planner.repair(need, wanted, turn)
            if isinstance(plan, Ready):
                return
            if isinstance(plan, NeedObjects):
                need |= plan.objects
                continue
            turn += 1
            if isinstance(plan, Stuck):
                self.counters["stuck"] += 1
                continue
            self.counters["repairs"] += 1
            everyone = turn > 1 or bool(self._cache.suspicion)
            if isinstance(plan, Inline):
                yield from self._inline(plan, home, everyone)
            else:
                yield from self._send(plan.prepared, home, everyone)
            if self._planner.method_views(wanted, frozenset()) is not None:
                return

    def _inline(self, plan: Inline, home: int, everyone: bool) -> _Running:
        """Have a candidate completed in place (section 3.5, "inline repair")."""
        adopt = Adopt(plan.record, plan.hosts)
        return (
            yield from self._update_phase(
                "INLINE_REPAIR", plan.record, home, lambda _server, number: adopt.pack(number), everyone
            )
        )

    def _joint_read(self, objects: frozenset[int], wanted: tuple[int, ...], home: int) -> _Running:
        """Current histories of some objects, read together at each server."""
        ids = tuple(sorted(objects))
        told: dict[tuple[int, int], Held] = {}

        def message(server: int, number: int) -> bytes:
            digests = []
            for obj in ids:
                held = self._cache.to_claim(obj, server, want_auth=True)
                if held is None:
                    told.pop((server, obj), None)
                    digests.append(b"")
                else:
                    told[server, obj] = held
                    digests.append(held.history.digest[:HELD_BYTES])
            return Query((QueryItem(ids, tuple(digests), want_auth=True),)).pack(number)

        def note(server: int, reply: Reply) -> None:
            if isinstance(reply, QueryReply):
                for obj, shown in zip(ids, reply.results[0].histories, strict=True):
                    self._cache.note(obj, server, shown, told.get((server, obj)))

        def judge(replies: dict[int, Reply], final: bool) -> bool | None:
            if not self._quorums.contains_quorum(mask_of(list(replies))):
                return None
            ready = final or self._planner.method_views(wanted, frozenset()) is not None
            return True if ready else None

        yield Phase("READ", self._trusted_first(home), message, (ids,), judge, note)

    def _status(self, server: int) -> _Running:
        def judge(replies: dict[int, Reply], _final: bool) -> dict[str, Any] | None:
            reply = replies.get(server)
            return reply.values if isinstance(reply, StatusReply) else None

        def message(_server: int, number: int) -> bytes:
            return StatusQuery().pack(number)

        return (yield Phase("STATUS", (server,), message, (), judge, lambda _server, _reply: None))

    # ---- queries (Figure 3, lines 400-406)

    def _queries(self, calls: list[Call]) -> _Running:
        """Answers of several calls; those with one preferred quorum share messages."""
        items = [self._item(call) for call in calls]
        self.counters["queries"] += len(items)
        groups: dict[int, list[Item]] = {}
        for item in items:
            groups.setdefault(item.operation.objects[0] % self._quorums.n, []).append(item)
        for group in groups.values():
            for start in range(0, len(group), self._limits.queries_per_message_max):
                yield from self._query(group[start : start + self._limits.queries_per_message_max])
        for item in items:
            if item.result is not None and item.result.code not in (Code.OK, Code.FAILED):
                raise OperationRefused(f"replicas refused the query: {item.result.code.name.lower()}")
        return [item.answer() for item in items]

    def _item(self, call: Call) -> Item:
        method = self._registry.find(call.method, call.version)
        if method is None:
            raise LocalError(f"no method {call.method} version {call.version}")
        objects = tuple(sorted(call.objects))
        operation = Operation(
            tuple(obj for obj, _ in objects),
            tuple(kind for _, kind in objects),
            call.method,
            call.version,
            call.argument,
            call.credentials,
        )
        return Item(call, method, operation)

    def _query(self, items: list[Item]) -> _Running:
        order = self._trusted_first(items[0].operation.objects[0])
        attempt = 0
        pending = items
        while pending:
            whole_from = next((s for s in order if s in self.rpc.reachable), order[0])
            asked = QueryRound(
                self._quorums, self._cache, pending, whole_from, len(items) == 1, self._limits.views_tried_max
            )
            objects = tuple(item.operation.objects for item in pending)
            yield Phase("QUERY", order, asked.message, objects, asked.judge, asked.note)
            unsettled = [
                i for i in pending if i.result is None and i.at is None and i.seen is None and not i.everyone_whole
            ]
            if unsettled:
                yield from self._make_answerable(unsettled)
            pending = [item for item in pending if item.result is None]
            attempt += 1
            if pending and attempt > 2:
                for item in pending:
                    item.at = None
                yield self._backoff(attempt)
        children = [item for item in items if item.child is not None and item.followed is None]
        for item in children:
            assert item.child is not None
            followed = self._item(item.child)
            yield from self._query([followed])
            item.followed = followed.result

    def _make_answerable(self, items: list[Item]) -> _Running:
        """Repair what queries read; behind this client's own updates of it, which may be all there is to wait for."""
        yield _Queue(tuple(sorted({obj for item in items for obj in item.operation.objects})))
        for item in items:
            objects = item.operation.objects
            yield from self._repair(objects, objects[0])
        yield _Leave()


def _shows(reply: UpdateReply, candidate: Candidate) -> bool:
    """Whether the histories of a reply are those of a server that has accepted a candidate, now or long ago."""
    histories = [shown.history for shown in reply.histories]
    return len(histories) == len(candidate.objects) and all(
        history is not None and (candidate in history or history.base.lt > candidate.lt) for history in histories
    )
