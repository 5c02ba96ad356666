"""The client's half of queries: one batch of them to one preferred quorum (Figure 3, ``c_fetch``)."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

from qunfs.protocol.answering import (
    Agreed,
    Fresh,
    Judgement,
    Named,
    Unsettled,
    Versions,
    agreement,
    judge,
    newest_snapshot,
    unanimous_answer,
)
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ObjectHistorySet, ReplicaHistory
from qunfs.protocol.history_cache import HistoryCache, history_set, likes_of, to_claim
from qunfs.protocol.messages import HELD_BYTES, QueryItem, QueryReply, Shown, pack_query
from qunfs.protocol.operation import Answer, Call, Method, Operation
from qunfs.protocol.packing import new_tuple
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of
from qunfs.protocol.quorum_rpc import Alike, Phase
from qunfs.protocol.sync import rows_digest


def answer_digest(answer: bytes) -> bytes:
    """What a replica that need not send a long answer sends instead."""
    return rows_digest(((answer, None),), False)


class Item:
    """One query under way.  ``at`` names the versions once they are settled; ``result`` is set at the end."""

    __slots__ = ("at", "call", "child", "everyone_whole", "followed", "method", "operation", "proofs", "result", "seen")

    def __init__(self, call: Call, method: Method, operation: Operation) -> None:
        self.call: Final = call
        self.method: Final = method
        self.operation: Final = operation
        self.at: Versions | None = None
        self.seen: Versions | None = None
        """Of a query on several objects: the newest version of each, as one joint read showed them."""
        self.proofs: tuple[ObjectHistorySet, ...] = ()
        """What a repair has seen: a liar may show it to the repair and take it back before the query."""
        self.everyone_whole = False
        self.result: Agreed | None = None
        self.child: Call | None = None
        self.followed: Agreed | None = None

    def answer(self) -> Answer:
        """The answer for the caller."""
        value = b"" if self.result is None else self.result.answer
        return new_tuple(Answer, (value, None if self.followed is None else self.followed.answer))


class _Told:
    """Servers that get the same bytes."""

    __slots__ = ("changes", "chosen", "claims", "likes", "payload", "servers")

    def __init__(self, claims: tuple[ReplicaHistory | None, ...], chosen: bool) -> None:
        self.claims: Final = claims
        """What they are told that the client holds of theirs, for each object of each item in order."""
        self.chosen: Final = chosen
        self.servers = 0
        self.likes = 0
        """Those of which the client held the same when the cache had changed so often."""
        self.changes = -1
        self.payload = b""


class Reading(Phase):
    """A read of histories: servers are told which of theirs the client holds, and need not send these again.

    ``chosen`` is the server that gets a message of its own, if any.
    """

    __slots__ = ("_cache", "_chosen", "_held", "_ids", "_told", "_want_auth")

    def __init__(
        self,
        name: str,
        order: Sequence[int],
        cache: HistoryCache,
        objects: tuple[tuple[int, ...], ...],
        want_auth: bool,
        chosen: int | None = None,
    ) -> None:
        super().__init__(name, order, objects)
        self._cache, self._want_auth, self._chosen = cache, want_auth, chosen
        self._ids: Final = [obj for joint in objects for obj in joint]
        self._held = [cache.of(obj) for obj in self._ids]
        self._told: list[_Told] = []

    @abstractmethod
    def items(self, claims: tuple[bytes, ...], chosen: bool) -> tuple[QueryItem, ...]:
        """What is asked; ``claims`` has a digest, or nothing, for each object of each item."""

    def message(self, server: int) -> bytes:
        """The query for one server, told the same when it is asked again, lest "unchanged" mean two things."""
        bit = 1 << server
        for told in self._told:
            if told.servers & bit:
                return told.payload or self._packed(told)
        chosen, changes = server == self._chosen, self._cache.changes
        for told in self._told:
            if told.likes & bit and told.changes == changes and told.chosen == chosen:
                break
        else:
            told = self._tell(server, chosen)
        told.servers |= bit
        return told.payload or self._packed(told)

    def _tell(self, server: int, chosen: bool) -> _Told:
        """What is told to a server, and to those of which the client holds the same now."""
        claims = tuple([to_claim(held, server, self._want_auth) for held in self._held])
        for told in self._told:
            if told.claims == claims and told.chosen == chosen:
                break
        else:
            told = _Told(claims, chosen)
            self._told.append(told)
        told.likes, told.changes = -1, self._cache.changes
        for held in self._held:
            told.likes &= likes_of(held, server)
        return told

    def _packed(self, told: _Told) -> bytes:
        digests = tuple([b"" if claim is None else claim.digest[:HELD_BYTES] for claim in told.claims])
        told.payload = pack_query(self.number, self.items(digests, told.chosen))
        return told.payload

    def ask_otherwise(self) -> None:
        """From now on :meth:`items` gives something else."""
        for told in self._told:
            told.payload = b""

    def note(self, alike: Alike, servers: int) -> None:
        reply, at = alike.reply, 0
        if not isinstance(reply, QueryReply):
            return
        for index, result in enumerate(reply.results):
            at = self._cache.note(self.objects[index], result.histories, servers, alike.vectors, at)
            followed = result.followed
            if followed is not None:
                at = self._cache.note((followed.obj,), (followed.history,), servers, alike.vectors, at)

    def shown(self, place: int, shown: Sequence[Shown], servers: int) -> list[tuple[_Told, int, list[ReplicaHistory]]]:
        """The histories that these mean, where "unchanged" is what a server was told; by servers told the same.

        ``place`` is that of the first object among those of all items.  Without servers that say so without ground.
        """
        meant: list[tuple[_Told, int, list[ReplicaHistory]]] = []
        for told in self._told:
            some = servers & told.servers
            if not some:
                continue
            known: list[ReplicaHistory] = []
            for index, one in enumerate(shown, place):
                history = one.history
                if history is None:
                    history = told.claims[index]
                if history is not None:
                    known.append(history)
            if len(known) == len(shown):
                meant.append((told, some, known))
        return meant


Parts = list[tuple[tuple[Fresh, ...], int]]
"""Fresh replies about the objects of one query, and the bitmap of the servers that gave each."""


class QueryRound(Reading):
    """One phase for the items that have no result yet."""

    __slots__ = ("_all_whole", "_items", "_quorums", "_seen_before", "_views_max", "contradicted")

    def __init__(
        self,
        quorums: QuorumSystem,
        cache: HistoryCache,
        items: Sequence[Item],
        order: Sequence[int],
        whole_from: int | None,
        want_auth: bool,
        views_max: int,
    ) -> None:
        objects: list[tuple[int, ...]] = []
        self._all_whole: Final[list[bool]] = []
        """Per item whether everybody is asked for the whole answer in this round, fixed before its replies come."""
        self._seen_before: Final[list[Versions | None]] = []
        for item in items:
            objects.append(item.operation.objects)
            self._all_whole.append(item.everyone_whole)
            self._seen_before.append(item.seen)
            item.seen = None
        super().__init__("QUERY", order, cache, tuple(objects), want_auth, whole_from)
        self._quorums, self._items, self._views_max = quorums, items, views_max
        self.contradicted = 0
        """The servers that more than can lie contradict."""

    def items(self, claims: tuple[bytes, ...], chosen: bool) -> tuple[QueryItem, ...]:
        items, place = [], 0
        for index, item in enumerate(self._items):
            ids = item.operation.objects
            whole = not item.call.large or self._all_whole[index] or chosen
            at = b"" if item.at is None else b"".join([lt.pack() for lt in item.at])
            held = claims[place : place + len(ids)]
            items.append(new_tuple(QueryItem, (ids, held, item.operation.wire, at, self._want_auth, whole)))
            place += len(ids)
        return tuple(items)

    def judge(self, final: bool) -> bool | None:
        """Settle what can be settled; True when all is, or when nobody else will reply soon."""
        answered = 0
        for alike in self.alike:
            if isinstance(alike.reply, QueryReply):
                answered |= alike.servers
        if not self._quorums.contains_quorum(answered):
            return None
        done, place = True, 0
        for index, item in enumerate(self._items):
            if item.result is None:
                self._settle(index, item, place)
            if item.result is None:
                done = False
            place += len(item.operation.objects)
        return True if done or final else None

    def _settle(self, index: int, item: Item, place: int) -> None:
        whole: dict[bytes, bytes] = {}
        parts: Parts = []
        for alike in self.alike:
            if not isinstance(alike.reply, QueryReply):
                continue
            result = alike.reply.results[index]
            for told, servers, histories in self.shown(place, result.histories, alike.servers):
                answer = result.answer
                came_whole = self._all_whole[index] or told.chosen
                if item.call.large and came_whole and result.code in (Code.OK, Code.FAILED):
                    whole[answer_digest(answer)] = answer
                    answer = answer_digest(answer)
                joint: list[Fresh] = []
                for at, history in enumerate(histories):
                    joint.append(new_tuple(Fresh, (history, result.lts[at], result.code, answer)))
                parts.append((tuple(joint), servers))
        if len(parts) > 1:
            parts = _merged(parts)
        judgement = self._judgement(index, item, parts)
        if isinstance(judgement, Named):
            item.at = judgement.versions
            self.ask_otherwise()
        elif isinstance(judgement, Agreed):
            if len(parts) > 1:
                self.contradicted |= _contradicted(parts, judgement)
            self._take(index, item, judgement, whole)

    def _judgement(self, index: int, item: Item, parts: Parts) -> Judgement:
        if item.at is None and len(parts) == 1:
            joint, servers = parts[0]
            agreed = unanimous_answer(self._quorums, joint, servers)
            if agreed is not None:
                item.seen = tuple([fresh.lt for fresh in joint]) if len(joint) > 1 else None
                return agreed
        replies = {server: joint for joint, servers in parts for server in servers_of(servers)}
        if item.at is not None:
            agreed = _agreement_at(self._quorums, item.at, replies)
            if agreed is not None:
                return agreed
        objects = item.operation.objects
        if len(objects) > 1:
            return self._joint_judgement(index, item, replies)
        single = {s: fresh[0] for s, fresh in replies.items()}
        judgement = judge(self._quorums, objects[0], single, (*self._evidence(objects), *item.proofs), self._views_max)
        if isinstance(judgement, Unsettled):
            more = self._related(objects, replies)
            if more:
                evidence = (*self._evidence((*objects, *more)), *item.proofs)
                judgement = judge(self._quorums, objects[0], single, evidence, self._views_max)
        return judgement

    def _joint_judgement(self, index: int, item: Item, replies: dict[int, tuple[Fresh, ...]]) -> Judgement:
        objects = item.operation.objects
        if not self._quorums.contains_quorum(mask_of(list(replies))):
            return Unsettled()
        evidence = (*self._evidence((*objects, *self._related(objects, replies))), *item.proofs)
        histories = {server: [f.history for f in fresh] for server, fresh in replies.items()}
        snapshot = newest_snapshot(self._quorums, objects, histories, evidence, self._views_max)
        item.seen = None if snapshot is None else snapshot.versions
        if snapshot is None or not (snapshot.joint or snapshot.versions == self._seen_before[index]):
            return Unsettled()
        return _agreement_at(self._quorums, snapshot.versions, replies) or Named(snapshot.versions)

    def _evidence(self, objects: Iterable[int]) -> tuple[ObjectHistorySet, ...]:
        held = [(obj, self._cache.histories(obj)) for obj in objects]
        return tuple([history_set(obj, histories, histories) for obj, histories in held if histories])

    def _related(self, objects: tuple[int, ...], replies: dict[int, tuple[Fresh, ...]]) -> list[int]:
        """Siblings on which a version may be proven that is not proven here."""
        heads = {fresh.history.head for joint in replies.values() for fresh in joint}
        return sorted({sibling for head in heads for sibling in head.objects} - set(objects))

    def _take(self, index: int, item: Item, agreed: Agreed, whole: dict[bytes, bytes]) -> None:
        if item.call.large and agreed.code in (Code.OK, Code.FAILED):
            if agreed.answer not in whole:
                item.everyone_whole = True
                return
            agreed = Agreed(agreed.code, whole[agreed.answer], agreed.servers)
        item.result = agreed
        follow = item.method.follow
        target = follow(agreed.answer) if follow is not None and agreed.code is Code.OK else None
        if target is not None:
            obj, kind, name = target
            item.child = Call(name, ((obj, kind),), b"\xc0", item.call.credentials, version=item.call.version)
            item.followed = self._followed(index, obj)

    def _followed(self, index: int, obj: int) -> Agreed | None:
        """The answer on the object that the query's answer names, if those that came along count."""
        parts: Parts = []
        for alike in self.alike:
            child = alike.reply.results[index].followed if isinstance(alike.reply, QueryReply) else None
            if child is not None and child.history.history is not None and child.obj == obj:
                parts.append(((Fresh(child.history.history, child.lt, child.code, child.answer),), alike.servers))
        if len(parts) > 1:
            parts = _merged(parts)
        if len(parts) == 1:
            agreed = unanimous_answer(self._quorums, *parts[0])
            if agreed is not None:
                return agreed
        replies = {server: joint[0] for joint, servers in parts for server in servers_of(servers)}
        judgement = judge(self._quorums, obj, replies, self._evidence((obj,)), self._views_max)
        return judgement if isinstance(judgement, Agreed) else None


def _contradicted(parts: Parts, agreed: Agreed) -> int:
    """The servers that ran the same query on the same versions and say that something else came of it.

    Refusals are no answers, and are not the same from servers that were asked for digests.
    """
    ran = (Code.OK, Code.FAILED)
    right = (agreed.code, agreed.answer)
    at: Versions = ()
    for joint, servers in parts:
        if servers & agreed.servers and (joint[0].code, joint[0].answer) == right:
            at = tuple([fresh.lt for fresh in joint])
    wrong = 0
    for joint, servers in parts:
        told = (joint[0].code, joint[0].answer)
        if told != right and told[0] in ran and agreed.code in ran and tuple([fresh.lt for fresh in joint]) == at:
            wrong |= servers
    return wrong


def _merged(parts: Parts) -> Parts:
    """The parts with those joined that are equal."""
    merged: dict[tuple[Fresh, ...], int] = {}
    for joint, servers in parts:
        merged[joint] = merged.get(joint, 0) | servers
    return list(merged.items())


def _agreement_at(quorums: QuorumSystem, versions: Versions, replies: dict[int, tuple[Fresh, ...]]) -> Agreed | None:
    """The answer that more servers than can lie gave at these versions."""
    return agreement(quorums, {s: joint[0] for s, joint in replies.items() if tuple(f.lt for f in joint) == versions})
