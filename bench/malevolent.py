"""A replica that lies, in the place of an honest one: ``python -m bench.malevolent DIR --server I --kind KIND``.

It has that replica's keys and data and runs the same protocol; only what it says, or what it remembers, is wrong.
Liars of one kind tell the same lies, as colluding ones would.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import msgpack

from qunfs import cluster, processes
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.errors import QunfsError
from qunfs.protocol.history import ZERO_HISTORY, ReplicaHistory
from qunfs.protocol.messages import HEADER, Type, join_reply
from qunfs.protocol.operation import Registry
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import StoreView
from qunfs.protocol.wire import split_reply_untrusted

Body = Any
Lie = Callable[[Body, bytes], tuple[Body, bytes]]


class LyingReplica(Replica):
    """A replica whose replies are changed on their way out; ``lies`` by type, a missing one: that reply is true."""

    lies: ClassVar[Mapping[Type, Lie]] = {}

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """An honest step with dishonest replies."""
        return [self._twist(send) for send in super().step(origin, payload, now, wall_ns)]

    def tick(self, now: float, wall_ns: int) -> list[Send]:
        """An honest tick with dishonest replies to the requests that waited."""
        return [self._twist(send) for send in super().tick(now, wall_ns)]

    def _twist(self, send: Send) -> Send:
        kind, number = HEADER.unpack_from(send.payload)
        lie = self.lies.get(Type(kind))
        if lie is None:
            return send
        self.counters["lies"] += 1
        body, vectors = split_reply_untrusted(send.payload[HEADER.size :])
        twisted, vectors = lie(msgpack.unpackb(body, strict_map_key=False), vectors)
        return send._replace(payload=join_reply(Type(kind), number, msgpack.packb(twisted), [vectors]))


# Wrong answers: everything that a client or a peer wants to know, except who holds which record


def _wrong(value: bytes) -> bytes:
    """Different bytes of the same length, or one where there was none."""
    return bytes((*value[:-1], value[-1] ^ 1)) if value else b"\x01"


def _wrong_results(results: Body, vectors: bytes) -> tuple[Body, bytes]:
    return [_wrong_result(*result) for result in results], vectors


def _wrong_result(code: int, lts: Body, answer: bytes, shown: Body, followed: Body) -> Body:
    if followed is not None:
        followed = [*followed[:-1], _wrong(followed[-1])]
    return code, lts, _wrong(answer), shown, followed


def _wrong_update(body: Body, vectors: bytes) -> tuple[Body, bytes]:
    status, code, answer, *rest = body
    return (status, code, _wrong(answer), *rest), vectors


def _wrong_vouch(body: Body, vectors: bytes) -> tuple[Body, bytes]:
    record, answer = body
    return (record, _wrong(answer)), vectors


def _wrong_rows(body: Body, vectors: bytes) -> tuple[Body, bytes]:
    known, digest, rows, more = body
    wrong = [(key, None if value is None else _wrong(value)) for key, value in rows]
    return (known, _wrong(digest), wrong, more), vectors


class WrongAnswers(LyingReplica):
    """Answers of queries, updates and syncs are not what the methods gave."""

    lies: ClassVar[Mapping[Type, Lie]] = {
        Type.QUERY_REPLY: _wrong_results,
        Type.UPDATE_REPLY: _wrong_update,
        Type.VOUCH_REPLY: _wrong_vouch,
        Type.SYNC_REPLY: _wrong_rows,
    }


# Authenticators that nobody can check


def _spoil(body: Body, vectors: bytes) -> tuple[Body, bytes]:
    return body, bytes(byte ^ 0x55 for byte in vectors)


class CorruptMacs(LyingReplica):
    """True histories and answers, but the other servers refuse requests that carry this one's authenticators."""

    lies: ClassVar[Mapping[Type, Lie]] = {Type.QUERY_REPLY: _spoil, Type.UPDATE_REPLY: _spoil}


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
