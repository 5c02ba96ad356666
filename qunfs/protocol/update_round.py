"""One METHOD, BARRIER, COPY or adoption at a quorum: packing it, counting who accepted it and what they answered."""

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.execution import Code
from qunfs.protocol.history import Candidate, Kind, ReplicaHistory
from qunfs.protocol.history_cache import HistoryCache
from qunfs.protocol.messages import Adopt, Shown, Status, UpdateReply, pack_update, pack_update_body
from qunfs.protocol.packing import new_tuple
from qunfs.protocol.planning import Inline, Prepared
from qunfs.protocol.quorum import QuorumSystem, servers_of
from qunfs.protocol.quorum_rpc import Alike, Phase
from qunfs.protocol.steps import Means, Step


class Outcome(NamedTuple):
    """How a phase of updates ended; ``answer`` counts when ``done``."""

    done: bool
    code: Code = Code.OK
    answer: bytes = b""


_NOT_DONE: Final = Outcome(False)
_NAMES: Final = {kind: kind.name for kind in Kind}


class UpdateRound(Phase):
    """A phase that has a candidate accepted; what is sent is a subclass's."""

    __slots__ = ("_answer_needed", "_cache", "_quorums", "candidate", "denied", "too_late")

    def __init__(
        self,
        name: str,
        means: Means,
        candidate: Candidate,
        home: int,
        everyone: bool,
        expected: tuple[ReplicaHistory, ...] = (),
    ) -> None:
        order = means.trust.preference(home).to_ask
        super().__init__(name, order, (candidate.objects,), expected, everyone)
        self._quorums: QuorumSystem = means.quorums
        self._cache: HistoryCache = means.cache
        self._answer_needed = name == "METHOD"
        self.candidate = candidate
        self.denied = 0
        """Servers that say they have accepted the candidate and show histories without it."""
        self.too_late = False
        """Whether a server finds the time of a history that was shown too late."""

    def note(self, alike: Alike, servers: int) -> None:
        if isinstance(alike.reply, UpdateReply):
            self._cache.note(self.candidate.objects, alike.reply.histories, servers, alike.vectors)

    def judge(self, final: bool) -> Outcome | None:
        """Count acceptances and answers; give up when neither can make a quorum any more."""
        accepted, answered, self.denied = 0, 0, 0
        votes: dict[tuple[Status, Code, bytes], int] = {}
        for reply, servers in self.update_replies():
            status, code, answer, histories, _ = reply
            if status is Status.ACCEPTED:
                if not _shows(histories, self.candidate):
                    self.denied |= servers
                    continue
                accepted |= servers
                if self._answer_needed and not answer:
                    continue  # that replica holds the version by object sync and has not run the method
            elif status is Status.ANSWERED:
                answered |= servers
            else:
                continue
            vote = (status, code, answer)
            votes[vote] = votes.get(vote, 0) | servers
        other = self.replied & ~(accepted | answered)
        return self._outcome(accepted, answered, other, votes, final)

    def _outcome(
        self, accepted: int, answered: int, other: int, votes: dict[tuple[Status, Code, bytes], int], final: bool
    ) -> Outcome | None:
        quorum = self._quorums.contains_quorum
        for (status, code, answer), mask in votes.items():
            whole = accepted if status is Status.ACCEPTED else answered
            if quorum(whole) and self._quorums.exceeds_malevolent(mask):
                return new_tuple(Outcome, (True, code, answer))
        everyone = (1 << self._quorums.n) - 1
        hopeless = not quorum(everyone & ~(other | answered)) and not quorum(everyone & ~(other | accepted))
        if quorum(accepted | answered | other) and (hopeless or final):
            return _NOT_DONE
        return None

    def contradicted(self, outcome: Outcome) -> int:
        """The servers that ran the method and say that something else came of it than what counts.

        No correct one does: who has accepted and not run it answers nothing, who may not or cannot run it refuses.
        """
        wrong = 0
        for reply, servers in self.update_replies():
            status, code, answer, _, _ = reply
            ran = status is Status.ANSWERED or (status is Status.ACCEPTED and answer != b"")
            if ran and (code, answer) != (outcome.code, outcome.answer):
                wrong |= servers
        return wrong if self._answer_needed else 0

    def update_replies(self) -> list[tuple[UpdateReply, int]]:
        """What servers replied to the update, and the bitmap of those that did."""
        return [(a.reply, a.servers) for a in self.alike if isinstance(a.reply, UpdateReply)]


class _Request(UpdateRound):
    """A METHOD, BARRIER or COPY: one body for all servers, and the column of MACs that each can check."""

    __slots__ = ("_body", "_head", "_vectors")

    def __init__(self, means: Means, prepared: Prepared, home: int, everyone: bool) -> None:
        request, candidate, conditioned = prepared.request, prepared.made.candidate, prepared.made.conditioned
        expected: tuple[ReplicaHistory, ...] = ()
        if request.kind is Kind.METHOD:  # what it was conditioned on becomes the base
            expected = tuple([ReplicaHistory((record, candidate)) for record in conditioned])
        super().__init__(_NAMES[request.kind], means, candidate, home, everyone, expected)
        self._body = pack_update_body(request)
        self._head = b""
        self._vectors: list[bytes] = []
        for shown in request.views:
            self._vectors += means.cache.vectors(shown)
        for shown in request.evidence:
            self._vectors += means.cache.vectors(shown)

    def message(self, server: int) -> bytes:
        if not self._head:
            self._head = pack_update(self.number, self._body, b"")
        at, end = MAC_BYTES * server, MAC_BYTES * (server + 1)
        return self._head + b"".join([vector[at:end] for vector in self._vectors])


class _Adoption(UpdateRound):
    """Inline repair (section 3.5): servers that lack a candidate are told who has it."""

    __slots__ = ("_adopt",)

    def __init__(self, means: Means, plan: Inline, home: int, everyone: bool) -> None:
        super().__init__("INLINE_REPAIR", means, plan.record, home, everyone)
        self._adopt = Adopt(plan.record, plan.hosts)

    def message(self, _server: int) -> bytes:
        return self._adopt.pack(self.number)


Sending = Generator[Step, Any, tuple[Outcome, UpdateRound]]


def send(means: Means, prepared: Prepared, home: int, everyone: bool) -> Sending:
    """Send a METHOD, BARRIER or COPY to a quorum or to everyone; ``home`` is whose preferred quorum is asked."""
    return _run(means, _Request(means, prepared, home, everyone))


def adopt(means: Means, plan: Inline, home: int, everyone: bool) -> Sending:
    """Have a candidate completed in place (section 3.5, "inline repair")."""
    return _run(means, _Adoption(means, plan, home, everyone))


def _run(means: Means, phase: UpdateRound) -> Sending:
    means.counters[phase.name.lower()] += 1
    outcome: Outcome = yield phase
    if not outcome.done or len(phase.alike) > 1:
        _note_complaints(means, phase, outcome.done)
        if outcome.done:
            means.trust.contradicted(phase.contradicted(outcome))
    for server in servers_of(phase.denied):
        means.trust.denied(server)
        means.counters["denials"] += 1
    return outcome, phase


def _note_complaints(means: Means, phase: UpdateRound, done: bool) -> None:
    """What servers have against histories; unless the phase is done, do without those whose MACs did not hold.

    Nobody can tell who of two lies when one finds the other's MAC bad (section 3.5).  A time that is too late for a
    server's clock is held against nobody: clocks differ.
    """
    trust, hindered = means.trust, False
    for reply, servers in phase.update_replies():
        for reporter in servers_of(servers) if reply.culled else ():
            bad = {(obj, issuer) for obj, issuer, late in reply.culled if not late and trust.is_server(issuer)}
            phase.too_late |= any(late for _, _, late in reply.culled)
            means.counters["culled" if bad else "too late"] += 1
            for issuer in sorted({issuer for _, issuer in bad} - {reporter}):
                (trust.complained if done else trust.accuse)(issuer, reporter)
            if bad and not done:
                trust.suspect(reporter)
                for obj, issuer in sorted(bad):
                    if issuer != reporter:
                        means.cache.forget(obj, issuer)
            hindered |= bool(bad) or trust.met_late
    if hindered and not done:
        trust.reconsider()


def _shows(shown: Sequence[Shown], candidate: Candidate) -> bool:
    """Whether the histories of a reply are those of a server that has accepted a candidate, now or long ago."""
    for one in shown:
        history = one.history
        if history is None:
            return False
        if history.latest is not candidate and candidate not in history and history.base.lt <= candidate.lt:
            return False
    return len(shown) == len(candidate.objects)
