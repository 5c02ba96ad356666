"""A replica that lies, in the place of an honest one: ``python -m bench.malevolent DIR --server I --kind KIND``.

It has that replica's keys and data and runs the same protocol; only what it says, or what it remembers, is wrong.
Liars of one kind tell the same lies, as colluding ones would.
"""

import argparse
import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from bench.lies import Objects, damaged, mutated, objects_of, under_a_barrier, with_histories, wrong_answers, wrong_data
from qunfs import cluster, processes
from qunfs.protocol.authenticator import MAC_BYTES, Authenticator
from qunfs.protocol.errors import MalformedMessage, QunfsError
from qunfs.protocol.history import ZERO_HISTORY, Kind, ReplicaHistory
from qunfs.protocol.messages import HEADER, Culled, Reply, Shown, Status, Type, UpdateReply
from qunfs.protocol.operation import Registry
from qunfs.protocol.quorum import QuorumSystem
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import MemoryRows, StoreView
from qunfs.protocol.versions import VersionStore
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted

REMEMBERED_MAX: Final = 65_536
"""Questions whose replies are still to come; more are a flood, and its replies may be true."""


class LyingReplica(Replica):
    """A replica whose replies are falsified on their way out."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._asked: dict[tuple[int, int], Objects] = {}

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """An honest step with dishonest replies."""
        if HEADER.unpack_from(payload)[0] in (Type.QUERY, Type.UPDATE, Type.ADOPT):
            number, message = parse_to_server_untrusted(payload, origin.principal)
            if len(self._asked) < REMEMBERED_MAX:
                self._asked[origin.link, number] = objects_of(message)
        return [self._twist(send) for send in super().step(origin, payload, now, wall_ns)]

    def tick(self, now: float, wall_ns: int) -> list[Send]:
        """An honest tick with dishonest replies to the requests that waited."""
        return [self._twist(send) for send in super().tick(now, wall_ns)]

    def lie(self, reply: Reply, objects: Objects) -> Reply:
        """What to say instead."""
        raise NotImplementedError

    def _twist(self, send: Send) -> Send:
        if send.origin is None:  # a question to another server
            return send
        _, number = HEADER.unpack_from(send.payload)
        objects = self._asked.pop((send.origin.link, number), ())
        try:
            _, reply = parse_reply_untrusted(send.payload, objects, self.quorums.n)
            told = self.lie(reply, objects)
        except MalformedMessage:  # the reply to a question that was not remembered
            return send
        if told == reply:
            return send
        self.counters["lies"] += 1
        return send._replace(payload=told.pack(number))


# ---- what is wrong in replies


class WrongAnswers(LyingReplica):
    """Answers of queries, updates and syncs are not what the methods gave; who holds which record is true."""

    def lie(self, reply: Reply, objects: Objects) -> Reply:  # noqa: ARG002 - as in the other kinds
        """Wrong bytes wherever somebody wants to know a value."""
        return wrong_data(wrong_answers(reply))


class WrongData(LyingReplica):
    """Clients are told the truth, replicas that lack a version or ask for a vouching are not."""

    def lie(self, reply: Reply, objects: Objects) -> Reply:  # noqa: ARG002 - as in the other kinds
        """Wrong bytes wherever another replica wants to know a value."""
        return wrong_data(reply)


class CorruptMacs(LyingReplica):
    """True histories and answers, but the other servers refuse requests that carry this one's authenticators."""

    def lie(self, reply: Reply, objects: Objects) -> Reply:
        """Other bytes in every vector."""
        return with_histories(reply, objects, lambda _, shown: Shown(shown.history, self._spoilt(shown.vector)))

    def _spoilt(self, vector: bytes) -> bytes:
        return damaged(vector, range(self.quorums.n), lambda: bytes(MAC_BYTES))


class CorruptMac(CorruptMacs):
    """Its authenticators hold for every server but one, so that nobody can tell which of the two lies."""

    def _spoilt(self, vector: bytes) -> bytes:
        victim = (self.server + 1) % self.quorums.n
        return damaged(vector, (victim,), lambda: bytes(MAC_BYTES))


class ForgedBarriers(LyingReplica):
    """Its histories end in barriers that nobody asked for, far ahead in time but not too far."""

    AHEAD = 1 << 20

    def lie(self, reply: Reply, objects: Objects) -> Reply:
        """A barrier on every history."""
        return with_histories(reply, objects, self._forged)

    def _forged(self, obj: int, shown: Shown) -> Shown:
        history = shown.history
        if history is None or history.latest.kind is Kind.BARRIER:
            return shown
        forged = under_a_barrier(history, obj, self.AHEAD, 1, bytes(32))
        return Shown(forged, shown.vector and self._authenticator.tags(obj, forged).vector)


class ForgedTimes(ForgedBarriers):
    """The same at times that no honest history reaches for thousands of years."""

    AHEAD = 1 << 60


class Replay(LyingReplica):
    """Whatever it does, it shows histories of long ago that it had then, with the authenticators of then."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._archive: dict[int, deque[Shown]] = {}

    def lie(self, reply: Reply, objects: Objects) -> Reply:
        """The oldest that is remembered of each object."""
        return with_histories(reply, objects, self._old)

    def _old(self, obj: int, shown: Shown) -> Shown:
        if shown.history is None or not shown.vector:
            return shown
        archive = self._archive.setdefault(obj, deque(maxlen=8))
        archive.append(shown)
        return archive[0]


class Complaints(LyingReplica):
    """Refuses every update, because of the authenticators of everybody else."""

    def lie(self, reply: Reply, objects: Objects) -> Reply:
        """CULLED, with everybody on the list."""
        if not isinstance(reply, UpdateReply):
            return reply
        others = [server for server in range(self.quorums.n) if server != self.server]
        ids = objects[0] if objects else ()
        return UpdateReply(Status.CULLED, culled=tuple(Culled(obj, s, False) for obj in ids for s in others))


class Refusals(LyingReplica):
    """Does what it is asked and says that it has not, each time for another reason."""

    REASONS = (Status.REFUSED, Status.BUSY, Status.TIME, Status.FAIL)

    def lie(self, reply: Reply, objects: Objects) -> Reply:  # noqa: ARG002 - as in the other kinds
        """No, in place of yes."""
        if not isinstance(reply, UpdateReply):
            return reply
        return reply._replace(status=self.REASONS[self.counters["lies"] % len(self.REASONS)], answer=b"no")


class Mutations(Replica):
    """One byte of every few messages is another."""

    EVERY = 5

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._chance = Random(self.server)  # noqa: S311 - nothing is secret

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """An honest step with damaged replies."""
        return [self._damaged(send) for send in super().step(origin, payload, now, wall_ns)]

    def _damaged(self, send: Send) -> Send:
        chance = self._chance
        if chance.randrange(self.EVERY):
            return send
        at = chance.randrange(len(send.payload))
        return send._replace(payload=mutated(send.payload, at, chance.randrange(256)))


# ---- two lives


class Twins(Replica):
    """Two replicas with one identity: the second starts with nothing; they take turns at everybody's messages."""

    def __init__(
        self, server: int, quorums: QuorumSystem, authenticator: Authenticator, registry: Registry, store: StoreView,
        *rest: Any, **named: Any,
    ) -> None:  # fmt: skip
        super().__init__(server, quorums, authenticator, registry, store, *rest, **named)
        assert isinstance(store, VersionStore)
        genesis: dict[int, dict[bytes, bytes]] = {}
        for key, value in store._genesis.scan(b""):
            genesis.setdefault(int.from_bytes(key[1:9], "big"), {})[key[9:]] = value
        self._others = VersionStore(MemoryRows(), genesis)
        self._other = Replica(server, quorums, authenticator, registry, self._others, *rest, **named)
        self._turns: dict[Origin, int] = {}

    def step(self, origin: Origin, payload: bytes, now: float, wall_ns: int) -> list[Send]:
        """One of the two takes it; replies of other servers go to both, and one of them has asked."""
        kind, number = HEADER.unpack_from(payload)
        if kind >= Type.QUERY_REPLY:
            mine = super().step(origin, payload, now, wall_ns)
            return mine + self._commit(self._other.step(origin, payload, now, wall_ns))
        if number % 2:
            return super().step(origin, payload, now, wall_ns)
        return self._commit(self._other.step(origin, payload, now, wall_ns))

    def tick(self, now: float, wall_ns: int) -> list[Send]:
        """Both go on."""
        return super().tick(now, wall_ns) + self._commit(self._other.tick(now, wall_ns))

    def busy(self) -> bool:
        """Whether either waits for others."""
        return super().busy() or self._other.busy()

    def _commit(self, sends: list[Send]) -> list[Send]:
        self._others.commit()
        return sends


# ---- histories that do not move


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
    "wrong-data": WrongData,
    "corrupt-macs": CorruptMacs,
    "corrupt-mac": CorruptMac,
    "forged-barriers": ForgedBarriers,
    "forged-times": ForgedTimes,
    "complaints": Complaints,
    "refusals": Refusals,
    "mutations": Mutations,
    "replay": Replay,
    "stale": stale,
    "amnesia": amnesia,
    "twins": Twins,
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
            return _run(loaded, given.server, given.durability, KINDS[given.kind])
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        return 1


def _run(loaded: cluster.Cluster, server: int, durability: Any, replica: Callable[..., Replica]) -> int:
    from server import service

    return service.run(loaded, server, durability=durability, replica_factory=replica)


if __name__ == "__main__":
    sys.exit(main())
