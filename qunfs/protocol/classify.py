"""Proof, classification and set-up of candidates: pure functions that client and server share.

Figure 3: ``classify`` (700-712), ``order`` (800), ``latest_candidate`` (1200-1206) and ``s_setup`` (1100-1118), with
the paper's classification by deduction (section 3.7) replaced by *proof*: a record is proven when some object history
set of the request shows it in a quorum of histories, or as the base of more histories than can lie.
"""

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from qunfs.protocol.errors import PeerError
from qunfs.protocol.history import (
    DIGEST_BYTES,
    ZERO,
    ZERO_TIMESTAMP,
    Candidate,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    barrier,
    copy,
    method,
    method_wire,
    pack_timestamp,
)
from qunfs.protocol.operation import SESSION_BYTES, Operation
from qunfs.protocol.packing import new_tuple
from qunfs.protocol.quorum import QuorumSystem

OUTLINE: Final = struct.Struct(f">B{SESSION_BYTES}sIHH")
"""Kind, session, the length of the operation; how many times SHOWN there is for the views, and for the evidence."""
SHOWN: Final = struct.Struct(">QQI")
"""An object, the bitmap of the servers that have one history, the length of that; no servers: a view of nothing."""
_blake2b: Final = blake2b


class RequestRefused(PeerError):
    """A request that its own views do not justify; correct clients do not send it."""


class Request:
    """A METHOD, BARRIER or COPY and what it is conditioned on (the operation and multi-OHS of section 3.7)."""

    __slots__ = ("_outline", "client", "evidence", "kind", "operation", "session", "views")

    def __init__(
        self,
        kind: Kind,
        client: int,
        session: bytes,
        operation: Operation | None,
        views: tuple[ObjectHistorySet, ...],
        evidence: tuple[ObjectHistorySet, ...] = (),
        received: bytes = b"",
    ) -> None:
        """``received`` is its outline, when it came over the network."""
        self.kind: Final = kind
        self.client: Final = client
        self.session: Final = session
        self.operation: Final = operation
        self.views: Final = views
        """One for each object, ascending: exactly a quorum, or nothing for an object that is still at ⟨0⟩."""
        self.evidence: Final = evidence
        """Further object history sets, used only as proofs."""
        self._outline = received

    @property
    def outline(self) -> bytes:
        """What goes over the network of it before the histories, and with their digests into its timestamp."""
        if not self._outline:
            self._outline = _outline(self)
        return self._outline


def _outline(request: Request) -> bytes:
    operation = b"" if request.operation is None else request.operation.wire
    views, evidence = _shown(request.views), _shown(request.evidence)
    head = OUTLINE.pack(request.kind, request.session, len(operation), len(views), len(evidence))
    return b"".join((head, operation, *views, *evidence))


def _shown(sets: tuple[ObjectHistorySet, ...]) -> list[bytes]:
    shown: list[bytes] = []
    for histories in sets:
        if not histories.groups:
            shown.append(SHOWN.pack(histories.obj, 0, 0))
        for history, mask in histories.groups:
            shown.append(SHOWN.pack(histories.obj, mask, len(history.wire)))
    return shown


class Classification(NamedTuple):
    """What an object history set calls for (Figure 3, lines 700-712)."""

    kind: Kind
    obj_cand: Candidate
    bar_cand: Candidate | None
    latest: LogicalTimestamp


_BARRIER: Final = Kind.BARRIER
_METHOD: Final = Kind.METHOD
_UNTOUCHED: Final = Classification(Kind.METHOD, ZERO, None, ZERO_TIMESTAMP)


class Setup:
    """The candidate a request makes and, for each of its objects, the candidate it is conditioned on."""

    __slots__ = ("candidate", "conditioned")

    def __init__(self, candidate: Candidate, conditioned: tuple[Candidate, ...]) -> None:
        self.candidate: Final = candidate
        self.conditioned: Final = conditioned


def proven(quorums: QuorumSystem, sets: Iterable[ObjectHistorySet]) -> set[Candidate]:
    """The records that some set proves established; a proof on one object holds for the whole operation."""
    established = {ZERO}
    for histories in sets:
        groups = histories.groups
        if len(groups) == 1 and quorums.contains_quorum(groups[0][1]):
            established.update(r for r in groups[0][0].records if r.kind is not Kind.BARRIER)
            continue
        bases: dict[Candidate, int] = {}
        for history, mask in groups:
            bases[history.base] = bases.get(history.base, 0) | mask
        established.update(r for r, mask in bases.items() if quorums.exceeds_malevolent(mask))
        for record, mask in histories.orders().items():
            if record.kind is not Kind.BARRIER and quorums.contains_quorum(mask):
                established.add(record)
    return established


def unanimous(quorums: QuorumSystem, view: ObjectHistorySet) -> Classification | None:
    """The classification of a view in which a whole quorum shows one history that ends in an object version.

    Nearly all views are like that, or empty, and need no counting; None for the others.
    """
    if not view.groups:
        return _UNTOUCHED
    history, mask = view.groups[0]
    latest = history.latest
    if len(view.groups) > 1 or latest.kind is Kind.BARRIER or not quorums.contains_quorum(mask):
        return None
    return Classification(Kind.METHOD, latest, None, latest.lt)


def classify(quorums: QuorumSystem, view: ObjectHistorySet, established: set[Candidate]) -> Classification:
    """What may be done next on an object, given a view of it and what is proven (Figure 3, lines 700-712)."""
    orders = view.orders()
    obj_cand, bar_cand, latest = ZERO, None, ZERO_TIMESTAMP
    for record, mask in orders.items():
        if record.lt > latest:
            latest = record.lt
        if record.kind is Kind.BARRIER:
            if (bar_cand is None or record.lt > bar_cand.lt) and quorums.contains_repairable(mask):
                bar_cand = record
        elif record.lt > obj_cand.lt and (record in established or quorums.contains_repairable(mask)):
            obj_cand = record
    if latest == obj_cand.lt and obj_cand in established:
        kind = Kind.METHOD
    elif bar_cand is not None and latest == bar_cand.lt and quorums.contains_quorum(orders[bar_cand]):
        kind = Kind.COPY
    else:
        kind = Kind.BARRIER
    return Classification(kind, obj_cand, bar_cand, latest)


def setup(quorums: QuorumSystem, request: Request) -> Setup:
    """The candidate of a request (Figure 3, ``s_setup``).  Raises RequestRefused when its views do not allow it."""
    made = setup_unanimous(quorums, request) if request.kind is _METHOD else None
    return made or setup_classified(quorums, request)


def setup_unanimous(quorums: QuorumSystem, request: Request) -> Setup | None:
    """What :func:`setup_classified` makes of a METHOD whose views are all :func:`unanimous`; None when one is not."""
    conditioned: list[Candidate] = []
    objects: list[int] = []
    lt_co: list[LogicalTimestamp] = []
    packed: list[bytes] = []
    time = 0
    for view in request.views:
        candidate, groups = ZERO, view.groups
        if groups:
            history, mask = groups[0]
            candidate = history.latest
            if len(groups) > 1 or candidate.kind is _BARRIER or not quorums.is_view(mask):
                return None
        conditioned.append(candidate)
        objects.append(view.obj)
        lt_co.append(candidate.lt)
        packed.append(candidate.packed_lt)
        if candidate.lt.time > time:
            time = candidate.lt.time
    lt: LogicalTimestamp = new_tuple(LogicalTimestamp, (1 + time, 0, request.client, _digest(request, packed)))
    ids = tuple(objects)
    candidate = method(lt, ids, tuple(lt_co), method_wire(pack_timestamp(lt), ids, packed))
    return Setup(candidate, tuple(conditioned))


def setup_classified(quorums: QuorumSystem, request: Request) -> Setup:
    """The candidate of any request: every view is classified, with what all of it proves."""
    for view in request.views:
        if not (quorums.is_view(view.mask) or (view.mask == 0 and request.kind is Kind.METHOD)):
            raise RequestRefused("a view must show exactly a quorum of histories")
    established = proven(quorums, (*request.views, *request.evidence))
    classes = [classify(quorums, view, established) for view in request.views]
    objects = tuple(view.obj for view in request.views)
    conditioned = tuple(c.obj_cand for c in classes)
    lt_co = tuple(c.lt for c in conditioned)
    time = 1 + max(c.latest.time for c in classes)
    digest = _digest(request, [c.packed_lt for c in conditioned])
    lt = LogicalTimestamp(time, int(request.kind is Kind.BARRIER), request.client, digest)
    kinds = {c.kind for c in classes}
    if request.kind is Kind.METHOD and kinds == {Kind.METHOD}:
        return Setup(method(lt, objects, lt_co), conditioned)
    if request.kind is Kind.BARRIER and Kind.METHOD not in kinds:
        return Setup(barrier(lt, objects, lt_co), conditioned)
    if request.kind is Kind.COPY and kinds == {Kind.COPY}:
        return Setup(_setup_copy(lt, objects, lt_co, classes, established), conditioned)
    shown = ", ".join(sorted(k.name for k in kinds))
    raise RequestRefused(f"{request.kind.name} requested where the views show {shown}")


def _setup_copy(
    lt: LogicalTimestamp,
    objects: tuple[int, ...],
    lt_co: tuple[LogicalTimestamp, ...],
    classes: list[Classification],
    established: set[Candidate],
) -> Candidate:
    source = classes[0].obj_cand
    if any(c.obj_cand != source for c in classes):
        raise RequestRefused("a joint COPY must copy one record")
    is_proven = source in established
    alone = len(objects) == 1 and (is_proven or len(source.objects) <= 1)
    if not alone and source.objects != objects:
        raise RequestRefused("a merely repairable record is copied on all its objects or none")
    cur = tuple(c.bar_cand.lt for c in classes if c.bar_cand is not None)
    return copy(lt, objects, lt_co, cur, continues=None if is_proven else source)


def _digest(request: Request, lt_co: list[bytes]) -> bytes:
    """What makes a timestamp unique to operation and condition ("compact timestamps", section 3.5).

    ``lt_co`` are the packed timestamps that each object is conditioned on.  The outline says how many histories and
    objects there are.
    """
    parts = [request.client.to_bytes(4, "big"), request.outline]
    for histories in request.views:
        for history, _ in histories.groups:
            parts.append(history.digest)
    for histories in request.evidence:
        for history, _ in histories.groups:
            parts.append(history.digest)
    parts += lt_co
    return _blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()
