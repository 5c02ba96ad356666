"""The client's half of queries: one batch of them to one preferred quorum (Figure 3, ``c_fetch``)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
)
from qunfs.protocol.execution import Code
from qunfs.protocol.history import ObjectHistorySet, ReplicaHistory
from qunfs.protocol.history_cache import Held, HistoryCache, history_set
from qunfs.protocol.messages import HELD_BYTES, Query, QueryItem, QueryReply, QueryResult, Reply, Shown
from qunfs.protocol.operation import Answer, Call, Method, Operation
from qunfs.protocol.quorum import QuorumSystem, mask_of
from qunfs.protocol.sync import rows_digest


def answer_digest(answer: bytes) -> bytes:
    """What a replica that need not send a long answer sends instead."""
    return rows_digest(((answer, None),), False)


@dataclass(slots=True)
class Item:
    """One query under way.  ``at`` names the versions once they are settled; ``result`` is set at the end."""

    call: Call
    method: Method
    operation: Operation
    at: Versions | None = None
    seen: Versions | None = None
    """Of a query on several objects: the newest version of each, as one joint read showed them."""
    everyone_whole: bool = False
    result: Agreed | None = None
    child: Call | None = None
    followed: Agreed | None = None

    def answer(self) -> Answer:
        """The answer for the caller."""
        value = b"" if self.result is None else self.result.answer
        return Answer(value, None if self.followed is None else self.followed.answer)


@dataclass(slots=True)
class QueryRound:
    """One phase for the items that have no result yet: packs, notes and judges."""

    quorums: QuorumSystem
    cache: HistoryCache
    items: Sequence[Item]
    whole_from: int
    want_auth: bool
    views_max: int
    told: dict[tuple[int, int, int], Held] = field(default_factory=dict)
    shown: dict[tuple[int, int], tuple[ReplicaHistory, ...]] = field(default_factory=dict)
    children: dict[tuple[int, int], ReplicaHistory] = field(default_factory=dict)
    _all_whole: tuple[bool, ...] = ()
    """Per item whether everybody is asked for the whole answer in this round, fixed before its replies come."""
    _seen_before: tuple[Versions | None, ...] = ()
    _packed: dict[tuple[QueryItem, ...], bytes] = field(default_factory=dict)
    """Servers that showed the same histories get the same bytes."""

    def __post_init__(self) -> None:
        self._all_whole = tuple(item.everyone_whole for item in self.items)
        self._seen_before = tuple(item.seen for item in self.items)
        for item in self.items:
            item.seen = None

    def message(self, server: int, number: int) -> bytes:
        """The query for one server, saying which histories of its are held."""
        items = tuple([self._item(server, i, item) for i, item in enumerate(self.items)])
        payload = self._packed.get(items)
        if payload is None:
            payload = self._packed[items] = Query(items).pack(number)
        return payload

    def _item(self, server: int, index: int, item: Item) -> QueryItem:
        digests = []
        for obj in item.operation.objects:
            held = self.cache.to_claim(obj, server, self.want_auth)
            if held is None:
                digests.append(b"")
                self.told.pop((server, index, obj), None)
            else:
                digests.append(held.history.digest[:HELD_BYTES])
                self.told[server, index, obj] = held
        whole = not item.call.large or self._all_whole[index] or server == self.whole_from
        at = b"" if item.at is None else b"".join([lt.pack() for lt in item.at])
        return QueryItem(item.operation.objects, tuple(digests), item.operation.wire, at, self.want_auth, whole)

    def note(self, server: int, reply: Reply) -> None:
        """Remember the histories of a reply."""
        if not isinstance(reply, QueryReply):
            return
        for index, (item, result) in enumerate(zip(self.items, reply.results, strict=False)):
            histories = []
            for obj, shown in zip(item.operation.objects, result.histories, strict=True):
                held = self.cache.note(obj, server, shown, self.told.get((server, index, obj)))
                if held is not None:
                    histories.append(held.history)
            if len(histories) == len(item.operation.objects):
                self.shown[server, index] = tuple(histories)
            child = result.followed
            if child is not None and child.history.history is not None:
                self.cache.note(child.obj, server, Shown(child.history.history, child.history.vector), None)
                self.children[server, index] = child.history.history

    def judge(self, replies: dict[int, Reply], final: bool) -> bool | None:
        """Settle what can be settled; True when all is, or when nobody else will reply soon."""
        answered = {s: r.results for s, r in replies.items() if isinstance(r, QueryReply)}
        if not self.quorums.contains_quorum(mask_of(list(answered))):
            return None
        done = True
        for index, item in enumerate(self.items):
            if item.result is None:
                self._settle(index, item, answered)
            done &= item.result is not None
        return True if done or final else None

    def _settle(self, index: int, item: Item, answered: dict[int, tuple[QueryResult, ...]]) -> None:
        replies: dict[int, tuple[Fresh, ...]] = {}
        whole: dict[bytes, bytes] = {}
        for server, results in answered.items():
            histories = self.shown.get((server, index))
            if histories is None:
                continue
            result = results[index]
            answer = result.answer
            came_whole = self._all_whole[index] or server == self.whole_from
            if item.call.large and came_whole and result.code in (Code.OK, Code.FAILED):
                whole[answer_digest(answer)] = answer
                answer = answer_digest(answer)
            replies[server] = tuple(
                Fresh(h, lt, result.code, answer) for h, lt in zip(histories, result.lts, strict=True)
            )
        judgement = self._judgement(index, item, replies)
        if isinstance(judgement, Named):
            item.at = judgement.versions
        elif isinstance(judgement, Agreed):
            self._take(index, item, judgement, answered, whole)

    def _judgement(self, index: int, item: Item, replies: dict[int, tuple[Fresh, ...]]) -> Judgement:
        if item.at is not None:
            agreed = _agreement_at(self.quorums, item.at, replies)
            if agreed is not None:
                return agreed
        objects = item.operation.objects
        if len(objects) > 1:
            return self._joint_judgement(index, item, replies)
        single = {s: fresh[0] for s, fresh in replies.items()}
        judgement = judge(self.quorums, objects[0], single, self._evidence(objects), self.views_max)
        if isinstance(judgement, Unsettled):
            more = self._related(objects, replies)
            if more:
                judgement = judge(self.quorums, objects[0], single, self._evidence((*objects, *more)), self.views_max)
        return judgement

    def _joint_judgement(self, index: int, item: Item, replies: dict[int, tuple[Fresh, ...]]) -> Judgement:
        objects = item.operation.objects
        if not self.quorums.contains_quorum(mask_of(list(replies))):
            return Unsettled()
        evidence = self._evidence((*objects, *self._related(objects, replies)))
        histories = {server: [f.history for f in fresh] for server, fresh in replies.items()}
        snapshot = newest_snapshot(self.quorums, objects, histories, evidence, self.views_max)
        item.seen = None if snapshot is None else snapshot.versions
        if snapshot is None or not (snapshot.joint or snapshot.versions == self._seen_before[index]):
            return Unsettled()
        return _agreement_at(self.quorums, snapshot.versions, replies) or Named(snapshot.versions)

    def _evidence(self, objects: Iterable[int]) -> tuple[ObjectHistorySet, ...]:
        sets = []
        for obj in objects:
            held = self.cache.of(obj)
            if held:
                sets.append(history_set(obj, held, sorted(held)))
        return tuple(sets)

    def _related(self, objects: tuple[int, ...], replies: dict[int, tuple[Fresh, ...]]) -> list[int]:
        """Siblings on which a version may be proven that is not proven here."""
        heads = {fresh.history.head for joint in replies.values() for fresh in joint}
        return sorted({sibling for head in heads for sibling in head.objects} - set(objects))

    def _take(
        self,
        index: int,
        item: Item,
        agreed: Agreed,
        answered: dict[int, tuple[QueryResult, ...]],
        whole: dict[bytes, bytes],
    ) -> None:
        if item.call.large and agreed.code in (Code.OK, Code.FAILED):
            if agreed.answer not in whole:
                item.everyone_whole = True
                return
            agreed = Agreed(agreed.code, whole[agreed.answer], agreed.servers)
        item.result = agreed
        target = item.method.follow(agreed.answer) if item.method.follow and agreed.code is Code.OK else None
        if target is None:
            return
        obj, kind, name = target
        item.child = Call(name, ((obj, kind),), b"\xc0", item.call.credentials, version=item.call.version)
        replies: dict[int, Fresh] = {}
        for server, results in answered.items():
            child, history = results[index].followed, self.children.get((server, index))
            if child is not None and history is not None and child.obj == obj:
                replies[server] = Fresh(history, child.lt, child.code, child.answer)
        judgement = judge(self.quorums, obj, replies, self._evidence((obj,)), self.views_max)
        if isinstance(judgement, Agreed):
            item.followed = judgement
        elif isinstance(judgement, Named | Unsettled):
            item.followed = None


def _agreement_at(quorums: QuorumSystem, versions: Versions, replies: dict[int, tuple[Fresh, ...]]) -> Agreed | None:
    """The answer that more servers than can lie gave at these versions."""
    return agreement(quorums, {s: joint[0] for s, joint in replies.items() if tuple(f.lt for f in joint) == versions})
