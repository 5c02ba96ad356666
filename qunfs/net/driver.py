"""The client's driver: joins the protocol's client to the reactor and to trio, and nothing else does.

Submitting an operation sends its first requests at once; a pump task takes in replies, lets time pass and wakes the
tasks whose operations are complete.  A task that is alone with its operation skips all that and waits in the reactor
itself: a pass through trio for each of the replies costs more than the replies do.
"""

import logging
import math
import os
import random
import select
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from qunfs import eager
from qunfs.cluster import Cluster
from qunfs.net.connection import Connection, send_each
from qunfs.net.reactor import Reactor
from qunfs.net.run_queue import run_queue
from qunfs.net.tls import Peer
from qunfs.protocol.asking import Question
from qunfs.protocol.client import Client, Completion
from qunfs.protocol.errors import MalformedMessage, OperationGivenUp
from qunfs.protocol.evidence import Finding
from qunfs.protocol.messages import Reply, StatusQuery, StatusReply
from qunfs.protocol.operation import SESSION_BYTES, Answer, Call, Registry
from qunfs.protocol.planning import Identity
from qunfs.protocol.quorum import QuorumSystem, ThresholdQuorums, mask_of

log = logging.getLogger("qunfs.client")

REDIAL_FIRST_S: Final = 0.1
REDIAL_MAX_S: Final = 2.0
REASONS_SHOWN: Final = 5
"""Why so many servers are missing fits into a line; for more there is the status."""
WAIT_REPORT_S: Final = 3.0
"""How long operations may wait for servers before the log says so (and again at every tenfold)."""
_CLOCK_REALTIME_COARSE: Final = 5
"""The clock that the kernel takes its "now" in a request from, clock_gettime(2); some ms behind the exact one."""
_PUMP_MAX_S: Final = 1.0
_ALONE_MAX_S: Final = 0.02
"""How long a task that is alone may keep trio waiting: more than an operation takes where servers share its cores."""
_AWAKE_S: Final = 0.0003
"""How much of each wait for a reply without sleeping: replicas that are near reply in that time."""
_ALONE_TASKS: Final = 1
"""Runnable tasks beside one that counts as alone: with FUSE, whoever is to read the next request."""


def _wall_ns() -> int:
    """Now, as the kernel's ticks have it: what is made and then touched must not look older for it."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


class _Waiter:
    """A task that waits for a completion."""

    __slots__ = ("completion", "event", "task")

    def __init__(self) -> None:
        self.event: trio.Event | None = None
        self.task: trio.lowlevel.Task | None = None
        """Both only for a task that is not alone."""
        self.completion: Completion | None = None


class QuClient:
    """The update core over the network; made by :func:`open_client` under trio.  Implements QueryUpdate."""

    def __init__(self, cluster: Cluster, name: str | None, registry: Registry) -> None:
        self._cluster = cluster
        principal = cluster.client(name)
        identity = Identity(principal.index, os.urandom(SESSION_BYTES))
        self._client = Client(identity, cluster.quorums, registry, random.SystemRandom().random)
        self._reactor = Reactor(self, cluster.client_tls(principal.name), cluster.peers)
        self._connections: dict[int, Connection] = {}
        self._down: dict[int, str] = {}
        self._redial: dict[int, tuple[float, float]] = {}
        """When to call a server next, and how long it waits between two calls by now."""
        self._reached: dict[int, float] = {}
        """Since when a server has been connected."""
        self._waiters: dict[int, _Waiter] = {}
        self._bytes_closed = 0
        self._reported = WAIT_REPORT_S
        self._all_heard_of = trio.Event()
        self._sleeps_until: float | None = None
        """None while the pump is awake."""
        self._turn_ends = 0.0
        self._yield_fd: int | None = None
        self._asked_last = -1
        self._gathering = False
        """Whether what is to be sent waits for what others are about to ask."""
        self._runnable = run_queue()
        self._polls: dict[Connection | None, select.poll] = {None: self._poll_of(self._reactor.fileno())}
        """What to sleep in until a connection has something, or (None) any has."""

    # ---- for services

    async def query(self, *calls: Call) -> list[Answer]:
        """Answers in the order of the calls.

        Raises OperationRefused, and OperationGivenUp after :meth:`give_up`; waits while no quorum can be reached.
        """
        self._client.wall_ns = _wall_ns()
        answers: list[Answer] = await self._finish(self._client.submit_query(calls, time.monotonic()))
        return answers

    async def update(self, call: Call) -> bytes:
        """The answer of an update that ran exactly once.

        Raises OperationRefused, and OperationGivenUp after :meth:`give_up`; waits while there is no quorum.

        A cancelled update may or may not take effect.
        """
        self._client.wall_ns = _wall_ns()
        answer: bytes = await self._finish(self._client.submit_update(call, time.monotonic()))
        return answer

    async def server_status(self, server: int, timeout_s: float = 2.0) -> dict[str, Any] | None:
        """What a server says of itself, None when it does not answer in time."""
        reply = await self.ask(server, StatusQuery(), timeout_s)
        return reply.values if isinstance(reply, StatusReply) else None

    async def ask(self, server: int, question: Question, timeout_s: float) -> Reply | None:
        """What a server, which may lie, replies to a question; None when it does not in time."""
        with trio.move_on_after(timeout_s):
            reply: Reply = await self._finish(self._client.submit_question(server, question, time.monotonic()))
            return reply
        return None

    def yield_to(self, fd: int | None) -> None:
        """Name the descriptor on which this process gets its other work, such as /dev/fuse."""
        self._yield_fd = fd
        self._polls = {c: self._poll_of(c.fileno()) for c in self._connections.values()}
        self._polls[None] = self._poll_of(self._reactor.fileno())

    def fileno(self) -> int:
        """Readable when a server has sent something."""
        return self._reactor.fileno()

    def statistics(self) -> dict[str, int]:
        """Counters since the start: operations, round trips, repairs and so on."""
        wire = self._bytes_closed + sum(c.bytes_in + c.bytes_out for c in self._connections.values())
        return {**self._client.counters, **self._client.rpc.counters, "wire_bytes": wire}

    def findings(self) -> list[Finding]:
        """What speaks against servers, by server."""
        return self._client.findings()

    def waiting(self, longer_than_s: float = WAIT_REPORT_S) -> str | None:
        """What operations have been waiting for longer than this, None when none has."""
        now = time.monotonic()
        overdue = self._client.overdue(now - longer_than_s)
        if not overdue:
            return None
        silent = self._client.rpc.silent(now)
        missing = {s: self._down.get(s, "no answer") for s in silent}
        why = no_quorum(self._cluster.quorums, missing)
        waiting = f"{len(overdue)} operation(s) waiting, the oldest for {now - min(overdue):.0f} s: "
        return waiting + (why or "enough servers answer; others contend, or repairs are under way")

    def give_up(self, task: trio.lowlevel.Task) -> bool:
        """Have a task that waits for servers get OperationGivenUp instead; whether it does wait."""
        for waiter in self._waiters.values():
            if waiter.task is task and waiter.event is not None and waiter.completion is None:
                waiter.event.set()
                return True
        return False

    # ---- what the reactor tells

    def on_connected(self, connection: Connection) -> None:
        """A server has been reached."""
        server = connection.peer.index
        self._connections[server] = connection
        self._polls[connection] = self._poll_of(connection.fileno())
        self._reached[server] = time.monotonic()
        if self._down.pop(server, None) is not None:
            log.info("server %d is back", server)
        self._client.connected(server, time.monotonic())
        self._heard_of_one()

    def on_frames(self, batch: list[tuple[Connection, bytes]]) -> None:
        """Replies of servers."""
        now = time.monotonic()
        self._client.wall_ns = _wall_ns()
        receive = self._client.receive
        malformed: set[int] = set()
        for connection, payload in batch:
            if connection.peer.index in malformed:  # of nothing else that it said is anything believed
                continue
            try:
                receive(connection.peer.index, payload, now)
            except MalformedMessage as error:
                malformed.add(connection.peer.index)
                log.warning("%s sent a malformed message: %s", connection.peer, error)
                self._client.malformed(connection.peer.index, str(error))
                connection.close(f"malformed message: {error}")

    def on_closed(self, connection: Connection, reason: str) -> None:
        """The connection to a server is gone; call it again soon."""
        self._bytes_closed += connection.bytes_in + connection.bytes_out
        self._polls.pop(connection, None)
        server = connection.peer.index
        if self._connections.get(server) is connection:
            del self._connections[server]
            self._lost(server, reason)
            self._client.disconnected(server, time.monotonic())

    def on_dial_failed(self, peer: Peer, reason: str) -> None:
        """A server could not be reached; call it again later."""
        self._lost(peer.index, reason)

    def _lost(self, server: int, reason: str) -> None:
        if server not in self._down:
            log.warning("server %d cannot be reached: %s", server, reason)
        self._down[server] = reason
        now = time.monotonic()
        if now - self._reached.pop(server, now) > REDIAL_MAX_S:  # who hangs up at once gets no fresh start for it
            self._redial.pop(server, None)
        _, wait = self._redial.get(server, (0.0, REDIAL_FIRST_S / 2))
        wait = min(REDIAL_MAX_S, 2 * wait)
        self._redial[server] = (now + wait, wait)
        if self._sleeps_until is not None and now + wait < self._sleeps_until:
            self._reactor.wake()
        self._heard_of_one()

    def _heard_of_one(self) -> None:
        if len(self._connections.keys() | self._down.keys()) == self._cluster.n:
            self._all_heard_of.set()

    # ---- the pump

    async def _finish(self, ticket: int) -> Any:
        waiter = self._waiters[ticket] = _Waiter()
        self._after_activity()
        try:
            if len(self._waiters) == 1 and not self._gathering and len(self._runnable) <= _ALONE_TASKS:
                self._wait_alone(waiter)
            if waiter.completion is None:
                self._wake_pump()
                waiter.event, waiter.task = trio.Event(), trio.lowlevel.current_task()
                await waiter.event.wait()
            else:
                await self._pass_by_trio()
        finally:
            del self._waiters[ticket]
            if waiter.completion is None:
                self._client.cancel(ticket, time.monotonic())
                self._after_activity()
                self._wake_pump()
        completion = waiter.completion
        if completion is None:
            raise OperationGivenUp
        if completion.error is not None:
            raise completion.error
        return completion.result

    def _wake_pump(self) -> None:
        """Have the pump reckon anew when it sleeps beyond what is due; when it is awake, it will before it sleeps."""
        if self._sleeps_until is not None:
            due = self._client.next_tick()
            if due is not None and due < self._sleeps_until:
                self._reactor.wake()

    async def _pass_by_trio(self) -> None:
        """Let others run from time to time: a task can be taken for alone when others have not yet begun."""
        if time.monotonic() < self._turn_ends:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        await trio.lowlevel.checkpoint()
        self._turn_ends = time.monotonic() + _ALONE_MAX_S

    def _wait_alone(self, waiter: _Waiter) -> None:
        """Take in replies until the operation is complete, the process has other work, or trio or the client is due.

        It takes a quorum of replies, so sleep until the server that was asked last has replied: by then most have.
        """
        until = time.monotonic() + _ALONE_MAX_S
        last = self._connections.get(self._asked_last)
        ready = self._polls[None] if last is None else self._polls[last]
        while waiter.completion is None:
            due = self._client.next_tick()
            left = (until if due is None or due > until else due) - time.monotonic()
            if left <= 0:
                return
            events = eager.poll(ready, left, _AWAKE_S)
            self._reactor.poll(0)
            if self._client.completions or self._client.rpc.outgoing:
                self._after_activity()
            for fd, _ in events:
                if fd == self._yield_fd:
                    return
            ready = self._polls[None]

    def _poll_of(self, fd: int) -> select.poll:
        """What a task that is alone sleeps in until a descriptor is readable, or the process gets other work."""
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        if self._yield_fd is not None:
            ready.register(self._yield_fd, select.POLLIN)
        return ready

    def _after_activity(self) -> None:
        """Send what the client has to send and wake the tasks whose operations are complete."""
        rpc = self._client.rpc
        if rpc.outgoing:
            outgoing, rpc.outgoing = rpc.outgoing, []
            last = send_each(self._connections, outgoing)
            if last >= 0:
                self._asked_last = last
                if not self._gathering:
                    self._reactor.flush()
        if self._client.completions:
            completions, self._client.completions = self._client.completions, []
            for completion in completions:
                waiter = self._waiters.get(completion.ticket)
                if waiter is not None:
                    waiter.completion = completion
                    if waiter.event is not None:
                        waiter.event.set()

    async def pump(self) -> None:
        """Run the connections until cancelled."""
        for server in range(self._cluster.n):
            self._dial(server)
        while True:
            await self._wait_for_something()
            self._reactor.poll(0)
            self._let_time_pass()
            self._gathering = len(self._client.completions) > 1
            self._after_activity()
            if self._gathering:
                await self._send_together()

    async def _send_together(self) -> None:
        """Let all tasks that have just been answered ask their next, then send: one message for less than several."""
        try:
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()  # trio may have run this task before those that it has woken
        finally:
            self._gathering = False
            self._reactor.flush()

    async def _wait_for_something(self) -> None:
        due = self._client.next_tick()
        now = time.monotonic()
        redial = min((at for at, _ in self._redial.values()), default=now + _PUMP_MAX_S)
        wait = min(_PUMP_MAX_S, redial - now, (due - now) if due is not None else _PUMP_MAX_S)
        self._sleeps_until = now + wait
        with trio.move_on_after(max(0.0, wait)):
            await trio.lowlevel.wait_readable(self._reactor.fileno())
        self._sleeps_until = None

    def _let_time_pass(self) -> None:
        now = time.monotonic()
        due = self._client.next_tick()
        if due is not None and due <= now:
            self._client.wall_ns = _wall_ns()
            self._client.tick(now)
        for server, (at, wait) in list(self._redial.items()):
            if at <= now and server not in self._connections:
                self._redial[server] = (math.inf, wait)
                self._dial(server)
        self._report_waiting()

    def _report_waiting(self) -> None:
        text = self.waiting(self._reported)
        if text is not None:
            log.warning("%s", text)
            self._reported *= 10
        elif self._reported > WAIT_REPORT_S and self.waiting() is None:
            log.info("operations go on")
            self._reported = WAIT_REPORT_S

    def _dial(self, server: int) -> None:
        entry = self._cluster.servers[server]
        self._reactor.dial(Peer("server", server), entry.host, entry.port, self._cluster.local_directory(server))

    async def first_connections(self, timeout_s: float) -> None:
        """Wait until every server is reached or known to be down, or the time is over."""
        with trio.move_on_after(timeout_s):
            await self._all_heard_of.wait()

    def close(self) -> None:
        """End all connections."""
        self._reactor.close()


def no_quorum(quorums: QuorumSystem, missing: Mapping[int, str]) -> str | None:
    """Why operations wait, from what is wrong with which servers; None when the others have a quorum."""
    answering = mask_of([s for s in range(quorums.n) if s not in missing])
    lacking = quorums.lacking(answering)
    if not lacking:
        return None
    have = quorums.n - len(missing)
    needed = f"{have + lacking} are needed"
    if not isinstance(quorums, ThresholdQuorums):
        needed = f"{lacking} more are needed, such as {', '.join(map(str, quorums.completion(answering)))}"
    shown = list(missing.items())[:REASONS_SHOWN]
    reasons = "; ".join(f"{server}: {reason.removeprefix(f'server {server} at ')}" for server, reason in shown)
    if len(missing) > len(shown):
        reasons += f"; and {len(missing) - len(shown)} more"
    return f"{have} of {quorums.n} servers answer and {needed}; missing {reasons}"


@asynccontextmanager
async def open_client(cluster: Cluster, name: str | None, registry: Registry) -> AsyncIterator[QuClient]:
    """A client of the cluster under one of its client names (None: the first).

    Raises LocalError for a name that the cluster does not have or keys that are missing.
    """
    client = QuClient(cluster, name, registry)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.pump)
            await client.first_connections(2.0)
            yield client
            nursery.cancel_scope.cancel()
    finally:
        client.close()
