"""When a query's answers count (DESIGN section 3, "Queries"; paper section 3.5, optimistic query execution).

An answer counts when, in some quorum V of fresh replies, its version c is proven and held by more servers than can lie,
and no later version can have been established: for every later non-barrier record d, the servers of V with d and those
whose base is later than c are no repairable set.  Looser rules return stale answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qunfs.protocol.classify import proven
from qunfs.protocol.execution import Code
from qunfs.protocol.history import Candidate, Kind, LogicalTimestamp, ObjectHistorySet, ReplicaHistory
from qunfs.protocol.packing import new_tuple
from qunfs.protocol.quorum import QuorumSystem, mask_of

Versions = tuple[LogicalTimestamp, ...]
"""One version for each object of a query."""


class Fresh(NamedTuple):
    """One server's fresh reply about one object."""

    history: ReplicaHistory
    lt: LogicalTimestamp
    code: Code
    answer: bytes


class Agreed(NamedTuple):
    """The answer that counts, and the servers that gave it."""

    code: Code
    answer: bytes
    servers: int


class Named(NamedTuple):
    """The versions are settled, but too few have answered at them: ask for them by name."""

    versions: Versions


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The replies do not settle which version is the newest established one."""


Judgement = Agreed | Named | Unsettled


def newest_established(
    quorums: QuorumSystem,
    obj: int,
    histories: Mapping[int, ReplicaHistory],
    evidence: Iterable[ObjectHistorySet],
    views_max: int,
) -> Candidate | None:
    """The version that a query on the object must be answered from, if the fresh histories settle it."""
    servers = list(histories)
    everything = ObjectHistorySet.of(obj, histories, mask_of(servers))
    established = proven(quorums, (everything, *evidence))
    orders = everything.orders()
    newest = max((r for r in orders if r in established), key=lambda r: r.lt, default=None)
    if newest is None:
        return None
    later = [mask for r, mask in orders.items() if r.lt > newest.lt and r.kind is not Kind.BARRIER]
    beyond = mask_of([s for s, h in histories.items() if h.base.lt > newest.lt])
    holders = orders[newest]
    doubtful = beyond | ~holders
    for mask in later:
        doubtful |= mask
    servers.sort(key=lambda s: doubtful >> s & 1)
    for view in quorums.views_within(servers, views_max):
        if not quorums.exceeds_malevolent(holders & view) or quorums.contains_repairable(beyond & view):
            continue
        if not any(quorums.contains_repairable((mask | beyond) & view) for mask in later):
            return newest
    return None


def judge(
    quorums: QuorumSystem,
    obj: int,
    replies: Mapping[int, Fresh],
    evidence: Iterable[ObjectHistorySet],
    views_max: int,
) -> Judgement:
    """What the fresh replies to a query on one object amount to."""
    if not quorums.contains_quorum(mask_of(list(replies))):
        return Unsettled()
    histories = {server: fresh.history for server, fresh in replies.items()}
    record = newest_established(quorums, obj, histories, evidence, views_max)
    if record is None:
        return Unsettled()
    agreed = agreement(quorums, {s: f for s, f in replies.items() if f.lt == record.lt})
    return Named((record.lt,)) if agreed is None else agreed


def unanimous_answer(quorums: QuorumSystem, joint: Sequence[Fresh], servers: int) -> Agreed | None:
    """The answer if a whole quorum and nobody else has replied, all the same and at the heads of the same histories.

    That is nearly always so, and what :func:`judge` and :func:`newest_snapshot` come to then: all records of these
    histories but barriers are proven, so the newest version is the head, and nothing is later.  ``joint`` has one entry
    for each object of the query.  None says to ask them.
    """
    first = joint[0]
    if first.code is Code.NO_VERSION or not quorums.contains_quorum(servers):
        return None
    for fresh in joint:
        if fresh.lt != fresh.history.head.lt:
            return None
    return new_tuple(Agreed, (first.code, first.answer, servers))


def agreement(quorums: QuorumSystem, replies: Mapping[int, Fresh]) -> Agreed | None:
    """The answer that more servers gave than can lie."""
    votes: dict[tuple[Code, bytes], int] = {}
    for server, fresh in replies.items():
        if fresh.code is Code.NO_VERSION:
            continue
        mask = votes.get((fresh.code, fresh.answer), 0) | 1 << server
        votes[fresh.code, fresh.answer] = mask
        if quorums.exceeds_malevolent(mask):
            return Agreed(fresh.code, fresh.answer, mask)
    return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version per object of a joint query; ``joint`` when the replies alone show that they belong together."""

    versions: Versions
    joint: bool


def newest_snapshot(
    quorums: QuorumSystem,
    objects: Sequence[int],
    replies: Mapping[int, Sequence[ReplicaHistory]],
    evidence: Sequence[ObjectHistorySet],
    views_max: int,
) -> Snapshot | None:
    """The versions that a query on several objects must be answered from, if the fresh joint replies settle each.

    They belong together when one quorum holds them all and nothing later of any object is repairable in it.  If not,
    two successive joint reads with the same versions show the same: each was the newest between the reads.
    """
    records: list[Candidate] = []
    for place, obj in enumerate(objects):
        histories = {server: joint[place] for server, joint in replies.items()}
        record = newest_established(quorums, obj, histories, evidence, views_max)
        if record is None:
            return None
        records.append(record)
    versions = tuple(record.lt for record in records)
    holders = [s for s, joint in replies.items() if all(r in h for r, h in zip(records, joint, strict=True))]
    later = [
        mask
        for place, obj in enumerate(objects)
        for record, mask in ObjectHistorySet.of(obj, {s: replies[s][place] for s in holders}, mask_of(holders))
        .orders()
        .items()
        if record.lt > versions[place] and record.kind is not Kind.BARRIER
    ]
    for view in quorums.views_within(holders, views_max):
        if not any(quorums.contains_repairable(mask & view) for mask in later):
            return Snapshot(versions, joint=True)
    return Snapshot(versions, joint=False)
