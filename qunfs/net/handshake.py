"""A connection on its way: connect, TLS, who is it, greeting.

The side that accepts sends a greeting once it has identified the peer; only then does the dialling side take the
connection for established.  (In TLS 1.3 the dialling side finishes first and would not know that it is about to be
refused, RFC 8446 section 4.4.)

On a Unix socket TLS ends there.  The greeting says so, the dialling side, now that it knows who greets it, answers that
everything from then on is plain, and the accepting side believes nothing plain before it has that answer through TLS.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from qunfs.net.connection import RECEIVE, RECEIVE_AND_SEND, Connection, Owner
from qunfs.net.frames import FrameDecoder, frame_header
from qunfs.net.tls import Peer, PeerDirectory, TlsChannel
from qunfs.protocol.errors import MalformedMessage

_GREETING: Final = b"qunfs 2"
"""The first frame of the accepting side; the number is the version of everything that follows."""

_LOCAL_GREETING: Final = _GREETING + b" on this machine"
"""The same on a Unix socket: who hears it over TLS knows that no other transport has been put between."""
_PLAIN: Final = b"plain from here on"
"""The last frame that the dialling side of a Unix socket sends through TLS."""

_RECEIVE_BYTES: Final = 16 * 1024

_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
"""No delay: a flush is a whole message.  A host that vanished is noticed after 30 s, idle or not."""

Address = tuple[socket.AddressFamily, Any]
"""A socket's family and address."""


class Dialled(NamedTuple):
    """Whom we called, and under which name of host and port."""

    peer: Peer
    host: str
    port: int


class HandshakeOwner(Owner, Protocol):
    """What a handshake needs of its reactor."""

    peers: PeerDirectory

    def may_connect(self, peer: Peer) -> bool:
        """Whether this peer may have one more connection."""

    def established(self, handshake: "Handshake", connection: Connection) -> None:
        """The connection is ready; called once, and then not :meth:`broken`."""

    def broken(self, handshake: "Handshake", reason: str) -> None:
        """It came to nothing; called once."""


class Handshake:
    """One attempt, dialled or accepted; ends in ``established`` or ``broken`` of its owner."""

    __slots__ = (
        "_addresses",
        "_channel",
        "_decoder",
        "_owner",
        "_peer",
        "_socket",
        "_step",
        "deadline",
        "dialled",
        "local",
        "over",
    )

    def __init__(
        self, owner: HandshakeOwner, channel: TlsChannel, deadline: float, dialled: Dialled | None, *, local: bool
    ) -> None:
        """``deadline`` is for the owner, who alone has a clock; ``local`` means a Unix socket."""
        self.deadline = deadline
        self.dialled = dialled
        self.local = local
        self.over = False
        self._peer: Peer | None = None
        self._owner = owner
        self._channel = channel
        self._decoder = FrameDecoder(owner.frame_bytes_max)
        self._addresses: list[Address] = []
        self._socket: socket.socket | None = None
        self._step: Callable[[socket.socket], None] = self._shake

    def accept(self, sock: socket.socket) -> None:
        """Go on with an accepted socket."""
        try:
            self._adopt(sock, RECEIVE)
        except OSError as error:
            sock.close()
            self.fail(error.strerror or str(error))

    def go_on(self, sock: socket.socket) -> None:
        """Go on with a socket that is connected to whom we called."""
        self._step = self._finish_connect
        self._adopt(sock, RECEIVE_AND_SEND)

    def connect(self, addresses: Sequence[Address]) -> None:
        """Call the addresses in turn until one answers."""
        self._addresses = list(addresses)
        self._connect_next("no address")

    def fail(self, reason: str) -> None:
        """Give up."""
        if self.over:
            return
        self.over = True
        self._drop_socket()
        self._owner.broken(self, reason)

    def _connect_next(self, reason: str) -> None:
        """Call the next address; ``reason`` is why the one before did not do."""
        self._drop_socket()
        self._step = self._finish_connect
        while self._addresses:
            family, address = self._addresses.pop(0)
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code in (0, errno.EINPROGRESS):
                self._adopt(sock, RECEIVE_AND_SEND)
                return
            sock.close()
            reason = os.strerror(code)
        self.fail(reason)

    def _adopt(self, sock: socket.socket, events: int) -> None:
        sock.setblocking(False)
        for level, option, value in () if self.local else _SOCKET_OPTIONS:
            sock.setsockopt(level, option, value)
        self._owner.watch(sock.fileno(), events, self._on_ready)
        self._socket = sock

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._owner.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_ready(self, _events: int) -> None:
        if self._socket is None:
            return
        try:
            self._step(self._socket)
        except BlockingIOError:
            pass  # nothing has arrived after all
        except OSError as error:
            self.fail(error.strerror or str(error))
        except MalformedMessage as error:
            self.fail(str(error))

    def _finish_connect(self, sock: socket.socket) -> None:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._connect_next(os.strerror(code))
            return
        try:
            sock.getpeername()
        except OSError:
            return  # not there yet: the event was for the descriptor's previous use
        self._owner.rewatch(sock.fileno(), RECEIVE)
        self._step = self._shake
        self._advance_untrusted(sock, b"")

    def _shake(self, sock: socket.socket) -> None:
        self._advance_untrusted(sock, _receive_untrusted(sock))

    def _await_greeting(self, sock: socket.socket) -> None:
        received = _receive_untrusted(sock)
        # On a Unix socket one record alone, so that nothing of what is behind it is taken in.
        plaintext = self._channel.open_one_untrusted(received) if self.local else self._channel.open_untrusted(received)
        payloads = self._decoder.feed_untrusted(plaintext)
        if payloads and payloads[0] != (_LOCAL_GREETING if self.local else _GREETING):
            raise MalformedMessage(_why_refused(payloads[0]))
        if payloads and self.dialled is not None:
            if self.local:
                self._go_plain(sock, len(payloads) > 1)
            self._establish(sock, self.dialled.peer, payloads[1:])
        elif self._channel.ended:
            raise MalformedMessage("closed instead of a greeting")

    def _go_plain(self, sock: socket.socket, more: bool) -> None:
        """Tell the peer, who has been identified, that everything from now on is plain."""
        if more or self._decoder.inside_frame() or self._channel.rest() or self._channel.ended:
            raise MalformedMessage("sent more than a greeting")
        _send(sock, self._channel.seal(frame_header(len(_PLAIN), self._owner.frame_bytes_max) + _PLAIN))

    def _await_plain(self, sock: socket.socket) -> None:
        plaintext = self._channel.open_one_untrusted(_receive_untrusted(sock))
        if not plaintext and not self._channel.ended:
            return
        if self._decoder.feed_untrusted(plaintext) != [_PLAIN] or self._decoder.inside_frame() or self._peer is None:
            raise MalformedMessage("does not speak as local peers do")
        if not self._owner.may_connect(self._peer):  # it has used its other calls since it was greeted
            raise MalformedMessage(f"too many connections of {self._peer}")
        self._establish(sock, self._peer, self._decoder.feed_untrusted(self._channel.rest()))

    def _advance_untrusted(self, sock: socket.socket, ciphertext: bytes) -> None:
        """One step of TLS.  Raises MalformedMessage when the peer is not who it should be."""
        try:
            complete = self._channel.handshake_untrusted(ciphertext)
        except MalformedMessage:
            _send(sock, self._channel.outgoing())  # the alert tells the peer why
            raise
        if not complete:
            _send(sock, self._channel.outgoing())
            return
        peer = self._owner.peers.identify_untrusted(self._channel.peer_certificate())
        if self.dialled is None:
            self._greet(sock, peer)
            return
        if peer != self.dialled.peer:
            raise MalformedMessage(f"shows the certificate of {peer}")
        _send(sock, self._channel.outgoing())
        self._step = self._await_greeting

    def _greet(self, sock: socket.socket, peer: Peer) -> None:
        welcome = self._owner.may_connect(peer)
        greeting = _LOCAL_GREETING if self.local else _GREETING
        if not welcome:
            greeting = f"too many connections of {peer}".encode()
        _send(sock, self._channel.seal(frame_header(len(greeting), self._owner.frame_bytes_max) + greeting))
        if not welcome:
            self.fail(greeting.decode())
        elif self.local:
            self._peer = peer
            self._step = self._await_plain
        else:
            self._establish(sock, peer, [])

    def _establish(self, sock: socket.socket, peer: Peer, payloads: list[bytes]) -> None:
        self.over = True
        self._socket = None
        self._owner.unwatch(sock.fileno())
        channel = None if self.local else self._channel
        connection = Connection(self._owner, sock, channel, self._decoder, peer)
        self._owner.established(self, connection)
        connection.resume(payloads)


def _why_refused(greeting: bytes) -> str:
    said = greeting[:200].decode("ascii", "replace")
    if greeting in (_GREETING, _LOCAL_GREETING):
        return "greets as on another transport: something has been put between"
    if greeting.startswith(b"qunfs "):
        return f"speaks another protocol ({said}; this is {_GREETING.decode()}): run the same release everywhere"
    return f"refuses us: {said}"


def _receive_untrusted(sock: socket.socket) -> bytes:
    data = sock.recv(_RECEIVE_BYTES)
    if not data:
        raise MalformedMessage("hung up during the handshake")
    return data


def _send(sock: socket.socket, ciphertext: bytes) -> None:
    """Send a flight of a handshake; a fresh socket takes it whole unless the peer plays games."""
    try:
        sent = sock.send(ciphertext) if ciphertext else 0
    except BlockingIOError:
        sent = 0
    if sent < len(ciphertext):
        raise MalformedMessage("does not read during the handshake")
