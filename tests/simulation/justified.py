"""Whether what a request showed justifies what a benign server accepted on its word.

The rules on views and proofs of docs/protocol.md, said once more and in other words than those of the production code.
An object is *healthy* in a view when the latest thing on it, barriers included, is a version that the request proves.
Then:

* every history shown is authentic: the server that it is shown of had it at some time, unless that server may lie;
* every object of a record is shown in exactly a quorum of histories, but for a METHOD on ⟨0⟩, which need show nothing;
* a METHOD builds on objects that are all healthy, each on its latest version;
* a BARRIER lands on no object that is healthy;
* a COPY finds one barrier to be the latest in the whole view of each of its objects;
* what is adopted has been accepted by a benign server before.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from qunfs.protocol.classify import Request
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ZERO, Candidate, Kind, ObjectHistorySet
from qunfs.protocol.messages import BODY_HEADER, Adopt, Status, Type, Update, UpdateReply
from qunfs.protocol.quorum import QuorumSystem, ThresholdQuorums, servers_of
from qunfs.protocol.replica import Send
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.watched import Change, HistoryChanged

ASKED: Final = (int(Type.UPDATE), int(Type.ADOPT))
"""What a server accepts records for."""


_Test = Callable[[int], bool]
"""Of a set of servers."""


def _counted(least: int) -> _Test:
    return lambda mask: mask.bit_count() >= least


class Justification:
    """The judge of one run's requests."""

    def __init__(self, oracles: Oracles, quorums: QuorumSystem) -> None:
        self._oracles = oracles
        self._judged: set[bytes] = set()
        self._servers = quorums.n
        self._is_quorum: _Test = quorums.contains_quorum
        self._is_repairable: _Test = quorums.contains_repairable
        self._is_believed: _Test = quorums.exceeds_malevolent
        self._is_view: _Test = quorums.is_view
        if isinstance(quorums, ThresholdQuorums):  # counted here, for the predicates may be what is broken
            n, b = quorums.n, quorums.b
            q = -((2 * n + 2 * b + 1) // -3)
            self._is_quorum, self._is_repairable = _counted(q), _counted(n - q + b + 1)
            self._is_believed, self._is_view = _counted(b + 1), lambda mask: mask.bit_count() == q

    def stepped(self, server: int, payload: bytes, changes: Sequence[Change], sends: Sequence[Send]) -> None:
        """A benign server has done what this payload asked for, and is about to make its changes durable."""
        if payload[0] in ASKED and changes:
            self._check(server, payload, changes)
        elif payload[0] == Type.UPDATE and sends and sends[0].origin is not None:
            self._check_reply(server, payload, sends[0])

    def _check_reply(self, server: int, payload: bytes, send: Send) -> None:
        """Nothing was accepted: from what the home object remembers, because it failed, or because it was refused."""
        _, message = parse_to_server_untrusted(payload, 0)
        assert isinstance(message, Update)
        request = message.request
        objects = tuple(view.obj for view in request.views)
        _, reply = parse_reply_untrusted(send.payload, (objects,), self._servers)
        assert isinstance(reply, UpdateReply)
        if reply.status is Status.ANSWERED and reply.code is Code.OK:
            self._oracles.seen["duplicate hit"] += 1
        if reply.status is Status.REFUSED and request.operation is None:
            if self.objection(request) is None:
                raise Violation(f"s{server} refused a {request.kind.name} of {objects} that its views justify")
            self._oracles.seen["unjustified and refused"] += 1

    def _check(self, server: int, payload: bytes, changes: Sequence[Change]) -> None:
        records: dict[Candidate, None] = {}
        for change in changes:
            if isinstance(change, HistoryChanged) and change.is_longer:
                records[change.new.latest] = None
                if payload[0] == Type.UPDATE:
                    _check_based(server, change)
        if payload[0] == Type.UPDATE:
            _, _, length = BODY_HEADER.unpack_from(payload)
            body = payload[BODY_HEADER.size : BODY_HEADER.size + length]
            if body in self._judged:  # the timestamp says what was shown: the record is the same one
                return
            self._judged.add(body)
        _, message = parse_to_server_untrusted(payload, 0)
        for record in records:
            if isinstance(message, Adopt) and record == message.record:
                if record not in self._oracles.acceptors:
                    raise Violation(f"s{server} adopted {record}, which no benign server had accepted")
                if len(record.objects) > 1:
                    self._oracles.seen["joint record adopted"] += 1
            elif isinstance(message, Update) and record.objects == tuple(v.obj for v in message.request.views):
                self._check_request(server, record, message.request)

    def _check_request(self, server: int, record: Candidate, request: Request) -> None:
        sets = (*request.views, *request.evidence)
        for histories in sets:
            self._check_authentic(server, record, histories)
        shown = _Shown(self, sets)
        objection = self._objection(request, shown)
        if objection is not None:
            raise Violation(f"s{server} accepted {record}: {objection}")
        sources = [self._source(view, shown) for view in request.views]
        is_sound = record.lt_co == tuple(source.lt for source in sources)
        if record.kind is Kind.COPY:
            is_sound &= record.cur == tuple(_latest(view).lt for view in request.views)
            is_sound &= record.starts_segment == shown.proves(sources[0])
        if not is_sound:
            raise Violation(f"s{server} accepted {record}, where {sources} were to be built on")
        self._oracles.seen["proof by base"] += shown.by_bases

    def _check_authentic(self, server: int, record: Candidate, histories: ObjectHistorySet) -> None:
        oracles = self._oracles
        for history, mask in histories.groups:
            for issuer in servers_of(mask):
                if issuer not in oracles.malevolent and not oracles.had(issuer, histories.obj, history):
                    raise Violation(
                        f"s{server} accepted {record}, shown {history} of {histories.obj:x}, which s{issuer} never had"
                    )

    def objection(self, request: Request) -> str | None:
        """Why what a request shows does not call for it."""
        return self._objection(request, _Shown(self, (*request.views, *request.evidence)))

    def _objection(self, request: Request, shown: "_Shown") -> str | None:
        for view in request.views:
            if view.mask == 0 and request.kind is Kind.METHOD:
                continue
            if not self._is_view(view.mask):
                return f"{view.mask.bit_count()} histories of {view.obj:x} are no view"
            latest = _latest(view)
            healthy = any(r.kind is not Kind.BARRIER and shown.proves(r) for r in _all_latest(view))
            if request.kind is Kind.METHOD and not healthy:
                return f"{latest} of {view.obj:x} is nothing to build on"
            if request.kind is Kind.BARRIER and healthy:
                return f"{view.obj:x} was healthy at {latest}"
            under = latest.kind is Kind.BARRIER and all(history.latest == latest for history, _ in view.groups)
            if request.kind is Kind.COPY and not under:
                return f"{view.obj:x} was not under one barrier"
        return self._objection_to_copy(request, shown) if request.kind is Kind.COPY else None

    def _objection_to_copy(self, request: Request, shown: "_Shown") -> str | None:
        """One source is copied, on all its objects or known to be established."""
        source, *others = [self._source(view, shown) for view in request.views]
        objects = tuple(view.obj for view in request.views)
        if any(other != source for other in others):
            return f"{source} and {others} are not one source"
        alone = len(objects) == 1 and (shown.proves(source) or len(source.objects) <= 1)
        return None if alone or source.objects == objects else f"{source} has other objects than {objects}"

    def _source(self, view: ObjectHistorySet, shown: "_Shown") -> Candidate:
        """What is built on: the greatest version that may be established."""
        orders = view.orders()
        versions = sorted((r for r in orders if r.kind is not Kind.BARRIER), key=lambda r: r.lt, reverse=True)
        return next((r for r in versions if self._is_repairable(orders[r]) or shown.proves(r)), ZERO)

    def is_proof(self, holders: int, bases: int) -> tuple[bool, bool]:
        """Whether a record that these hold, and that these are based on, is proven; and whether by bases only."""
        by_order = self._is_quorum(holders)
        by_bases = self._is_believed(bases)
        return by_order or by_bases, by_bases and not by_order


def _latest(view: ObjectHistorySet) -> Candidate:
    return _all_latest(view)[0]


def _all_latest(view: ObjectHistorySet) -> list[Candidate]:
    """Those of the latest time: a liar may show a twisted copy of what everybody has."""
    newest = max(history.latest.lt for history, _ in view.groups)
    return [history.latest for history, _ in view.groups if history.latest.lt == newest]


def _check_based(server: int, change: HistoryChanged) -> None:
    """What starts a segment shows what it is based on, so that a server that missed that has it from then on."""
    obj, record = change.obj, change.new.latest
    starts = record.kind is not Kind.BARRIER and record.starts_segment
    if starts and record.objects and change.new.base.lt < record.bottom(obj):
        raise Violation(f"s{server} accepted {record} on {obj:x}, still based on {change.new.base}")


class _Shown:
    """All that one request shows, and what it proves."""

    def __init__(self, judge: Justification, sets: Collection[ObjectHistorySet]) -> None:
        self._judge, self._sets = judge, sets
        self.by_bases = 0
        """Proofs that bases alone gave."""

    def proves(self, record: Candidate) -> bool:
        """Whether the record is shown to be established."""
        if record == ZERO:
            return True
        only_by_bases = False
        for histories in self._sets:
            holders = _mask(m for history, m in histories.groups if record in history)
            bases = _mask(m for history, m in histories.groups if history.base == record)
            proven, by_bases = self._judge.is_proof(holders, bases)
            if proven and not by_bases:
                return True
            only_by_bases |= by_bases
        self.by_bases += only_by_bases
        return only_by_bases


def _mask(masks: Iterable[int]) -> int:
    whole = 0
    for mask in masks:
        whole |= mask
    return whole
