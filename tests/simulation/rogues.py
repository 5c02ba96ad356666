"""Malevolent clients: requests that a correct client would not send, to whom it would not send them.

What they show of benign servers is authentic (MACs cannot be forged) but as stale as they please; malevolent servers
sign whatever they ask for.
"""

from enum import Enum
from random import Random
from typing import TYPE_CHECKING

from qunfs.protocol.authenticator import MAC_BYTES, column
from qunfs.protocol.classify import Classification, Request, RequestRefused, classify, proven, setup
from qunfs.protocol.history import Kind, LogicalTimestamp, ObjectHistorySet, ReplicaHistory, barrier
from qunfs.protocol.messages import Adopt, pack_update, pack_update_body
from qunfs.protocol.operation import Operation
from qunfs.protocol.quorum import ThresholdQuorums, mask_of, servers_of
from tests.simulation.clients import CREDENTIALS
from tests.simulation.forgery import Forger
from tests.simulation.network import Address, Link
from tests.simulation.objects import LEDGER, pack

if TYPE_CHECKING:
    from tests.simulation.world import World


class Spoof(Enum):
    """How a history that a benign server never showed is passed off as its own."""

    NOISE = 1
    REFLECTED = 2
    """With the MAC that the verifier itself issues to that server for the same history."""
    MOVED = 3
    """With the MAC for another object."""
    LIAR = 4
    """With a malevolent server's MAC."""


class Rogue:
    """A malevolent client.  ``purposeful`` ones use current histories and liars that mimic a benign server."""

    def __init__(self, world: "World", index: int) -> None:
        self.world = world
        self.address = Address("client", index)
        self.chance = Random(f"{world.seed} rogue {index}")
        self._forger = Forger(world.oracles, self.chance)
        self._links: dict[int, Link] = {}
        self._count = 0
        self._sent: list[tuple[int, bytes]] = []

    def on_message(self, link: Link, payload: bytes) -> None:
        """Replies do not interest it."""

    def on_broken(self, link: Link) -> None:
        self._links.pop(link.called.address.index, None)

    # ---- mischief

    def act(self) -> None:
        """Do one bad thing."""
        dice = self.chance.random()
        if dice < 0.15 and self._sent:
            self._send(*self.chance.choice(self._sent))
        elif dice < 0.25:
            self._adopt()
        elif dice < 0.3:
            self._forged_copy()
        elif dice < 0.65:
            self._purposeful()
        else:
            self._haphazard()

    def _adopt(self) -> None:
        obj = self.chance.choice(self.world.objects)
        record = self._forger.record(obj)
        if record.kind is not Kind.ZERO:
            hosts = self.chance.getrandbits(self.world.quorums.n) | mask_of(sorted(self.world.oracles.malevolent))
            self.world.conspiracy[record.lt] = record
            self._send(self.chance.choice(self.world.oracles.benign), Adopt(record, hosts).pack(self._number()))

    def _haphazard(self) -> None:
        """Views with stale and forged histories, to any number of servers."""
        chance, quorums = self.chance, self.world.quorums
        stale = chance.choice((0, 0, 0.1, 0.3, 0.6))
        count = chance.choice((quorums.q, quorums.q, quorums.q, quorums.q, quorums.n, quorums.b + 1))
        servers = sorted(self._some(count))
        forging = chance.random() < 0.1
        shown = {obj: {s: self._history(s, obj, stale, forging) for s in servers} for obj in self.world.objects}
        targets = chance.sample(
            range(quorums.n), chance.choice((1, 2, quorums.r - 1, quorums.r, quorums.q - 1, quorums.q, quorums.n))
        )
        self._request(shown, targets, None, forging)

    def _some(self, count: int) -> list[int]:
        """So many servers; a view, if so many can be one."""
        quorums = self.world.quorums
        if count != quorums.q or isinstance(quorums, ThresholdQuorums):
            return self.chance.sample(range(quorums.n), count)
        return self._view(self.chance.sample(range(quorums.n), quorums.n))

    def _view(self, order: list[int]) -> list[int]:
        """A view of the first of these servers."""
        return servers_of(next(self.world.quorums.views_within(order, 1)))

    def _history(self, server: int, obj: int, stale: float, forging: bool) -> ReplicaHistory:
        oracles = self.world.oracles
        if server in oracles.malevolent or (forging and self.chance.random() < 0.5):
            return self._forger.history(obj)
        if self.chance.random() < stale:
            archive = oracles.archive[server, obj]
            return self.chance.choice(archive[-8:] if self.chance.random() < 0.8 else archive)
        return oracles.histories[server][obj]

    def _purposeful(self) -> None:
        """Current histories, liars that agree with a benign server, and acceptances at few servers only."""
        chance, quorums, oracles = self.chance, self.world.quorums, self.world.oracles
        liars = sorted(oracles.malevolent)
        servers = self._some(quorums.q)
        if chance.random() < 0.8:
            others = [*servers, *(s for s in range(quorums.n) if s not in servers)]
            servers = self._view([*liars, *(s for s in others if s not in oracles.malevolent)])
        like = self.world.mimicked()
        shown = {
            obj: {s: oracles.histories[like if s in oracles.malevolent else s][obj] for s in sorted(servers)}
            for obj in self.world.objects
        }
        kind = chance.choice((Kind.METHOD, Kind.METHOD, Kind.COPY, Kind.COPY, Kind.BARRIER))
        few = (1, quorums.t, quorums.t + 1, quorums.r, quorums.q - quorums.b, quorums.q)
        count = chance.choice((1, quorums.q, quorums.n, quorums.n) if kind is Kind.BARRIER else few)
        targets = chance.sample(oracles.benign, min(len(oracles.benign), max(1, count)))
        self._request(shown, targets, kind, forging=False)

    def _forged_copy(self) -> None:
        """A barrier that nobody has, high above an old version: whoever believed in it would copy that version."""
        chance, quorums = self.chance, self.world.quorums
        obj = chance.choice(self.world.ledgers)
        old = self._forger.archived(obj)
        high = old.latest.lt.time + 1 + chance.getrandbits(20)
        lt = LogicalTimestamp(high, 1, self.address.index, chance.randbytes(32))
        forged = ReplicaHistory((*old.records, barrier(lt, (obj,), (old.head.lt,))))
        servers = sorted(self._some(quorums.q))
        self._request({obj: dict.fromkeys(servers, forged)}, list(range(quorums.n)), Kind.COPY, forging=True)

    def _request(
        self, shown: dict[int, dict[int, ReplicaHistory]], targets: list[int], wanted: Kind | None, forging: bool
    ) -> None:
        chance, quorums = self.chance, self.world.quorums
        sets = {obj: ObjectHistorySet.of(obj, h, mask_of(list(h))) for obj, h in shown.items()}
        established = proven(quorums, sets.values())
        classes = {obj: classify(quorums, view, established) for obj, view in sets.items()}
        objects = self._objects(classes, wanted)
        kind = classes[objects[0]].kind
        if kind is Kind.METHOD:
            objects = tuple(obj for obj in objects if obj in self.world.ledgers)
            if not objects:
                return
        if kind is Kind.COPY and chance.random() < 0.05:
            kind = Kind.BARRIER
        operation = self._operation(objects) if kind is Kind.METHOD else None
        evidence = tuple(sets[obj] for obj in sorted(sets) if obj not in objects) if chance.random() < 0.7 else ()
        session = bytes(16) if operation is None else operation.session
        request = Request(kind, self.address.index, session, operation, tuple(sets[o] for o in objects), evidence)
        try:
            setup(quorums, request)
        except RequestRefused:
            if chance.random() < 0.9:
                return
        self._send_request(request, targets, self._spoofs(request) if forging else {})

    def _spoofs(self, request: Request) -> dict[tuple[int, int], Spoof]:
        """By object and server: how MACs are made for histories that benign servers never had."""
        spoofs: dict[tuple[int, int], Spoof] = {}
        how = self.chance.choice(list(Spoof))
        oracles = self.world.oracles
        for histories in (*request.views, *request.evidence):
            for history, mask in histories.groups:
                for server in servers_of(mask):
                    if server not in oracles.malevolent and history not in oracles.archive[server, histories.obj]:
                        spoofs[histories.obj, server] = how
        self.world.seen["rogue forgeries"] += bool(spoofs)
        return spoofs

    def _spoofed_mac(self, spoof: Spoof, obj: int, history: ReplicaHistory, issuer: int, target: int) -> bytes:
        servers = self.world.servers
        if spoof is Spoof.REFLECTED:
            return column(servers[target].authenticator.tags(obj, history).vector, issuer)
        if spoof is Spoof.MOVED:
            archive = self.world.oracles.archive
            other = next((o for o in self.world.objects if history in archive[issuer, o]), None)
            if other is None:
                return self.chance.randbytes(MAC_BYTES)
            return column(servers[issuer].authenticator.tags(other, history).vector, target)
        if spoof is Spoof.LIAR and self.world.oracles.malevolent:
            liar = min(self.world.oracles.malevolent)
            return column(servers[liar].authenticator.tags(obj, history).vector, target)
        return self.chance.randbytes(MAC_BYTES)

    def _objects(self, classes: dict[int, Classification], wanted: Kind | None) -> tuple[int, ...]:
        chance = self.chance
        fitting = [o for o in sorted(classes) if classes[o].kind is wanted] or sorted(classes)
        first = chance.choice(fitting)
        source = classes[first].obj_cand
        objects = {first}
        if len(source.objects) > 1 and chance.random() < 0.6:
            objects = {obj for obj in source.objects if obj in classes}
        if chance.random() < 0.35:
            objects |= {o for o in sorted(classes) if classes[o].kind is classes[first].kind and chance.random() < 0.6}
        return tuple(sorted(objects))

    def _operation(self, objects: tuple[int, ...]) -> Operation:
        self._count += 1
        name = f"rogue{self.address.index}.{self._count}".encode()
        self.world.oracles.touched[name] = objects
        self.world.journal.attempt(name, objects, self.world.clock.now)
        return Operation(
            objects,
            (LEDGER,) * len(objects),
            "ledger.append",
            1,
            pack((name, None)),
            CREDENTIALS,
            self.world.clock.wall_ns(),
            self.chance.choice(objects),
            self.chance.randbytes(16),
            1,
        )

    def _send_request(self, request: Request, targets: list[int], spoofs: dict[tuple[int, int], Spoof]) -> None:
        shown = [
            (histories.obj, history, server)
            for histories in (*request.views, *request.evidence)
            for history, mask in histories.groups
            for server in servers_of(mask)
        ]
        body = pack_update_body(request)
        self.world.seen["rogue requests"] += 1
        for target in targets:
            macs = []
            for obj, history, server in shown:
                spoof = spoofs.get((obj, server))
                if spoof is None:
                    vector = self.world.servers[server].authenticator.tags(obj, history).vector
                    macs.append(column(vector, target))
                else:
                    macs.append(self._spoofed_mac(spoof, obj, history, server, target))
            payload = pack_update(self._number(), body, b"".join(macs))
            self._sent.append((target, payload))
            if self.chance.random() < 0.9:
                self._send(target, payload)

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _send(self, server: int, payload: bytes) -> None:
        node = self.world.servers[server]
        link = self._links.get(server)
        if link is None or not link.up:
            if not node.up:
                return
            link = self._links[server] = self.world.network.connect(self, node)
        self.world.network.send(link, self, payload)
