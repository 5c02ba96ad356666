"""Every message and how it is packed; :mod:`qunfs.protocol.wire` reads them, nothing else knows the wire.

A payload is one type byte, a 32-bit request number that the reply repeats, and a msgpack body.  An UPDATE is a body
packed once for all servers (fixed fields, which are read faster, and histories), followed by the column of MACs that
only the addressed server can check.  A reply is a body
followed by the vectors of MACs of the histories in it: the bodies of replicas that agree are the same bytes, and the
client reads them once.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from qunfs.protocol.classify import Request
from qunfs.protocol.execution import Code
from qunfs.protocol.history import Candidate, LogicalTimestamp, ReplicaHistory
from qunfs.protocol.packing import bytes_head, pack
from qunfs.protocol.store import Listed

HEADER: Final = struct.Struct(">BI")
LENGTH: Final = struct.Struct(">I")
BODY_HEADER: Final = struct.Struct(">BII")
"""HEADER and, where something follows the body, the body's LENGTH."""
HELD_BYTES: Final = 16
"""Enough of a history's digest to say "unchanged": only the asker could profit from a collision."""


Body = tuple[object, ...]
"""What goes into a message's body."""


class Type(IntEnum):
    """The first byte of a payload."""

    QUERY = 1
    UPDATE = 2
    ADOPT = 3
    STATUS = 4
    VOUCH = 5
    SYNC = 6
    ROLL = 7
    QUERY_REPLY = 17
    UPDATE_REPLY = 18
    STATUS_REPLY = 20
    VOUCH_REPLY = 21
    SYNC_REPLY = 22
    ROLL_REPLY = 23


class Status(IntEnum):
    """What a replica did with an update, a repair or an adoption."""

    ACCEPTED = 0
    """The candidate is in the history of all its objects."""
    ANSWERED = 1
    """No version results; answered as a query at the conditioned-on versions."""
    FAIL = 2
    """The views are not current (Figure 3, line 1008); the reply has the current histories."""
    CULLED = 3
    """Some histories shown are not valid here; the reply lists them."""
    TIME = 4
    """The client's clock is too far from the replica's."""
    REFUSED = 5
    """Not allowed, or not justified by the views; the answer is a text."""
    BUSY = 6
    """Over a bound; try again later."""


class QueryItem(NamedTuple):
    """One query, or with no operation a plain read of histories; all objects of an item are read together."""

    objects: tuple[int, ...]
    held: tuple[bytes, ...]
    """Per object the head of the digest of the history the client holds from this server, or empty."""
    operation: bytes = b""
    at: bytes = b""
    """The version of each object to run on, packed; empty for the newest."""
    want_auth: bool = False
    whole: bool = True
    """False: answer with a digest of the answer."""


class Query(NamedTuple):
    """Several queries for the price of one message."""

    items: tuple[QueryItem, ...]

    def pack(self, number: int) -> bytes:
        """The payload."""
        return pack_query(number, self.items)


class Update:
    """A METHOD, BARRIER or COPY with this server's column of MACs."""

    __slots__ = ("column", "request")

    def __init__(self, request: Request, column: bytes) -> None:
        self.request: Final = request
        self.column: Final = column


class Adopt(NamedTuple):
    """Please take over a record that the hosts vouch for (inline repair)."""

    record: Candidate
    hosts: int

    def pack(self, number: int) -> bytes:
        """The payload."""
        return _pack(Type.ADOPT, number, (self.record.wire, self.hosts))


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """How are you?"""

    def pack(self, number: int) -> bytes:
        """The payload."""
        return _pack(Type.STATUS, number, ())


class Vouch(NamedTuple):
    """Between servers: do you hold the record at this time on this object?"""

    obj: int
    lt: LogicalTimestamp

    def pack(self, number: int) -> bytes:
        """The payload."""
        return _pack(Type.VOUCH, number, (self.obj, self.lt.pack()))


class Sync(NamedTuple):
    """Between servers: a part of the net difference from one version of an object to another."""

    obj: int
    base: LogicalTimestamp
    target: LogicalTimestamp
    after: bytes
    whole: bool

    def pack(self, number: int) -> bytes:
        """The payload."""
        return _pack(Type.SYNC, number, (self.obj, self.base.pack(), self.target.pack(), self.after, self.whole))


class Roll(NamedTuple):
    """Which objects do you hold? Those with the next higher ids, no more than so many."""

    after: int
    most: int

    def pack(self, number: int) -> bytes:
        """The payload."""
        return _pack(Type.ROLL, number, (self.after, self.most))


class Shown(NamedTuple):
    """A history in a reply: None when it is the one the client holds; MACs for all n servers when asked for."""

    history: ReplicaHistory | None
    vector: bytes


class Followed(NamedTuple):
    """What the method that the query's answer named has answered on the object that it named."""

    obj: int
    history: Shown
    lt: LogicalTimestamp
    code: Code
    answer: bytes


class QueryResult(NamedTuple):
    """One item's answer, or its digest, and the histories of its objects."""

    code: Code
    lts: tuple[LogicalTimestamp, ...]
    answer: bytes
    histories: tuple[Shown, ...]
    followed: Followed | None = None

    def shown(self) -> tuple[Shown, ...]:
        """Every history in it, in the order of their vectors."""
        return self.histories if self.followed is None else (*self.histories, self.followed.history)


class QueryReply(NamedTuple):
    """The results of a Query's items, in order."""

    results: tuple[QueryResult, ...]

    def pack(self, number: int) -> bytes:
        """The payload."""
        parts = ResultParts()
        for code, lts, answer, histories, followed in self.results:
            shown = [parts.show(*history) for history in histories]
            onward: Body | None = None
            if followed is not None:
                obj, history, lt, follow_code, follow_answer = followed
                onward = (obj, parts.show(*history), lt.pack(), follow_code, follow_answer)
            parts.add(code, [lt.pack() for lt in lts], answer, shown, onward)
        return parts.pack(number)


class ResultParts:
    """A :class:`QueryReply` as replicas make it: what goes into the body, and the vectors of MACs behind it."""

    __slots__ = ("_results", "_vectors", "size")

    def __init__(self) -> None:
        self._results: list[Body] = []
        self._vectors: list[bytes] = []
        self.size = 0
        """Answers and histories together."""

    def show(self, history: ReplicaHistory | None, vector: bytes) -> Body:
        """A history for one of the results, in the order of the results; None as in :class:`Shown`."""
        if vector:
            self._vectors.append(vector)
        if history is None:
            return None, vector != b""
        self.size += len(history.wire)
        return history.wire, vector != b""

    def add(self, code: Code, lts: list[bytes], answer: bytes, shown: list[Body], onward: Body | None = None) -> None:
        """One more result; timestamps are packed, ``onward`` holds the fields of :class:`Followed`."""
        self.size += len(answer)
        self._results.append((code, lts, answer, shown, onward))

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.QUERY_REPLY, number, pack(self._results), self._vectors)


class Culled(NamedTuple):
    """A server's history of an object that was not valid at the replica that says so."""

    obj: int
    server: int
    late: bool
    """Its MAC holds, and its latest time is too far above the replica's clock; otherwise its MAC does not hold."""


_UPDATE_REPLY: Final = Type.UPDATE_REPLY
_UPDATE_REPLIES: Final = [[bytes((0x95, status, code)) for code in Code] for status in Status]
"""How msgpack begins an array of five fields, the first two of them a status and a code."""
_ARRAYS: Final = [bytes((0x90 + length,)) for length in range(16)]
_PAIR: Final = _ARRAYS[2]
_UNCHANGED: Final = _PAIR + b"\xc0"
_FALSE: Final = b"\xc2"
_TRUE: Final = b"\xc3"


class UpdateReply(NamedTuple):
    """What became of an Update or Adopt, with the current histories of its objects."""

    status: Status
    code: Code = Code.OK
    answer: bytes = b""
    histories: tuple[Shown, ...] = ()
    culled: tuple[Culled, ...] = ()

    def pack(self, number: int) -> bytes:
        """The payload; msgpack of (status, code, answer, [(history, has a vector) ...], culled), put together here."""
        status, code, answer, histories, culled = self
        parts = [_UPDATE_REPLIES[status][code], bytes_head(len(answer)), answer, _ARRAYS[len(histories)]]
        vectors: list[bytes] = []
        for history, vector in histories:
            if history is None:
                parts.append(_UNCHANGED)
            else:
                parts.append(_PAIR)
                parts.append(bytes_head(len(history.wire)))
                parts.append(history.wire)
            if vector:
                parts.append(_TRUE)
                vectors.append(vector)
            else:
                parts.append(_FALSE)
        parts.append(pack(culled) if culled else _ARRAYS[0])
        return join_reply(_UPDATE_REPLY, number, b"".join(parts), vectors)


@dataclass(frozen=True, slots=True)
class StatusReply:
    """Counters and settings of a replica, by name."""

    values: dict[str, Any]

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.STATUS_REPLY, number, pack(self.values))


class VouchReply(NamedTuple):
    """The record asked for and the answer of its version, or nothing."""

    record: bytes
    answer: bytes = b""

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.VOUCH_REPLY, number, pack((self.record, self.answer)))


class SyncReply(NamedTuple):
    """Rows in key order (None: no such key any more), or their digest; unless ``known``, a version is not held."""

    known: bool
    digest: bytes
    rows: tuple[tuple[bytes, bytes | None], ...]
    more: bool

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.SYNC_REPLY, number, pack((self.known, self.digest, self.rows, self.more)))


class RollReply(NamedTuple):
    """ANSWERED with objects in ascending order of ids, and whether there are more; REFUSED; or BUSY, ask later."""

    status: Status
    listed: tuple[Listed, ...] = ()
    more: bool = False

    def pack(self, number: int) -> bytes:
        """The payload."""
        listed = [(obj, lt.pack(), present) for obj, lt, present in self.listed]
        return join_reply(Type.ROLL_REPLY, number, pack((self.status, listed, self.more)))


ToServer = Query | Update | Adopt | StatusQuery | Vouch | Sync | Roll
Reply = QueryReply | UpdateReply | StatusReply | VouchReply | SyncReply | RollReply


def _pack(kind: Type, number: int, body: object) -> bytes:
    return HEADER.pack(kind, number) + pack(body)


def pack_query(number: int, items: tuple[QueryItem, ...]) -> bytes:
    """The payload of a QUERY."""
    return _pack(Type.QUERY, number, items)


def pack_update_body(request: Request) -> bytes:
    """The part of an UPDATE that is the same for every server: its outline and the histories that this names."""
    parts = [request.outline]
    for sets in (request.views, request.evidence):
        for histories in sets:
            for history, _ in histories.groups:
                parts.append(history.wire)
    return b"".join(parts)


def pack_update(number: int, body: bytes, column: bytes) -> bytes:
    """The payload of an UPDATE for one server."""
    return b"".join((BODY_HEADER.pack(Type.UPDATE, number, len(body)), body, column))


def join_reply(kind: Type, number: int, body: bytes, vectors: Sequence[bytes] = ()) -> bytes:
    """The payload of a reply."""
    return b"".join((BODY_HEADER.pack(kind, number, len(body)), body, *vectors))
