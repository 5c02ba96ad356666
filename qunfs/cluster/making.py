"""Making a cluster: keys, certificates, ports and cluster.toml."""

import os
import random
import shutil
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qunfs.cluster.file import HOST, NAME, NAME_RULE, load, text_of
from qunfs.cluster.model import CLIENTS_MAX, FILE_NAME, Client, Cluster, Genesis, Server
from qunfs.paths import absolute
from qunfs.protocol.errors import LocalError
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.quorum import QuorumSystem, threshold
from qunfs.protocol.recursive_quorum import recursive_threshold

_PORTS: Final = range(20000, 32768)
"""Below Linux's ephemeral ports, which an outgoing connection may hold just when a replica restarts."""


def create(
    directory: Path | str,
    *,
    b: int = 1,
    t: int | None = None,
    levels: Sequence[tuple[int, int]] | None = None,
    addresses: Sequence[tuple[str, int]] | None = None,
    clients: int | Sequence[str] = 4,
    genesis: Genesis | None = None,
) -> Cluster:
    """Make a cluster: keys, certificates and cluster.toml, in a new or empty directory.

    ``levels`` in place of ``b`` and ``t`` make it a recursive threshold: malevolent and faulty members of each level,
    the outermost first.  ``addresses`` (host, port) of the servers default to free loopback ports; ``clients`` are
    names or how many of client-1, client-2 and so on; ``genesis`` to a root directory of the current user, mode 0o755,
    made now.
    Raises LocalError when the directory is in use or an argument makes no cluster.
    """
    directory = absolute(Path(directory))
    n = None if addresses is None else len(addresses)
    quorums = threshold(b, t, n) if levels is None else recursive_threshold(levels, n)
    names = [f"client-{i + 1}" for i in range(clients)] if isinstance(clients, int) else list(clients)
    addresses = _free_addresses(quorums.n) if addresses is None else addresses
    _check_arguments(quorums, names, addresses)
    genesis = genesis or Genesis(os.getuid(), os.getgid(), 0o755, time.time_ns())
    with _new_directory(directory):
        identity = os.urandom(16)
        servers = tuple(_create_server(directory, identity, i, *address) for i, address in enumerate(addresses))
        pinned = tuple(_create_client(directory, identity, i + 1, name) for i, name in enumerate(names))
        cluster = Cluster(directory, identity, quorums, servers, pinned, genesis)
        _write(directory / FILE_NAME, text_of(cluster), 0o644)
    return load(directory)


def _check_arguments(quorums: QuorumSystem, names: Sequence[str], addresses: Sequence[tuple[str, int]]) -> None:
    if quorums.n > DEFAULT_LIMITS.servers_max:
        raise LocalError(
            f"{quorums.n} servers are too many; choose b and t so that 3t+2b+1 is at most {DEFAULT_LIMITS.servers_max}"
        )
    if not 1 <= len(names) <= CLIENTS_MAX or len(set(names)) < len(names):
        raise LocalError(f"a cluster needs 1 to {CLIENTS_MAX} clients with different names")
    for name in names:
        if not NAME.fullmatch(name):
            raise LocalError(f"client name {name!r}: use {NAME_RULE}")
    for host, port in addresses:
        if not HOST.fullmatch(host) or not 1 <= port <= 65535:
            raise LocalError(f"server address {host}:{port}: give host:port with a port from 1 to 65535")
    if len(set(addresses)) < len(addresses):
        raise LocalError("two servers have the same address; give each its own host:port")


def _free_addresses(count: int) -> list[tuple[str, int]]:
    """Neighbouring loopback ports that nobody listens on."""
    for _ in range(200):
        first = random.randrange(_PORTS.start, _PORTS.stop - count)  # noqa: S311 - only to avoid other clusters
        if all(_is_free(port) for port in range(first, first + count)):
            return [("127.0.0.1", port) for port in range(first, first + count)]
    raise LocalError(
        f"no {count} free neighbouring ports from {_PORTS.start} to {_PORTS.stop - 1}; give --servers host:port"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def _new_directory(directory: Path) -> Iterator[None]:
    """An empty directory for the block to fill; empty again when the block fails."""
    if (directory / FILE_NAME).exists():
        raise LocalError(f"{directory}: already holds a cluster; choose another directory, or remove this one first")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise LocalError(f"{directory}: not empty; choose a new or empty directory")
        try:
            yield
        except BaseException:
            for made in ("servers", "clients"):
                shutil.rmtree(directory / made, ignore_errors=True)
            (directory / FILE_NAME).unlink(missing_ok=True)
            raise
    except OSError as error:
        where = error.filename or directory
        raise LocalError(f"{where}: {error.strerror}; choose a directory that you can write to") from error


def _create_server(directory: Path, identity: bytes, index: int, host: str, port: int) -> Server:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    own = directory / "servers" / str(index)
    certificate_der = _create_principal(own, f"qunfs {identity.hex()} server {index}")
    mac = X25519PrivateKey.generate()
    _write(own / "mac.key", mac.private_bytes_raw().hex() + "\n")
    return Server(index, host, port, certificate_der, mac.public_key().public_bytes_raw())


def _create_client(directory: Path, identity: bytes, index: int, name: str) -> Client:
    own = directory / "clients" / name
    return Client(index, name, _create_principal(own, f"qunfs {identity.hex()} client {index}"))


def _create_principal(directory: Path, common_name: str) -> bytes:
    """A key and a self-signed certificate in a private directory; the certificate as DER."""
    from qunfs.net.certificates import self_signed

    directory.parent.mkdir(exist_ok=True)
    directory.mkdir(mode=0o700)
    certificate_pem, key_pem = self_signed(common_name)
    _write(directory / "cert.pem", certificate_pem)
    _write(directory / "key.pem", key_pem)
    return ssl.PEM_cert_to_DER_cert(certificate_pem)


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """A new file with exactly this mode, on disk when this returns."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
