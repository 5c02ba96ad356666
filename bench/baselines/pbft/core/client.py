"""The client's state machine: operations in, requests out; replies in, answers out.  No I/O, no clock.

It has the methods that :class:`qunfs.net.driver.QuClient` needs of a protocol's client, so that the same driver serves
both.  Operations that come while others are under way are bundled until the driver next lets time pass, which it does
as soon as all tasks that can run have run.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

from bench.baselines.pbft.core.macs import ClientMacs, digest_of, request_digest
from bench.baselines.pbft.core.messages import (
    ALL_REPLY,
    DIGEST,
    TENTATIVE,
    TYPE_DESCRIPTION,
    Reply,
    pack_bundle,
    pack_describe,
    pack_read,
    pack_request,
    parse_description_untrusted,
    parse_reply_untrusted,
    parse_results_untrusted,
    short_body_bytes,
)
from bench.baselines.pbft.core.tuning import DEFAULT_TUNING, PRIMARY, Tuning, replicas_for
from qunfs.protocol.client import Completion
from qunfs.protocol.errors import OperationRefused, QunfsError
from qunfs.protocol.evidence import Finding
from qunfs.protocol.execution import Code
from qunfs.protocol.messages import StatusReply
from qunfs.protocol.operation import NO_SESSION, SESSION_BYTES, Answer, Call, Operation

PATIENCE_S: Final = 1.0
"""Until a request is sent again, to all replicas; doubles each time."""
GIVE_UP_S: Final = 30.0
"""A request that is not answered by then fails: without a view change it may never be."""
NAME_BYTES: Final = 6
"""What distinguishes the sessions of client processes: the rest is the object's or a number."""


class PrimaryFailed(QunfsError):
    """Requests are not ordered any more."""


class _Work:
    """What one caller waits for: one update, or some queries."""

    __slots__ = ("began", "home", "operations", "ticket")

    def __init__(self, ticket: int, operations: list[Operation], home: int, began: float) -> None:
        self.ticket: Final = ticket
        self.operations: Final = operations
        self.home: Final = home
        """Of an update; 0 for queries."""
        self.began: Final = began


class _Bundle:
    """Operations sent together, and what replicas reply."""

    __slots__ = (
        "data",
        "due",
        "is_read",
        "lasting",
        "number",
        "patience",
        "sent_at",
        "short_bytes_max",
        "vector",
        "votes",
        "whole",
        "works",
    )

    def __init__(
        self,
        number: int,
        works: list[_Work],
        data: bytes,
        vector: bytes,
        is_read: bool,
        short_bytes_max: int,
        now: float,
    ) -> None:
        self.number: Final = number
        self.works: Final = works
        self.data: Final = data
        self.vector: Final = vector
        self.is_read: Final = is_read
        self.short_bytes_max: Final = short_bytes_max
        """Of a longer body, replicas may send the digest."""
        self.sent_at: Final = now
        self.patience = PATIENCE_S
        self.due = now + PATIENCE_S
        self.votes: dict[bytes, int] = {}
        """Who has replied what: bitmaps, by the body or the digest of a long one."""
        self.lasting: dict[bytes, int] = {}
        """The same of replies that are not tentative."""
        self.whole: dict[bytes, bytes] = {}
        """Long bodies by their digests."""


class PbftClient:
    """One client process; ``name`` is random and distinguishes it from others of the same principal.

    ``first_number`` is random too: replies to another process with the same key must not be taken for ours.
    """

    def __init__(
        self,
        client: int,
        name: bytes,
        first_number: int,
        faults: int,
        macs: ClientMacs,
        tuning: Tuning = DEFAULT_TUNING,
    ) -> None:
        assert len(name) == NAME_BYTES
        self.wall_ns = 0
        self.outgoing: list[tuple[int, bytes]] = []
        self.completions: list[Completion] = []
        self.counters: Counter[str] = Counter()
        self.rpc: Final = self
        """Where the driver looks for ``outgoing``."""
        self._client = client
        self._name = name
        self._faults = faults
        self._all = range(replicas_for(faults))
        self._quorum = 2 * faults + 1
        self._macs = macs
        self._tuning = tuning
        self._ticket = 0
        self._number = first_number
        self._sequence = 0
        self._works: dict[int, _Work] = {}
        self._homes: dict[int, deque[_Work]] = {}
        """Updates by home object, the first of each under way: a session has one at a time (section 4.1)."""
        self._updates: list[_Work] = []
        """To be sent with the next bundle."""
        self._queries: list[_Work] = []
        self._bundles: dict[int, _Bundle] = {}
        self._questions: dict[int, int] = {}
        self._connected: set[int] = set()
        self._lost = ""
        """Why the primary is gone for good."""
        self._due: float | None = None

    # ---- the driver's side

    def submit_update(self, call: Call, now: float) -> int:
        """Begin an update; the ticket of its completion, whose result is the answer."""
        self._sequence += 1
        session = self._name + call.home.to_bytes(SESSION_BYTES - NAME_BYTES, "big")
        operation = self._operation(call, self.wall_ns, call.home, session, self._sequence)
        work = self._begin([operation], call.home, now)
        queue = self._homes.get(call.home)
        if queue is not None:
            queue.append(work)
        else:
            self._homes[call.home] = deque((work,))
            self._send_soon(self._updates, work, now)
        return work.ticket

    def submit_query(self, calls: Sequence[Call], now: float) -> int:
        """Begin queries; the ticket of their completion, whose result is a list of Answer in the order of the calls."""
        work = self._begin([self._operation(call, 0, 0, NO_SESSION, 0) for call in calls], 0, now)
        self._send_soon(self._queries, work, now)
        return work.ticket

    def submit_question(self, server: int, question: object, now: float) -> int:  # noqa: ARG002 - as the driver calls it
        """Ask one replica how it is; the ticket of the completion, whose result is a StatusReply."""
        self._ticket += 1
        self._questions[self._ticket] = server
        self.outgoing.append((server, pack_describe(self._ticket)))
        return self._ticket

    def cancel(self, ticket: int, now: float) -> None:  # noqa: ARG002 - the driver's
        """Stop waiting for an operation; an update may still take effect."""
        self._questions.pop(ticket, None)
        work = self._works.pop(ticket, None)
        if work is None:
            return
        if work in self._updates:
            self._updates.remove(work)
            self._leave(work)
        elif work in self._queries:
            self._queries.remove(work)
        elif work.home and self._homes[work.home][0] is not work:
            self._homes[work.home].remove(work)

    def connected(self, server: int, now: float) -> None:  # noqa: ARG002 - as the driver calls it
        """A connection to a replica is up."""
        self._connected.add(server)

    def disconnected(self, server: int, now: float) -> None:  # noqa: ARG002 - as the driver calls it
        """The connection to a replica is gone; without the primary there is nothing more to be had."""
        self._connected.discard(server)
        if server == PRIMARY:
            self._fail("the connection to it is lost")

    def malformed(self, server: int, why: str) -> None:  # noqa: ARG002 - as the driver calls it
        """A replica has sent what makes no sense."""
        self.counters["malformed_replies"] += 1

    def findings(self) -> list[Finding]:
        """What speaks against replicas: nobody collects it here."""
        return []

    def silent(self, now: float) -> list[int]:  # noqa: ARG002 - as the driver calls it
        """The replicas that cannot be reached."""
        return [server for server in self._all if server not in self._connected]

    def overdue(self, since: float) -> list[float]:
        """When the operations that were begun before a time and are not complete were begun."""
        return [work.began for work in self._works.values() if work.began <= since]

    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do next."""
        return self._due

    def tick(self, now: float) -> None:
        """Send what was held back for a bundle, and again what has not been answered."""
        self._send_bundles(now)
        for bundle in [bundle for bundle in self._bundles.values() if bundle.due <= now]:
            if not bundle.is_read and now - bundle.sent_at >= GIVE_UP_S:
                self._fail(f"a request was not executed within {GIVE_UP_S:.0f} s")
                break
            if bundle.is_read:
                self._order_reads(bundle, now)
            else:
                self._send_again(bundle, now)
        self._due = min([bundle.due for bundle in self._bundles.values()], default=None)

    def receive(self, server: int, payload: bytes, now: float) -> None:
        """Take in what a replica sent.  Raises MalformedMessage; the driver then closes the connection."""
        if payload[:1] == _DESCRIPTION:
            ticket, values = parse_description_untrusted(payload)
            if self._questions.get(ticket) == server:
                del self._questions[ticket]
                self.completions.append(Completion(ticket, StatusReply(values), None))
            return
        reply = parse_reply_untrusted(payload)
        bundle = self._bundles.get(reply.number)
        if bundle is not None:
            self._count(bundle, 1 << server, reply, now)

    # ---- sending

    def _operation(self, call: Call, client_time: int, home: int, session: bytes, sequence: int) -> Operation:
        objects = call.objects if len(call.objects) == 1 else tuple(sorted(call.objects))
        ids, types = zip(*objects, strict=True)
        return Operation(
            ids, types, call.method, call.version, call.argument, call.credentials, client_time, home, session, sequence
        )

    def _begin(self, operations: list[Operation], home: int, now: float) -> _Work:
        self._ticket += 1
        work = self._works[self._ticket] = _Work(self._ticket, operations, home, now)
        self.counters["operations"] += 1
        return work

    def _send_soon(self, waiting: list[_Work], work: _Work, now: float) -> None:
        """At once when nothing else is under way; otherwise others may be about to begin something too."""
        waiting.append(work)
        if self._lost:
            self._fail(self._lost)
        elif len(self._works) == 1:
            self._send_bundles(now)
        else:
            self._due = 0.0

    def _send_bundles(self, now: float) -> None:
        most = self._tuning.bundle_operations_max
        while self._updates:
            works, self._updates = self._updates[:most], self._updates[most:]
            self._send_request(works, [work.operations[0].wire for work in works], now)
        while self._queries:
            reads, self._queries = self._queries[:most], self._queries[most:]
            self._send_read(reads, now)

    def _send_request(self, works: list[_Work], operations: list[bytes], now: float) -> None:
        """To the primary, which includes the request in a batch; a long one to all (section 5.1 of the journal)."""
        self._number += 1
        data = pack_bundle(self._number, operations)
        vector = self._macs.vector(request_digest(self._client, data))
        self._await(works, data, vector, False, len(operations), now)
        payload = pack_request(self._replier(), vector, data)
        if len(data) > self._tuning.inline_bytes_max:
            self.outgoing += [(server, payload) for server in self._all]
            self.counters["requests"] += len(self._all)
        else:
            self.outgoing.append((PRIMARY, payload))
            self.counters["requests"] += 1
        self.counters["bundles"] += 1
        self.counters["round_trips"] += len(operations)

    def _send_read(self, works: list[_Work], now: float) -> None:
        self._number += 1
        operations = [operation.wire for work in works for operation in work.operations]
        data = pack_bundle(self._number, operations)
        self._await(works, data, b"", True, len(operations), now)
        payload = pack_read(self._replier(), self._number, data)
        self.outgoing += [(server, payload) for server in self._all]
        self.counters["reads"] += 1
        self.counters["requests"] += len(self._all)
        self.counters["round_trips"] += len(works)

    def _await(self, works: list[_Work], data: bytes, vector: bytes, is_read: bool, count: int, now: float) -> None:
        short_bytes_max = short_body_bytes(self._tuning, count)
        bundle = _Bundle(self._number, works, data, vector, is_read, short_bytes_max, now)
        self._bundles[bundle.number] = bundle
        if self._due is None or bundle.due < self._due:
            self._due = bundle.due

    def _replier(self) -> int:
        """Replicas take turns in sending long results whole."""
        return self._number % len(self._all)

    def _send_again(self, bundle: _Bundle, now: float) -> None:
        bundle.patience *= 2
        bundle.due = now + bundle.patience
        payload = pack_request(ALL_REPLY, bundle.vector, bundle.data)
        self.outgoing += [(server, payload) for server in self._all]
        self.counters["requests"] += len(self._all)
        self.counters["retries"] += 1

    def _order_reads(self, bundle: _Bundle, now: float) -> None:
        """Not enough replicas agree on what was read: have it ordered like an update (section 5.1)."""
        del self._bundles[bundle.number]
        operations: list[bytes] = []
        for operation in [operation for work in bundle.works for operation in work.operations]:
            self._sequence += 1
            session = self._name + (_NO_OBJECT + self._sequence).to_bytes(SESSION_BYTES - NAME_BYTES, "big")
            call = (operation.objects, operation.types, operation.method, operation.version, operation.argument)
            operations.append(Operation(*call, operation.credentials, 0, 0, session, self._sequence).wire)
        self.counters["reads_ordered"] += 1
        self._send_request(bundle.works, operations, now)

    # ---- replies

    def _count(self, bundle: _Bundle, bit: int, reply: Reply, now: float) -> None:
        flags, _, body = reply
        if flags & DIGEST:
            key = body + _OF_LONG
        elif len(body) > bundle.short_bytes_max:
            key = digest_of(body) + _OF_LONG
            bundle.whole[key] = body
        else:
            key = body
        votes = bundle.votes[key] = bundle.votes.get(key, 0) | bit
        enough = votes.bit_count() >= self._quorum
        if not enough and not flags & TENTATIVE and not bundle.is_read:
            lasting = bundle.lasting[key] = bundle.lasting.get(key, 0) | bit
            enough = lasting.bit_count() > self._faults
        if enough:
            whole = bundle.whole.get(key) if key.endswith(_OF_LONG) else body
            if whole is not None:
                self._complete(bundle, whole, now)
        elif bundle.is_read and len(bundle.votes) > 1:
            heard = 0
            for seen in bundle.votes.values():
                heard |= seen
            best = max(seen.bit_count() for seen in bundle.votes.values())
            if best + len(self._all) - heard.bit_count() < self._quorum:
                self._order_reads(bundle, now)

    def _complete(self, bundle: _Bundle, body: bytes, now: float) -> None:
        del self._bundles[bundle.number]
        results = parse_results_untrusted(body, sum([len(work.operations) for work in bundle.works]))
        at = 0
        for work in bundle.works:
            mine = results[at : at + len(work.operations)]
            at += len(mine)
            self._finish(work, mine, now)

    def _finish(self, work: _Work, results: list[tuple[int, bytes]], now: float) -> None:
        if self._works.pop(work.ticket, None) is not None:
            error = next((_refusal(code) for code, _ in results if code not in _ANSWERS), None)
            answer: Any = results[0][1] if work.home else [Answer(answer) for _, answer in results]
            self.completions.append(Completion(work.ticket, answer, error))
        self._leave(work, now)

    def _leave(self, work: _Work, now: float | None = None) -> None:
        """The next update with the same home object may go."""
        queue = self._homes.get(work.home)
        if queue is None or queue[0] is not work:
            return
        queue.popleft()
        if not queue:
            del self._homes[work.home]
        elif now is None:
            self._updates.append(queue[0])
            self._due = 0.0
        else:
            self._send_soon(self._updates, queue[0], now)

    def _fail(self, why: str) -> None:
        """The primary is gone, and there is nobody to take its place."""
        self._lost = why
        for ticket in self._works:
            text = f"the primary, server {PRIMARY}, has failed ({why}): this baseline has no view change; start again"
            self.completions.append(Completion(ticket, None, PrimaryFailed(text)))
        self._works.clear()
        self._homes.clear()
        self._bundles.clear()
        self._updates, self._queries = [], []
        self._due = None


_DESCRIPTION: Final = bytes((TYPE_DESCRIPTION,))
_OF_LONG: Final = b" of a long result"
_NO_OBJECT: Final = 1 << 64
"""Sessions of ordered reads follow those of objects."""
_ANSWERS: Final = (int(Code.OK), int(Code.FAILED))


def _refusal(code: int) -> OperationRefused:
    return OperationRefused(f"the replicas refused the operation: {code}")
