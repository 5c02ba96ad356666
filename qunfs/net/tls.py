"""Who is at the other end: pinned certificates and TLS 1.3 over memory buffers.

Every principal of a cluster has one self-signed certificate that all others know by its exact bytes.  There is no
authority and no host name check: the certificate a peer shows must be in the :class:`PeerDirectory`, and that names it.
TLS runs between two :class:`ssl.MemoryBIO` and never touches a socket, so a handshake cannot block the reactor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

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
