"""How the bytes of an honest replica become lies: pure functions, which the simulator's liars use too."""

from collections.abc import Callable, Container
from itertools import repeat

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.history import LogicalTimestamp, ReplicaHistory, barrier
from qunfs.protocol.messages import (
    Adopt,
    Query,
    QueryReply,
    QueryResult,
    Reply,
    Shown,
    SyncReply,
    ToServer,
    Update,
    UpdateReply,
    VouchReply,
)
from qunfs.protocol.sync import rows_digest

Objects = tuple[tuple[int, ...], ...]


def objects_of(message: ToServer) -> Objects:
    """The objects that a reply to the message is about, as the reply's reader names them."""
    if isinstance(message, Query):
        return tuple(item.objects for item in message.items)
    if isinstance(message, Update):
        return (tuple(view.obj for view in message.request.views),)
    if isinstance(message, Adopt):
        return (message.record.objects,)
    return ()


# ---- values


def wrong(value: bytes) -> bytes:
    """Different bytes of the same length, or one where there was none."""
    return bytes((*value[:-1], value[-1] ^ 1)) if value else b"\x01"


def wrong_answers(reply: Reply) -> Reply:
    """Wrong bytes wherever a client wants to know a value."""
    if isinstance(reply, QueryReply):
        return QueryReply(tuple(map(_wrong_result, reply.results)))
    if isinstance(reply, UpdateReply):
        return reply._replace(answer=wrong(reply.answer))
    return reply


def _wrong_result(result: QueryResult) -> QueryResult:
    followed = result.followed
    if followed is not None:
        followed = followed._replace(answer=wrong(followed.answer))
    return result._replace(answer=wrong(result.answer), followed=followed)


def wrong_data(reply: Reply) -> Reply:
    """Wrong bytes wherever another replica wants to know a value."""
    if isinstance(reply, VouchReply):
        return reply._replace(answer=wrong(reply.answer))
    if isinstance(reply, SyncReply) and reply.known:
        return spoilt_rows(reply, reply.more)
    return reply


def spoilt_rows(reply: SyncReply, more: bool, whole: bool = True) -> SyncReply:
    """A part of an object sync that holds together, with other rows than there are."""
    rows = (*((key, b"spoilt") for key, _ in reply.rows), (b"zz", b"lie"))
    return SyncReply(True, rows_digest(rows, more), rows if whole else (), more)


def mutated(payload: bytes, at: int, byte: int) -> bytes:
    """A payload with another byte in one place."""
    return payload[:at] + bytes((byte,)) + payload[at + 1 :]


# ---- histories and their MACs


def with_histories(reply: Reply, objects: Objects, change: Callable[[int, Shown], Shown]) -> Reply:
    """A reply with each history changed, given the object it is of."""
    if isinstance(reply, UpdateReply):
        shown = tuple(map(change, objects[0] if objects else repeat(0), reply.histories))
        return reply._replace(histories=shown)
    if not isinstance(reply, QueryReply):
        return reply
    results = []
    for ids, result in zip(objects, reply.results, strict=True):
        followed = result.followed
        if followed is not None:
            followed = followed._replace(history=change(followed.obj, followed.history))
        histories = tuple(map(change, ids, result.histories))
        results.append(result._replace(histories=histories, followed=followed))
    return QueryReply(tuple(results))


def damaged(vector: bytes, victims: Container[int], noise: Callable[[], bytes]) -> bytes:
    """MACs that do not hold for some servers."""
    kept = [vector[at : at + MAC_BYTES] for at in range(0, len(vector), MAC_BYTES)]
    return b"".join(noise() if server in victims else mac for server, mac in enumerate(kept))


def under_a_barrier(history: ReplicaHistory, obj: int, ahead: int, client: int, digest: bytes) -> ReplicaHistory:
    """A history with a barrier on top that nobody asked for, so far ahead in time."""
    lt = LogicalTimestamp(history.latest.lt.time + ahead, 1, client, digest)
    return ReplicaHistory((*history.records, barrier(lt, (obj,), (history.head.lt,))))
