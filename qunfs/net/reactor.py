"""The event loop of a process: one epoll set for all sockets, one handler call and one flush per wake-up.

Theory of operation.  ``poll`` waits, drains every ready socket, then tells the handler, in this order: the connections
that are new, all frames of the wake-up in one call, the connections and calls that came to an end.  Then every
connection with output gets one TLS write and one send.  Coalescing is what carries load: the handler can put all frames
of a wake-up into one storage transaction, and a peer's answers share one TLS record.

Nothing blocks but the wait.  Everything runs in the caller's thread except :meth:`Reactor.wake` and the look-up of host
names.  Handler methods may call anything except ``poll``; what ends meanwhile is told in the next wake-up.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from qunfs.net.connection import RECEIVE, Connection, call_back, flush_each
from qunfs.net.handshake import Address, Dialled, Handshake
from qunfs.net.limits import DEFAULT_NETWORK_LIMITS, NetworkLimits
from qunfs.net.local import LocalListener, call_locally, is_trusted
from qunfs.net.tls import Peer, PeerDirectory, TlsChannel, TlsIdentity, make_contexts
from qunfs.protocol.errors import LocalError
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits

_log = logging.getLogger(__name__)

_EVENTS_MAX: Final = 1024
_BACKLOG: Final = 512


class Handler(Protocol):
    """What a reactor tells its user, always from within ``poll``."""

    def on_connected(self, connection: Connection) -> None:
        """A connection is established and its peer known."""

    def on_frames(self, batch: list[tuple[Connection, bytes]]) -> None:
        """All frames of this wake-up, in order per connection; some of these may have ended since."""

    def on_closed(self, connection: Connection, reason: str) -> None:
        """A connection is over, whoever ended it: once for each ``on_connected``."""

    def on_dial_failed(self, peer: Peer, reason: str) -> None:
        """A call came to nothing: this or ``on_connected`` follows each ``dial`` once."""


class Reactor:
    """All connections of one principal in this process."""

    def __init__(
        self,
        handler: Handler,
        tls: TlsIdentity,
        peers: PeerDirectory,
        limits: Limits = DEFAULT_LIMITS,
        *,
        network: NetworkLimits = DEFAULT_NETWORK_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises LocalError when the certificate or key of ``tls`` cannot be used."""
        self.peers = peers
        self.network = network
        self.frame_bytes_max = limits.frame_bytes_max
        self.batch: list[tuple[Connection, bytes]] = []
        self.unflushed: list[Connection] = []
        self.strangers_refused = 0
        """Incoming connections that never got as far as a known peer, for metrics."""
        self._handler = handler
        self._clock = clock
        self._dialling, self._accepting = make_contexts(tls, peers)
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._listeners: list[socket.socket | LocalListener] = []
        self._connections: set[Connection] = set()
        self._connections_of: Counter[Peer] = Counter()
        self._handshakes: dict[Handshake, None] = {}
        """In the order of their deadlines, since all get the same time."""
        self._inbound: dict[Handshake, None] = {}
        """Those of strangers, oldest first."""
        self._new: list[Connection] = []
        self._over: list[Callable[[], None]] = []
        """Ends that the handler has not been told of."""
        self._readers: list[Callable[[], None]] = []
        """Callbacks of ``add_reader`` that this wake-up owes."""
        self._looked_up: SimpleQueue[tuple[Handshake, Sequence[Address], str]] = SimpleQueue()
        self._polling = False
        self._closing = self._closed = False
        self._wake_lock = threading.Lock()
        self._epoll = select.epoll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.watch(self._wake_fd, RECEIVE, self._on_wake)

    # For the user

    def fileno(self) -> int:
        """The epoll descriptor: readable when ``poll`` has something to do (except for time-outs of handshakes)."""
        return self._epoll.fileno()

    def listen(self, host: str, port: int, directory: Path | None = None) -> int:
        """Accept connections at an address, and in a directory; the port (chosen by the system if 0).

        Raises LocalError when the address cannot be had; nothing is changed in the directory then.
        """
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
                0
            ]
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setblocking(False)
                listener.bind(address)
                self.listen_locally(directory)  # first: who waits for the address finds both
                listener.listen(_BACKLOG)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            raise LocalError(f"cannot listen on {host}:{port}: {_listen_advice(error)}") from error
        self._listeners.append(listener)
        self.watch(listener.fileno(), RECEIVE, partial(self._on_accept, listener))
        return int(listener.getsockname()[1])

    def listen_locally(self, directory: Path | None) -> None:
        """Accept connections of this machine at a socket in a directory, if that can be had: there is TCP as well."""
        if directory is None:
            return
        try:
            listener = LocalListener(directory)
        except OSError as error:
            _log.info("no local socket in %s: %s", directory, error.strerror or error)
            return
        self._listeners.append(listener)
        self.watch(listener.socket.fileno(), RECEIVE, partial(self._on_accept, listener.socket))

    def dial(self, peer: Peer, host: str, port: int, directory: Path | None = None) -> None:
        """Call a peer; ``on_connected`` or ``on_dial_failed`` follows.  Calling again later is up to the caller.

        ``directory`` is where it listens locally if it is on this machine; in every other case it is called by TCP.
        """
        dialled = Dialled(peer, host, port)
        sock = None if directory is None else call_locally(directory)
        if sock is None:
            self._dial_tcp(dialled)
        else:
            self._start(TlsChannel(self._dialling, accepting=False), dialled, local=True).go_on(sock)

    def _dial_tcp(self, dialled: Dialled) -> None:
        _, host, port = dialled
        handshake = self._start(TlsChannel(self._dialling, accepting=False), dialled)
        try:
            addresses = _look_up(host, port, socket.AI_NUMERICHOST)
        except OSError:
            threading.Thread(target=self._look_up_name, args=(handshake, host, port), daemon=True).start()
        else:
            handshake.connect(addresses)

    def poll(self, timeout_s: float) -> None:
        """One wake-up: wait (forever if negative), drain, tell the handler, flush."""
        if self.unflushed:
            self.flush()
        ready = self._epoll.poll(self._wait_s(timeout_s) if self._handshakes else timeout_s, _EVENTS_MAX)
        self._polling = True
        try:
            call_back(self._callbacks, ready)
            if self._handshakes:
                self._end_late_handshakes()
            if self._new or self._over or self._readers:
                self._tell()
            elif self.batch:
                batch, self.batch = self.batch, []
                self._handler.on_frames(batch)
            if self.unflushed:
                self.flush()
        finally:
            self._polling = False
        if self._over or self._new:
            self.wake()

    def flush(self) -> None:
        """Send what is queued on all connections, as far as the sockets take it."""
        unflushed, self.unflushed = self.unflushed, []
        flush_each(unflushed)

    def wake(self) -> None:
        """Make a current or the next ``poll`` return soon; the only method that other threads may call."""
        with self._wake_lock:
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_write(self._wake_fd, 1)

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, once a wake-up and before ``on_frames``, while a descriptor is readable."""
        self.watch(fd, RECEIVE, lambda _events: self._readers.append(callback))

    def remove_reader(self, fd: int) -> None:
        """Forget a descriptor; it must still be open."""
        self.unwatch(fd)

    def close(self) -> None:
        """End everything; the handler hears no more, except from a ``poll`` that this is called in."""
        self._closing = True
        for connection in list(self._connections):
            connection.close("shutting down")
        for handshake in list(self._handshakes):
            handshake.fail("shutting down")
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._over.clear()
        with self._wake_lock:
            if not self._closed:
                self._closed = True
                os.close(self._wake_fd)
                os.close(self._spare_fd)
                self._epoll.close()

    # For connections and handshakes

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Start to call back on these epoll events."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def rewatch(self, fd: int, events: int) -> None:
        """Change the events."""
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop."""
        del self._callbacks[fd]
        self._epoll.unregister(fd)

    def may_connect(self, peer: Peer) -> bool:
        """Whether this peer may have one more connection."""
        return self._connections_of[peer] < self.network.connections_per_peer_max

    def connections_of(self, peer: Peer) -> int:
        """How many connections a peer has."""
        return self._connections_of[peer]

    def established(self, handshake: Handshake, connection: Connection) -> None:
        """A handshake has become a connection."""
        self._forget(handshake)
        self._connections.add(connection)
        self._connections_of[connection.peer] += 1
        self._new.append(connection)

    def broken(self, handshake: Handshake, reason: str) -> None:
        """A handshake came to nothing; nobody waits for those of strangers."""
        self._forget(handshake)
        if handshake.dialled is None:
            self.strangers_refused += 1
            _log.debug("refused a connection: %s", reason)
        elif handshake.local and not self._closing and self._clock() < handshake.deadline:
            _log.info("%s refuses a local connection: %s", handshake.dialled.peer, reason)
            self._dial_tcp(handshake.dialled)
        else:
            peer, host, port = handshake.dialled
            where = "its Unix socket" if handshake.local else f"{host}:{port}"
            self._end_with(partial(self._handler.on_dial_failed, peer, f"{peer} at {where}: {reason}"))

    def ended(self, connection: Connection, reason: str) -> None:
        """A connection is over."""
        self._connections.discard(connection)
        self._connections_of[connection.peer] -= 1
        self._end_with(partial(self._handler.on_closed, connection, reason))

    # Inside

    def _start(self, channel: TlsChannel, dialled: Dialled | None, *, local: bool = False) -> Handshake:
        deadline = self._clock() + self.network.handshake_seconds_max
        handshake = Handshake(self, channel, deadline, dialled, local=local)
        self._handshakes[handshake] = None
        return handshake

    def _forget(self, handshake: Handshake) -> None:
        self._handshakes.pop(handshake, None)
        self._inbound.pop(handshake, None)

    def _end_with(self, tell: Callable[[], None]) -> None:
        self._over.append(tell)
        if not self._polling:
            self.wake()

    def _tell(self) -> None:
        """Call the handler about this wake-up; what these calls bring to an end waits for the next."""
        new, batch, over, readers = self._new, self.batch, self._over, self._readers
        self._new, self.batch, self._over, self._readers = [], [], [], []
        for connection in new:
            self._handler.on_connected(connection)
        for callback in readers:
            callback()
        if batch:
            self._handler.on_frames(batch)
        for tell in over:
            tell()

    def _wait_s(self, timeout_s: float) -> float:
        """The time-out, cut to the next deadline of the handshakes."""
        remaining_s = max(0.0, next(iter(self._handshakes)).deadline - self._clock())
        return remaining_s if timeout_s < 0 else min(timeout_s, remaining_s)

    def _end_late_handshakes(self) -> None:
        now = self._clock()
        for handshake in list(self._handshakes):
            if handshake.deadline > now:
                break
            handshake.fail(f"no answer within {self.network.handshake_seconds_max:g} s")

    def _on_accept(self, listener: socket.socket, _events: int) -> None:
        for _ in range(self.network.accepts_per_wakeup_max):
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._turn_away(listener)
                return
            local = listener.family == socket.AF_UNIX
            if local and not is_trusted(sock):
                sock.close()
                self.strangers_refused += 1
                continue
            if len(self._inbound) >= self.network.handshakes_inbound_max:
                # The oldest that came the same way: those from elsewhere push nobody out who is on this machine.
                oldest = next((other for other in self._inbound if other.local == local), next(iter(self._inbound)))
                oldest.fail("too many handshakes")
            handshake = self._start(TlsChannel(self._accepting, accepting=True), None, local=local)
            self._inbound[handshake] = None
            handshake.accept(sock)

    def _turn_away(self, listener: socket.socket) -> None:
        """Out of descriptors: use the spare one to hang up on the caller, or epoll would report it for ever."""
        os.close(self._spare_fd)
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _look_up_name(self, handshake: Handshake, host: str, port: int) -> None:
        """In a thread of its own: a name server may take its time."""
        try:
            self._looked_up.put((handshake, _look_up(host, port, 0), ""))
        except OSError as error:
            self._looked_up.put((handshake, (), f"cannot look up the name ({error.strerror})"))
        self.wake()

    def _on_wake(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        with contextlib.suppress(Empty):
            while True:
                handshake, addresses, reason = self._looked_up.get_nowait()
                if handshake.over:
                    continue
                if reason:
                    handshake.fail(reason)
                else:
                    handshake.connect(addresses)


def _look_up(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _listen_advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use; stop what listens there (ss -ltnp shows it) or change the server's port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "not an address of this host; run this server where it lives or change its address in cluster.toml"
    return f"{error.strerror}; correct the server's address in cluster.toml"
