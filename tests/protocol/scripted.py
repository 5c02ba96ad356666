"""Six production replicas that a test talks to one message at a time, server 5 malevolent when the test says so.

Nothing is lost and nothing takes time; replicas that sync from each other do so at once.  Oracles watch every step.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.authenticator import MAC_BYTES, Authenticator, column
from qunfs.protocol.classify import Request
from qunfs.protocol.client import Client
from qunfs.protocol.history import Candidate, Kind, ObjectHistorySet, ReplicaHistory
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import (
    Adopt,
    Culled,
    Query,
    QueryReply,
    Shown,
    Status,
    Update,
    UpdateReply,
    pack_update,
    pack_update_body,
)
from qunfs.protocol.operation import Call, Credentials, Operation
from qunfs.protocol.planning import Identity
from qunfs.protocol.quorum import mask_of, servers_of, threshold
from qunfs.protocol.replica import Origin, Replica, Send
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.simulation.objects import LEDGER, SIMULATED, pack
from tests.simulation.oracles import Oracles
from tests.simulation.watched import WatchedStore

CREDENTIALS = Credentials(0, 0)
RIGHTS = Rights(True, Squash.NONE, (0, 1 << 31), (0, 1 << 31))
A, B, C = 60, 61, 62
"""Objects whose preferred quorums begin at servers 0, 1 and 2."""
ISOLATED = 9
LIAR = 5


Altered = TypeVar("Altered", Operation, Request)
_CALL = ("objects", "types", "method", "version", "argument", "credentials")
_FIELDS = {
    Operation: (*_CALL, "client_time", "home", "session", "sequence"),
    Request: ("kind", "client", "session", "operation", "views", "evidence"),
}


def altered(value: Altered, **changes: Any) -> Altered:
    """The operation or request with other fields."""
    return type(value)(**{name: getattr(value, name) for name in _FIELDS[type(value)]} | changes)


class Scripted:
    """The replicas and what a test does to them."""

    def __init__(self, objects: Sequence[int] = (A, B, C), liar: bool = True) -> None:
        self.quorums = threshold(1)
        n = self.quorums.n
        chance = Random(1)
        keys = {(i, j): chance.randbytes(32) for i in range(n) for j in range(i, n)}
        self.authenticators = [Authenticator(i, {j: keys[min(i, j), max(i, j)] for j in range(n)}) for i in range(n)]
        self.benign = range(n - liar)
        self.oracles = Oracles(self.quorums, objects, [LIAR] if liar else [])
        self.stores = {i: WatchedStore(MemoryRows(), DEFAULT_LIMITS) for i in self.benign}
        rights = dict.fromkeys(range(1, 30), RIGHTS)
        self.replicas = {
            i: Replica(i, self.quorums, self.authenticators[i], SIMULATED, self.stores[i], rights) for i in self.benign
        }
        self.objects = tuple(objects)
        self.mimicked = 0
        self.bad_macs_for: frozenset[int] = frozenset()
        """The servers for which the liar's MACs do not hold."""
        self.liar_culls = 0
        """How often the liar says of every history that its MAC does not hold, or that its time is too late."""
        self.late = False
        self._operations = 0
        self.now = 0.0

    # ---- what a client would see

    def history(self, server: int, obj: int) -> ReplicaHistory:
        """A server's history; the liar shows that of the server it mimics."""
        return self.stores[server if server in self.benign else self.mimicked].history(obj)

    def view(self, obj: int, servers: Sequence[int]) -> ObjectHistorySet:
        """The histories of some servers as they are now."""
        return ObjectHistorySet.of(obj, {s: self.history(s, obj) for s in servers}, mask_of(servers))

    def times(self, server: int, obj: int) -> list[str]:
        """A history's logical times, oldest first, barriers marked."""
        return [f"{r.lt.time}{'b' if r.lt.barrier else ''}" for r in self.stores[server].history(obj).records]

    # ---- requests

    def operation(self, objects: Sequence[int]) -> Operation:
        """A new append to some ledgers."""
        self._operations += 1
        name = f"x{self._operations}".encode()
        self.oracles.touched[name] = tuple(objects)
        self.oracles.once.add(name)
        session = self._operations.to_bytes(16, "big")
        return Operation(
            tuple(objects),
            (LEDGER,) * len(objects),
            "ledger.append",
            1,
            pack((name, None)),
            CREDENTIALS,
            WALL_ORIGIN_NS,
            objects[0],
            session,
            1,
        )

    def request(
        self, kind: Kind, objects: Sequence[int], servers: Sequence[int] = range(5), like: int = 0, client: int = 1
    ) -> Request:
        """A request on the current histories of some servers, all other objects' histories as evidence."""
        self.mimicked = like
        operation = self.operation(objects) if kind is Kind.METHOD else None
        session = bytes(16) if operation is None else operation.session
        views = tuple(self.view(obj, servers) for obj in sorted(objects))
        evidence = tuple(self.view(obj, servers) for obj in sorted(set(self.objects) - set(objects)))
        return Request(kind, client, session, operation, views, evidence)

    def send(self, request: Request, to: Sequence[int]) -> list[Status | None]:
        """What servers do with a request; None when it waits for something that does not come."""
        return [reply.status if (reply := self.reply_to(request, server)) else None for server in to]

    def reply_to(self, request: Request, server: int, spoiled: Mapping[int, bytes] | None = None) -> UpdateReply | None:
        """A server's reply; ``spoiled`` replaces the MACs of some servers' histories."""
        macs = []
        for histories in (*request.views, *request.evidence):
            for history, mask in histories.groups:
                for issuer in servers_of(mask):
                    vector = self.authenticators[issuer].tags(histories.obj, history).vector
                    macs.append((spoiled or {}).get(issuer, column(vector, server)))
        payload = pack_update(7, pack_update_body(request), b"".join(macs))
        objects = tuple(view.obj for view in request.views)
        return self._reply(server, request.client, payload, objects)

    def adopt(self, record: Candidate, server: int) -> UpdateReply | None:
        """Have a server adopt a record that others hold."""
        holders = mask_of([s for s in self.benign if record in self.history(s, record.objects[0])])
        return self._reply(server, 1, Adopt(record, holders).pack(8), record.objects)

    def _reply(self, server: int, client: int, payload: bytes, objects: tuple[int, ...]) -> UpdateReply | None:
        replies = self.deliver(server, Origin(False, client, 1), payload)
        if not replies:
            return None
        reply = parse_reply_untrusted(replies[0], (objects,), self.quorums.n)[1]
        assert isinstance(reply, UpdateReply)
        return reply

    def deliver(self, server: int, origin: Origin, payload: bytes) -> list[bytes]:
        """Step a replica and everybody it asks, until all is quiet; the payloads that go back to the origin."""
        replies: list[bytes] = []
        waiting: list[tuple[int, Origin, bytes]] = [(server, origin, payload)]
        for _ in range(100):
            while waiting:
                at, whence, message = waiting.pop(0)
                for send in self._step(at, whence, message):
                    if send.origin == origin and at == server:
                        replies.append(send.payload)
                    elif send.origin is not None:
                        waiting.append((send.origin.principal, Origin(True, at, 0), send.payload))
                    elif send.server in self.benign:
                        waiting.append((send.server, Origin(True, at, 0), send.payload))
            busy = self.replicas[server]
            if replies or not busy.busy():
                break
            self.now += 0.3
            for send in busy.tick(self.now, self.wall_ns):
                if send.origin == origin:
                    replies.append(send.payload)
                elif send.origin is None and send.server in self.benign:
                    waiting.append((send.server, Origin(True, server, 0), send.payload))
            self._commit(server)
        return replies

    @property
    def wall_ns(self) -> int:
        return WALL_ORIGIN_NS + int(self.now * 1e9)

    def _step(self, server: int, origin: Origin, payload: bytes) -> list[Send]:
        sends = self.replicas[server].step(origin, payload, self.now, self.wall_ns)
        self._commit(server)
        return sends

    def _commit(self, server: int) -> None:
        store = self.stores[server]
        changes, store.changes = store.changes, []
        store.commit()
        self.oracles.committed(server, changes)

    # ---- an isolated client

    def isolated(self, what: str, objects: Sequence[int], lying: bool, number: int = 0) -> int:
        """Let one correct client do something alone, the liar silent or lying; the round trips it took."""
        client = self.client(number)
        up = [*self.benign, *([LIAR] if lying and LIAR not in self.benign else [])]
        for server in up:
            client.connected(server, self.now)
        typed = tuple((obj, LEDGER) for obj in sorted(objects))
        if what == "fetch":
            client.submit_query([Call("ledger.fetch", typed, pack(None), CREDENTIALS)], self.now)
        else:
            name = f"isolated{number}".encode()
            self.oracles.touched[name] = tuple(sorted(objects))
            self.oracles.once.add(name)
            client.submit_update(
                Call("ledger.append", typed, pack((name, None)), CREDENTIALS, sorted(objects)[0]), self.now
            )
        return self._finish(client, number)

    def client(self, number: int = 0) -> Client:
        """A correct client that is not connected yet."""
        identity = Identity(ISOLATED + number, bytes([number + 1] * 16))
        client = Client(identity, self.quorums, SIMULATED, Random(7).random)
        client.wall_ns = self.wall_ns
        return client

    def refused_append(self, client: Client, obj: int = A) -> int:
        """Let a client ask for what a ledger refuses; the round trips it took."""
        before = client.rpc.counters["round_trips"]
        call = Call("ledger.append", ((obj, LEDGER),), pack((b"refused", (1000,))), CREDENTIALS, obj)
        client.submit_update(call, self.now)
        return self._finish(client, 0) - before

    def _finish(self, client: Client, number: int) -> int:
        """Carry messages until the client is done; the round trips it has taken in all."""
        for _ in range(4000):
            if client.completions:
                assert client.completions.pop().error is None
                return client.rpc.counters["round_trips"]
            outgoing, client.rpc.outgoing = client.rpc.outgoing, []
            for server, payload in outgoing:
                for reply in self._answer(server, ISOLATED + number, payload):
                    client.receive(server, reply, self.now)
            if not outgoing:
                due = client.next_tick()
                assert due is not None
                self.now = max(self.now, due)
                client.tick(self.now)
        raise AssertionError(f"not done after {client.rpc.counters['round_trips']} round trips: {client.counters}")

    def _answer(self, server: int, client: int, payload: bytes) -> list[bytes]:
        origin = Origin(False, client, 2)
        if server in self.benign:
            return self.deliver(server, origin, payload)
        number, message = parse_to_server_untrusted(payload, client)
        truthful = self.replicas[self.mimicked]
        if isinstance(message, Query):
            (send,) = truthful.step(origin, payload, self.now, self.wall_ns)
            reply = parse_reply_untrusted(send.payload, tuple(i.objects for i in message.items), self.quorums.n)[1]
            assert isinstance(reply, QueryReply)
            results = tuple(
                r._replace(answer=b"a lie", histories=self._signed(i.objects))
                for r, i in zip(reply.results, message.items, strict=True)
            )
            return [QueryReply(results).pack(number)]
        if isinstance(message, Update):
            objects = tuple(view.obj for view in message.request.views)
            if self.liar_culls:
                everything = tuple(Culled(o, s, self.late) for o in objects for s in self.benign) * self.liar_culls
                return [UpdateReply(Status.CULLED, culled=everything).pack(number)]
            return [UpdateReply(Status.FAIL, histories=self._signed(objects)).pack(number)]
        return []

    def _signed(self, objects: Sequence[int]) -> tuple[Shown, ...]:
        shown = ((obj, self.history(LIAR, obj)) for obj in objects)
        return tuple(Shown(h, self._vector(self.authenticators[LIAR].tags(obj, h).vector)) for obj, h in shown)

    def _vector(self, sound: bytes) -> bytes:
        return b"".join(bytes(MAC_BYTES) if s in self.bad_macs_for else column(sound, s) for s in range(self.quorums.n))
