"""What must hold of the benign replicas after every step, whatever clients and malevolent servers do.

A candidate is *established* when all benign servers of some quorum have accepted it.  The oracles see every history and
version that a benign replica made durable, at the moment it did, and keep what they need of the past.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from qunfs.protocol.history import ZERO, ZERO_HISTORY, Candidate, Kind, LogicalTimestamp, ReplicaHistory
from qunfs.protocol.quorum import QuorumSystem, ThresholdQuorums, mask_of
from tests.simulation.objects import entries
from tests.simulation.watched import Change, HistoryChanged, State, VersionAdded


class Violation(AssertionError):
    """A rule that must hold does not."""


class Oracles:
    """The invariants of one run, and the truth about what is established."""

    def __init__(self, quorums: QuorumSystem, objects: Sequence[int], malevolent: Iterable[int]) -> None:
        self._quorums = quorums
        self.objects: list[int] = []
        self.malevolent = frozenset(malevolent)
        self.benign = [s for s in range(quorums.n) if s not in self.malevolent]
        self._liars = mask_of(sorted(self.malevolent))
        self.histories: dict[int, dict[int, ReplicaHistory]] = {s: {} for s in self.benign}
        self.archive: dict[tuple[int, int], list[ReplicaHistory]] = {}
        """Every history that each benign server ever had."""
        self._had: dict[tuple[int, int], set[ReplicaHistory]] = {}
        self.states: dict[tuple[int, LogicalTimestamp], State] = {}
        self._answers: dict[LogicalTimestamp, bytes] = {}
        self._records: dict[LogicalTimestamp, Candidate] = {ZERO.lt: ZERO}
        self.acceptors: dict[Candidate, set[int]] = {}
        self.established: dict[int, list[Candidate]] = {}
        self._proven: set[Candidate] = {ZERO}
        self._dead: set[Candidate] = set()
        """What benign servers have skipped, never to be established."""
        self.touched: dict[bytes, tuple[int, ...]] = {}
        """The objects that each ledger entry belongs to."""
        self.once: set[bytes] = set()
        """Entries that take effect once: those of correct clients, and of others whose sessions servers remember."""
        self.seen: Counter[str] = Counter()
        for obj in objects:
            self.meet(obj)

    def meet(self, obj: int, state: State = ()) -> None:
        """Watch one more object, to which nobody has done anything."""
        self.objects.append(obj)
        for server in self.benign:
            self.histories[server][obj] = ZERO_HISTORY
            self.archive[server, obj] = [ZERO_HISTORY]
            self._had[server, obj] = {ZERO_HISTORY}
        self.states[obj, ZERO.lt] = state
        self.established[obj] = [ZERO]

    def told(self, teller: str, server: int, ground: str, proof: bool, others: Sequence[int] = ()) -> None:
        """A correct client or server holds something against a server, which disagrees with others."""
        self.seen[f"{'proof' if proof else 'suspicion'} of {ground}"] += 1
        if server in self.malevolent or self._quorums.exceeds_malevolent(self._liars):
            return
        if proof or ground == "future-times":
            raise Violation(f"evidence: {teller} takes s{server}, which is correct, for a liar: {ground}")
        wronged = set(others) - set(self.malevolent)
        if wronged:
            raise Violation(f"evidence: {teller} says that s{server} and {wronged}, all correct, disagree: {ground}")

    # ---- what the servers report

    def committed(self, server: int, changes: Sequence[Change]) -> list[Candidate]:
        """A benign server made these changes durable; the records it accepted."""
        accepted: dict[Candidate, set[int]] = {}
        skips = self.seen["skip"]
        for change in changes:
            if isinstance(change, VersionAdded):
                self._version(server, change)
            else:
                self._history(server, change, accepted)
        if self.seen["skip"] > skips and not any(record.kind is Kind.COPY for record in accepted):
            raise Violation(f"s{server} skipped something and accepted only {list(accepted)}")
        for record, objects in accepted.items():
            if objects != set(record.objects):
                raise Violation(f"atomicity: s{server} accepted {record} on {sorted(objects)} only")
            self._accepted(server, record)
        for obj in {c.obj: None for c in changes if isinstance(c, HistoryChanged)}:
            self._check_visible(obj)
        self._check_siblings(server)
        return list(accepted)

    def restarted(self, server: int, histories: dict[int, ReplicaHistory]) -> None:
        """A benign server came back with these histories."""
        if histories != self.histories[server]:
            raise Violation(f"durability: s{server} came back with other histories than it had made durable")

    def kept(self, server: int, obj: int, record: Candidate, state: State | None) -> None:
        """A benign server has this version of an object, whose record is in its history; None when it is gone."""
        if state is None:
            raise Violation(
                f"kept versions: {record} is in the history of {obj:x} at s{server} and its version is gone"
            )
        if state != self.states.get((obj, record.lt)):
            raise Violation(f"kept versions: that of {record} of {obj:x} at s{server} has changed")

    def had(self, server: int, obj: int, history: ReplicaHistory) -> bool:
        """Whether a benign server ever had this history."""
        return history in self._had[server, obj]

    def _version(self, server: int, change: VersionAdded) -> None:
        key = (change.obj, change.lt)
        if self.states.setdefault(key, change.state) != change.state:
            raise Violation(f"same timestamp, other content: {change.lt} of object {change.obj:x} at s{server}")
        # a version that came by object sync has no answer
        if change.answer and self._answers.setdefault(change.lt, change.answer) != change.answer:
            raise Violation(f"same timestamp, other answer: {change.lt} of object {change.obj:x} at s{server}")

    def _history(self, server: int, change: HistoryChanged, accepted: dict[Candidate, set[int]]) -> None:
        obj, old, new = change.obj, change.old, change.new
        if self.histories[server][obj] != old:
            raise Violation(f"s{server} changed another history of {obj:x} than its own")
        self.histories[server][obj] = new
        self.archive[server, obj].append(new)
        self._had[server, obj].add(new)
        self.seen["longest history"] = max(self.seen["longest history"], len(new.records))
        for record in new.records:
            if self._records.setdefault(record.lt, record) != record:
                raise Violation(f"two records at {record.lt}")
        kept = set(old.records)
        for record in new.records:
            if record in kept:
                continue
            if record == new.latest and record.lt > old.latest.lt:
                accepted.setdefault(record, set()).add(obj)
                self._check_condition(server, obj, old, record)
                self._check_shrunk(server, change)
            elif record == new.base:
                self.seen["base inserted"] += 1
            else:
                raise Violation(f"s{server} accepted {record} on {obj:x} below {old.latest}")
        if new.base != old.base and new.base not in self._proven:
            raise Violation(f"s{server} made {new.base} the base of {obj:x}, which is not established")
        if sum(record.kind is Kind.BARRIER for record in new.records) > 1:
            raise Violation(f"s{server} keeps more than one barrier on {obj:x}: {new}")
        self._check_removals(server, change)

    def _check_condition(self, server: int, obj: int, old: ReplicaHistory, record: Candidate) -> None:
        """Nothing later than LT_current was there, and what the record claims to be established is."""
        if old.latest.lt > record.current(obj):
            raise Violation(
                f"s{server} accepted {record} on {obj:x} over {old.latest}, later than {record.current(obj)}"
            )
        bottom = record.bottom(obj)
        if record.kind is not Kind.BARRIER and self._records.get(bottom) not in self._proven:
            raise Violation(f"s{server} accepted {record} as if {bottom} of {obj:x} were established")

    def _check_shrunk(self, server: int, change: HistoryChanged) -> None:
        """Proof rule and skip rule: the history begins at what is proved, and a COPY's contenders are gone."""
        obj, old, new, record = change.obj, change.old, change.new, change.new.latest
        if record.kind is Kind.BARRIER:
            return
        bottom = record.bottom(obj)
        if new.base.lt < bottom and old.find(bottom) is not None:
            raise Violation(f"s{server} accepted {record} on {obj:x} and kept what is below {bottom}: {new}")
        if record.kind is Kind.COPY:
            versions = [r for r in new.records[1:-1] if r.kind is not Kind.BARRIER]
            contenders = [r for r in versions if r.lt > bottom and r.src != record.src]
            if contenders:
                raise Violation(f"s{server} accepted {record} on {obj:x} and kept contenders {contenders}")

    def _check_removals(self, server: int, change: HistoryChanged) -> None:
        """Histories shrink by the proof rule, by the skip rule on accepting a COPY, and by a later barrier only."""
        obj, old, new = change.obj, change.old, change.new
        kept = set(new.records)
        gone = [r for r in old.records if r not in kept and r.lt > new.base.lt]
        skipped = [r for r in gone if r.kind is not Kind.BARRIER]
        if len(skipped) < len(gone) and new.latest.kind is not Kind.BARRIER:
            raise Violation(f"s{server} dropped a barrier of {obj:x} and accepted {new.latest}")
        if skipped:
            self.seen["skip"] += 1
            if not self._proven.isdisjoint(skipped):
                raise Violation(f"s{server} skipped {skipped} of {obj:x}, though established")
            self._dead.update(skipped)
        if new.base != old.base and new.base != ZERO:
            self.seen["proof"] += 1

    def _accepted(self, server: int, record: Candidate) -> None:
        self.seen[f"{record.kind.name.lower()} accepted"] += 1
        if len(record.objects) > 1:
            self.seen[f"joint {record.kind.name.lower()} accepted"] += 1
        if record.kind is Kind.COPY and not record.starts_segment:
            self.seen["copy of a repairable record"] += 1
        acceptors = self.acceptors.setdefault(record, set())
        acceptors.add(server)
        if record.kind is not Kind.BARRIER and record not in self._proven and self._make_quorum(acceptors):
            self._establish(record)

    def _make_quorum(self, benign: Iterable[int]) -> bool:
        """Whether these servers are all benign ones of some quorum."""
        return self._quorums.contains_quorum(mask_of(sorted(benign)) | self._liars)

    # ---- what is established

    def _establish(self, record: Candidate) -> None:
        if record in self._dead:
            raise Violation(f"{record} is established though a benign server has skipped it")
        self._proven.add(record)
        self.seen["established"] += 1
        for obj in record.objects:
            chain = self.established[obj]
            chain.append(record)
            chain.sort(key=lambda r: r.lt)
            at = chain.index(record)
            for older, newer in zip(chain[max(0, at - 1) : at + 1], chain[at : at + 2], strict=False):
                self._check_chained(obj, older, newer)
        self.check_effects()
        for obj in record.objects:
            self._check_visible(obj)

    def _check_chained(self, obj: int, older: Candidate, newer: Candidate) -> None:
        lt = newer.lt
        while lt > older.lt:
            record = self._records.get(lt)
            if record is None:
                raise Violation(f"{newer} is conditioned on {lt}, which no benign server has accepted")
            lt = record.conditioned_on(obj)
        if lt != older.lt:
            raise Violation(f"fork: established {newer} does not descend from established {older} on {obj:x}")

    def check_effects(self) -> None:
        """Multi-object atomicity and exactly once, in the newest established versions."""
        newest = {obj: self.entries(obj) for obj in self.objects}
        for obj, ledger in newest.items():
            ours = [entry for entry in ledger if entry in self.once]
            if len(set(ours)) != len(ours):
                raise Violation(f"exactly once: an operation took effect twice on {obj:x}: {ledger}")
            for entry in ledger:
                for sibling in self.touched[entry]:
                    if entry not in newest[sibling]:
                        raise Violation(f"atomicity: {entry!r} took effect on {obj:x} but not on {sibling:x}")

    def _check_visible(self, obj: int) -> None:
        newest = self.established[obj][-1]
        holders = [s for s in self.benign if newest in self.histories[s][obj]]
        few = isinstance(self._quorums, ThresholdQuorums) and len(holders) < self._quorums.q - self._quorums.b
        if few or not self._make_quorum(holders):
            raise Violation(f"visibility: established {newest} of {obj:x} is held by {holders} only")

    def _check_siblings(self, server: int) -> None:
        """A version's record stands on all its objects but those whose base is later; as their base if once as that."""
        histories = self.histories[server]
        for obj, history in histories.items():
            for record in history.records:
                if record.kind is Kind.BARRIER or len(record.objects) < 2:
                    continue
                for sibling in record.objects:
                    other = histories[sibling]
                    if other.base.lt >= record.lt:
                        continue
                    if record is history.base and record in other:
                        raise Violation(f"s{server} has {record} as the base of {obj:x} and not of {sibling:x}")
                    if record is not history.base and record not in other:
                        raise Violation(f"atomicity: s{server} holds {record} on {obj:x} and not on {sibling:x}")

    # ---- the truth, for the end-to-end checks

    def state(self, obj: int) -> dict[bytes, bytes]:
        """The newest established state of an object."""
        return dict(self.states[obj, self.established[obj][-1].lt])

    def entries(self, obj: int) -> tuple[bytes, ...]:
        """What has taken effect on a ledger."""
        return entries(self.state(obj))
