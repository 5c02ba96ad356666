"""Reading messages: bytes from the network in, checked values out.

Every function that touches such bytes ends in ``_untrusted`` and raises only MalformedMessage.  What is read for every
request is made by ``tuple.__new__``, since a NamedTuple's own constructor is Python code.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgpack

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.classify import OUTLINE, SHOWN, Request
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.execution import Code
from qunfs.protocol.history import (
    LT_BYTES,
    ZERO,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    parse_candidate_untrusted,
    parse_history_untrusted,
    unpack_timestamp,
)
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import (
    BODY_HEADER,
    HEADER,
    HELD_BYTES,
    Adopt,
    Culled,
    Followed,
    Query,
    QueryItem,
    QueryReply,
    QueryResult,
    Reply,
    Roll,
    RollReply,
    Shown,
    Status,
    StatusQuery,
    StatusReply,
    Sync,
    SyncReply,
    ToServer,
    Type,
    Update,
    UpdateReply,
    Vouch,
    VouchReply,
)
from qunfs.protocol.operation import Operation, parse_operation_untrusted
from qunfs.protocol.packing import new_tuple
from qunfs.protocol.store import Listed

_SHORT_HISTORY_BYTES: Final = 4096
"""Longer ones are rare and not remembered: anybody can send them, and they would fill the memory."""
_unpack: Final = msgpack.unpackb
_OBJECTS_MAX: Final = DEFAULT_LIMITS.objects_per_operation_max
_EVIDENCE_MAX: Final = DEFAULT_LIMITS.evidence_sets_max
_OBJECT_END: Final = 1 << 64
_BODY: Final = BODY_HEADER.size
_UPDATE_HEAD: Final = struct.Struct(BODY_HEADER.format + OUTLINE.format.removeprefix(">"))
_UPDATE_FIXED: Final = _UPDATE_HEAD.size
_SHOWN: Final = SHOWN.size
assert DEFAULT_LIMITS.servers_max == 64, "a bitmap of servers is one word of SHOWN"
_METHOD: Final = Kind.METHOD
_UPDATE: Final = int(Type.UPDATE)
_UPDATE_KINDS: Final = {int(kind): kind for kind in (Kind.METHOD, Kind.BARRIER, Kind.COPY)}
_TYPES: Final = {int(t): t for t in Type}
_CODES: Final = tuple(Code)
_STATUSES: Final = tuple(Status)

_parse_short_history_untrusted = lru_cache(maxsize=4_096)(parse_history_untrusted)
"""One decode per distinct history: the same bytes come from every server and come back in the next view."""


def _parse_history_untrusted(wire: bytes, obj: int) -> ReplicaHistory:
    if len(wire) <= _SHORT_HISTORY_BYTES:
        return _parse_short_history_untrusted(wire, obj)
    return parse_history_untrusted(wire, obj)


def _fields_untrusted(value: object, *shape: type) -> Any:
    """The value, if it is a sequence of just these types."""
    if type(value) is not tuple or tuple(map(type, value)) != shape:
        raise MalformedMessage("field of a wrong shape")
    return value


def _list_untrusted(value: object, bound: int) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) > bound:
        raise MalformedMessage("list missing or too long")
    return value


def _timestamp_untrusted(value: object) -> LogicalTimestamp:
    if type(value) is not bytes or len(value) != LT_BYTES:
        raise MalformedMessage("not a timestamp")
    return unpack_timestamp(value)


def _object_untrusted(value: object) -> int:
    if type(value) is not int or not 0 < value < 1 << 64:
        raise MalformedMessage("not an object id")
    return value


def _code_untrusted(value: object) -> Code:
    if type(value) is not int or not 0 <= value < len(_CODES):
        raise MalformedMessage("unknown code")
    return _CODES[value]


def _bytes_untrusted(value: object, bound: int) -> bytes:
    if type(value) is not bytes or len(value) > bound:
        raise MalformedMessage("bytes missing or too long")
    return value


def _unpack_untrusted(body: bytes) -> Any:
    try:
        return _unpack(body, use_list=False, max_ext_len=0)
    except Exception as error:  # msgpack raises half a dozen unrelated types on bad input
        raise MalformedMessage("body is not msgpack") from error


Known = Callable[[int], ReplicaHistory]
"""The history of an object that is most likely to be shown: bytes are compared with it before they are parsed."""


def parse_to_server_untrusted(payload: bytes, client: int, known: Known | None = None) -> tuple[int, ToServer]:
    """Request number and message that a client or server sent; ``client`` is who the connection belongs to."""
    if not payload:
        raise MalformedMessage("unknown message")
    if payload[0] == _UPDATE:
        return _update_untrusted(payload, client, known)
    parse = _TO_SERVER.get(payload[0])
    if parse is None or len(payload) < HEADER.size:
        raise MalformedMessage("not a request")
    return HEADER.unpack_from(payload)[1], parse(_unpack_untrusted(payload[HEADER.size :]))


def _update_untrusted(payload: bytes, client: int, known: Known | None) -> tuple[int, Update]:
    number: int
    length: int
    code: int
    session: bytes
    told: int
    views_shown: int
    evidence_shown: int
    try:
        _, number, length, code, session, told, views_shown, evidence_shown = _UPDATE_HEAD.unpack_from(payload)
    except struct.error as error:
        raise MalformedMessage("truncated update") from error
    end = _BODY + length
    named = _UPDATE_FIXED + told
    views_end = named + _SHOWN * views_shown
    outline_end = views_end + _SHOWN * evidence_shown
    if not outline_end <= end <= len(payload):
        raise MalformedMessage("truncated update")
    kind = _UPDATE_KINDS.get(code)
    if kind is None:
        raise MalformedMessage("unknown kind of update")
    operation: Operation | None = None
    if (kind is _METHOD) != (told > 0):
        raise MalformedMessage("only a METHOD has an operation")
    if told:
        operation = parse_operation_untrusted(payload[_UPDATE_FIXED:named])
    views, at = _sets_untrusted(payload, named, views_end, outline_end, _OBJECTS_MAX, known)
    evidence: tuple[ObjectHistorySet, ...] = ()
    if evidence_shown:
        evidence, at = _sets_untrusted(payload, views_end, outline_end, at, _EVIDENCE_MAX, known)
    if at != end:
        raise MalformedMessage("histories of other lengths than the outline says")
    objects = tuple([v.obj for v in views])
    if not objects or (operation is not None and (objects != operation.objects or session != operation.session)):
        raise MalformedMessage("views do not fit the operation")
    shown = 0
    for histories in views:
        shown += histories.mask.bit_count()
    for histories in evidence:
        shown += histories.mask.bit_count()
    column = payload[end:]
    if len(column) != MAC_BYTES * shown:
        raise MalformedMessage("column of MACs of a wrong length")
    outline = payload[_BODY:outline_end]
    return number, Update(Request(kind, client, session, operation, views, evidence, outline), column)


def _sets_untrusted(
    payload: bytes, at: int, end: int, wires: int, bound: int, known: Known | None
) -> tuple[tuple[ObjectHistorySet, ...], int]:
    """The history sets that an outline names from ``at`` to ``end``, and where their histories end.

    Histories begin at ``wires``; those of one object follow one another.
    """
    obj: int
    mask: int
    length: int
    sets: list[ObjectHistorySet] = []
    below = 0
    while at < end:
        obj, mask, length = SHOWN.unpack_from(payload, at)
        wire = payload[wires : wires + length]
        at, wires = at + _SHOWN, wires + length
        if obj == below and sets:
            sets[-1] = _another_untrusted(sets[-1], wire, mask, known)
            continue
        if obj <= below:
            raise MalformedMessage("history sets not in ascending order of object ids")
        if len(sets) == bound:
            raise MalformedMessage("list too long")
        below = obj
        if mask:
            sets.append(ObjectHistorySet(obj, ((_likely_untrusted(wire, obj, known), mask),), mask))
        elif wire:
            raise MalformedMessage("history that no server has")
        else:
            sets.append(ObjectHistorySet(obj, (), 0))
    return tuple(sets), wires


def _another_untrusted(histories: ObjectHistorySet, wire: bytes, mask: int, known: Known | None) -> ObjectHistorySet:
    """The set with one more history of its object."""
    if not histories.groups:
        raise MalformedMessage("one more history of a view of nothing")
    _, before = histories.groups[-1]
    if mask & histories.mask or mask & -mask <= before & -before:
        raise MalformedMessage("server bitmaps not in canonical form")
    if any(history.wire == wire for history, _ in histories.groups):
        raise MalformedMessage("the same history twice")
    history = _likely_untrusted(wire, histories.obj, known)
    return ObjectHistorySet(histories.obj, (*histories.groups, (history, mask)), histories.mask | mask)


def _likely_untrusted(wire: bytes, obj: int, known: Known | None) -> ReplicaHistory:
    if known is None:
        return _parse_history_untrusted(wire, obj)
    mine = known(obj)
    return mine if mine.wire == wire else parse_history_untrusted(wire, obj, (ZERO, mine.base, mine.latest))


def _query_untrusted(body: object) -> Query:
    items: list[QueryItem] = []
    for item in _list_untrusted(body, DEFAULT_LIMITS.queries_per_message_max):
        ids, held, _, at, _, _ = _fields_untrusted(item, tuple, tuple, bytes, bytes, bool, bool)
        if not 0 < len(ids) <= _OBJECTS_MAX or len(held) != len(ids):
            raise MalformedMessage("query of too many objects, or without what is held of each")
        for place, obj in enumerate(ids):
            digest = held[place]
            if type(obj) is not int or not 0 < obj < _OBJECT_END:
                raise MalformedMessage("not an object id")
            if type(digest) is not bytes or len(digest) > HELD_BYTES:
                raise MalformedMessage("not the digest of a history")
        if at and len(at) != LT_BYTES * len(ids):
            raise MalformedMessage("query of a version that is not one timestamp for each object")
        items.append(new_tuple(QueryItem, item))
    return Query(tuple(items))


def _adopt_untrusted(body: object) -> Adopt:
    wire, hosts = _fields_untrusted(body, bytes, int)
    record, end = parse_candidate_untrusted(wire)
    if end != len(wire) or record.kind is Kind.ZERO or not 0 <= hosts < 1 << DEFAULT_LIMITS.servers_max:
        raise MalformedMessage("adoption of a wrong shape")
    return Adopt(record, hosts)


def _status_untrusted(body: object) -> StatusQuery:
    _fields_untrusted(body)
    return StatusQuery()


def _vouch_untrusted(body: object) -> Vouch:
    obj, lt = _fields_untrusted(body, int, bytes)
    return Vouch(_object_untrusted(obj), _timestamp_untrusted(lt))


def _sync_untrusted(body: object) -> Sync:
    obj, base, target, after, whole = _fields_untrusted(body, int, bytes, bytes, bytes, bool)
    return Sync(_object_untrusted(obj), _timestamp_untrusted(base), _timestamp_untrusted(target), after, whole)


def _roll_untrusted(body: object) -> Roll:
    after, most = _fields_untrusted(body, int, int)
    if not 0 <= after < _OBJECT_END - 1 or not 0 < most <= DEFAULT_LIMITS.roll_entries_max:
        raise MalformedMessage("roll out of bounds")
    return Roll(after, most)


_TO_SERVER: Final[dict[int, Callable[[object], ToServer]]] = {
    int(Type.QUERY): _query_untrusted,
    int(Type.ADOPT): _adopt_untrusted,
    int(Type.STATUS): _status_untrusted,
    int(Type.VOUCH): _vouch_untrusted,
    int(Type.SYNC): _sync_untrusted,
    int(Type.ROLL): _roll_untrusted,
}


def parse_reply_untrusted(
    payload: bytes, objects: tuple[tuple[int, ...], ...] = (), servers: int = DEFAULT_LIMITS.servers_max
) -> tuple[int, Reply]:
    """Request number and reply of a server; the arguments are those of the two steps it takes."""
    kind, number, end = reply_head_untrusted(payload)
    reply = parse_reply_body_untrusted(kind, payload[BODY_HEADER.size : end], objects)
    return number, _with_vectors_untrusted(reply, payload[end:], servers * MAC_BYTES)


def number_untrusted(payload: bytes) -> int:
    """The request number of a reply, of which nothing else is looked at: spelled out since it is read of every one."""
    if len(payload) < HEADER.size:
        raise MalformedMessage("unknown message")
    return payload[1] << 24 | payload[2] << 16 | payload[3] << 8 | payload[4]


def reply_head_untrusted(payload: bytes) -> tuple[Type, int, int]:
    """Type and request number of a reply, and where its body ends and its vectors of MACs begin."""
    try:
        kind, number, length = BODY_HEADER.unpack_from(payload)
        known = _TYPES[kind]
    except (struct.error, KeyError) as error:
        raise MalformedMessage("unknown message") from error
    end = BODY_HEADER.size + length
    if not length or end > len(payload):
        raise MalformedMessage("truncated reply")
    return known, number, end


_PENDING: Final = b"?"
"""Stands for a vector of MACs in a reply's body, whose bytes come behind the body."""
_UNCHANGED: Final = Shown(None, b"")
_UNCHANGED_PENDING: Final = Shown(None, _PENDING)


def parse_reply_body_untrusted(
    kind: Type,
    body: bytes,
    objects: tuple[tuple[int, ...], ...] = (),
    expected: tuple[ReplicaHistory, ...] = (),
) -> Reply:
    """A server's reply without its vectors of MACs.

    ``objects`` are those of each item of the query, or those of the update as the only item: histories are checked
    against them.  ``expected`` are sound histories of the update's objects, with which bytes are compared before they
    are parsed.
    """
    value = _unpack_untrusted(body)
    if kind is Type.QUERY_REPLY:
        if type(value) is not tuple or len(value) != len(objects):
            raise MalformedMessage("reply does not answer every item")
        if len(value) == 1:
            return new_tuple(QueryReply, ((_result_untrusted(value[0], objects[0]),),))
        return QueryReply(tuple([_result_untrusted(result, objects[i]) for i, result in enumerate(value)]))
    if kind is Type.UPDATE_REPLY:
        return _update_reply_untrusted(value, objects[0] if objects else (), expected)
    if kind is Type.VOUCH_REPLY:
        return VouchReply(*_fields_untrusted(value, bytes, bytes))
    if kind is Type.SYNC_REPLY:
        return _sync_reply_untrusted(value)
    if kind is Type.ROLL_REPLY:
        return _roll_reply_untrusted(value)
    if kind is Type.STATUS_REPLY and type(value) is dict and all(type(k) is str for k in value):
        return StatusReply(value)
    raise MalformedMessage(f"{kind.name} is not a reply")


def pending_vectors(reply: Reply) -> int:
    """How many vectors of MACs must come behind the body of a reply."""
    count = 0
    if isinstance(reply, UpdateReply):
        for _, vector in reply.histories:
            if vector:
                count += 1
    elif isinstance(reply, QueryReply):
        for result in reply.results:
            for _, vector in result.shown():
                if vector:
                    count += 1
    return count


def _with_vectors_untrusted(reply: Reply, vectors: bytes, size: int) -> Reply:
    """The reply with the vectors that came behind its body, each of that size."""
    if len(vectors) != pending_vectors(reply) * size:
        raise MalformedMessage("more or fewer vectors of MACs than histories")
    each = iter([vectors[at : at + size] for at in range(0, len(vectors), size)])

    def of(shown: Shown) -> Shown:
        return Shown(shown.history, next(each)) if shown.vector else shown

    def of_result(result: QueryResult) -> QueryResult:
        result = result._replace(histories=tuple([of(shown) for shown in result.histories]))
        if result.followed is None:
            return result
        return result._replace(followed=result.followed._replace(history=of(result.followed.history)))

    if isinstance(reply, UpdateReply):
        return reply._replace(histories=tuple([of(shown) for shown in reply.histories]))
    if isinstance(reply, QueryReply):
        return QueryReply(tuple([of_result(result) for result in reply.results]))
    return reply


def _shown_untrusted(value: object, obj: int, expected: ReplicaHistory | None = None) -> Shown:
    if type(value) is not tuple or len(value) != 2 or type(value[1]) is not bool:
        raise MalformedMessage("history of a wrong shape")
    wire, has_vector = value
    if wire is None:
        return _UNCHANGED_PENDING if has_vector else _UNCHANGED
    if expected is not None and wire == expected.wire:
        history = expected
    else:
        history = _parse_history_untrusted(_bytes_untrusted(wire, DEFAULT_LIMITS.frame_bytes_max), obj)
    return new_tuple(Shown, (history, _PENDING if has_vector else b""))


def _histories_untrusted(
    shown: tuple[Any, ...], objects: tuple[int, ...], expected: tuple[ReplicaHistory, ...]
) -> tuple[Shown, ...]:
    if not shown:
        return ()
    if len(shown) != len(objects):
        raise MalformedMessage("histories of other objects")
    known = len(expected) == len(objects)
    return tuple([_shown_untrusted(one, objects[i], expected[i] if known else None) for i, one in enumerate(shown)])


def _result_untrusted(value: object, objects: tuple[int, ...]) -> QueryResult:
    if type(value) is not tuple or len(value) != 5:
        raise MalformedMessage("result of a wrong shape")
    code, lts, answer, shown, follow = value
    count = len(objects)
    if type(lts) is not tuple or type(shown) is not tuple or len(lts) != count or len(shown) != count:
        raise MalformedMessage("result does not cover its objects")
    followed = None
    if follow is not None:
        obj, history, lt, follow_code, follow_answer = _fields_untrusted(follow, int, tuple, bytes, int, bytes)
        child = _shown_untrusted(history, _object_untrusted(obj))
        followed = Followed(obj, child, _timestamp_untrusted(lt), _code_untrusted(follow_code), follow_answer)
    sound = _bytes_untrusted(answer, DEFAULT_LIMITS.answer_bytes_max)
    if count == 1:
        timestamps: tuple[LogicalTimestamp, ...] = (_timestamp_untrusted(lts[0]),)
        histories: tuple[Shown, ...] = (_shown_untrusted(shown[0], objects[0]),)
    else:
        timestamps = tuple([_timestamp_untrusted(lt) for lt in lts])
        histories = tuple([_shown_untrusted(one, objects[i]) for i, one in enumerate(shown)])
    return new_tuple(QueryResult, (_code_untrusted(code), timestamps, sound, histories, followed))


def _update_reply_untrusted(
    value: object, objects: tuple[int, ...], expected: tuple[ReplicaHistory, ...]
) -> UpdateReply:
    if type(value) is not tuple or len(value) != 5:
        raise MalformedMessage("field of a wrong shape")
    status, code, answer, shown, culled = value
    if type(answer) is not bytes or type(shown) is not tuple or type(culled) is not tuple:
        raise MalformedMessage("field of a wrong shape")
    if type(status) is not int or not 0 <= status < len(_STATUSES):
        raise MalformedMessage("unknown status")
    named: tuple[Culled, ...] = ()
    if culled:
        named = tuple([Culled(*_fields_untrusted(one, int, int, bool)) for one in _list_untrusted(culled, 4096)])
    histories = _histories_untrusted(shown, objects, expected)
    return new_tuple(UpdateReply, (_STATUSES[status], _code_untrusted(code), answer, histories, named))


def _sync_reply_untrusted(value: object) -> SyncReply:
    known, digest, rows, more = _fields_untrusted(value, bool, bytes, tuple, bool)
    for row in rows:
        if (
            type(row) is not tuple
            or len(row) != 2
            or type(row[0]) is not bytes
            or type(row[1]) not in (bytes, type(None))
        ):
            raise MalformedMessage("row of a wrong shape")
    return SyncReply(known, digest, rows, more)


def _roll_reply_untrusted(value: object) -> RollReply:
    status, listed, more = _fields_untrusted(value, int, tuple, bool)
    if not 0 <= status < len(_STATUSES):
        raise MalformedMessage("unknown status")
    below, objects = 0, []
    for item in _list_untrusted(listed, DEFAULT_LIMITS.roll_entries_max):
        obj, lt, present = _fields_untrusted(item, int, bytes, bool)
        if not below < obj < _OBJECT_END:
            raise MalformedMessage("objects not in ascending order of ids")
        below = obj
        objects.append(Listed(obj, _timestamp_untrusted(lt), present))
    return RollReply(_STATUSES[status], tuple(objects), more)
