"""Who is at the other end: pinned certificates and TLS 1.3 over memory buffers.

Every principal of a cluster has one self-signed certificate that all others know by its exact bytes.  There is no
authority and no host name check: the certificate a peer shows must be in the :class:`PeerDirectory`, and that names it.
TLS runs between two :class:`ssl.MemoryBIO` and never touches a socket, so a handshake cannot block the reactor.
"""

import contextlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from qunfs.protocol.errors import LocalError, MalformedMessage

_READ_BYTES: Final = 16 * 1024
"""The plaintext of one TLS record (RFC 8446 section 5.1): SSL_read never returns more at once."""


class Peer(NamedTuple):
    """A principal: servers count from 0, clients from 1 (a client's number is also in its timestamps)."""

    kind: Literal["server", "client"]
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a peer

    def __str__(self) -> str:
        return f"{self.kind} {self.index}"


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """What one principal shows the others: its certificate and private key, both PEM files."""

    peer: Peer
    certificate: Path
    key: Path


class PeerDirectory:
    """The certificates (DER) of all principals of a cluster, each naming its owner."""

    def __init__(self, certificates: Mapping[Peer, bytes]) -> None:
        """Raises LocalError when two principals share a certificate."""
        self._peers = {der: peer for peer, der in certificates.items()}
        if len(self._peers) < len(certificates):
            raise LocalError("two principals of the cluster have the same certificate; give each its own")

    def certificates(self) -> bytes:
        """All certificates one after the other, as OpenSSL reads them."""
        return b"".join(self._peers)

    def identify_untrusted(self, certificate_der: bytes | None) -> Peer:
        """The owner of a certificate.  Raises MalformedMessage when it is not one of ours."""
        peer = self._peers.get(certificate_der or b"")
        if peer is None:
            raise MalformedMessage("the peer's certificate is not in the cluster")
        return peer


def make_contexts(identity: TlsIdentity, peers: PeerDirectory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS 1.3 contexts (for dialling, for accepting) that show our certificate and demand a pinned one.

    Raises LocalError when our files cannot be used.
    """
    dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dialling.check_hostname = False
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.num_tickets = 0
    for context in (dialling, accepting):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            # A password, or OpenSSL would ask the terminal for one.
            context.load_cert_chain(identity.certificate, identity.key, password="")
            context.load_verify_locations(cadata=peers.certificates())
        except (OSError, ValueError) as error:
            raise LocalError(
                f"{identity.certificate}, {identity.key}: unusable as TLS certificate and key ({error}); restore them"
            ) from error
    return dialling, accepting


class TlsChannel:
    """One end of a TLS connection between two buffers: ciphertext in, plaintext out, and the reverse."""

    __slots__ = ("_drain", "_feed", "_incoming", "_read", "_tls", "_write", "ended")

    def __init__(self, context: ssl.SSLContext, *, accepting: bool) -> None:
        outgoing = ssl.MemoryBIO()
        self._incoming = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, outgoing, server_side=accepting)
        bare: Any = getattr(self._tls, "_sslobj", self._tls)
        """What an SSLObject wraps, whose read and write only pass their arguments on."""
        self._read: Callable[[int], bytes] = bare.read
        self._write: Callable[[bytes], int] = bare.write
        self._feed: Callable[[bytes], int] = self._incoming.write
        self._drain: Callable[[], bytes] = outgoing.read
        self.ended = False
        """Whether the peer has closed its direction properly."""

    def handshake_untrusted(self, ciphertext: bytes) -> bool:
        """One step of the handshake; whether it is complete.  What :meth:`outgoing` holds afterwards must be sent.

        Raises MalformedMessage when the peer is refused, refuses us or does not speak TLS 1.3.
        """
        self._feed(ciphertext)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise _malformed(error) from error
        return True

    def peer_certificate(self) -> bytes | None:
        """The certificate (DER) that the peer proved to own; only after the handshake."""
        return self._tls.getpeercert(binary_form=True)

    def outgoing(self) -> bytes:
        """Ciphertext to be sent, in order."""
        return self._drain()

    def seal(self, plaintext: bytes) -> bytes:
        """The ciphertext to send for some plaintext, with whatever was waiting to go before it."""
        self._write(plaintext)
        return self._drain()

    def seal_end(self) -> bytes:
        """The ciphertext that tells the peer that nothing follows."""
        with contextlib.suppress(ssl.SSLError):  # it wants the peer's own end, for which nobody waits
            self._tls.unwrap()
        return self._drain()

    def open_untrusted(self, ciphertext: bytes) -> bytes:
        """The plaintext that this ciphertext completes; sets ``ended`` at the peer's proper end.

        Raises MalformedMessage on ciphertext that the peer did not make for us.
        """
        self._feed(ciphertext)
        try:
            plaintext = self._read(_READ_BYTES)
            if plaintext and not self._incoming.pending:
                return plaintext
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise _malformed(error) from error
        return self._open_rest_untrusted(plaintext)

    def open_one_untrusted(self, ciphertext: bytes) -> bytes:
        """The plaintext of the next record alone, nothing while it is incomplete; :meth:`rest` is what came behind it.

        Sets ``ended`` at the peer's proper end.
        Raises MalformedMessage on ciphertext that the peer did not make for us.
        """
        self._feed(ciphertext)
        try:
            plaintext = self._read(_READ_BYTES)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise _malformed(error) from error
        self.ended = not plaintext
        return plaintext

    def rest(self) -> bytes:
        """What has come and is no part of a record looked at (OpenSSL takes in no more than it needs)."""
        return self._incoming.read()

    def _open_rest_untrusted(self, plaintext: bytes) -> bytes:
        """The first record's plaintext (nothing at the peer's end) with that of the others."""
        records = [plaintext]
        try:
            while records[-1] and self._incoming.pending:
                records.append(self._read(_READ_BYTES))
            self.ended = not records[-1]
        except ssl.SSLWantReadError:
            pass  # the last record is incomplete
        except ssl.SSLError as error:
            raise _malformed(error) from error
        return b"".join(records)


def _malformed(error: ssl.SSLError) -> MalformedMessage:
    reason = (error.reason or "protocol error").lower().replace("_", " ")
    return MalformedMessage(f"TLS: {reason}")
