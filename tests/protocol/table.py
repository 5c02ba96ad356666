"""The system of the paper's Table 1: six benign replicas, clients that are told what to do next, and a transcript.

Replicas, planners and what travels between them are the production code; which servers a message reaches, and when, is
the script's.
"""

from collections.abc import Mapping, Sequence

from qunfs.protocol.authenticator import column
from qunfs.protocol.classify import classify, proven
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ZERO_TIMESTAMP, Candidate, LogicalTimestamp, ReplicaHistory
from qunfs.protocol.history_cache import HistoryCache, history_set
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import (
    Adopt,
    Query,
    QueryItem,
    QueryReply,
    Status,
    UpdateReply,
    pack_update,
    pack_update_body,
)
from qunfs.protocol.operation import Context, ObjectView, Operation, Registry
from qunfs.protocol.planning import Identity, Inline, Planner, Prepared, Repair
from qunfs.protocol.replica import Origin, Replica
from qunfs.protocol.trust import Trust
from qunfs.protocol.wire import parse_reply_untrusted
from tests.protocol.scripted import CREDENTIALS, RIGHTS, Scripted
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.simulation.objects import pack

OBJ = 60
"""An object whose preferred quorum are the first five servers."""
SUIT = "suit"
INITIAL = "♡"
SUITS = Registry()
NAMES = {1: "X", 2: "Y", 3: "Z"}


@SUITS.update("suit.set")
def _set(views: Mapping[int, ObjectView], context: Context) -> bytes:
    views[OBJ].put(b"v", context.argument.encode())
    return pack("set")


@SUITS.query("suit.get")
def _get(views: Mapping[int, ObjectView], _context: Context) -> bytes:
    return views[OBJ].get(b"v") or INITIAL.encode()


def name(lt: LogicalTimestamp) -> str:
    """A timestamp as the paper prints it; the client tells contenders of one time apart."""
    return "0" if lt == ZERO_TIMESTAMP else f"{lt.time}{'b' if lt.barrier else ''}.{NAMES[lt.client]}"


def pair(record: Candidate) -> str:
    """A candidate as the paper prints it."""
    return f"⟨{name(record.lt)}, {name(record.conditioned_on(OBJ))}⟩"


def shown(history: ReplicaHistory) -> str:
    """A replica history, newest first."""
    return "{" + ", ".join(name(record.lt) for record in reversed(history.records)) + "}"


class Person:
    """One of the paper's clients, and the servers that it turns to."""

    def __init__(self, world: "Table", client: int, servers: Sequence[int]) -> None:
        self.client, self.servers, self._world = client, servers, world
        self.trust = Trust(world.quorums)
        self.trust.reached(servers)
        self.cache = HistoryCache(world.quorums, self.trust)
        identity = Identity(client, bytes([client]) * 16)
        self.planner = Planner(world.quorums, self.cache, identity, self.trust, DEFAULT_LIMITS.views_tried_max)
        self._sequence = 0
        self._packed: dict[Candidate, list[bytes]] = {}
        """By candidate the request for each server, with the MACs held when it was made."""

    def set(self, suit: str) -> Prepared:
        """A METHOD on what it holds."""
        self._sequence += 1
        session = bytes([self.client]) * 16
        operation = Operation(
            (OBJ,), (SUIT,), "suit.set", 1, pack(suit), CREDENTIALS, WALL_ORIGIN_NS, OBJ, session, self._sequence
        )
        prepared = self.planner.method(operation, frozenset())
        assert prepared is not None
        return self._pack(prepared)

    def repair(self) -> Inline | Repair:
        """Its next step of a repair."""
        plan = self.planner.repair(frozenset((OBJ,)), (OBJ,), 0)
        assert isinstance(plan, Inline | Repair)
        if isinstance(plan, Repair):
            self._pack(plan.prepared)
        return plan

    def _pack(self, prepared: Prepared) -> Prepared:
        request = prepared.request
        vectors = [v for sets in (*request.views, *request.evidence) for v in self.cache.vectors(sets)]
        body = pack_update_body(request)
        columns = [b"".join([column(v, server) for v in vectors]) for server in range(self._world.quorums.n)]
        self._packed[prepared.made.candidate] = [pack_update(7, body, column) for column in columns]
        return prepared

    def get(self) -> None:
        """Query its quorum."""
        operation = Operation((OBJ,), (SUIT,), "suit.get", 1, pack(None), CREDENTIALS)
        payload = Query((QueryItem((OBJ,), (b"",), operation.wire, want_auth=True),)).pack(7)
        for server in self.servers:
            (answer,) = self._world.deliver(server, Origin(False, self.client, 1), payload)
            reply = parse_reply_untrusted(answer, ((OBJ,),), self._world.quorums.n)[1]
            assert isinstance(reply, QueryReply)
            (result,) = reply.results
            assert result.code is Code.OK
            self._world.answers[server] = f"answers {result.answer.decode()}"
            self.cache.note((OBJ,), result.histories, 1 << server, {server: result.histories[0].vector})

    def send(self, prepared: Prepared, to: Sequence[int]) -> None:
        """Send a METHOD, BARRIER or COPY to some servers."""
        for server in to:
            self._take(server, self._packed[prepared.made.candidate][server])

    def adopt(self, plan: Inline, to: Sequence[int]) -> None:
        """Ask some servers to adopt a candidate."""
        for server in to:
            self._take(server, Adopt(plan.record, plan.hosts).pack(7))

    def _take(self, server: int, payload: bytes) -> None:
        (answer,) = self._world.deliver(server, Origin(False, self.client, 1), payload)
        reply = parse_reply_untrusted(answer, ((OBJ,),), self._world.quorums.n)[1]
        assert isinstance(reply, UpdateReply)
        self.cache.note((OBJ,), reply.histories, 1 << server, {server: reply.histories[0].vector})
        self._world.answers[server] = "FAIL" if reply.status is Status.FAIL else reply.status.name.lower()

    def classified(self) -> str:
        """What its own quorum's histories call for."""
        held = self.cache.authenticated(OBJ)
        quorums = self._world.quorums
        view = history_set(OBJ, held, self.servers)
        established = proven(quorums, (view,))
        found = classify(quorums, view, established)
        order = view.orders().get(found.obj_cand, 0).bit_count()
        standing = "proven" if found.obj_cand in established else "repairable"
        latest = "the latest" if found.latest == found.obj_cand.lt else f"the latest is {name(found.latest)}"
        text = f"{found.kind.name}; ObjCand {pair(found.obj_cand)} is {standing} (order {order}), {latest}"
        return text if found.bar_cand is None else f"{text}; BarCand {name(found.bar_cand.lt)}"


class Table(Scripted):
    """The replicas and the transcript."""

    def __init__(self) -> None:
        super().__init__((OBJ,), liar=False)
        rights = dict.fromkeys(NAMES, RIGHTS)
        self.replicas = {
            s: Replica(s, self.quorums, self.authenticators[s], SUITS, self.stores[s], rights) for s in self.benign
        }
        self.answers: dict[int, str] = {}
        self.lines: list[str] = []

    def row(
        self,
        operation: str,
        paper: str,
        *,
        does: str = "",
        finds: str = "",
        results: str = "",
        notes: str = "",
        unlike: Sequence[str] = (),
    ) -> None:
        """Write down what has happened since the last row.

        ``does`` is what was sent, ``finds`` a classification, ``notes`` what is as printed though it may surprise, and
        ``unlike`` in what the row differs from the printed one, and why.
        """
        self.lines.append(f"== {operation}")
        for label, text in (("sends", does), ("finds", finds), ("result", results), ("paper", paper), ("as in", notes)):
            if text:
                self.lines.append(f"   {label:6} {text}")
        for text in unlike:
            self.lines.append(f"   unlike {text}")
        for server in self.benign:
            history = self.stores[server].history(OBJ)
            value = self.stores[server].open(OBJ, history.head.lt).get(b"v")
            suit = INITIAL if value is None else value.decode()
            self.lines.append(f"   s{server}     {self.answers.get(server, ''):10}  {suit}  {shown(history)}")
        self.lines.append("")
        self.answers.clear()

    def accepted(self, prepared: Prepared) -> str:
        """What became of a request."""
        record = prepared.made.candidate
        holders = self.oracles.acceptors.get(record, set())
        return f"{pair(record)} {'established' if len(holders) >= self.quorums.q else 'potential'}"
