"""Malevolent servers: a real replica inside, whose replies are dropped, falsified or made up.

They know each other and see what every benign server has.  Each vice is how one reply is spoiled; a liar has some of
them and mixes in the truth, which keeps it in the game.
"""

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from bench.lies import damaged, mutated, objects_of, spoilt_rows
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.errors import QunfsError
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ReplicaHistory
from qunfs.protocol.messages import (
    Adopt,
    Culled,
    Query,
    QueryReply,
    QueryResult,
    Reply,
    Shown,
    Status,
    Sync,
    SyncReply,
    ToServer,
    Type,
    Update,
    UpdateReply,
    Vouch,
    VouchReply,
)
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.simulation.forgery import Forger
from tests.simulation.network import Link
from tests.simulation.servers import Server
from tests.simulation.watched import WatchedStore

if TYPE_CHECKING:
    from tests.simulation.world import World

VICES: Final = ("silent", "forge", "mimic", "stale", "macs", "answer", "claim", "cull", "sync", "mutate", "refuse")
PERSONAS: Final = ("twins", "amnesia", "high", "locked")
"""Liars that stick to one thing: two lives and no lie; accepting everything and storing nothing; records at the end of
time, or as late as is believed; and MACs that are bad for good, as the history that they belong to is never resent."""
_STORING: Final = (bytes((Type.UPDATE,)), bytes((Type.ADOPT,)))
COLLUDED: Final = b"\xc4\x03lie"
"""The wrong answer that all liars agree on."""


class Liar(Server):
    """A malevolent server.  With ``twins`` it leads two lives, one for each half of its callers."""

    def __init__(self, world: "World", index: int, keys: Mapping[int, bytes]) -> None:
        super().__init__(world, index, keys)
        chance = self.chance
        self.vices = tuple(v for v in VICES if chance.random() < 0.35) or (chance.choice(VICES),)
        self.honesty = chance.choice((0.0, 0.2, 0.5, 0.8))
        self._framing = chance.random() < 0.5
        self.twins = chance.random() < 0.3
        persona = Random(f"{world.seed} persona of {index}")
        if persona.random() < 0.3:
            self._become(persona.choice(PERSONAS))
        self._stores = [WatchedStore(MemoryRows(), world.limits, world.genesis) for _ in range(1 + self.twins)]
        self._lives = [
            Replica(index, world.quorums, self.authenticator, world.registry, store, world.rights, world.limits)
            for store in self._stores
        ]
        self._forger = Forger(world.oracles, chance)
        self._objects: tuple[tuple[int, ...], ...] = ()

    def describe(self) -> str:
        """Its character, for the trace."""
        lives = ("twins",) if self.twins else ()
        return f"{'+'.join(self.vices + lives)} honesty {self.honesty}"

    def _become(self, persona: str) -> None:
        self.twins = persona == "twins"
        self.vices = () if self.twins else (persona,)
        self.honesty = 1.0 if self.twins else 0.0

    # ---- the server's side

    def work(self, batch: list[tuple[Link, bytes]]) -> None:
        for link, payload in batch:
            self._handle(self.origin(link), payload)
        for store in self._stores:
            store.commit()
            store.changes.clear()
        if any(life.busy() for life in self._lives):
            self.schedule_tick()

    def _handle(self, origin: Origin, payload: bytes) -> None:
        life = self._lives[origin.principal % len(self._lives)]
        now, wall_ns = self.world.clock.now, self.world.clock.wall_ns(self.skew_s)
        if "amnesia" in self.vices and payload[:1] in _STORING and self._pretend(origin, payload):
            return
        try:
            sends = life.step(origin, payload, now, wall_ns)
            number, message = parse_to_server_untrusted(payload, 0 if origin.is_server else origin.principal)
        except QunfsError:
            return
        self._objects = objects_of(message)
        spoilt: list[Send] = []
        answered = False
        for send in sends:
            if send.origin == origin and not answered:
                answered = True
                spoilt += self._spoil(send, message)
            else:
                spoilt.append(send)
        if not answered and self.chance.random() < 0.5 and isinstance(message, Update | Adopt):
            lie = UpdateReply(Status.ACCEPTED, histories=self._shown_now(self._objects[0]))
            spoilt.append(Send(origin, -1, lie.pack(number)))
        self.dispatch(spoilt)

    def _pretend(self, origin: Origin, payload: bytes) -> bool:
        """Accept without doing anything; whether that could be told from the message."""
        try:
            number, message = parse_to_server_untrusted(payload, 0 if origin.is_server else origin.principal)
        except QunfsError:
            return False
        self.world.seen["lies: amnesia"] += 1
        lie = UpdateReply(Status.ACCEPTED, answer=COLLUDED, histories=self._shown_now(objects_of(message)[0]))
        self.dispatch([Send(origin, -1, lie.pack(number))])
        return True

    def on_tick(self) -> None:
        for life in self._lives:
            self.dispatch(life.tick(self.world.clock.now, self.world.clock.wall_ns(self.skew_s)))
        self.work([])

    # ---- lies

    def _spoil(self, send: Send, message: ToServer) -> list[Send]:
        if self.chance.random() < self.honesty:
            return [send]
        vice = self.chance.choice(self.vices)
        self.world.seen[f"lies: {vice}"] += 1
        if vice == "silent":
            return []
        if vice == "mutate":
            return [send._replace(payload=self._mutated(send.payload))]
        number, reply = parse_reply_untrusted(send.payload, self._objects, self.world.quorums.n)
        return [send._replace(payload=self._lie(vice, reply, message).pack(number))]

    def _lie(self, vice: str, reply: Reply, message: ToServer) -> Reply:
        if isinstance(reply, QueryReply):
            assert isinstance(message, Query)
            pairs = zip(reply.results, message.items, strict=True)
            return QueryReply(tuple(self._query_lie(vice, r, i.objects) for r, i in pairs))
        if isinstance(reply, UpdateReply):
            return self._update_lie(vice, reply)
        if isinstance(reply, SyncReply) and isinstance(message, Sync):
            return self._sync_lie(reply, message)
        if isinstance(reply, VouchReply) and isinstance(message, Vouch):
            return self._vouch_lie(reply, message)
        return reply

    def _query_lie(self, vice: str, result: QueryResult, objects: tuple[int, ...]) -> QueryResult:
        shown = tuple(self._falsify(vice, obj, s) for obj, s in zip(objects, result.histories, strict=True))
        lts = tuple(lt if s.history is None else s.history.head.lt for lt, s in zip(result.lts, shown, strict=True))
        answer = result.answer
        if vice == "answer" or (vice in ("forge", "claim") and self.chance.random() < 0.5):
            answer = COLLUDED
        code = self.chance.choice(list(Code)) if vice == "refuse" else result.code
        return QueryResult(code, lts, answer, shown, result.followed)

    def _update_lie(self, vice: str, reply: UpdateReply) -> UpdateReply:
        objects = self._objects[0]
        histories = reply.histories or self._shown_now(objects)
        shown = tuple(self._falsify(vice, obj, s) for obj, s in zip(objects, histories, strict=True))
        reply = reply._replace(histories=shown)
        if vice == "claim":
            return reply._replace(status=Status.ACCEPTED, answer=self.chance.choice((reply.answer, COLLUDED)))
        if vice == "answer":
            return reply._replace(answer=COLLUDED)
        if vice == "cull":
            everyone = range(self.world.quorums.n)
            late = self.chance.random() < 0.3
            pairs = tuple(
                Culled(obj, s, late) for obj in self.world.objects for s in everyone if self.chance.random() < 0.7
            )
            return UpdateReply(Status.CULLED, culled=pairs * self.chance.choice((1, 9)))
        if vice == "refuse":
            status = self.chance.choice((Status.FAIL, Status.TIME, Status.REFUSED, Status.BUSY, Status.ANSWERED))
            return UpdateReply(status, self.chance.choice(list(Code)), b"no", shown)
        return reply

    def _falsify(self, vice: str, obj: int, shown: Shown) -> Shown:
        if vice == "locked":
            if shown.history is None:
                return shown
            return Shown(shown.history, self.chance.randbytes(MAC_BYTES * self.world.quorums.n))
        history = shown.history or self._lives[0].store.history(obj)
        if vice == "high":
            return self._issued(obj, self._forger.high(obj, history, self.world.clock.wall_ns()))
        if vice == "forge":
            return self._issued(obj, self._forger.history(obj))
        if vice == "stale":
            return self._issued(obj, self._forger.archived(obj))
        if vice == "mimic":
            return self._issued(obj, self.world.oracles.histories[self.world.mimicked()][obj])
        if vice == "macs":
            return Shown(history, self._damaged(self._issued(obj, history).vector))
        return shown

    def _issued(self, obj: int, history: ReplicaHistory) -> Shown:
        return Shown(history, self.authenticator.tags(obj, history).vector)

    def _damaged(self, vector: bytes) -> bytes:
        """MACs that hold for some servers only: any, or all but the liars' common victims."""
        everyone = range(len(vector) // MAC_BYTES)
        victims = self.world.victims if self._framing else [s for s in everyone if self.chance.random() < 0.5]
        return damaged(vector, victims, lambda: self.chance.randbytes(MAC_BYTES))

    def _shown_now(self, objects: tuple[int, ...]) -> tuple[Shown, ...]:
        return tuple(self._issued(obj, self._lives[0].store.history(obj)) for obj in objects)

    def _sync_lie(self, reply: SyncReply, message: Sync) -> SyncReply:
        spoilt = spoilt_rows(reply, self.chance.random() < 0.3, message.whole)
        return spoilt._replace(known=self.chance.random() < 0.8)

    def _vouch_lie(self, reply: VouchReply, message: Vouch) -> VouchReply:
        record = self.world.conspiracy.get(message.lt) or self._forger.record(message.obj)
        return VouchReply(record.wire, self.chance.choice((reply.answer, COLLUDED)))

    def _mutated(self, payload: bytes) -> bytes:
        at = self.chance.randrange(len(payload))
        return mutated(payload, at, self.chance.randrange(256))
