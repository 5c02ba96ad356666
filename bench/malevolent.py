"""A replica that lies, in the place of an honest one: ``python -m bench.malevolent DIR --server I --kind KIND``.

It has that replica's keys and data and runs the same protocol; only what it says, or what it remembers, is wrong.
Liars of one kind tell the same lies, as colluding ones would.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from qunfs import cluster, processes
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.errors import MalformedMessage, QunfsError
from qunfs.protocol.history import ZERO_HISTORY, ReplicaHistory
from qunfs.protocol.messages import (
    HEADER,
    Adopt,
    Query,
    QueryReply,
    QueryResult,
    Reply,
    Shown,
    SyncReply,
    ToServer,
    Type,
    Update,
    UpdateReply,
    VouchReply,
)
from qunfs.protocol.operation import Registry
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import StoreView
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted

REMEMBERED_MAX: Final = 65_536
"""Questions whose replies are still to come; more are a flood, and its replies may be true."""


class LyingReplica(Replica):
    """A replica whose replies are falsified on their way out."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._asked: dict[tuple[int, int], tuple[tuple[int, ...], ...]] = {}

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """An honest step with dishonest replies."""
        if HEADER.unpack_from(payload)[0] in (Type.QUERY, Type.UPDATE, Type.ADOPT):
            number, message = parse_to_server_untrusted(payload, origin.principal)
            if len(self._asked) < REMEMBERED_MAX:
                self._asked[origin.link, number] = _objects_of(message)
        return [self._twist(send) for send in super().step(origin, payload, now, wall_ns)]

    def tick(self, now: float, wall_ns: int) -> list[Send]:
        """An honest tick with dishonest replies to the requests that waited."""
        return [self._twist(send) for send in super().tick(now, wall_ns)]

    def lie(self, reply: Reply) -> Reply:
        """What to say instead."""
        raise NotImplementedError

    def _twist(self, send: Send) -> Send:
        if send.origin is None:  # a question to another server
            return send
        _, number = HEADER.unpack_from(send.payload)
        objects = self._asked.pop((send.origin.link, number), ())
        try:
            _, reply = parse_reply_untrusted(send.payload, objects, self.quorums.n)
        except MalformedMessage:  # the reply to a question that was not remembered
            return send
        told = self.lie(reply)
        if told == reply:
            return send
        self.counters["lies"] += 1
        return send._replace(payload=told.pack(number))


def _objects_of(message: ToServer) -> tuple[tuple[int, ...], ...]:
    """The objects that the reply to a message is about."""
    if isinstance(message, Query):
        return tuple(item.objects for item in message.items)
    if isinstance(message, Update):
        return (tuple(view.obj for view in message.request.views),)
    assert isinstance(message, Adopt)
    return (message.record.objects,)


class WrongAnswers(LyingReplica):
    """Answers of queries, updates and syncs are not what the methods gave; who holds which record is true."""

    def lie(self, reply: Reply) -> Reply:
        """Wrong bytes wherever somebody wants to know a value."""
        if isinstance(reply, QueryReply):
            return QueryReply(tuple(map(self._wrong_result, reply.results)))
        if isinstance(reply, UpdateReply):
            return reply._replace(answer=wrong(reply.answer))
        if isinstance(reply, VouchReply):
            return reply._replace(answer=wrong(reply.answer))
        if isinstance(reply, SyncReply):
            rows = tuple((key, value if value is None else wrong(value)) for key, value in reply.rows)
            return reply._replace(digest=wrong(reply.digest), rows=rows)
        return reply

    def _wrong_result(self, result: QueryResult) -> QueryResult:
        followed = result.followed
        if followed is not None:
            followed = followed._replace(answer=wrong(followed.answer))
        return result._replace(answer=wrong(result.answer), followed=followed)


class CorruptMacs(LyingReplica):
    """True histories and answers, but the other servers refuse requests that carry this one's authenticators."""

    def lie(self, reply: Reply) -> Reply:
        """Other bytes in every vector."""
        if isinstance(reply, QueryReply):
            return QueryReply(tuple(map(self._spoilt_result, reply.results)))
        if isinstance(reply, UpdateReply):
            return reply._replace(histories=tuple(map(spoilt, reply.histories)))
        return reply

    def _spoilt_result(self, result: QueryResult) -> QueryResult:
        followed = result.followed
        if followed is not None:
            followed = followed._replace(history=spoilt(followed.history))
        return result._replace(histories=tuple(map(spoilt, result.histories)), followed=followed)


def wrong(value: bytes) -> bytes:
    """Different bytes of the same length, or one where there was none."""
    return bytes((*value[:-1], value[-1] ^ 1)) if value else b"\x01"


def spoilt(shown: Shown) -> Shown:
    """The same history with authenticators that hold nowhere."""
    return Shown(shown.history, bytes(byte ^ 0x55 for byte in shown.vector))


# Histories that do not move


class _FrozenStore:
    """A store that keeps versions and forgets that they were accepted: histories stay as they were at the start."""

    def __init__(self, store: StoreView) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def set_history(self, obj: int, history: ReplicaHistory) -> None:
        """Say yes and do nothing."""


class _EmptyStore(_FrozenStore):
    """A store whose objects have never been touched, it says."""

    def history(self, obj: int) -> ReplicaHistory:  # noqa: ARG002 - the shape of StoreView
        """Nothing has ever happened."""
        return ZERO_HISTORY


def stale(
    server: int, quorums: QuorumSystem, authenticator: Authenticator, registry: Registry, store: StoreView, *rest: Any,
    **named: Any,
) -> Replica:  # fmt: skip
    """Accepts everything and shows, with good authenticators, the histories of the time when it started to lie."""
    return Replica(server, quorums, authenticator, registry, cast(StoreView, _FrozenStore(store)), *rest, **named)


def amnesia(
    server: int, quorums: QuorumSystem, authenticator: Authenticator, registry: Registry, store: StoreView, *rest: Any,
    **named: Any,
) -> Replica:  # fmt: skip
    """Accepts everything and claims that no object was ever touched, with good authenticators."""
    return Replica(server, quorums, authenticator, registry, cast(StoreView, _EmptyStore(store)), *rest, **named)


class Silent(Replica):
    """Takes every message and never says anything."""

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """Do the work, keep the replies."""
        super().step(origin, payload, now, wall_ns)
        return []

    def tick(self, now: float, wall_ns: int) -> list[Send]:
        """Ask nobody anything."""
        super().tick(now, wall_ns)
        return []


KINDS: Final[Mapping[str, Callable[..., Replica]]] = {
    "wrong-answers": WrongAnswers,
    "corrupt-macs": CorruptMacs,
    "stale": stale,
    "amnesia": amnesia,
    "silent": Silent,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a lying replica until SIGTERM; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.malevolent",
        description="Run a replica that lies, in the place of an honest one that has been stopped.",
        epilog="Example: python -m bench.malevolent c --server 2 --kind stale",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="the cluster's directory")
    parser.add_argument("--server", type=int, required=True, metavar="I", help="the replica's number")
    parser.add_argument("--kind", choices=KINDS, default="wrong-answers", help="how it lies")
    parser.add_argument("--durability", choices=("sync", "async"), default="sync")
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        loaded = cluster.load(given.directory)
        loaded.data_directory(given.server)
        with processes.registered(loaded, given.server):
            return _run(loaded.directory, given.server, given.durability, KINDS[given.kind])
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        return 1


def _run(directory: Path, server: int, durability: Any, replica: Callable[..., Replica]) -> int:
    from server import service

    return service.run(directory, server, durability=durability, replica_factory=replica)


if __name__ == "__main__":
    sys.exit(main())
