"""Agreement on the sequence of batches: the three phases, the water marks, and sending again what may be lost.

Who makes the batches and what executing them does is the replica's business (:mod:`ordering`).  The sections named are
those of Castro and Liskov, OSDI 1999.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from hmac import compare_digest
from typing import Final

from bench.baselines.pbft.core.macs import ReplicaMacs
from bench.baselines.pbft.core.messages import (
    Checkpoint,
    Entry,
    PrePrepare,
    Status,
    batch_digest,
    pack_batch,
    pack_checkpoint,
    pack_pre_prepare,
    pack_status,
    pack_votes,
    parse_batch_untrusted,
    parse_votes_untrusted,
)
from bench.baselines.pbft.core.slots import Log, Slot
from bench.baselines.pbft.core.tuning import PRIMARY, VIEW, Tuning, replicas_for
from qunfs.protocol.errors import MalformedMessage, QunfsError

STATUS_AFTER_S: Final = 0.25
"""A replica that waits for others for so long says how far it has got, and says again what it has said."""
_RESENT_MAX: Final = 32
"""Batches sent again at a time."""


class StateDiffers(QunfsError):
    """2f+1 replicas have another state than this one: something is not deterministic, or the disk has failed."""


class Agreement:
    """One replica's part in it.

    ``execute`` is called once for each batch, in order, ``digest`` after some, and ``forget`` when a batch leaves the
    log.  ``bundles`` are those that have come from their clients themselves, by digest.
    """

    def __init__(
        self,
        replica: int,
        faults: int,
        macs: ReplicaMacs,
        tuning: Tuning,
        start: int,
        execute: Callable[[Slot], None],
        digest: Callable[[], bytes],
        forget: Callable[[Slot], None],
        bundles: dict[bytes, bytes],
    ) -> None:
        self.log = Log(start, tuning.log_batches_max)
        self.executed = start
        """All batches up to here are executed; the last one of them perhaps tentatively."""
        self.committed = start
        """All batches up to here are committed."""
        self.outgoing: list[tuple[int, bytes]] = []
        """What is to be sent to other replicas."""
        self.hurry = False
        """Whether somebody waits for the COMMITs."""
        self.counters: Counter[str] = Counter()
        self.peers: Final = tuple(other for other in range(replicas_for(faults)) if other != replica)
        self._me = replica
        self._bit = 1 << replica
        self._faults = faults
        self._quorum = 2 * faults + 1
        self._prepares_needed = 2 * faults
        self._macs = macs
        self._tuning = tuning
        self._execute, self._digest, self._forget = execute, digest, forget
        self._bundles = bundles
        self._waiting_for: dict[bytes, list[Slot]] = {}
        """Batches that lack a bundle."""
        self._newest = start
        """The last batch that was heard of."""
        self._accepted = start
        """The last one that was accepted."""
        self._checkpoints: dict[int, dict[int, bytes]] = {}
        """Digests of states by batch and replica, as far as they are not stable."""
        self._claimed: dict[int, int] = {}
        """Checkpoints beyond the water marks, by replica."""
        self._stable: Checkpoint | None = None
        self._prepares_out: list[tuple[int, tuple[bytes, ...]]] = []
        self._commits_out: list[tuple[int, tuple[bytes, ...]]] = []
        self._commits_due = 0.0
        self._status_due = 0.0
        self._reached = (start, start)
        self._now = 0.0

    # ---- PRE-PREPARE (section 4.2)

    def propose(self, sequence: int, entries: list[Entry], vectors: Sequence[tuple[bytes, ...]]) -> None:
        """The primary orders a batch; ``vectors`` are the clients' MACs, by entry and replica."""
        slot = self.log.slot(sequence)
        assert slot is not None
        assert slot.tags is None
        inline_max = self._tuning.inline_bytes_max
        slot.batch = pack_batch([e if len(e.bundle) <= inline_max else e._replace(bundle=b"") for e in entries])
        slot.entries = entries
        slot.digest = batch_digest(entries)
        slot.macs = tuple(zip(*vectors, strict=True))
        slot.tags_to_be = self._macs.tags(VIEW, sequence, slot.digest)
        self._accept(slot)
        self._pre_prepare(slot, self.peers)

    def _pre_prepare(self, slot: Slot, peers: Sequence[int]) -> None:
        assert slot.tags is not None
        issued, macs, sequence, batch = slot.tags.prepare_issued, slot.macs, slot.sequence, slot.batch
        self.outgoing += [(p, pack_pre_prepare(VIEW, sequence, issued[p], macs[p], batch)) for p in peers]

    def on_pre_prepare(self, sender: int, message: PrePrepare) -> None:
        """A batch from the primary.  Raises MalformedMessage when it is not, or not its clients'."""
        if sender != PRIMARY or self._me == PRIMARY or message.view != VIEW:
            raise MalformedMessage("a batch from another than the primary")
        slot = self.log.slot(message.sequence)
        if slot is None:
            return
        entries = parse_batch_untrusted(message.batch)
        digest = batch_digest(entries)
        tags = self._macs.tags(VIEW, message.sequence, digest)
        if not compare_digest(tags.prepare_awaited[PRIMARY], message.tag):
            raise MalformedMessage("a batch with a forged MAC")
        if slot.digest:
            if slot.digest != digest:
                self.counters["conflicting_batches"] += 1
            return
        self._check_clients_untrusted(entries, message.macs)
        self._newest = max(self._newest, message.sequence)
        slot.digest, slot.batch, slot.entries, slot.tags_to_be = digest, message.batch, entries, tags
        slot.missing = {entry.digest for entry in entries if not entry.bundle and entry.digest not in self._bundles}
        for missing in slot.missing:
            self._waiting_for.setdefault(missing, []).append(slot)
        if not slot.missing:
            self._accept(slot)

    def _check_clients_untrusted(self, entries: Sequence[Entry], macs: Sequence[bytes]) -> None:
        """Raises MalformedMessage unless each client has made its request; those it has sent itself it has."""
        if len(entries) != len(macs):
            raise MalformedMessage("another number of MACs than of requests")
        for entry, mac in zip(entries, macs, strict=True):
            if entry.bundle and entry.digest not in self._bundles:
                self._macs.check_request_untrusted(entry.client, entry.digest, mac)

    def bundle_came(self, digest: bytes) -> None:
        """A client has sent a bundle that batches may wait for."""
        for slot in self._waiting_for.pop(digest, ()):
            slot.missing.discard(digest)
            if not slot.missing and slot.tags is None and slot.sequence > self.log.low:
                self._accept(slot)

    def _accept(self, slot: Slot) -> None:
        """The batch is complete and authentic: say so, and look at what others have said already."""
        for place, entry in enumerate(slot.entries):
            if not entry.bundle:
                slot.entries[place] = entry._replace(bundle=self._bundles[entry.digest])
        tags = slot.tags = slot.tags_to_be
        assert tags is not None
        self._newest = max(self._newest, slot.sequence)
        self._accepted = max(self._accepted, slot.sequence)
        self.counters["batches"] += 1
        if self._me != PRIMARY:
            slot.prepares |= self._bit
            self._prepares_out.append((slot.sequence, tags.prepare_issued))
        for sender, tag in slot.early_prepares.items():
            self._count_prepare(slot, sender, tag)
        for sender, tag in slot.early_commits.items():
            self._count_commit(slot, sender, tag)
        slot.early_prepares, slot.early_commits = {}, {}
        self._progress(slot)

    # ---- PREPARE and COMMIT (section 4.2)

    def on_votes(self, sender: int, payload: bytes) -> None:
        """What another replica says of some batches."""
        view, prepares, commits = parse_votes_untrusted(payload)
        if view != VIEW:
            raise MalformedMessage("votes of another view")
        for sequence, tag in prepares:
            slot = self.log.slot(sequence)
            if slot is None or slot.prepared:
                continue
            if slot.tags is None:
                self._newest = max(self._newest, sequence)
                slot.early_prepares[sender] = tag
            elif self._count_prepare(slot, sender, tag):
                self._progress(slot)
        for sequence, tag in commits:
            slot = self.log.slot(sequence)
            if slot is None or slot.committed:
                continue
            if slot.tags is None:
                self._newest = max(self._newest, sequence)
                slot.early_commits[sender] = tag
            elif self._count_commit(slot, sender, tag):
                self._progress(slot)

    def _count_prepare(self, slot: Slot, sender: int, tag: bytes) -> bool:
        assert slot.tags is not None
        if sender == PRIMARY or not compare_digest(slot.tags.prepare_awaited[sender], tag):
            self.counters["refused_votes"] += 1
            return False
        slot.prepares |= 1 << sender
        return True

    def _count_commit(self, slot: Slot, sender: int, tag: bytes) -> bool:
        assert slot.tags is not None
        if not compare_digest(slot.tags.commit_awaited[sender], tag):
            self.counters["refused_votes"] += 1
            return False
        slot.commits |= 1 << sender
        return True

    def _progress(self, slot: Slot) -> None:
        """A vote has come for an accepted batch."""
        if not slot.prepared:
            if slot.prepares.bit_count() < self._prepares_needed:
                return
            slot.prepared = True
            slot.commits |= self._bit
            assert slot.tags is not None
            if not self._commits_out:
                self._commits_due = self._now + self._tuning.commit_delay_s
            self._commits_out.append((slot.sequence, slot.tags.commit_issued))
            if self._accepted > slot.sequence:  # nothing that it could travel with, and that one waits for it
                self.hurry = True
        elif slot.committed:
            return
        if slot.commits.bit_count() >= self._quorum:
            slot.committed = True
        self._advance()

    def _advance(self) -> None:
        """Execute what is prepared when all before it is committed (section 5.1), and count what is committed."""
        find = self.log.find
        while True:
            if self.executed == self.committed:
                slot = find(self.executed + 1)
                if slot is None or not slot.prepared:
                    return
                self.executed += 1
                self._execute(slot)
            slot = find(self.executed)
            if slot is None or not slot.committed:
                return
            self.committed = self.executed
            if self.committed % self._tuning.checkpoint_every == 0:
                self._take_checkpoint()

    # ---- checkpoints (section 4.3)

    def _take_checkpoint(self) -> None:
        sequence, digest = self.committed, self._digest()
        self._checkpoints.setdefault(sequence, {})[self._me] = digest
        self._send_checkpoint(Checkpoint(sequence, digest, b""), self.peers)
        self._stabilise(sequence)

    def _send_checkpoint(self, checkpoint: Checkpoint, peers: Sequence[int]) -> None:
        sequence, digest, _ = checkpoint
        for peer in peers:
            mac = self._macs.checkpoint(peer, sequence, digest, issued=True)
            self.outgoing.append((peer, pack_checkpoint(Checkpoint(sequence, digest, mac))))

    def on_checkpoint(self, sender: int, checkpoint: Checkpoint) -> None:
        """The digest of another replica's state.  Raises MalformedMessage, and StateDiffers."""
        sequence, digest, mac = checkpoint
        if not compare_digest(self._macs.checkpoint(sender, sequence, digest, issued=False), mac):
            raise MalformedMessage("a checkpoint with a forged MAC")
        if sequence % self._tuning.checkpoint_every:
            raise MalformedMessage("a checkpoint where there is none")
        if sequence > self.log.high:
            self._claimed[sender] = sequence
        elif sequence > self.log.low:
            self._checkpoints.setdefault(sequence, {})[sender] = digest
            self._stabilise(sequence)

    def _stabilise(self, sequence: int) -> None:
        """When 2f+1 replicas have the same state as this one, nobody needs the log before it."""
        digests = self._checkpoints[sequence]
        mine = digests.get(self._me)
        if mine is None:
            return
        alike = Counter(digests.values())
        if alike[mine] < self._quorum:
            if any(count >= self._quorum for count in alike.values()):
                raise StateDiffers(f"the state after batch {sequence} is not that of the other replicas")
            return
        self._stable = Checkpoint(sequence, mine, b"")
        self._checkpoints = {at: digests for at, digests in self._checkpoints.items() if at > sequence}
        for slot in self.log.stabilise(sequence):
            self._forget(slot)
        self.counters["checkpoints"] += 1

    # ---- sending

    def finish(self, now: float) -> None:
        """Votes of this wake-up together; COMMITs wait for a vote or a batch to travel with."""
        carried = self._prepares_out or (self.outgoing and self._me == PRIMARY)
        if self._commits_out and not carried and not self.hurry and now < self._commits_due:
            return
        self.hurry = False
        if self._prepares_out or self._commits_out:
            self.outgoing += pack_votes(VIEW, self._prepares_out, self._commits_out, self.peers)
            self._prepares_out, self._commits_out = [], []

    def begin(self, now: float) -> None:
        """A wake-up begins."""
        self._now = now

    def is_behind(self) -> bool:
        """Whether others have gone beyond the water marks: then only a state transfer could help this replica."""
        return sum(1 for sequence in self._claimed.values() if sequence > self.log.high) > self._faults

    def due(self) -> float | None:
        """When time has to pass, at the latest."""
        status = (self._status_due or self._now + STATUS_AFTER_S) if self._waits() else None
        if self._commits_out:
            return self._commits_due if status is None else min(status, self._commits_due)
        return status

    def tick(self, now: float) -> None:
        """Let time pass: where nothing has moved for a while, something may be lost."""
        reached = (self.committed, self.log.low)
        if not self._waits():
            self._status_due = 0.0
        elif reached != self._reached or not self._status_due:
            self._status_due = now + STATUS_AFTER_S
        elif now >= self._status_due:
            self._status_due = now + STATUS_AFTER_S
            self.counters["statuses"] += 1
            self._say_again(Status(self.log.low, self.executed, self.committed), self.peers)
            status = pack_status(Status(self.log.low, self.executed, self.committed))
            self.outgoing += [(peer, status) for peer in self.peers]
        self._reached = reached

    def _waits(self) -> bool:
        """Whether others have to do something for this replica to get on."""
        return self.committed < self._newest or bool(self._checkpoints)

    def on_status(self, sender: int, status: Status) -> None:
        """Another replica waits: say again what it may not have heard."""
        self._say_again(status, (sender,))

    def _say_again(self, status: Status, peers: Sequence[int]) -> None:
        """All that this replica has said, as far as it matters to somebody who has got so far."""
        if self._stable is not None and status.stable < self._stable.sequence:
            self._send_checkpoint(self._stable, peers)
        for sequence, digests in self._checkpoints.items():
            if self._me in digests:
                self._send_checkpoint(Checkpoint(sequence, digests[self._me], b""), peers)
        prepares: list[tuple[int, tuple[bytes, ...]]] = []
        commits: list[tuple[int, tuple[bytes, ...]]] = []
        for slot in self.log.above(status.committed, _RESENT_MAX):
            if slot.tags is None:
                continue
            if self._me == PRIMARY:
                self._pre_prepare(slot, peers)
            else:
                prepares.append((slot.sequence, slot.tags.prepare_issued))
            if slot.prepared:
                commits.append((slot.sequence, slot.tags.commit_issued))
        if prepares or commits:
            self.outgoing += pack_votes(VIEW, prepares, commits, peers)
