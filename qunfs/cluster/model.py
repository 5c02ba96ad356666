"""What a cluster consists of, and the private files of its principals."""

import ipaddress
import os
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from qunfs.net.tls import Peer, PeerDirectory, TlsIdentity
from qunfs.protocol.errors import LocalError
from qunfs.protocol.quorum import QuorumSystem

FILE_NAME: Final = "cluster.toml"
CLIENTS_MAX: Final = 4096
"""Certificates that every server loads; far more than a cluster has mounts."""

TCP_ONLY: Final = "QUNFS_TCP"
"""The environment variable that turns Unix sockets off in one process: measurements compare."""

ID_MAX: Final = 2**32 - 2
"""The largest uid or gid; 2^32-1 means "no change" to chown(2)."""

Rights = Literal["rw", "ro"]
Squash = Literal["none", "root", "all"]


@dataclass(frozen=True, slots=True)
class Server:
    """A replica: where it listens, its certificate (DER) and its public X25519 key (32 bytes)."""

    index: int
    host: str
    port: int
    certificate_der: bytes
    mac_public: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its number in timestamps (from 1), what it may do, and in whose names (inclusive ranges)."""

    index: int
    name: str
    certificate_der: bytes
    rights: Rights = "rw"
    squash: Squash = "none"
    uids: tuple[int, int] = (0, ID_MAX)
    gids: tuple[int, int] = (0, ID_MAX)


@dataclass(frozen=True, slots=True)
class Genesis:
    """The root directory as it was before the first operation; ``time_ns`` since the epoch."""

    uid: int
    gid: int
    mode: int
    time_ns: int


@dataclass(frozen=True)
class Cluster:
    """What cluster.toml says.  ``identity`` is 16 random bytes that no two clusters share."""

    directory: Path
    identity: bytes
    quorums: QuorumSystem
    servers: tuple[Server, ...]
    clients: tuple[Client, ...]
    genesis: Genesis
    local_sockets: bool = True
    """Whether those that are on one machine speak over Unix sockets."""

    @property
    def b(self) -> int:
        """Malevolent servers tolerated, whichever they are."""
        return self.quorums.b

    @property
    def t(self) -> int:
        """Faulty servers tolerated, the malevolent ones among them, whichever they are."""
        return self.quorums.t

    @property
    def n(self) -> int:
        """Number of servers."""
        return self.quorums.n

    @property
    def run_directory(self) -> Path:
        """Process ids and logs; made by whoever writes there first."""
        return self.directory / "run"

    def data_directory(self, server: int) -> Path:
        """The store of a server."""
        return self._server_directory(server) / "data"

    def local_directory(self, server: int) -> Path | None:
        """Where a server listens for those on its machine, None when it does not."""
        if not self.local_sockets or os.environ.get(TCP_ONLY):
            return None
        return self._server_directory(server)

    def contents_directory(self, name: str) -> Path:
        """File contents of a client's mounts, unless the mount says otherwise."""
        return self._client_directory(name) / "contents"

    def is_here(self, server: int) -> bool:
        """Whether a server is this machine's: its directory is here, or would have to be, for it listens on loopback.

        A cluster on several machines has each server's private files on one of them.
        """
        return self._server_directory(server).is_dir() or _is_loopback(self.servers[server].host)

    def client(self, name: str | None = None) -> Client:
        """The client of that name; for None the first one that this machine has the directory of.

        Raises LocalError when there is none.
        """
        if name is None:
            here = (client for client in self.clients if self._client_directory(client.name).is_dir())
            return next(here, self.clients[0])
        for client in self.clients:
            if client.name == name:
                return client
        names = ", ".join(client.name for client in self.clients)
        raise LocalError(f"{self._toml}: no client {name!r}; choose one of: {names}")

    @cached_property
    def peers(self) -> PeerDirectory:
        """All principals by certificate."""
        servers = {Peer("server", server.index): server.certificate_der for server in self.servers}
        clients = {Peer("client", client.index): client.certificate_der for client in self.clients}
        return PeerDirectory(servers | clients)

    def server_tls(self, server: int) -> TlsIdentity:
        """How a server shows itself.  Raises LocalError when its files are missing, open to others or not its own."""
        directory = self._server_directory(server)
        return _tls_identity(directory, Peer("server", server), self.servers[server].certificate_der)

    def client_tls(self, name: str | None = None) -> TlsIdentity:
        """How a client shows itself.  Raises LocalError like :meth:`server_tls`."""
        client = self.client(name)
        return _tls_identity(self._client_directory(client.name), Peer("client", client.index), client.certificate_der)

    def pair_keys(self, server: int) -> dict[int, bytes]:
        """The 32-byte key that a server shares with each server (with itself too: it vouches for its own histories).

        X25519 between the two, then HKDF-SHA-256 bound to the cluster and to both ends.  Raises LocalError when
        ``mac.key`` is missing, open to others or does not belong to the server.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        path = self._server_directory(server) / "mac.key"
        try:
            private = X25519PrivateKey.from_private_bytes(bytes.fromhex(_read_private(path)))
        except ValueError as error:
            raise LocalError(f"{path}: not 64 hexadecimal digits; restore it from a backup of this server") from error
        if private.public_key().public_bytes_raw() != self.servers[server].mac_public:
            raise LocalError(
                f"{path}: does not match server {server}'s mac_public in {FILE_NAME}; restore the right one"
            )
        keys = {}
        for other in self.servers:
            low, high = sorted((server, other.index))
            ends = b"".join(i.to_bytes(4, "big") + self.servers[i].mac_public for i in (low, high))
            try:
                secret = private.exchange(X25519PublicKey.from_public_bytes(other.mac_public))
            except ValueError as error:
                raise LocalError(
                    f"{self._toml}: server[{other.index}].mac_public is no X25519 key; restore it"
                ) from error
            kdf = HKDF(SHA256(), length=32, salt=self.identity, info=b"qunfs history authenticator" + ends)
            keys[other.index] = kdf.derive(secret)
        return keys

    @property
    def _toml(self) -> Path:
        return self.directory / FILE_NAME

    def _server_directory(self, server: int) -> Path:
        if not 0 <= server < self.n:
            raise LocalError(f"{self._toml}: no server {server}; choose one from 0 to {self.n - 1}")
        return self.directory / "servers" / str(server)

    def _client_directory(self, name: str) -> Path:
        return self.directory / "clients" / self.client(name).name


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_private(path: Path) -> str:
    """A private file's text.  Raises LocalError when it is missing or open to others."""
    try:
        if path.stat().st_mode & 0o077:
            raise LocalError(f"{path}: open to other users; run: chmod 600 {path}")
        return path.read_text("ascii")
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}; copy it from where the cluster was made") from error
    except UnicodeDecodeError as error:
        raise LocalError(f"{path}: not a text file; copy it from where the cluster was made") from error


def _tls_identity(directory: Path, peer: Peer, pinned_der: bytes) -> TlsIdentity:
    identity = TlsIdentity(peer, directory / "cert.pem", directory / "key.pem")
    _read_private(identity.key)
    try:
        shown_der = ssl.PEM_cert_to_DER_cert(_read_private(identity.certificate))
    except ValueError as error:
        raise LocalError(f"{identity.certificate}: not a PEM certificate; copy it from the cluster's maker") from error
    if shown_der != pinned_der:
        raise LocalError(f"{identity.certificate}: not the certificate of {peer} in {FILE_NAME}; restore the right one")
    return identity
