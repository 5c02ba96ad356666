"""Fetching what a replica lacks from its peers: object sync and vouching (Figure 3, line 1014; section 3.5).

Every question goes to more servers than can lie; an answer counts when that many agree on it.  State travels as the
net difference from a version the asker has, in chunks that are agreed on one by one: one server sends the rows, the
others a digest of them.  Nothing waits here: replies and ticks move the jobs on, and the replica carries on meanwhile.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgpack

from qunfs.protocol.errors import VersionMissing
from qunfs.protocol.history import ZERO_TIMESTAMP, Candidate, LogicalTimestamp
from qunfs.protocol.limits import Limits
from qunfs.protocol.messages import Sync, SyncReply, Vouch, VouchReply
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of
from qunfs.protocol.store import StoreView

ANSWER_WAIT_S: Final = 0.25
"""How long a host may take before the next one is asked."""
LATE_FOR_S: Final = 10.0
"""How long a host that did not answer is asked last; any answer of its ends that."""
GIVE_UP_S: Final = 5.0
"""How long a job may take without progress; the client asks again, with fresher views."""

_NOT_VOUCHED: Final = b"-"
"""The vote of a host that does not hold the record: it settles nothing, for others may."""

Rows = tuple[tuple[bytes, bytes | None], ...]


def rows_digest(rows: Rows, more: bool) -> bytes:
    """What hosts that do not send the rows send instead."""
    packed: bytes = msgpack.packb((rows, more))
    return blake2b(packed, digest_size=32).digest()


def answer_sync(store: StoreView, question: Sync, limits: Limits) -> SyncReply:
    """A host's reply to a part of an object sync."""
    try:
        rows, more = store.difference(
            question.obj, question.base, question.target, question.after, limits.sync_chunk_bytes
        )
    except VersionMissing:
        return SyncReply(False, b"", (), False)
    chunk = tuple(rows)
    return SyncReply(True, rows_digest(chunk, more), chunk if question.whole else (), more)


@dataclass(slots=True)
class Job:
    """One thing to fetch.  ``record`` is set when a record is to be vouched for, else a version is to be synced."""

    obj: int
    target: LogicalTimestamp
    hosts: list[int]
    give_up: float
    asker: int
    """The client whose request it began for."""
    record: Candidate | None = None
    answer: bytes = b""
    """The answer stored with the version; of a vouching, the answer vouched for."""
    bases: list[LogicalTimestamp] = field(default_factory=list)
    rows: dict[bytes, bytes | None] = field(default_factory=dict)
    size: int = 0
    after: bytes = b""
    pending: dict[int, float] = field(default_factory=dict)
    asked: int = 0
    votes: dict[bytes, int] = field(default_factory=dict)
    chunks: dict[bytes, tuple[Rows, bool]] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)

    def restart(self) -> None:
        """Forget the votes: the next question is another one."""
        self.pending.clear()
        self.votes.clear()
        self.chunks.clear()
        self.asked = 0

    def question(self, whole: bool) -> Vouch | Sync:
        """What to ask a host now."""
        if self.record is not None:
            return Vouch(self.obj, self.target)
        return Sync(self.obj, self.bases[0], self.target, self.after, whole)


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that ended: the version is in the store, or the record vouched for; or neither."""

    job: Job
    success: bool


JobKey = tuple[int, LogicalTimestamp, Candidate | None]
"""With the record to be vouched for: anybody can make up another one of the same time."""


class Synchroniser:
    """All jobs of one replica.  ``outgoing`` is drained by the replica after every call."""

    def __init__(self, server: int, quorums: QuorumSystem, store: StoreView, limits: Limits) -> None:
        self._server, self._quorums, self._store, self._limits = server, quorums, store, limits
        self._jobs: dict[JobKey, Job] = {}
        self._jobs_of: Counter[int] = Counter()
        """How many of them each client has begun."""
        self._numbers: dict[int, tuple[JobKey, int]] = {}
        self._next_number = 1
        self._late: dict[int, float] = {}
        """Hosts that are asked last, and until when."""
        self.outgoing: list[tuple[int, bytes]] = []
        self.contradicted = 0
        """The hosts that more than can lie contradict; for the replica to take note of."""
        self.completed = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def want_version(
        self, obj: int, target: LogicalTimestamp, hosts: int, answer: bytes, now: float, asker: int = 0
    ) -> JobKey | None:
        """Have a version fetched from the hosts; the key of the job, None when too many are under way."""
        key = (obj, target, None)
        bases = [lt for lt in self._store.kept(obj)[:1] if lt != ZERO_TIMESTAMP]
        job = Job(
            obj, target, self._others(hosts), now + GIVE_UP_S, asker, answer=answer, bases=[*bases, ZERO_TIMESTAMP]
        )
        return self._begin(key, job, now)

    def want_vouched(self, record: Candidate, hosts: int, now: float, asker: int = 0) -> JobKey | None:
        """Have a record vouched for by the hosts; the key of the job, None when too many are under way."""
        key = (record.objects[0], record.lt, record)
        job = Job(record.objects[0], record.lt, self._others(hosts), now + GIVE_UP_S, asker, record)
        return self._begin(key, job, now)

    def _others(self, hosts: int) -> list[int]:
        """Named hosts first; the rest may have it too, and a client may have named badly."""
        named = [s for s in servers_of(hosts) if s < self._quorums.n and s != self._server]
        return named + [s for s in range(self._quorums.n) if s not in named and s != self._server]

    def _begin(self, key: JobKey, job: Job, now: float) -> JobKey | None:
        if key not in self._jobs:
            if self._jobs_of[job.asker] >= self._limits.sync_jobs_max - len(self._jobs):
                return None  # as many as are left for all others
            self._jobs_of[job.asker] += 1
            self._jobs[key] = job
            self._ask_enough(key, job, now)
        return key

    # ---- asking

    def _ask_enough(self, key: JobKey, job: Job, now: float) -> None:
        """Ask until those asked and not yet overdue could settle the question together with the best vote."""
        useful = [vote for vote in job.votes if vote != _NOT_VOUCHED]
        favourite = max(useful, key=lambda vote: job.votes[vote].bit_count(), default=None)
        best = 0 if favourite is None else job.votes[favourite]
        hopeful = best | mask_of(list(job.pending))
        for server in sorted(job.hosts, key=lambda host: self._late.get(host, now) > now):
            if self._quorums.exceeds_malevolent(hopeful):
                return
            if not job.asked >> server & 1:
                hopeful |= 1 << server
                whole = job.asked == 0 or (favourite is not None and favourite not in job.chunks)
                self._ask(key, job, server, whole=whole, now=now)

    def _ask(self, key: JobKey, job: Job, server: int, whole: bool, now: float) -> None:
        number, self._next_number = self._next_number, self._next_number % 0xFFFFFFFF + 1
        self._numbers[number] = (key, server)
        job.numbers.append(number)
        job.asked |= 1 << server
        job.pending[server] = now + ANSWER_WAIT_S
        self.outgoing.append((server, job.question(whole).pack(number)))

    def tick(self, now: float) -> Iterator[Finished]:
        """Ask others for what is overdue; give up on what takes too long."""
        for key, job in list(self._jobs.items()):
            if now >= job.give_up:
                yield self._finish(key, job, success=False)
                continue
            overdue = [s for s, deadline in job.pending.items() if now >= deadline]
            for server in overdue:
                del job.pending[server]
                self._late[server] = now + LATE_FOR_S
            if overdue:
                self._ask_enough(key, job, now)
            if not job.pending:
                job.asked = 0
                self._ask_enough(key, job, now)

    def unreachable(self, server: int, now: float) -> None:
        """A host will not answer what it was asked: ask others at once."""
        self._late[server] = now + LATE_FOR_S
        for key, job in list(self._jobs.items()):
            if job.pending.pop(server, None) is not None:
                self._ask_enough(key, job, now)

    # ---- answers

    def on_reply(self, server: int, number: int, reply: VouchReply | SyncReply, now: float) -> Finished | None:
        """Count a host's reply; the job if that ended it."""
        key, asked = self._numbers.get(number, (None, -1))
        job = None if key is None else self._jobs.get(key)
        if key is None or job is None or asked != server:
            return None
        del self._numbers[number]
        self._late.pop(server, None)
        job.pending.pop(server, None)
        if isinstance(reply, VouchReply):
            return self._on_vouched(key, job, server, reply, now)
        return self._on_chunk(key, job, server, reply, now)

    def _count(self, job: Job, server: int, vote: bytes) -> bool:
        job.votes[vote] = job.votes.get(vote, 0) | 1 << server
        return self._quorums.exceeds_malevolent(job.votes[vote])

    def _contradict(self, job: Job, agreed: bytes, ignorance: bytes) -> None:
        """What counts is settled: who has it and said something else lied."""
        for vote, servers in job.votes.items():
            if vote not in (agreed, ignorance):
                self.contradicted |= servers

    def _on_vouched(self, key: JobKey, job: Job, server: int, reply: VouchReply, now: float) -> Finished | None:
        if job.record is None:
            return None
        vouched = reply.record == job.record.wire
        if vouched and self._count(job, server, b"+" + reply.answer):
            self._contradict(job, b"+" + reply.answer, _NOT_VOUCHED)
            job.answer = reply.answer
            return self._finish(key, job, success=True)
        if not vouched:
            self._count(job, server, _NOT_VOUCHED)
        self._ask_enough(key, job, now)
        return None if job.pending else self._finish(key, job, success=False)

    def _on_chunk(self, key: JobKey, job: Job, server: int, reply: SyncReply, now: float) -> Finished | None:
        if job.record is not None:
            return None
        vote = reply.digest if reply.known else b""
        if reply.rows and reply.known:
            vote = rows_digest(reply.rows, reply.more)
            job.chunks[vote] = (reply.rows, reply.more)
        elif reply.known and vote == rows_digest((), False):
            job.chunks[vote] = ((), False)
        agreed = self._count(job, server, vote)
        if not agreed:
            self._ask_enough(key, job, now)
            return None
        if vote == b"":
            return self._next_base(key, job, now)
        if vote in job.chunks:
            self._contradict(job, vote, b"")
            return self._take_chunk(key, job, *job.chunks[vote], now)
        source = next(s for s in servers_of(job.votes[vote]))
        job.votes[vote] &= ~(1 << source)
        self._ask(key, job, source, whole=True, now=now)
        return None

    def _next_base(self, key: JobKey, job: Job, now: float) -> Finished | None:
        """The hosts lack the base or the target: try a base that everybody has, then give up."""
        job.bases.pop(0)
        if not job.bases:
            return self._finish(key, job, success=False)
        job.rows.clear()
        job.after, job.size = b"", 0
        self._ask_anew(key, job, now)
        return None

    def _take_chunk(self, key: JobKey, job: Job, rows: Rows, more: bool, now: float) -> Finished | None:
        job.rows.update(rows)
        job.size += sum(len(k) + len(v or b"") for k, v in rows)
        job.give_up = now + GIVE_UP_S
        if job.size > self._limits.staged_bytes_max:
            return self._finish(key, job, success=False)
        if more and rows:
            job.after = rows[-1][0]
            self._ask_anew(key, job, now)
            return None
        return self._finish(key, job, success=self._keep(job))

    def _ask_anew(self, key: JobKey, job: Job, now: float) -> None:
        """Ask another question; what still comes in reply to the one before must not count for it."""
        self._forget_numbers(job)
        job.restart()
        self._ask_enough(key, job, now)

    def _forget_numbers(self, job: Job) -> None:
        for number in job.numbers:
            self._numbers.pop(number, None)
        job.numbers.clear()

    def _keep(self, job: Job) -> bool:
        if not self._store.has_version(job.obj, job.target):
            if not self._store.has_version(job.obj, job.bases[0]):
                return False
            self._store.add_version(job.obj, job.target, job.bases[0], job.rows, job.answer)
        return True

    def _finish(self, key: JobKey, job: Job, success: bool) -> Finished:
        del self._jobs[key]
        self._jobs_of[job.asker] -= 1
        self._forget_numbers(job)
        self.completed += success
        return Finished(job, success)
