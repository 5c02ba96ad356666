"""The replica: the server's state machine (Figure 3, ``s_request``; DESIGN section 3, "Server, on a request").

``step`` takes one payload and returns what to send.  The driver runs a batch of steps in one storage transaction,
commits, and only then sends: no history that is not yet durable leaves the replica.  A request that needs an object
version which this replica lacks is parked until object sync has fetched it, and then runs again from the start.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mypy_extensions import mypyc_attr

from qunfs.protocol.acceptance import accept
from qunfs.protocol.admission import RepairRate, Rights, in_time, may_list, refusal
from qunfs.protocol.authenticator import MAC_BYTES, Authenticator
from qunfs.protocol.classify import Request, RequestRefused, Setup, setup
from qunfs.protocol.errors import MalformedMessage, VersionMissing
from qunfs.protocol.evidence import Evidence, Ground
from qunfs.protocol.execution import Code, run_update
from qunfs.protocol.history import (
    ZERO_TIMESTAMP,
    Candidate,
    Kind,
    LogicalTimestamp,
    ReplicaHistory,
)
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits
from qunfs.protocol.messages import (
    Adopt,
    Culled,
    Query,
    Roll,
    RollReply,
    Shown,
    Status,
    StatusQuery,
    StatusReply,
    Sync,
    SyncReply,
    Type,
    Update,
    UpdateReply,
    Vouch,
    VouchReply,
)
from qunfs.protocol.operation import MethodClass, Operation, Registry
from qunfs.protocol.packing import new_tuple
from qunfs.protocol.quorum import QuorumSystem, servers_of
from qunfs.protocol.reading import Reader
from qunfs.protocol.recent import Recent
from qunfs.protocol.store import Redo, StoreView
from qunfs.protocol.sync import Finished, JobKey, Synchroniser, answer_sync
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted

_ANSWERS_KEPT: Final = 2_048
"""Answers of accepted updates remembered for late repeats, beside those stored with the versions."""
_COUNTED: Final = [kind.name.lower() for kind in Kind]
_UPDATE: Final = MethodClass.UPDATE
_ACCEPTED: Final = Status.ACCEPTED
_OK: Final = Code.OK
_REPLY_TYPES: Final = frozenset(int(kind) for kind in Type if kind.name.endswith("_REPLY"))


class Origin(NamedTuple):
    """Where a payload came from and its reply goes: a principal and one of its connections."""

    is_server: bool
    principal: int
    link: int


class Send(NamedTuple):
    """A payload to send: back on a link, or (link None) to a server on whatever connection there is."""

    origin: Origin | None
    server: int
    payload: bytes


@dataclass(slots=True)
class _Parked:
    """A request that waits for object sync."""

    origin: Origin
    payload: bytes
    waits: set[JobKey] = field(default_factory=set)
    failed: bool = False


def _is_in_all(candidate: Candidate, own: list[ReplicaHistory]) -> bool:
    """Whether the histories of all objects of a candidate hold it; mostly it is later than anything in them."""
    return candidate.lt <= own[0].latest.lt and all(candidate in history for history in own)


def _is_current(candidate: Candidate, own: list[ReplicaHistory]) -> bool:
    """Figure 3, line 1007, on every object."""
    ahead = [place for place, current in enumerate(candidate.cur) if own[place].latest.lt > current]
    return not ahead


@mypyc_attr(allow_interpreted_subclasses=True)
class Replica:
    """One server.  ``rights[c]`` are those of client c; the store already holds genesis."""

    def __init__(
        self,
        server: int,
        quorums: QuorumSystem,
        authenticator: Authenticator,
        registry: Registry,
        store: StoreView,
        rights: Mapping[int, Rights],
        limits: Limits = DEFAULT_LIMITS,
        describe: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.server, self.quorums, self.store, self.limits = server, quorums, store, limits
        self._authenticator, self._registry, self._rights = authenticator, registry, rights
        self._reader = Reader(store, registry, authenticator)
        self._sync = Synchroniser(server, quorums, store, limits)
        self._parked: dict[JobKey, list[_Parked]] = {}
        self._parked_count = 0
        self._parked_of: Counter[int] = Counter()
        """How many of the parked requests are each client's."""
        self._vouched: OrderedDict[LogicalTimestamp, tuple[Candidate, bytes]] = OrderedDict()
        self._answers: Recent[bytes, bytes] = Recent(_ANSWERS_KEPT)
        """By the bytes of a candidate."""
        self._rate = RepairRate()
        self._roll_rate = RepairRate(limits.rolls_per_second)
        self._describe = describe
        self._evidence = Evidence(quorums)
        self.counters: defaultdict[str, int] = defaultdict(int)

    # ---- the driver's side

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """Handle one payload; ``now`` in monotonic seconds, ``wall_ns`` the wall clock.

        Raises MalformedMessage when no correct peer sends such bytes (the driver closes the connection) and
        StorageError when the store failed (the driver stops the replica).
        """
        if payload and payload[0] in _REPLY_TYPES:
            sends = self._peer_reply(origin, payload, now, wall_ns)
        else:
            client = 0 if origin.is_server else origin.principal
            number, message = parse_to_server_untrusted(payload, client, self.store.history)
            reply: bytes | None
            if isinstance(message, Query):
                self.counters["queries"] += len(message.items)
                rights = None if origin.is_server else self._rights.get(origin.principal)
                reply = self._reader.answer(message.items, rights, self.limits.reply_bytes_max).pack(number)
            elif isinstance(message, Update):
                outcome = self._update(origin, message, payload, now, wall_ns)
                reply = None if outcome is None else outcome.pack(number)
            elif isinstance(message, Adopt):
                outcome = self._adopt(origin, message, payload, now)
                reply = None if outcome is None else outcome.pack(number)
            elif isinstance(message, Vouch | Sync) and not origin.is_server:
                raise MalformedMessage("a client asked what servers ask each other")
            elif isinstance(message, Roll):
                reply = self._roll(origin, message, now).pack(number)
            elif isinstance(message, Vouch):
                reply = self._vouch(message).pack(number)
            elif isinstance(message, Sync):
                self.counters["sync_chunks_served"] += 1
                reply = answer_sync(self.store, message, self.limits).pack(number)
            else:
                assert isinstance(message, StatusQuery)
                reply = StatusReply(self.status()).pack(number)
            sends = [] if reply is None else [new_tuple(Send, (origin, -1, reply))]
        if self._sync.outgoing:
            sends += self._outgoing()
        return sends

    def tick(self, now: float, wall_ns: int) -> list[Send]:
        """Move object syncs on; the driver calls it every 100 ms or so while :meth:`busy`."""
        sends: list[Send] = []
        for finished in list(self._sync.tick(now)):
            sends += self._resume(finished, now, wall_ns)
        return sends + self._outgoing()

    def unreachable(self, server: int, now: float) -> list[Send]:
        """Another server cannot be reached, or was lost: what it was asked goes to others."""
        self._sync.unreachable(server, now)
        return self._outgoing()

    def busy(self) -> bool:
        """Whether object syncs are under way."""
        return len(self._sync) > 0

    def malformed(self, server: int, why: str, wall_ns: int) -> None:
        """What :meth:`step` raised MalformedMessage for came from another server."""
        self._evidence.note(server, Ground.MALFORMED, wall_ns, why)

    def status(self) -> dict[str, Any]:
        """Counters for people and programs, with what the driver has to add."""
        suspects = [(f.server, f.ground.value, f.times, f.first_ns, f.last_ns) for f in self._evidence.findings()]
        syncs = {"syncs_running": len(self._sync), "syncs": self._sync.completed}
        return {**self._describe(), **self.counters, **syncs, "suspects": suspects}

    def _outgoing(self) -> list[Send]:
        asked = [Send(None, server, payload) for server, payload in self._sync.outgoing]
        self._sync.outgoing.clear()
        return asked

    # ---- updates, barriers and copies (Figure 3, lines 1000-1030)

    def _update(self, origin: Origin, message: Update, payload: bytes, now: float, wall_ns: int) -> UpdateReply | None:
        request = message.request
        refused = self._admit(origin, request, now, wall_ns)
        if refused is not None:
            return refused
        try:
            made = setup(self.quorums, request)
        except RequestRefused as error:
            return UpdateReply(Status.REFUSED, answer=str(error).encode())
        candidate = made.candidate
        own = self._own(candidate)
        repeated = self._repeated(candidate, own)
        if repeated is not None:
            return repeated
        culled = self._invalid(request, message.column, wall_ns)
        if culled:
            self.counters["culled"] += 1
            return UpdateReply(Status.CULLED, culled=culled)
        if not _is_current(candidate, own):
            return self._fail(candidate)
        is_repair = request.operation is None
        bound = self.limits.records_per_history_max if is_repair else self.limits.records_before_refusal_max
        for history in own:
            if len(history.records) >= bound:
                return UpdateReply(Status.BUSY)
        if request.operation is None:
            return self._repair(request, made, own, origin, payload, now)
        return self._method(request, request.operation, made, own, origin, payload, now)

    def _own(self, candidate: Candidate) -> list[ReplicaHistory]:
        """This replica's histories of a candidate's objects, in their order."""
        return [self.store.history(obj) for obj in candidate.objects]

    def _admit(self, origin: Origin, request: Request, now: float, wall_ns: int) -> UpdateReply | None:
        rights = None if origin.is_server else self._rights.get(origin.principal)
        if rights is None:
            return UpdateReply(Status.REFUSED, answer=b"only clients of the cluster file may update")
        if request.operation is None:
            return self._throttled(rights, origin.principal, request.views[0].obj, now)
        text = refusal(rights, request.operation)
        if text is not None:
            return UpdateReply(Status.REFUSED, answer=text.encode())
        if request.operation.home == 0 or request.operation.sequence == 0:
            return UpdateReply(Status.REFUSED, answer=b"an update needs a home object and a sequence number")
        if not in_time(request.operation, wall_ns, self.limits):
            return UpdateReply(Status.TIME, answer=b"%d" % wall_ns)
        return None

    def _throttled(self, rights: Rights, client: int, obj: int, now: float) -> UpdateReply | None:
        if rights.read_write or self._rate.allows(client, obj, now):
            return None
        return UpdateReply(Status.BUSY)

    def _repeated(self, candidate: Candidate, own: list[ReplicaHistory]) -> UpdateReply | None:
        """The stored answer of a candidate that was accepted before (Figure 3, line 1005)."""
        answer = self._answers.get(candidate.wire)
        if answer is None and _is_in_all(candidate, own):
            answer = b""
            if candidate.kind is not Kind.BARRIER:
                answer = self.store.answer(candidate.objects[0], candidate.lt) or b""
        if answer is None:
            return None
        self.counters["repeated"] += 1
        return UpdateReply(Status.ACCEPTED, answer=answer, histories=self._current(candidate.objects))

    def _invalid(self, request: Request, column: bytes, wall_ns: int) -> tuple[Culled, ...]:
        """The histories shown whose MAC does not hold here or whose time cannot be honest (lines 1001-1002)."""
        newest = wall_ns // 1000 + self.limits.time_ahead_max
        culled: list[Culled] = []
        at = 0
        for histories in (*request.views, *request.evidence) if request.evidence else request.views:
            obj = histories.obj
            for history, mask in histories.groups:
                macs = column[at : at + MAC_BYTES * mask.bit_count()]
                at += len(macs)
                invalid = self._authenticator.invalid(obj, history, mask, macs)
                if invalid:
                    culled += [Culled(obj, server, False) for server in invalid]
                if history.latest.lt.time > newest:
                    culled += [Culled(obj, server, True) for server in servers_of(mask) if server not in invalid]
        return tuple(culled)

    def _fail(self, candidate: Candidate) -> UpdateReply:
        self.counters["fails"] += 1
        return UpdateReply(Status.FAIL, histories=self._current(candidate.objects))

    def _current(self, objects: Sequence[int]) -> tuple[Shown, ...]:
        return self._shown(objects, [self.store.history(obj) for obj in objects])

    def _shown(self, objects: Sequence[int], histories: list[ReplicaHistory]) -> tuple[Shown, ...]:
        shown: list[Shown] = []
        for place, history in enumerate(histories):
            vector = self._authenticator.tags(objects[place], history).vector
            shown.append(new_tuple(Shown, (history, vector)))
        return tuple(shown)

    def _method(
        self,
        request: Request,
        operation: Operation,
        made: Setup,
        own: list[ReplicaHistory],
        origin: Origin,
        payload: bytes,
        now: float,
    ) -> UpdateReply | None:
        candidate = made.candidate
        method = self._registry.find(operation.method, operation.version)
        if method is None or method.kind is not _UPDATE:
            return UpdateReply(Status.REFUSED, answer=f"unknown update method {operation.method}".encode())
        try:
            views = {obj: self.store.open(obj, candidate.lt_co[at]) for at, obj in enumerate(candidate.objects)}
        except VersionMissing:
            return self._park_for_versions(request, candidate, origin, payload, now)
        run = run_update(method, operation, request.client, candidate.lt.time, views, self.limits)
        if not run.effective:
            self.counters["answered"] += 1
            return UpdateReply(Status.ANSWERED, run.code, run.answer, self._current(candidate.objects))
        redo: list[Redo] = [*views.values()]
        return self._accept(candidate, own, redo, run.answer, made.conditioned)

    def _repair(
        self,
        request: Request,
        made: Setup,
        own: list[ReplicaHistory],
        origin: Origin,
        payload: bytes,
        now: float,
    ) -> UpdateReply | None:
        candidate = made.candidate
        redo: list[Redo] = []
        if candidate.kind is Kind.COPY:
            if not all(self.store.has_version(obj, candidate.conditioned_on(obj)) for obj in candidate.objects):
                return self._park_for_versions(request, candidate, origin, payload, now)
            redo += [{} for _ in candidate.objects]
        return self._accept(candidate, own, redo, b"", made.conditioned)

    def _accept(
        self,
        candidate: Candidate,
        own: list[ReplicaHistory],
        redo: list[Redo],
        answer: bytes,
        conditioned: Sequence[Candidate] | None,
    ) -> UpdateReply:
        histories = accept(self.store, own, candidate, redo, answer, conditioned)
        self.counters["adopted" if conditioned is None else _COUNTED[candidate.kind]] += 1
        self._answers.put(candidate.wire, answer)
        shown = self._shown(candidate.objects, histories)
        return new_tuple(UpdateReply, (_ACCEPTED, _OK, answer, shown, ()))

    # ---- inline repair: vouched adoption

    def _adopt(self, origin: Origin, message: Adopt, payload: bytes, now: float) -> UpdateReply | None:
        record = message.record
        rights = None if origin.is_server else self._rights.get(origin.principal)
        if rights is None:
            return UpdateReply(Status.REFUSED, answer=b"only clients of the cluster file may repair")
        throttled = self._throttled(rights, origin.principal, record.objects[0], now)
        if throttled is not None:
            return throttled
        own = self._own(record)
        repeated = self._repeated(record, own)
        if repeated is not None:
            return repeated
        if not _is_current(record, own):
            return self._fail(record)
        known = self._vouched.get(record.lt)
        if known is None or known[0] != record:
            return self._park(origin, payload, [self._sync.want_vouched(record, message.hosts, now, origin.principal)])
        answer = known[1]
        if record.kind is not Kind.BARRIER:
            lacking = [obj for obj in record.objects if not self.store.has_version(obj, record.lt)]
            if lacking:
                wanted, hosts, asker = record.lt, message.hosts, origin.principal
                jobs = [self._sync.want_version(obj, wanted, hosts, answer, now, asker) for obj in lacking]
                return self._park(origin, payload, jobs)
        self._vouched.pop(record.lt)
        return self._accept(record, own, [], answer, None)

    def _vouch(self, question: Vouch) -> VouchReply:
        record = self.store.history(question.obj).find(question.lt)
        if record is None or not record.objects or not _is_in_all(record, self._own(record)):
            return VouchReply(b"")
        answer = b"" if record.kind is Kind.BARRIER else self.store.answer(question.obj, question.lt)
        if record.kind is Kind.METHOD and not answer:
            return VouchReply(b"")  # held by object sync: this replica has not run the method and knows no answer
        return VouchReply(record.wire, answer or b"")

    def _roll(self, origin: Origin, question: Roll, now: float) -> RollReply:
        if origin.is_server or not may_list(self._rights.get(origin.principal)):
            return RollReply(Status.REFUSED)
        if not self._roll_rate.allows(origin.principal, 0, now):
            return RollReply(Status.BUSY)
        self.counters["rolls"] += 1
        listed, more = self.store.roll(question.after, question.most)
        return RollReply(Status.ANSWERED, tuple(listed), more)

    # ---- parking

    def _park_for_versions(
        self, request: Request, candidate: Candidate, origin: Origin, payload: bytes, now: float
    ) -> UpdateReply | None:
        jobs: list[JobKey | None] = []
        for view in request.views:
            target = candidate.conditioned_on(view.obj)
            if target != ZERO_TIMESTAMP and not self.store.has_version(view.obj, target):
                hosts = 0
                for history, mask in view.groups:
                    hosts |= mask if history.find(target) is not None else 0
                jobs.append(self._sync.want_version(view.obj, target, hosts, b"", now, origin.principal))
        return self._park(origin, payload, jobs)

    def _park(self, origin: Origin, payload: bytes, jobs: Sequence[JobKey | None]) -> UpdateReply | None:
        keys = {key for key in jobs if key is not None}
        free = self.limits.waiting_requests_max - self._parked_count
        if None in jobs or self._parked_of[origin.principal] >= free:
            return UpdateReply(Status.BUSY)
        parked = _Parked(origin, payload, set(keys))
        self._parked_count += 1
        self._parked_of[origin.principal] += 1
        for key in keys:
            self._parked.setdefault(key, []).append(parked)
        return None

    def _peer_reply(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        if not origin.is_server:
            raise MalformedMessage("a client sent a server's reply")
        number, reply = parse_reply_untrusted(payload)
        if not isinstance(reply, VouchReply | SyncReply):
            raise MalformedMessage("a server sent a reply that servers are not asked for")
        finished = self._sync.on_reply(origin.principal, number, reply, now)
        if self._sync.contradicted:
            for server in servers_of(self._sync.contradicted):
                self._evidence.note(server, Ground.WRONG_DATA, wall_ns)
            self._sync.contradicted = 0
        return [] if finished is None else self._resume(finished, now, wall_ns)

    def _resume(self, finished: Finished, now: float, wall_ns: int) -> list[Send]:
        """Run the requests that waited for a job again, from the start."""
        job = finished.job
        if finished.success and job.record is not None:
            self._vouched[job.target] = (job.record, job.answer)
            if len(self._vouched) > self.limits.waiting_requests_max:
                self._vouched.popitem(last=False)
        sends: list[Send] = []
        key = (job.obj, job.target, job.record)
        for parked in self._parked.pop(key, []):
            parked.waits.discard(key)
            parked.failed |= not finished.success
            if parked.waits:
                continue
            self._parked_count -= 1
            self._parked_of[parked.origin.principal] -= 1
            if parked.failed:
                sends.append(Send(parked.origin, -1, self._sync_failed(parked.payload)))
            else:
                sends += self.step(parked.origin, parked.payload, now, wall_ns)
        return sends

    def _sync_failed(self, payload: bytes) -> bytes:
        """Peers could not provide what a request needs: show the client where this replica stands."""
        self.counters["syncs_failed"] += 1
        number, message = parse_to_server_untrusted(payload, 0)
        if isinstance(message, Adopt):
            objects = message.record.objects
        else:
            assert isinstance(message, Update)
            objects = tuple(view.obj for view in message.request.views)
        return UpdateReply(Status.FAIL, histories=self._current(objects)).pack(number)
