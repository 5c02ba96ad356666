"""Every message and how it is packed; :mod:`qunfs.protocol.wire` reads them, nothing else knows the wire.

A payload is one type byte, a 32-bit request number that the reply repeats, and a msgpack body.  An UPDATE is a body
packed once for all servers, followed by the column of MACs that only the addressed server can check.  A reply is a body
followed by the vectors of MACs of the histories in it: the bodies of replicas that agree are the same bytes, and the
client reads them once.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from qunfs.protocol.classify import Request
from qunfs.protocol.execution import Code
from qunfs.protocol.history import Candidate, LogicalTimestamp, ReplicaHistory

HEADER: Final = struct.Struct(">BI")
LENGTH: Final = struct.Struct(">I")
REPLY_HEAD: Final = struct.Struct(">BII")
"""Of a reply: the header and the length of the body, behind which its vectors of MACs come."""
HELD_BYTES: Final = 16
"""Enough of a history's digest to say "unchanged": only the asker could profit from a collision."""


class Type(IntEnum):
    """The first byte of a payload."""

    QUERY = 1
    UPDATE = 2
    ADOPT = 3
    STATUS = 4
    VOUCH = 5
    SYNC = 6
    QUERY_REPLY = 17
    UPDATE_REPLY = 18
    STATUS_REPLY = 20
    VOUCH_REPLY = 21
    SYNC_REPLY = 22


class Status(IntEnum):
    """What a replica did with an update, a repair or an adoption."""

    ACCEPTED = 0
    """The candidate is in the history of all its objects."""
    ANSWERED = 1
    """No version results; answered as a query at the conditioned-on versions."""
    FAIL = 2
    """The views are not current (Figure 3, line 1008); the reply has the current histories."""
    CULLED = 3
    """Some authenticators are not valid here; the reply lists them."""
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
        body = [(i.objects, i.held, i.operation, i.at, i.want_auth, i.whole) for i in self.items]
        return _pack(Type.QUERY, number, body)


class Update(NamedTuple):
    """A METHOD, BARRIER or COPY with this server's column of MACs."""

    request: Request
    column: bytes


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
        vectors = [s.vector for r in self.results for s in r.shown()]
        return join_reply(Type.QUERY_REPLY, number, msgpack.packb([_result_body(r) for r in self.results]), vectors)


class UpdateReply(NamedTuple):
    """What became of an Update or Adopt, with the current histories of its objects."""

    status: Status
    code: Code = Code.OK
    answer: bytes = b""
    histories: tuple[Shown, ...] = ()
    culled: tuple[tuple[int, int], ...] = ()
    """(object, server) whose history's MAC does not hold here."""

    def pack(self, number: int) -> bytes:
        """The payload."""
        body = (self.status, self.code, self.answer, [_shown_body(h) for h in self.histories], self.culled)
        return join_reply(Type.UPDATE_REPLY, number, msgpack.packb(body), [h.vector for h in self.histories])


@dataclass(frozen=True, slots=True)
class StatusReply:
    """Counters and settings of a replica, by name."""

    values: dict[str, Any]

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.STATUS_REPLY, number, msgpack.packb(self.values))


class VouchReply(NamedTuple):
    """The record asked for and the answer of its version, or nothing."""

    record: bytes
    answer: bytes = b""

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.VOUCH_REPLY, number, msgpack.packb((self.record, self.answer)))


class SyncReply(NamedTuple):
    """Rows in key order (None: no such key any more), or their digest; unless ``known``, a version is not held."""

    known: bool
    digest: bytes
    rows: tuple[tuple[bytes, bytes | None], ...]
    more: bool

    def pack(self, number: int) -> bytes:
        """The payload."""
        return join_reply(Type.SYNC_REPLY, number, msgpack.packb((self.known, self.digest, self.rows, self.more)))


ToServer = Query | Update | Adopt | StatusQuery | Vouch | Sync
Reply = QueryReply | UpdateReply | StatusReply | VouchReply | SyncReply


def _pack(kind: Type, number: int, body: object) -> bytes:
    packed: bytes = msgpack.packb(body)
    return HEADER.pack(kind, number) + packed


def pack_update_body(request: Request) -> bytes:
    """The part of an UPDATE that is the same for every server."""
    operation = b"" if request.operation is None else request.operation.wire
    sets = [[(s.obj, [(h.wire, m) for h, m in s.groups]) for s in group] for group in (request.views, request.evidence)]
    packed: bytes = msgpack.packb((request.kind, request.session, operation, *sets))
    return packed


def pack_update(number: int, body: bytes, column: bytes) -> bytes:
    """The payload of an UPDATE for one server."""
    return b"".join((HEADER.pack(Type.UPDATE, number), LENGTH.pack(len(body)), body, column))


def join_reply(kind: Type, number: int, body: bytes, vectors: Sequence[bytes] = ()) -> bytes:
    """The payload of a reply."""
    return b"".join((HEADER.pack(kind, number), LENGTH.pack(len(body)), body, *vectors))


def _shown_body(shown: Shown) -> tuple[bytes | None, bool]:
    return (None if shown.history is None else shown.history.wire, shown.vector != b"")


def _result_body(result: QueryResult) -> tuple[object, ...]:
    follow = result.followed
    followed = follow and (follow.obj, _shown_body(follow.history), follow.lt.pack(), follow.code, follow.answer)
    shown = [_shown_body(h) for h in result.histories]
    return (result.code, [lt.pack() for lt in result.lts], result.answer, shown, followed)
