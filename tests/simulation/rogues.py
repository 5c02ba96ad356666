"""Malevolent clients: requests that a correct client would not send, to whom it would not send them.

What they show of benign servers is authentic (MACs cannot be forged) but as stale as they please; malevolent servers
sign whatever they ask for.
"""

from collections.abc import Sequence
from enum import Enum
from random import Random
from typing import TYPE_CHECKING

from qunfs.protocol.authenticator import MAC_BYTES, column
from qunfs.protocol.classify import OUTLINE, SHOWN, Classification, Request, RequestRefused, classify, proven, setup
from qunfs.protocol.history import Kind, LogicalTimestamp, ObjectHistorySet, ReplicaHistory, barrier
from qunfs.protocol.messages import BODY_HEADER, Adopt, Type, pack_update, pack_update_body
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
        self._operations: list[Operation] = []
        self._sessions = [self.chance.randbytes(16) for _ in range(3)]
        self._more = Random(f"{world.seed} rogue {index} more")
        self._remembered = self._more.random() < 0.5
        """Whether it keeps to a few sessions, that servers do not forget, so that no operation is to happen twice."""
        self._rarer = (self._split, self._again, self._corrupt, self._tamper, self._impersonate, self._unjustified)

    def on_message(self, link: Link, payload: bytes) -> None:
        """Replies do not interest it."""

    def on_broken(self, link: Link) -> None:
        self._links.pop(link.called.address.index, None)

    # ---- mischief

    def act(self) -> None:
        """Do one bad thing."""
        if self._more.random() < 0.35:
            deed = self._more.choice(self._rarer)
            self.world.seen[f"mischief: {deed.__name__.strip('_')}"] += 1
            deed()
            return
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
        obj = chance.choice(self._prey())
        old = self._forger.archived(obj)
        high = old.latest.lt.time + 1 + chance.getrandbits(20)
        lt = LogicalTimestamp(high, 1, self.address.index, chance.randbytes(32))
        forged = ReplicaHistory((*old.records, barrier(lt, (obj,), (old.head.lt,))))
        servers = sorted(self._some(quorums.q))
        self._request({obj: dict.fromkeys(servers, forged)}, list(range(quorums.n)), Kind.COPY, forging=True)

    # ---- rarer mischief

    def _split(self) -> None:
        """Different operations of one session and number, or different repairs, to different servers."""
        chance, oracles = self._more, self.world.oracles
        wanted = chance.choice((Kind.METHOD, Kind.METHOD, Kind.COPY, Kind.BARRIER))
        first = self._build(self._current(self._some(self.world.quorums.q)), wanted)
        if first is None:
            return
        requests = [first]
        for _ in range(chance.choice((1, 1, 2))):
            if first.operation is None:
                other = self._build(self._current(self._some(self.world.quorums.q)), first.kind)
            else:
                operation = self._operation(first.operation.objects, first.operation)
                other = Request(first.kind, first.client, first.session, operation, first.views, first.evidence)
            if other is not None:
                requests.append(other)
        parts: list[list[int]] = [[] for _ in requests]
        for server in oracles.benign:
            parts[chance.randrange(len(parts))].append(server)
        for request, targets in zip(requests, parts, strict=True):
            self._send_request(request, targets, {})

    def _again(self) -> None:
        """One of its operations once more, conditioned on what there is now."""
        if not self._operations:
            return
        operation = self._more.choice(self._operations[-4:])
        views = self._current(self._some(self.world.quorums.q), operation.objects)
        request = self._build(views, Kind.METHOD, again=operation)
        if request is not None:
            benign = self.world.oracles.benign
            self._send_request(request, self._more.sample(benign, self._more.randint(1, len(benign))), {})

    def _corrupt(self) -> None:
        """True histories with MACs that are bad for some of the servers asked."""
        chance, quorums = self._more, self.world.quorums
        request = self._build(self._current(self._some(quorums.q)), None)
        if request is None:
            return
        bad = chance.sample(range(quorums.n), chance.choice((1, quorums.b, quorums.b + 1, quorums.q)))
        targets = chance.sample(range(quorums.n), quorums.n)
        cut = chance.randrange(quorums.n)
        spoofs = {(view.obj, s): Spoof.NOISE for view in (*request.views, *request.evidence) for s in bad}
        self._send_request(request, targets[:cut], spoofs)
        self._send_request(request, targets[cut:], {})

    def _tamper(self) -> None:
        """A request of its own with a byte or a field changed."""
        if not self._sent:
            return
        chance = self._more
        target, payload = chance.choice(self._sent[-40:])
        if chance.random() < 0.5 and payload[0] == Type.UPDATE:
            payload = tampered(payload, chance)
        else:
            at = chance.randrange(len(payload))
            payload = payload[:at] + chance.randbytes(1) + payload[at + 1 :]
        self._send(target, payload)

    def _impersonate(self) -> None:
        """Histories of some servers that they never had, for one server to believe in."""
        chance, oracles, quorums = self._more, self.world.oracles, self.world.quorums
        target, how = chance.choice(oracles.benign), chance.choice(list(Spoof))
        shown = self._current(self._some(quorums.q))
        servers = sorted(next(iter(shown.values())))
        foes = chance.sample(servers, min(len(servers), chance.choice((1, quorums.b, quorums.b + 1, quorums.q))))
        for obj in chance.sample(self.world.objects, chance.randint(1, len(self.world.objects))):
            one = self._forger.history(obj)
            for server in foes:
                if how is Spoof.REFLECTED:
                    shown[obj][server] = chance.choice(oracles.archive[target, obj][-6:])
                elif how is Spoof.MOVED and server not in oracles.malevolent:
                    shown[obj][server] = chance.choice(self._movable(server, obj) or [shown[obj][server]])
                else:
                    shown[obj][server] = one
        request = self._build(shown, None)
        if request is not None:
            self._send_request(request, [target], self._spoofs(request, how))

    def _movable(self, server: int, obj: int) -> list[ReplicaHistory]:
        """Late histories of a server that could be the object's and are other objects'."""
        oracles = self.world.oracles
        return [
            history
            for other in self.world.objects
            for history in ([] if server in oracles.malevolent else oracles.archive[server, other][-12:])
            if not oracles.had(server, obj, history) and all(obj in r.objects for r in history.records if r.objects)
        ]

    def _unjustified(self) -> None:
        """What its views do not call for: another kind of request, views of other sizes, objects that do not fit."""
        chance, quorums = self._more, self.world.quorums
        q = quorums.q
        count = chance.choice((q, q, q, q - 1, quorums.r, quorums.b + 1, 1, quorums.n))
        shown = self._current(chance.sample(range(quorums.n), count) if count != q else self._some(q))
        kind = chance.choice((Kind.METHOD, Kind.BARRIER, Kind.COPY))
        objects = chance.sample(self.world.objects, chance.randint(1, len(self.world.objects)))
        if chance.random() < 0.15:
            shown[objects[0]] = {}
        request = self._build({obj: shown[obj] for obj in objects}, kind, insist=kind)
        if request is not None:
            targets = chance.sample(self.world.oracles.benign, chance.choice((1, quorums.r, q - quorums.b)))
            self._send_request(request, targets, {})

    def _prey(self) -> Sequence[int]:
        """The objects that it may update."""
        return self.world.ledgers

    def _current(
        self, servers: list[int], objects: Sequence[int] | None = None
    ) -> dict[int, dict[int, ReplicaHistory]]:
        """What these servers have now, liars pretending to be one of the others."""
        oracles, like = self.world.oracles, self.world.mimicked()
        return {
            obj: {s: oracles.histories[like if s in oracles.malevolent else s][obj] for s in sorted(servers)}
            for obj in (self.world.objects if objects is None else objects)
        }

    # ---- making requests

    def _request(
        self, shown: dict[int, dict[int, ReplicaHistory]], targets: list[int], wanted: Kind | None, forging: bool
    ) -> None:
        request = self._build(shown, wanted)
        if request is None:
            return
        try:
            setup(self.world.quorums, request)
        except RequestRefused:
            if self.chance.random() < 0.9:
                return
        self._send_request(request, targets, self._spoofs(request, self.chance.choice(list(Spoof))) if forging else {})

    def _build(
        self,
        shown: dict[int, dict[int, ReplicaHistory]],
        wanted: Kind | None,
        *,
        again: Operation | None = None,
        insist: Kind | None = None,
    ) -> Request | None:
        """A request that these histories might justify, if there is one.

        ``again`` is an operation to be repeated; what is insisted on is requested whether justified or not.
        """
        chance, quorums = self.chance, self.world.quorums
        sets = {obj: ObjectHistorySet.of(obj, h, mask_of(list(h))) for obj, h in shown.items()}
        established = proven(quorums, sets.values())
        classes = {obj: classify(quorums, view, established) for obj, view in sets.items()}
        if insist is not None:
            fitting = [obj for obj in classes if classes[obj].kind is insist]
            objects = tuple(sorted(fitting if fitting and chance.random() < 0.5 else classes))
        else:
            objects = self._objects(classes, wanted) if again is None else again.objects
        kind = insist or classes[objects[0]].kind
        operation = None
        if kind is Kind.METHOD:
            operation = again or self._operation_on(tuple(obj for obj in objects if obj in self._prey()))
            if operation is None:
                return None
            objects = operation.objects
            for obj in objects:  # what nobody has heard of need not be shown
                sets.setdefault(obj, ObjectHistorySet.of(obj, {}, 0))
        if kind is Kind.COPY and not insist and chance.random() < 0.05:
            kind = Kind.BARRIER
        evidence = tuple(sets[obj] for obj in sorted(sets) if obj not in objects) if chance.random() < 0.7 else ()
        session = bytes(16) if operation is None else operation.session
        return Request(kind, self.address.index, session, operation, tuple(sets[o] for o in objects), evidence)

    def _spoofs(self, request: Request, how: Spoof) -> dict[tuple[int, int], Spoof]:
        """By object and server: how MACs are made for histories that benign servers never had."""
        spoofs: dict[tuple[int, int], Spoof] = {}
        oracles = self.world.oracles
        for histories in (*request.views, *request.evidence):
            for history, mask in histories.groups:
                for server in servers_of(mask):
                    if server not in oracles.malevolent and not oracles.had(server, histories.obj, history):
                        spoofs[histories.obj, server] = how
        self.world.seen["rogue forgeries"] += bool(spoofs)
        return spoofs

    def _spoofed_mac(self, spoof: Spoof, obj: int, history: ReplicaHistory, issuer: int, target: int) -> bytes:
        servers = self.world.servers
        if spoof is Spoof.REFLECTED and issuer != target and self._may_issue(target, obj, history):
            return column(servers[target].authenticator.tags(obj, history).vector, issuer)
        if spoof is Spoof.MOVED:
            other = next((o for o in self.world.objects if self._may_issue(issuer, o, history)), None)
            if other is None:
                return self.chance.randbytes(MAC_BYTES)
            return column(servers[issuer].authenticator.tags(other, history).vector, target)
        if spoof is Spoof.LIAR and self.world.oracles.malevolent:
            liar = min(self.world.oracles.malevolent)
            return column(servers[liar].authenticator.tags(obj, history).vector, target)
        return self.chance.randbytes(MAC_BYTES)

    def _may_issue(self, server: int, obj: int, history: ReplicaHistory) -> bool:
        """Whether there are MACs of a server for this history."""
        oracles = self.world.oracles
        return server in oracles.malevolent or oracles.had(server, obj, history)

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

    def _operation_on(self, objects: tuple[int, ...]) -> Operation | None:
        """A new operation, if these objects are good for one."""
        return self._operation(objects) if objects else None

    def _operation(self, objects: tuple[int, ...], like: Operation | None = None) -> Operation:
        """A new append; with the session and number of another one, if one is given."""
        self._count += 1
        name = f"rogue{self.address.index}.{self._count}".encode()
        self.world.oracles.touched[name] = objects
        self.world.journal.attempt(name, objects, self.world.clock.now)
        home, session, sequence = self.chance.choice(objects), self.chance.randbytes(16), 1
        if like is not None:
            home, session, sequence = like.home, like.session, like.sequence
        elif self._remembered:
            session, sequence = self._more.choice(self._sessions), 1 + len(self._operations)
        operation = Operation(
            objects,
            (LEDGER,) * len(objects),
            "ledger.append",
            1,
            pack((name, None)),
            CREDENTIALS,
            self.world.clock.wall_ns(),
            home,
            session,
            sequence,
        )
        self._operations.append(operation)
        if self._remembered:
            self.world.oracles.once.add(name)
        return operation

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


def tampered(payload: bytes, chance: Random) -> bytes:
    """An UPDATE with one field changed."""
    _, number, length = BODY_HEADER.unpack_from(payload)
    end = BODY_HEADER.size + length
    body = payload[BODY_HEADER.size : end]
    kind, session, told, views, evidence = OUTLINE.unpack_from(body)
    operation, at = body[OUTLINE.size : OUTLINE.size + told], OUTLINE.size + told
    shown = [list(SHOWN.unpack_from(body, at + SHOWN.size * i)) for i in range(views + evidence)]
    at += SHOWN.size * len(shown)
    for one in shown:  # of each an object, the bitmap and now the history
        at, one[2] = at + one[2], body[at : at + one[2]]
    which = chance.randrange(6)
    if which == 0:
        kind = chance.choice(list(Kind))
    elif which == 1:
        session = chance.randbytes(16)
    elif which == 2:
        operation = _flipped(operation, chance)
    elif which == 3:
        shown, views, evidence = shown[views:] + shown[:views], evidence, views
    elif which == 4:
        changed = chance.choice(shown)
        changed[2] = _flipped(changed[2], chance)
    else:
        chance.choice(shown)[1] ^= 3 << chance.randrange(6)
    parts = [OUTLINE.pack(kind, session, len(operation), views, evidence), operation]
    parts += [SHOWN.pack(obj, mask, len(history)) for obj, mask, history in shown]
    return pack_update(number, b"".join([*parts, *[history for _, _, history in shown]]), payload[end:])


def _flipped(data: bytes, chance: Random) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]
