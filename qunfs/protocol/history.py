"""Logical timestamps, candidates and replica histories (Figure 3, lines 103-107).

All three are immutable values with one canonical byte form, which is what gets digested, authenticated and sent.
A candidate is the *record* of one operation: the same one stands in the history of every object it touches, and
records are compared whole.  What follows from the kind is not part of the bytes.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.packing import new_tuple

DIGEST_BYTES: Final = 32
_LT: Final = struct.Struct(f">QBI{DIGEST_BYTES}s")
_HEAD: Final = struct.Struct(">BB")
_START: Final = struct.Struct(f">BBQBI{DIGEST_BYTES}s")
"""Code on the wire, number of objects, timestamp."""
_CONDITION: Final = struct.Struct(f">QQBI{DIGEST_BYTES}s")
"""An object and the timestamp that it is conditioned on."""
_COUNT: Final = struct.Struct(">H")
_blake2b: Final = blake2b


class LogicalTimestamp(NamedTuple):
    """A point in logical time, ordered as the tuple it is (Figure 3, line 103; "compact timestamps", section 3.5)."""

    time: int
    barrier: int
    client: int
    digest: bytes

    def pack(self) -> bytes:
        """45 bytes that sort as the timestamp does."""
        return pack_timestamp(self)

    def __str__(self) -> str:
        return f"{self.time}{'b' if self.barrier else ''}.{self.client}.{self.digest[:3].hex()}"


LT_BYTES: Final = _LT.size
_LT_START: Final = _HEAD.size
_LT_END: Final = _LT_START + LT_BYTES
ZERO_TIMESTAMP: Final = LogicalTimestamp(0, 0, 0, bytes(DIGEST_BYTES))


def pack_timestamp(lt: LogicalTimestamp) -> bytes:
    """The bytes of a timestamp; the function spares the hot path the look-up of the method."""
    time, is_barrier, client, digest = lt
    return _LT.pack(time, is_barrier, client, digest)


def unpack_timestamp(data: bytes, offset: int = 0) -> LogicalTimestamp:
    """The timestamp at an offset of bytes that are known to be long enough."""
    return new_tuple(LogicalTimestamp, _LT.unpack_from(data, offset))


class Kind(IntEnum):
    """What kind of operation made a candidate (Figure 3, line 101)."""

    ZERO = 0
    METHOD = 1
    BARRIER = 2
    COPY = 3


_BARRIER: Final = Kind.BARRIER
_METHOD: Final = Kind.METHOD
_COPY_CONTINUES: Final = 4
"""On the wire only: a COPY that inherits ``src`` and ``bot`` (a COPY that starts a segment needs neither)."""


_METHOD_HEADS: Final = [_HEAD.pack(Kind.METHOD, count) for count in range(256)]
"""How the bytes of a METHOD on so many objects begin."""
_TIME_END: Final = 1 << 63
"""Far beyond any clock in microseconds, with room for the steps that are added to it."""

_RECORD: Final = _START.size
_SIZES: Final = (
    (_RECORD, 0),
    (_RECORD, _CONDITION.size),
    (_RECORD, _CONDITION.size),
    (_RECORD, _CONDITION.size + LT_BYTES),
    (_RECORD + LT_BYTES, _CONDITION.size + 2 * LT_BYTES),
)
"""By code on the wire: a candidate's bytes in all and per object."""


class Candidate:
    """The record of one operation (Figure 3, line 104, extended for several objects).

    ``lt_co[i]``, ``bot[i]`` and ``cur[i]`` belong to ``objects[i]``: the conditioned-on timestamp, the newest ancestor
    that the request proved established, and LT_current.  ``src`` is the timestamp that started the copy segment.
    Build them with :func:`method`, :func:`barrier` and :func:`copy`.
    """

    __slots__ = ("bot", "cur", "kind", "lt", "lt_co", "objects", "src", "wire")

    def __init__(
        self,
        kind: Kind,
        lt: LogicalTimestamp,
        objects: tuple[int, ...],
        lt_co: tuple[LogicalTimestamp, ...],
        bot: tuple[LogicalTimestamp, ...],
        src: LogicalTimestamp,
        cur: tuple[LogicalTimestamp, ...],
        wire: bytes | None = None,
    ) -> None:
        self.kind, self.lt, self.objects, self.lt_co = kind, lt, objects, lt_co
        self.bot, self.src, self.cur = bot, src, cur
        self.wire: Final = self._pack() if wire is None else wire

    def _pack(self) -> bytes:
        copies = self.kind is Kind.COPY
        continues = copies and self.src != self.lt
        parts = [_START.pack(_COPY_CONTINUES if continues else self.kind, len(self.objects), *self.lt)]
        for i, obj in enumerate(self.objects):
            parts.append(_CONDITION.pack(obj, *self.lt_co[i]))
            if copies:
                parts.append(_LT.pack(*self.cur[i]))
            if continues:
                parts.append(_LT.pack(*self.bot[i]))
        if continues:
            parts.append(_LT.pack(*self.src))
        return b"".join(parts)

    def conditioned_on(self, obj: int) -> LogicalTimestamp:
        """LT_CO on one of its objects; zero for the initial candidate."""
        return self.lt_co[self.objects.index(obj)] if self.objects else ZERO_TIMESTAMP

    def bottom(self, obj: int) -> LogicalTimestamp:
        """The newest proven ancestor on one of its objects."""
        return self.bot[self.objects.index(obj)] if self.objects else ZERO_TIMESTAMP

    def current(self, obj: int) -> LogicalTimestamp:
        """LT_current on one of its objects: the newest time a replica may hold and still accept it."""
        return self.cur[self.objects.index(obj)] if self.objects else ZERO_TIMESTAMP

    @property
    def packed_lt(self) -> bytes:
        """The timestamp as it lies in its bytes."""
        return self.wire[_LT_START:_LT_END]

    @property
    def starts_segment(self) -> bool:
        """Whether this is a METHOD, or a COPY of a proven source."""
        return self.src == self.lt

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Candidate) and self.wire == other.wire)

    def __hash__(self) -> int:
        return hash(self.wire)

    def __repr__(self) -> str:
        conditioned = ",".join(f"{o:x}<-{lt}" for o, lt in zip(self.objects, self.lt_co, strict=True))
        return f"<{self.kind.name} {self.lt} {conditioned}>"


ZERO: Final = Candidate(Kind.ZERO, ZERO_TIMESTAMP, (), (), (), ZERO_TIMESTAMP, ())
"""The initial candidate ⟨0⟩ of every object."""

Timestamps = tuple[LogicalTimestamp, ...]


def method(lt: LogicalTimestamp, objects: tuple[int, ...], lt_co: Timestamps, wire: bytes | None = None) -> Candidate:
    """The record of a METHOD: src = lt, bot = cur = lt_co; ``wire`` are its bytes where they are known."""
    return Candidate(_METHOD, lt, objects, lt_co, lt_co, lt, lt_co, wire)


def method_wire(lt: bytes, objects: tuple[int, ...], lt_co: list[bytes]) -> bytes:
    """The bytes of a METHOD from timestamps that are packed already."""
    parts = [_METHOD_HEADS[len(objects)], lt]
    for place, obj in enumerate(objects):
        parts.append(obj.to_bytes(8, "big"))
        parts.append(lt_co[place])
    return b"".join(parts)


def barrier(lt: LogicalTimestamp, objects: tuple[int, ...], lt_co: Timestamps) -> Candidate:
    """The record of a BARRIER: cur = its own timestamp."""
    return Candidate(Kind.BARRIER, lt, objects, lt_co, lt_co, lt, (lt,) * len(objects))


def copy(
    lt: LogicalTimestamp,
    objects: tuple[int, ...],
    lt_co: Timestamps,
    cur: Timestamps,
    continues: Candidate | None = None,
) -> Candidate:
    """The record of a COPY; of a merely repairable source ``continues`` it inherits src and bot."""
    if continues is None:
        return Candidate(Kind.COPY, lt, objects, lt_co, lt_co, lt, cur)
    bot = tuple(continues.bottom(obj) for obj in objects)
    return Candidate(Kind.COPY, lt, objects, lt_co, bot, continues.src, cur)


def _newest_version(records: Sequence[Candidate]) -> Candidate:
    for record in reversed(records):
        if record.kind is not _BARRIER:
            return record
    raise AssertionError("a history's base is never a barrier")


class ReplicaHistory:
    """What one replica has accepted on one object, oldest first (Figure 3, line 105).

    The first record, ``base``, is always established; the last, ``latest``, may be a barrier; ``head`` is the newest
    that has an object version.  Never empty, strictly ordered by timestamp.
    """

    __slots__ = ("_digest", "base", "head", "latest", "records", "wire")

    def __init__(self, records: Iterable[Candidate], wire: bytes | None = None) -> None:
        self.records: Final = tuple(records)
        self.base: Final = self.records[0]
        self.latest: Final = self.records[-1]
        self.head: Final = self.latest if self.latest.kind is not _BARRIER else _newest_version(self.records)
        self._digest: bytes | None = None
        if wire is None:
            parts = [len(self.records).to_bytes(2, "big")]
            for record in self.records:
                parts.append(record.wire)
            wire = b"".join(parts)
        self.wire: Final = wire

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for the history in timestamps and authenticators."""
        if self._digest is None:
            self._digest = _blake2b(self.wire, digest_size=DIGEST_BYTES).digest()
        return self._digest

    def find(self, lt: LogicalTimestamp) -> Candidate | None:
        """The record at a timestamp."""
        for record in self.records:
            if record.lt == lt:
                return record
        return None

    def __contains__(self, record: Candidate) -> bool:
        return record in self.records

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ReplicaHistory) and self.wire == other.wire)

    def __hash__(self) -> int:
        return hash(self.wire)

    def __repr__(self) -> str:
        return "{" + ", ".join(str(r.lt) for r in reversed(self.records)) + "}"


ZERO_HISTORY: Final = ReplicaHistory((ZERO,))
"""The history of an object that nobody has updated (Figure 3, line 900)."""


def parse_candidate_untrusted(data: bytes, offset: int = 0) -> tuple[Candidate, int]:
    """The candidate at an offset and the offset behind it.  Raises MalformedMessage."""
    if len(data) < offset + _HEAD.size:
        raise MalformedMessage("truncated candidate")
    code, count = data[offset], data[offset + 1]
    if code > _COPY_CONTINUES:
        raise MalformedMessage(f"candidate of unknown kind {code}")
    fixed, each = _SIZES[code]
    end = offset + fixed + each * count
    return _parse_one_untrusted(data[offset:end]), end


@lru_cache(maxsize=4_096)
def _parse_one_untrusted(data: bytes) -> Candidate:
    """One candidate from just its bytes; most have been seen in an earlier history."""
    try:
        code, count = _HEAD.unpack_from(data)
        candidate = ZERO if code == Kind.ZERO else _parse_body_untrusted(code, count, data, _HEAD.size)
    except struct.error as error:
        raise MalformedMessage("truncated candidate") from error
    if data != candidate.wire:
        raise MalformedMessage("candidate not in canonical form")
    return candidate


def _parse_body_untrusted(code: int, count: int, data: bytes, at: int) -> Candidate:
    if not 1 <= count <= DEFAULT_LIMITS.objects_per_operation_max:
        raise MalformedMessage(f"candidate of kind {code} on {count} objects")
    lt = unpack_timestamp(data, at)
    at += LT_BYTES
    copies, continues = code in (Kind.COPY, _COPY_CONTINUES), code == _COPY_CONTINUES
    objects: list[int] = []
    conditions: list[LogicalTimestamp] = []
    currents: list[LogicalTimestamp] = []
    bottoms: list[LogicalTimestamp] = []
    for _ in range(count):
        obj, *condition = _CONDITION.unpack_from(data, at)
        at += _CONDITION.size
        if objects and obj <= objects[-1]:
            raise MalformedMessage("candidate's objects not in ascending order")
        objects.append(obj)
        conditions.append(LogicalTimestamp._make(condition))
        if copies:
            currents.append(unpack_timestamp(data, at))
            at += LT_BYTES
        if continues:
            bottoms.append(unpack_timestamp(data, at))
            at += LT_BYTES
    src = unpack_timestamp(data, at) if continues else lt
    if lt.barrier != (code == Kind.BARRIER) or not 0 < lt.time < _TIME_END or (continues and src == lt):
        raise MalformedMessage("candidate's timestamp does not fit its kind")
    ids, lt_co = tuple(objects), tuple(conditions)
    if code == Kind.METHOD:
        return method(lt, ids, lt_co)
    if code == Kind.BARRIER:
        return barrier(lt, ids, lt_co)
    return Candidate(Kind.COPY, lt, ids, lt_co, tuple(bottoms) if continues else lt_co, src, tuple(currents))


def parse_history_untrusted(data: bytes, obj: int, likely: Sequence[Candidate] = ()) -> ReplicaHistory:
    """The history of an object from its canonical bytes.  Raises MalformedMessage.

    ``likely`` are sound records that may well be in it: bytes are compared with theirs before they are parsed.
    """
    if len(data) < _COUNT.size:
        raise MalformedMessage("truncated history")
    (count,) = _COUNT.unpack_from(data)
    if not 1 <= count <= DEFAULT_LIMITS.records_per_history_max:
        raise MalformedMessage(f"history of {count} records")
    records: list[Candidate] = []
    at = _COUNT.size
    for _ in range(count):
        for record in likely:
            if data.startswith(record.wire, at):
                at += len(record.wire)
                break
        else:
            record, at = parse_candidate_untrusted(data, at)
        if record.kind is not Kind.ZERO and obj not in record.objects:
            raise MalformedMessage("history holds a record of another object")
        if records and record.lt <= records[-1].lt:
            raise MalformedMessage("history not in ascending order")
        records.append(record)
    if at != len(data):
        raise MalformedMessage("bytes behind a history")
    if records[0].kind is Kind.BARRIER:
        raise MalformedMessage("history based on a barrier")
    return ReplicaHistory(records, bytes(data))


class ObjectHistorySet:
    """Replica histories of one object indexed by server (Figure 3, line 107).

    Held as distinct histories with the bitmap of the servers that share each, in the order of their lowest server:
    identical histories are compared, sent and digested once.
    """

    __slots__ = ("groups", "mask", "obj")

    def __init__(self, obj: int, groups: Iterable[tuple[ReplicaHistory, int]], mask: int | None = None) -> None:
        """``mask`` are all of the groups' servers, where that is known."""
        self.obj: Final = obj
        self.groups: Final = tuple(groups)
        if mask is None:
            mask = 0
            for _, servers in self.groups:
                mask |= servers
        self.mask: Final = mask

    @classmethod
    def of(cls, obj: int, histories: Mapping[int, ReplicaHistory], mask: int) -> "ObjectHistorySet":
        """The set of the histories of the servers in a bitmap."""
        shared: dict[ReplicaHistory, int] = {}
        for server in range(mask.bit_length()):
            if mask >> server & 1:
                history = histories[server]
                shared[history] = shared.get(history, 0) | 1 << server
        return cls(obj, shared.items())

    def of_server(self, server: int) -> ReplicaHistory:
        """The history of a server in the set."""
        for history, mask in self.groups:
            if mask >> server & 1:
                return history
        raise KeyError(server)

    def orders(self) -> dict[Candidate, int]:
        """For every candidate, the bitmap of the servers whose history holds it (Figure 3, line 800)."""
        orders: dict[Candidate, int] = {}
        for history, mask in self.groups:
            for record in history.records:
                orders[record] = orders.get(record, 0) | mask
        return orders
