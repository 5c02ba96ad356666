"""An established connection: frames in, frames out, one TLS write (none within a machine) and one send per flush."""

import contextlib
import errno
import select
import socket
from collections.abc import Callable
from typing import Protocol

from qunfs.net.frames import FrameDecoder, frame_header
from qunfs.net.limits import NetworkLimits
from qunfs.net.tls import Peer, TlsChannel
from qunfs.protocol.errors import MalformedMessage

RECEIVE = select.EPOLLIN
RECEIVE_AND_SEND = select.EPOLLIN | select.EPOLLOUT


class Owner(Protocol):
    """What a connection needs of its reactor."""

    network: NetworkLimits
    frame_bytes_max: int
    batch: "list[tuple[Connection, bytes]]"
    """Frames of this wake-up."""
    unflushed: "list[Connection]"
    """Connections with output that nobody has tried to send yet."""

    def connections_of(self, peer: Peer) -> int:
        """How many connections a peer has: they share what one may have."""

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Start to call back on these epoll events."""

    def rewatch(self, fd: int, events: int) -> None:
        """Change the events."""

    def unwatch(self, fd: int) -> None:
        """Stop."""

    def ended(self, connection: "Connection", reason: str) -> None:
        """A connection is over; called once."""


class Connection:
    """A connection to an authenticated peer.

    ``bytes_in`` and ``bytes_out`` count what went over the socket, TLS included.  The peer can go at any time, so
    sending to a closed connection does nothing; the handler hears of the end once, whoever caused it.
    """

    __slots__ = (
        "_channel",
        "_decoder",
        "_fd",
        "_frame_bytes_max",
        "_output_batch_bytes",
        "_owner",
        "_queue",
        "_queued_bytes",
        "_receive_bytes",
        "_recv",
        "_send",
        "_socket",
        "_unsent",
        "bytes_in",
        "bytes_out",
        "closed",
        "local",
        "peer",
    )

    def __init__(
        self, owner: Owner, sock: socket.socket, channel: TlsChannel | None, decoder: FrameDecoder, peer: Peer
    ) -> None:
        """Without a channel bytes pass as they are: the peer is on this machine."""
        self.peer = peer
        self.local = channel is None
        self.closed = False
        self.bytes_in = 0
        self.bytes_out = 0
        self._owner = owner
        self._socket = sock
        self._fd = sock.fileno()
        self._recv: Callable[[int], bytes] = sock.recv
        self._send: Callable[[bytes | memoryview], int] = sock.send
        self._receive_bytes = owner.network.receive_bytes
        self._output_batch_bytes = owner.network.output_batch_bytes
        self._frame_bytes_max = owner.frame_bytes_max
        self._channel = channel
        self._decoder = decoder
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._unsent: memoryview | None = None
        owner.watch(self._fd, RECEIVE, self._on_ready)

    def fileno(self) -> int:
        """The socket: readable when the peer has sent something."""
        return self._fd

    def send(self, *parts: bytes) -> None:
        """Queue one frame made of the parts; it leaves with the next flush.

        Raises LocalError when it is too large for a frame.
        """
        if self.closed:
            return
        payload = parts[0] if len(parts) == 1 else b"".join(parts)
        frame = frame_header(len(payload), self._frame_bytes_max) + payload
        if not self._queue:
            self._owner.unflushed.append(self)
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if self._queued_bytes > self._output_batch_bytes:
            self.flush()
            self._check_backlog()

    def flush(self) -> None:
        """Encrypt, unless the peer is local, what is queued and give the socket what it takes."""
        if self.closed or (self._unsent is not None and not self._send_rest(self._unsent)) or not self._queue:
            return
        plaintext = b"".join(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        try:
            ciphertext = plaintext if self._channel is None else self._channel.seal(plaintext)
            sent = self._send(ciphertext)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._cannot_send(error)
            return
        self.bytes_out += sent
        if sent < len(ciphertext):
            self._unsent = memoryview(ciphertext)[sent:]
            self._owner.rewatch(self._fd, RECEIVE_AND_SEND)

    def close(self, reason: str) -> None:
        """Send what the socket takes without waiting, then end the connection."""
        self.flush()
        if self.closed:
            return
        if self._unsent is None and self._channel is not None:
            with contextlib.suppress(OSError):  # it is over anyway
                self.bytes_out += self._send(self._channel.seal_end())
        self._end(reason)

    def resume(self, payloads: list[bytes]) -> None:
        """Deliver what came right behind the handshake: these payloads and what TLS still holds."""
        self._owner.batch += [(self, payload) for payload in payloads]
        if self._channel is None:
            return
        try:
            held = self._decoder.feed_untrusted(self._channel.open_untrusted(b""))
            self._owner.batch += [(self, payload) for payload in held]
        except MalformedMessage as error:
            self._end(str(error))

    def _on_ready(self, events: int) -> None:
        """Put the frames that have come into the wake-up's batch, and send what the socket did not take before."""
        if events != RECEIVE:
            if events & select.EPOLLOUT:
                self.flush()
            if not events & ~select.EPOLLOUT or self.closed:
                return
        received, size, batch, channel = 0, self._receive_bytes, self._owner.batch, self._channel
        before = len(batch)
        try:
            while True:
                ciphertext = self._recv(size)
                received += len(ciphertext)
                if not ciphertext:
                    self._end(self._how_it_ended())
                    break
                plaintext = ciphertext if channel is None else channel.open_untrusted(ciphertext)
                for payload in self._decoder.feed_untrusted(plaintext):
                    batch.append((self, payload))
                if channel is not None and channel.ended:
                    self._end("closed by the peer")
                    break
                if len(ciphertext) < size or self._has_had_its_turn(received, len(batch) - before):
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(_lost(error))
        except MalformedMessage as error:
            self._end(str(error))
        self.bytes_in += received

    def _how_it_ended(self) -> str:
        """What the end of the stream means: TLS says goodbye first, a local peer has no need to."""
        if self._decoder.inside_frame():
            return "lost inside a frame"
        return "closed by the peer" if self._channel is None else "lost without a TLS end"

    def _has_had_its_turn(self, received: int, frames: int) -> bool:
        network = self._owner.network
        share = received * self._owner.connections_of(self.peer)
        return frames >= network.frames_per_wakeup or share >= network.receive_bytes_per_wakeup_max

    def _send_rest(self, unsent: memoryview) -> bool:
        """Whether the socket took all of the ciphertext left from before."""
        try:
            sent = self._send(unsent)
        except BlockingIOError:
            return False
        except OSError as error:
            self._cannot_send(error)
            return False
        self.bytes_out += sent
        if sent < len(unsent):
            self._unsent = unsent[sent:]
            return False
        self._unsent = None
        self._owner.rewatch(self._fd, RECEIVE)
        return True

    def _cannot_send(self, error: OSError) -> None:
        """A local peer that has closed may have answered before: that, and then its end, is still to be read."""
        if self._channel is not None or error.errno not in (errno.EPIPE, errno.ECONNRESET):
            self._end(_lost(error))
            return
        if self._unsent is not None:
            self._unsent = None
            self._owner.rewatch(self._fd, RECEIVE)
        self._queue.clear()
        self._queued_bytes = 0

    def _check_backlog(self) -> None:
        backlog = self._queued_bytes + (0 if self._unsent is None else len(self._unsent))
        most = self._owner.network.output_bytes_max
        share = most // max(1, self._owner.connections_of(self.peer))
        if backlog > min(most, max(share, 2 * self._frame_bytes_max)):
            self._end(f"too slow: {backlog} bytes of output wait for it")

    def _end(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._owner.unwatch(self._fd)
        self._socket.close()
        self._queue.clear()
        self._unsent = None
        self._owner.ended(self, reason)


def call_back(callbacks: dict[int, Callable[[int], None]], ready: list[tuple[int, int]]) -> None:
    """Tell whoever watches a descriptor what epoll says of it."""
    for fd, events in ready:
        callback = callbacks.get(fd)
        if callback is not None:  # the callback of another has not forgotten it
            callback(events)


def send_each(connections: dict[int, Connection], outgoing: list[tuple[int, bytes]]) -> int:
    """Queue payloads for peers by index, as far as there is a connection; the last of these peers, -1 if none."""
    last = -1
    for index, payload in outgoing:
        connection = connections.get(index)
        if connection is not None:
            connection.send(payload)
            last = index
    return last


def flush_each(connections: list[Connection]) -> None:
    """Send what is queued on some connections, as far as the sockets take it."""
    for connection in connections:
        connection.flush()


def _lost(error: OSError) -> str:
    return f"lost: {error.strerror or error}"
