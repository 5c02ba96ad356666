"""Messages: what goes out comes in; whatever else comes in is MalformedMessage and nothing worse."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qunfs.protocol import operation
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.classify import OUTLINE, SHOWN, Request, _digest
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ZERO, ZERO_HISTORY, Kind, LogicalTimestamp, ObjectHistorySet, ReplicaHistory, method
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import (
    BODY_HEADER,
    HEADER,
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
    pack_update,
    pack_update_body,
)
from qunfs.protocol.operation import Credentials, Operation, parse_operation_untrusted
from qunfs.protocol.store import Listed
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.protocol.scripted import altered

N = 6
A, B = 500, 501
LT = LogicalTimestamp(3, 0, 2, b"d" * 32)
RECORD = method(LT, (A, B), (ZERO.lt, ZERO.lt))
HISTORY = ReplicaHistory((ZERO, RECORD))
VECTOR = bytes(range(N)) * MAC_BYTES
OPERATION = Operation((A, B), ("ledger",) * 2, "ledger.append", 1, b"\xc0", Credentials(1, 2, (3,)), 5, A, b"s" * 16, 9)
VIEWS = (
    ObjectHistorySet(A, ((HISTORY, 0b00111), (ZERO_HISTORY, 0b11000))),
    ObjectHistorySet(B, ((HISTORY, 0b11111),)),
)
REQUEST = Request(Kind.METHOD, 4, b"s" * 16, OPERATION, VIEWS, (ObjectHistorySet(B, ((HISTORY, 0b100000),)),))
COLUMN = bytes(MAC_BYTES * 11)

TO_SERVER: list[ToServer] = [
    Query((QueryItem((A, B), (b"", b"h" * 16), OPERATION.wire, LT.pack() * 2, True, False), QueryItem((B,), (b"",)))),
    Adopt(RECORD, 0b111),
    StatusQuery(),
    Vouch(A, LT),
    Sync(A, ZERO.lt, LT, b"after", True),
    Roll(A, 512),
]
RESULT = QueryResult(Code.OK, (LT,), b"answer", (Shown(HISTORY, VECTOR),))
FOLLOWED = Followed(B, Shown(HISTORY, VECTOR[::-1]), LT, Code.FAILED, b"onward")
REPLIES: list[tuple[Reply, tuple[tuple[int, ...], ...]]] = [
    (QueryReply((RESULT, RESULT._replace(histories=(Shown(None, b""),), followed=FOLLOWED))), ((A,), (A,))),
    (
        UpdateReply(
            Status.ACCEPTED, Code.OK, b"x", (Shown(HISTORY, VECTOR), Shown(HISTORY, b"")), (Culled(A, 3, True),)
        ),
        ((A, B),),
    ),
    (UpdateReply(Status.CULLED), ((A,),)),
    (StatusReply({"queries": 3}), ()),
    (VouchReply(RECORD.wire, b"answer"), ()),
    (SyncReply(True, b"d" * 32, ((b"k", b"v"), (b"l", None)), False), ()),
    (RollReply(Status.ANSWERED, (Listed(A, LT, True), Listed(B, ZERO.lt, False)), True), ()),
]


@given(
    st.builds(
        UpdateReply,
        st.sampled_from(list(Status)),
        st.sampled_from(list(Code)),
        st.binary(max_size=300),
        st.lists(
            st.builds(Shown, st.sampled_from([None, HISTORY, ZERO_HISTORY]), st.sampled_from([VECTOR, b""])), max_size=8
        ).map(tuple),
        st.lists(st.builds(Culled, st.integers(0, (1 << 64) - 1), st.integers(0, 63), st.booleans())).map(tuple),
    )
)
def test_the_body_of_an_update_s_reply_is_msgpack_of_its_fields(reply: UpdateReply) -> None:
    shown = [(None if one.history is None else one.history.wire, one.vector != b"") for one in reply.histories]
    body = msgpack.packb((reply.status, reply.code, reply.answer, shown, reply.culled))
    vectors = b"".join(one.vector for one in reply.histories)
    assert reply.pack(7) == BODY_HEADER.pack(Type.UPDATE_REPLY, 7, len(body)) + body + vectors


def _update_payload() -> bytes:
    return pack_update(7, pack_update_body(REQUEST), COLUMN)


@pytest.mark.parametrize("message", TO_SERVER, ids=lambda m: type(m).__name__)
def test_requests_survive_the_wire(message: ToServer) -> None:
    assert not isinstance(message, Update)
    assert parse_to_server_untrusted(message.pack(7), 4) == (7, message)


def test_updates_survive_the_wire() -> None:
    number, message = parse_to_server_untrusted(_update_payload(), 4)
    assert number == 7
    assert isinstance(message, Update)
    assert message.column == COLUMN
    request = message.request
    assert (request.kind, request.client, request.session, request.operation) == (Kind.METHOD, 4, b"s" * 16, OPERATION)
    assert [v.groups for v in request.views] == [v.groups for v in VIEWS]
    assert [(v.obj, v.mask) for v in request.evidence] == [(B, 0b100000)]


@pytest.mark.parametrize("own", [HISTORY, ZERO_HISTORY, ReplicaHistory(HISTORY.records[-1:])])
def test_an_update_reads_the_same_whatever_the_reader_holds(own: ReplicaHistory) -> None:
    read = [parse_to_server_untrusted(_update_payload(), 4, known)[1] for known in (None, lambda _: own)]
    assert all(isinstance(message, Update) for message in read)
    shown = [[(s.obj, s.groups) for s in (*m.request.views, *m.request.evidence)] for m in read]  # type: ignore[union-attr]
    assert shown[0] == shown[1]


@pytest.mark.parametrize(("reply", "objects"), REPLIES, ids=lambda p: type(p).__name__)
def test_replies_survive_the_wire(reply: Reply, objects: tuple[tuple[int, ...], ...]) -> None:
    assert parse_reply_untrusted(reply.pack(9), objects, N) == (9, reply)


def test_the_client_of_a_request_is_whom_the_connection_belongs_to() -> None:
    message = parse_to_server_untrusted(_update_payload(), 12)[1]
    assert isinstance(message, Update)
    assert message.request.client == 12


# ---- fuzz

PAYLOADS = [_update_payload(), *[m.pack(7) for m in TO_SERVER], *[r.pack(9) for r, _ in REPLIES]]  # type: ignore[union-attr]
OBJECTS = [*[objects for _, objects in REPLIES], ()]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.binary(max_size=50)
    | st.text(max_size=5)
    | st.floats()
    | st.sampled_from([A, B, LT.pack(), HISTORY.wire, ZERO_HISTORY.wire, RECORD.wire, OPERATION.wire, b"s" * 16]),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=20,
)


def _parsers(payload: bytes) -> list[Callable[[], object]]:
    readers: list[Callable[[], object]] = [lambda: parse_to_server_untrusted(payload, 4)]
    readers += [lambda objects=objects: parse_reply_untrusted(payload, objects, N) for objects in OBJECTS]  # type: ignore[misc]
    return [*readers, lambda: parse_operation_untrusted(payload)]


def _nothing_worse(payload: bytes) -> None:
    for parse in _parsers(payload):
        with suppress(MalformedMessage):
            parse()


@given(st.binary(max_size=200))
@example(b"")
def test_noise(data: bytes) -> None:
    _nothing_worse(data)


@given(st.sampled_from(list(Type)), VALUES, st.booleans(), st.binary(max_size=40))
def test_any_msgpack_in_any_message(kind: Type, value: object, framed: bool, rest: bytes) -> None:
    body: bytes = msgpack.packb(value)
    if framed:
        body = len(body).to_bytes(4, "big") + body + rest
    _nothing_worse(HEADER.pack(kind, 7) + body)
    _nothing_worse(body)


@given(st.sampled_from(PAYLOADS), st.data())
def test_changed_bytes(payload: bytes, data: st.DataObject) -> None:
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(payload)) | st.integers(0, len(payload)))
    _nothing_worse(bytes(changed[:cut]))


@given(st.lists(VALUES, min_size=6, max_size=6), st.data())
def test_operations_of_odd_callings(odd: list[object], data: st.DataObject) -> None:
    """Types, method, version, uid, gid and groups of any type and size: refused, or read as they are."""
    fields = [OPERATION.types, OPERATION.method, OPERATION.version, *OPERATION.credentials]
    for place in data.draw(st.sets(st.integers(0, 5), max_size=2)):
        fields[place] = odd[place]
    packed: bytes = msgpack.packb(fields)
    once = operation._ONCE.pack(5, A, b"s" * 16, 9, len(packed), 2)
    wire = once + packed + A.to_bytes(8, "big") + B.to_bytes(8, "big") + b"x"
    with suppress(MalformedMessage):
        parsed = parse_operation_untrusted(wire)
        assert parsed.wire == wire
        assert (parsed.objects, parsed.argument) == ((A, B), b"x")
        told = (parsed.types, parsed.method, parsed.version, *parsed.credentials)
        assert told == msgpack.unpackb(packed, use_list=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"objects": ()},
        {"objects": (B, A)},
        {"objects": (A, A)},
        {"objects": (0, B)},
        {"objects": (A,)},
        {"types": ("ledger",) * 3},
        {"types": ("x" * 33, "ledger")},
        {"method": ""},
        {"method": "m" * 65},
        {"version": 1 << 32},
        {"argument": bytes(DEFAULT_LIMITS.argument_bytes_max + 1)},
        {"credentials": Credentials(1 << 32, 0)},
        {"credentials": Credentials(0, -1)},
        {"credentials": Credentials(0, 0, (1 << 32,))},
        {"credentials": Credentials(0, 0, (0,) * (DEFAULT_LIMITS.groups_max + 1))},
        {"client_time": 1 << 63},
        {"home": B + 1},
    ],
    ids=str,
)
def test_operations_out_of_bounds(changes: dict[str, Any]) -> None:
    """Refused whether or not the same calling has been read before."""
    assert parse_operation_untrusted(altered(OPERATION).wire) == OPERATION
    for _ in range(2):
        with pytest.raises(MalformedMessage):
            parse_operation_untrusted(altered(OPERATION, **changes).wire)


def test_callings_are_remembered_without_mixing_them_up() -> None:
    """More different ones than are kept, each read twice."""
    for uid in [*range(1_100), *range(1_100)]:
        one = altered(OPERATION, credentials=Credentials(uid, 2, (uid,)), sequence=uid)
        parsed = parse_operation_untrusted(one.wire)
        assert (parsed.credentials, parsed.method, parsed.types) == (one.credentials, one.method, one.types)
        assert parsed.sequence == uid
    crowd = altered(OPERATION, credentials=Credentials(1, 2, tuple(range(DEFAULT_LIMITS.groups_max))))
    assert parse_operation_untrusted(crowd.wire).credentials == crowd.credentials
    assert len(operation._callings) <= operation._CALLINGS_KEPT
    assert all(len(packed) <= operation._SHORT_CALLING_BYTES for packed in operation._callings)


# ---- updates: fixed fields


def _altered_update(*changes: tuple[int, bytes]) -> bytes:
    """The body's bytes at some offsets exchanged."""
    body = bytearray(pack_update_body(REQUEST))
    for at, data in changes:
        body[at : at + len(data)] = data
    return pack_update(7, bytes(body), COLUMN)


_SHOWN_AT = OUTLINE.size + len(OPERATION.wire)
_NAMED = [SHOWN.unpack_from(REQUEST.outline, _SHOWN_AT + SHOWN.size * i) for i in range(4)]


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (0, (B, *_NAMED[0][1:])),
        (1, (A, 0b00111, _NAMED[1][2])),
        (1, (A, 0, _NAMED[1][2])),
        (1, (A, 0, 0)),
        (1, (A - 1, *_NAMED[1][1:])),
        (0, (A, 0, 0)),
        (0, (A, 0b01000, _NAMED[0][2])),
        (0, (A, 0b00111, _NAMED[0][2] + 1)),
        (2, (0, *_NAMED[2][1:])),
        (3, (B, 0b100000, _NAMED[3][2] + 1)),
        (3, (B, 0b100000, (1 << 32) - 1)),
        (3, (B, 0b1100000, _NAMED[3][2])),
    ],
    ids=str,
)
def test_updates_whose_outline_does_not_fit_its_histories(place: int, shown: tuple[int, int, int]) -> None:
    """Order of objects and servers, lengths, bitmaps that overlap or say nobody, more MACs than there are."""
    payload = _altered_update((_SHOWN_AT + SHOWN.size * place, SHOWN.pack(*shown)))
    for known in (None, lambda _: HISTORY):
        with pytest.raises(MalformedMessage):
            parse_to_server_untrusted(payload, 4, known)
    assert parse_to_server_untrusted(_altered_update(), 4)[0] == 7


def test_an_update_shows_no_history_of_an_object_twice() -> None:
    twice = ObjectHistorySet(A, ((HISTORY, 0b00111), (HISTORY, 0b11000)))
    body = pack_update_body(altered(REQUEST, views=(twice, VIEWS[1])))
    for known in (None, lambda _: HISTORY):
        with pytest.raises(MalformedMessage, match="same history twice"):
            parse_to_server_untrusted(pack_update(7, body, COLUMN), 4, known)


def test_an_update_shows_no_more_objects_than_are_bounded() -> None:
    for most in (DEFAULT_LIMITS.objects_per_operation_max, DEFAULT_LIMITS.objects_per_operation_max + 1):
        views = tuple(ObjectHistorySet(obj, ()) for obj in range(1, most + 1))
        payload = pack_update(7, pack_update_body(Request(Kind.BARRIER, 4, b"s" * 16, None, views)), b"")
        with nullcontext() if most == DEFAULT_LIMITS.objects_per_operation_max else pytest.raises(MalformedMessage):
            message = parse_to_server_untrusted(payload, 4)[1]
            assert isinstance(message, Update)
            assert [v.obj for v in message.request.views] == list(range(1, most + 1))


def test_an_update_reads_back_as_the_outline_that_was_sent() -> None:
    """Client and replica hash the same bytes."""
    message = parse_to_server_untrusted(_update_payload(), 4)[1]
    assert isinstance(message, Update)
    assert message.request.outline == REQUEST.outline
    assert _digest(message.request, []) == _digest(REQUEST, [])
    assert altered(message.request).outline == REQUEST.outline


@given(st.binary(max_size=80))
def test_bytes_behind_or_missing(rest: bytes) -> None:
    """A payload with anything behind it, or cut short, is refused and not read halfway."""
    for payload, (_, objects) in zip([r.pack(9) for r, _ in REPLIES], REPLIES, strict=True):
        if rest:
            with pytest.raises(MalformedMessage):
                parse_reply_untrusted(payload + rest, objects, N)
        with pytest.raises(MalformedMessage):
            parse_reply_untrusted(payload[: -1 - len(rest) % len(payload)], objects, N)
