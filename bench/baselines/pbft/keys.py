"""The baseline's cluster: one of ours with ``n = 3f+1``, whose clients share MAC keys with the servers too.

``b = 0, t = f`` makes exactly 3f+1 servers with quorums of 2f+1.  On top of what ``qunfs init`` makes there are::

    DIR/pbft-clients            public: each client's X25519 key, a line each
    DIR/clients/NAME/mac.key    private to client NAME
"""

import os
from pathlib import Path
from typing import Final

from bench.baselines.pbft.core.macs import ClientMacs, ReplicaMacs
from qunfs import cluster as clusters
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError

PUBLIC: Final = "pbft-clients"
_INFO: Final = b"qunfs pbft request authenticator"


def create(directory: Path, faults: int, clients: int) -> Cluster:
    """Make a cluster in a new directory.  Raises LocalError."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    made = clusters.create(directory, b=0, t=faults, clients=clients)
    lines: list[str] = []
    for client in made.clients:
        key = X25519PrivateKey.generate()
        path = _private_path(made, client.name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(key.private_bytes_raw().hex())
        lines.append(f"{client.index} {key.public_key().public_bytes_raw().hex()}\n")
    (made.directory / PUBLIC).write_text("".join(lines), "ascii")
    return made


def faults_of(cluster: Cluster) -> int:
    """f of the papers.  Raises LocalError for a cluster of another kind."""
    if cluster.b or cluster.n != 3 * cluster.t + 1 or not (cluster.directory / PUBLIC).exists():
        raise LocalError(
            f"{cluster.directory} was not made for this baseline: python -m bench.baselines.pbft makes one"
        )
    return cluster.t


def replica_macs(cluster: Cluster, server: int, authenticators: bool) -> ReplicaMacs:
    """What a replica shares with the others and with the clients."""
    keys: dict[int, bytes] = {}
    private = bytes.fromhex((cluster.data_directory(server).parent / "mac.key").read_text("ascii"))
    for line in (cluster.directory / PUBLIC).read_text("ascii").splitlines():
        client, public = line.split()
        keys[int(client)] = _shared(cluster, private, bytes.fromhex(public), server, int(client))
    return ReplicaMacs(server, cluster.pair_keys(server), keys, authenticators)


def client_macs(cluster: Cluster, name: str) -> ClientMacs:
    """What a client shares with the replicas."""
    private = bytes.fromhex(_private_path(cluster, name).read_text("ascii"))
    index = cluster.client(name).index
    servers = cluster.servers
    return ClientMacs({s.index: _shared(cluster, private, s.mac_public, s.index, index) for s in servers})


def _private_path(cluster: Cluster, name: str) -> Path:
    return cluster.contents_directory(name).parent / "mac.key"


def _shared(cluster: Cluster, private: bytes, public: bytes, server: int, client: int) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    ends = server.to_bytes(4, "big") + client.to_bytes(4, "big")
    return HKDF(algorithm=SHA256(), length=32, salt=cluster.identity, info=_INFO + ends).derive(secret)
