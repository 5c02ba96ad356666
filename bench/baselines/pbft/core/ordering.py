"""The replica's state machine: messages in, messages out; no I/O, no clock.

``step`` takes in one message, ``finish`` ends a wake-up: it orders what can be ordered and says what is to be sent once
the state is durable.  The sections named are those of Castro and Liskov, OSDI 1999.
"""

from collections import deque
from typing import Any, Final, NamedTuple

from bench.baselines.pbft.core.agreement import Agreement
from bench.baselines.pbft.core.macs import ReplicaMacs, digest_of, request_digest
from bench.baselines.pbft.core.messages import (
    ALL_REPLY,
    DIGEST,
    TENTATIVE,
    TYPE_CHECKPOINT,
    TYPE_FORWARD,
    TYPE_PRE_PREPARE,
    TYPE_READ,
    TYPE_REQUEST,
    TYPE_STATUS,
    TYPE_VOTES,
    Entry,
    Request,
    pack_batch,
    pack_forward,
    pack_reply,
    parse_checkpoint_untrusted,
    parse_forward_untrusted,
    parse_pre_prepare_untrusted,
    parse_read_untrusted,
    parse_request_untrusted,
    parse_status_untrusted,
    short_body_bytes,
)
from bench.baselines.pbft.core.slots import Slot
from bench.baselines.pbft.core.state import Result, ServiceState
from bench.baselines.pbft.core.tuning import DEFAULT_TUNING, PRIMARY, Tuning, replicas_for
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.packing import pack

BUNDLES_MAX: Final = 4096
"""Bundles that came from clients themselves and are kept; beyond this the oldest go and have to come again."""


class Origin(NamedTuple):
    """Who sent a message: replicas count from 0, clients from 1; ``link`` is the connection."""

    is_replica: bool
    principal: int
    link: int


class Outgoing(NamedTuple):
    """What is to be sent, in order, by replica and by connection."""

    to_replicas: list[tuple[int, bytes]]
    to_links: list[tuple[int, bytes]]


class Replica:
    """One replica.  ``faults`` is f of the papers."""

    def __init__(
        self, replica: int, faults: int, macs: ReplicaMacs, state: ServiceState, tuning: Tuning = DEFAULT_TUNING
    ) -> None:
        self._me = replica
        self._n = replicas_for(faults)
        self._macs = macs
        self._state = state
        self._tuning = tuning
        self._links: dict[int, int] = {}
        """The newest connection of each client."""
        self._bundles: dict[bytes, bytes] = {}
        """What came from clients themselves, by digest."""
        self.agreement: Final = Agreement(
            replica, faults, macs, tuning, state.executed, self._execute, state.digest, self._forget, self._bundles
        )
        self.counters: Final = self.agreement.counters
        self._queue: deque[tuple[Request, bytes]] = deque()
        """At the primary: requests to be ordered, with their digests."""
        self._known: set[bytes] = set()
        """At the primary: the digests of all bundles in the queue and in the log."""
        self._ordered = state.executed
        """At the primary: the last sequence number given."""
        self._reads: deque[tuple[int, int, bytes]] = deque()
        """Replies that wait for a batch to be committed: batch, connection and payload."""
        self._to_links: list[tuple[int, bytes]] = []

    # ---- the driver's side

    def connected(self, origin: Origin) -> None:
        """A connection is up; replies to a client go to its newest."""
        if not origin.is_replica:
            self._links[origin.principal] = origin.link

    def disconnected(self, origin: Origin) -> None:
        """A connection is gone."""
        if not origin.is_replica and self._links.get(origin.principal) == origin.link:
            del self._links[origin.principal]

    def step(self, origin: Origin, payload: bytes, now: float) -> None:
        """Take in a message.  Raises MalformedMessage, for which the sender is to blame."""
        agreement = self.agreement
        agreement.begin(now)
        kind = payload[0] if payload else 0
        if not origin.is_replica:
            if kind == TYPE_REQUEST:
                self._on_request(parse_request_untrusted(payload, origin.principal, self._n))
            elif kind == TYPE_READ:
                self._on_read(origin.link, *parse_read_untrusted(payload))
            else:
                raise MalformedMessage(f"a client's message of type {kind}")
        elif kind == TYPE_VOTES:
            agreement.on_votes(origin.principal, payload)
        elif kind == TYPE_PRE_PREPARE:
            agreement.on_pre_prepare(origin.principal, parse_pre_prepare_untrusted(payload))
        elif kind == TYPE_CHECKPOINT:
            agreement.on_checkpoint(origin.principal, parse_checkpoint_untrusted(payload))
        elif kind == TYPE_FORWARD:
            self._on_forward(parse_forward_untrusted(payload, self._n))
        elif kind == TYPE_STATUS:
            agreement.on_status(origin.principal, parse_status_untrusted(payload))
        else:
            raise MalformedMessage(f"a replica's message of type {kind}")

    def finish(self, now: float) -> Outgoing:
        """End a wake-up: what is to be sent as soon as the state is durable."""
        agreement = self.agreement
        if self._queue:
            self._order()
        agreement.finish(now)
        while self._reads and self._reads[0][0] <= agreement.committed:
            self._to_links.append(self._reads.popleft()[1:])
        outgoing = Outgoing(agreement.outgoing, self._to_links)
        agreement.outgoing, self._to_links = [], []
        return outgoing

    def due(self) -> float | None:
        """When time has to pass, at the latest: :meth:`tick`, then :meth:`finish`."""
        return self.agreement.due()

    def tick(self, now: float) -> None:
        """Let time pass."""
        self.agreement.begin(now)
        self.agreement.tick(now)

    def describe(self) -> dict[str, Any]:
        """How far it has got, and its counters."""
        agreement = self.agreement
        reached = {"executed": agreement.executed, "committed": agreement.committed, "stable": agreement.log.low}
        return {**reached, "log": len(agreement.log), **self.counters}

    # ---- requests (section 4.1)

    def _on_request(self, request: Request) -> None:
        """A request from the client itself."""
        digest = request_digest(request.client, request.bundle)
        if self._me == PRIMARY:
            if self._enqueue(request, digest):
                return
        else:
            self._bundles[digest] = request.bundle
            if len(self._bundles) > BUNDLES_MAX:
                del self._bundles[next(iter(self._bundles))]
            self.agreement.bundle_came(digest)
            if request.replier == ALL_REPLY:
                self.agreement.outgoing.append((PRIMARY, pack_forward(request)))
        if request.replier == ALL_REPLY:
            self._reply_again(request)

    def _on_forward(self, request: Request) -> None:
        """A request that a backup passes on: its client has to have made it for this replica."""
        digest = request_digest(request.client, request.bundle)
        mine = request.vector[self._me * MAC_BYTES : (self._me + 1) * MAC_BYTES]
        self._macs.check_request_untrusted(request.client, digest, mine)
        if self._me == PRIMARY:
            self._enqueue(request, digest)

    def _enqueue(self, request: Request, digest: bytes) -> bool:
        """Have a request ordered unless it is in the log or waits already."""
        if digest in self._known:
            self.counters["repeated_requests"] += 1
            return False
        self._known.add(digest)
        self._queue.append((request, digest))
        return True

    def _reply_again(self, request: Request) -> None:
        """The client has waited in vain: reply to what has been executed."""
        repeated = self._state.repeat(request.client, request.bundle)
        if repeated is not None:
            self._reply(request.client, repeated[0], repeated[1], ALL_REPLY)

    def _reply(self, client: int, number: int, results: list[Result], replier: int) -> None:
        link = self._links.get(client)
        if link is not None:
            agreement = self.agreement
            flags = TENTATIVE if agreement.committed < agreement.executed else 0
            self._to_links.append((link, self._pack_reply(flags, number, results, replier)))

    def _pack_reply(self, flags: int, number: int, results: list[Result], replier: int) -> bytes:
        """Long results come whole from one replica only (section 5.1)."""
        body = pack(results)
        if replier in (self._me, ALL_REPLY) or len(body) <= short_body_bytes(self._tuning, len(results)):
            return pack_reply(flags, number, body)
        return pack_reply(flags | DIGEST, number, digest_of(body))

    def _on_read(self, link: int, replier: int, number: int, bundle: bytes) -> None:
        """Queries, answered at once, but nothing is shown that may not last (section 5.1)."""
        agreement = self.agreement
        agreement.hurry = True
        results = self._state.read(bundle)
        self.counters["reads"] += len(results)
        reply = self._pack_reply(0, number, results, replier)
        if agreement.committed == agreement.executed:
            self._to_links.append((link, reply))
        else:
            self._reads.append((agreement.executed, link, reply))

    # ---- batches

    def _order(self) -> None:
        """The primary gives sequence numbers to what waits, as long as few batches are on their way."""
        agreement, tuning, queue = self.agreement, self._tuning, self._queue
        starts = range(0, self._n * MAC_BYTES, MAC_BYTES)
        while queue and self._ordered - agreement.executed < tuning.window and self._ordered < agreement.log.high:
            entries: list[Entry] = []
            vectors: list[tuple[bytes, ...]] = []
            size = 0
            while queue and len(entries) < tuning.batch_entries_max:
                request, digest = queue[0]
                size += len(request.bundle)
                if entries and size > tuning.batch_bytes_max:
                    break
                queue.popleft()
                entries.append(Entry(request.client, request.replier, request.bundle, digest))
                vectors.append(tuple([request.vector[at : at + MAC_BYTES] for at in starts]))
            self._ordered += 1
            agreement.propose(self._ordered, entries, vectors)

    def _execute(self, slot: Slot) -> None:
        """Execute a batch and reply to its clients."""
        counters = self.counters
        counters["bundles"] += len(slot.entries)
        whole = slot.batch
        if any(len(entry.bundle) > self._tuning.inline_bytes_max for entry in slot.entries):
            whole = pack_batch(slot.entries)
        results = self._state.execute(slot.sequence, whole, slot.entries)
        for entry, result in zip(slot.entries, results, strict=True):
            if result is not None:
                counters["requests"] += len(result[1])
                self._reply(entry.client, result[0], result[1], entry.replier)

    def _forget(self, slot: Slot) -> None:
        """A batch has left the log."""
        for entry in slot.entries:
            self._known.discard(entry.digest)
            self._bundles.pop(entry.digest, None)
