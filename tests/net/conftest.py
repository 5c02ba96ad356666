"""Reactors that talk to each other within one process and one thread, and a peer that breaks the rules."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qunfs.cluster import Cluster, create
from qunfs.net.connection import Connection
from qunfs.net.limits import DEFAULT_NETWORK_LIMITS, NetworkLimits
from qunfs.net.reactor import Reactor
from qunfs.net.tls import Peer, PeerDirectory, TlsChannel, TlsIdentity, make_contexts

HANG_SECONDS = 120.0
"""Only to turn a hang into a failure."""


class Node:
    """A reactor with a handler that writes everything down."""

    def __init__(
        self, tls: TlsIdentity, peers: PeerDirectory, network: NetworkLimits, clock: Callable[[], float]
    ) -> None:
        self.peer = tls.peer
        self.calls: list[str] = []
        self.connected: list[Connection] = []
        self.batches: list[list[tuple[Connection, bytes]]] = []
        self.closed: list[tuple[Connection, str]] = []
        self.dial_failures: list[tuple[Peer, str]] = []
        self.react: Callable[[list[tuple[Connection, bytes]]], None] = lambda batch: None
        self.reactor = Reactor(self, tls, peers, network=network, clock=clock)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for batch in self.batches for _, payload in batch]

    def on_connected(self, connection: Connection) -> None:
        self.calls.append("connected")
        self.connected.append(connection)

    def on_frames(self, batch: list[tuple[Connection, bytes]]) -> None:
        self.calls.append("frames")
        self.batches.append(batch)
        self.react(batch)

    def on_closed(self, connection: Connection, reason: str) -> None:
        self.calls.append("closed")
        self.closed.append((connection, reason))

    def on_dial_failed(self, peer: Peer, reason: str) -> None:
        self.calls.append("dial failed")
        self.dial_failures.append((peer, reason))

    def poll(self) -> None:
        self.reactor.poll(0.001)

    def echo(self, batch: list[tuple[Connection, bytes]]) -> None:
        for connection, payload in batch:
            connection.send(payload)


def shake_hands(accepted: socket.socket, channel: TlsChannel, dialler: Any) -> None:
    """Accept a connection by hand, up to the greeting."""
    accepted.setblocking(False)
    through = False
    while not through:
        dialler.poll()
        with contextlib.suppress(BlockingIOError):
            through = channel.handshake_untrusted(accepted.recv(65536))
            accepted.sendall(channel.outgoing())


def received_now(peer: socket.socket) -> bytes | None:
    """What a socket has, b"" when the other side is gone, None when there is nothing yet."""
    try:
        return peer.recv(65536)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""


class RawPeer:
    """A socket under the test's control, with TLS when it is given an identity."""

    def __init__(self, port: int, tls: TlsIdentity | None = None, peers: PeerDirectory | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.received = b""
        self.hung_up = False
        self.established = False
        self.channel: TlsChannel | None = None
        if tls is not None and peers is not None:
            self.channel = TlsChannel(make_contexts(tls, peers)[0], accepting=False)
            self._shake(b"")

    def poll(self) -> None:
        data = received_now(self.socket)
        if data is None:
            return
        self.hung_up = self.hung_up or not data
        if self.channel is None or not data:
            self.received += data
        elif self.established:
            self.received += self.channel.open_untrusted(data)
        else:
            self._shake(data)

    def send_plaintext(self, plaintext: bytes) -> None:
        assert self.channel is not None
        self.socket.sendall(self.channel.seal(plaintext))

    def _shake(self, data: bytes) -> None:
        assert self.channel is not None
        self.established = self.channel.handshake_untrusted(data)
        self.socket.sendall(self.channel.outgoing())
        if self.established:
            self.received += self.channel.open_untrusted(b"")


def poll_until(condition: Callable[[], object], *parties: Node | RawPeer) -> None:
    give_up = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < give_up, "nothing happens any more"
        for party in parties:
            party.poll()


class Bench:
    """Makes the parties of a test and cleans up after them."""

    def __init__(self, cluster: Cluster, local: Path | None = None) -> None:
        self.cluster = cluster
        self.local = local
        """Below here servers listen locally as well, and are called there."""
        self.now = 0.0
        self.ports: dict[Peer, int] = {}
        self.stack = contextlib.ExitStack()
        self.until = poll_until

    def node(
        self, tls: TlsIdentity, network: NetworkLimits = DEFAULT_NETWORK_LIMITS, peers: PeerDirectory | None = None
    ) -> Node:
        node = Node(tls, peers or self.cluster.peers, network, lambda: self.now)
        self.stack.callback(node.reactor.close)
        return node

    def server(self, index: int = 0, network: NetworkLimits = DEFAULT_NETWORK_LIMITS, port: int = 0) -> Node:
        """A server that listens; several may share an index and go by their ports."""
        node = self.node(self.cluster.server_tls(index), network)
        self.ports[node.peer] = node.reactor.listen("127.0.0.1", port, self.directory(node.peer, make=True))
        return node

    def directory(self, peer: Peer, *, make: bool = False) -> Path | None:
        """Where a server listens locally, None when it does not."""
        if self.local is None:
            return None
        directory = self.local / f"{peer.kind}-{peer.index}"
        if make:
            directory.mkdir(mode=0o700, exist_ok=True)
        return directory

    def client(self, name: str = "client-1", network: NetworkLimits = DEFAULT_NETWORK_LIMITS) -> Node:
        return self.node(self.cluster.client_tls(name), network)

    def raw(self, server: Node, name: str | None = None) -> RawPeer:
        tls = None if name is None else self.cluster.client_tls(name)
        raw = RawPeer(self.ports[server.peer], tls, self.cluster.peers)
        self.stack.callback(raw.socket.close)
        if name is not None:
            self.until(lambda: raw.received, raw, server)
        return raw

    def connect(self, client: Node, server: Node) -> tuple[Connection, Connection]:
        """Both ends of a new connection: the client's, the server's."""
        had = len(client.connected), len(server.connected)
        client.reactor.dial(server.peer, "127.0.0.1", self.ports[server.peer], self.directory(server.peer))
        self.until(lambda: (len(client.connected), len(server.connected)) == (had[0] + 1, had[1] + 1), client, server)
        assert client.connected[-1].local == server.connected[-1].local == (self.local is not None)
        return client.connected[-1], server.connected[-1]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return create(tmp_path_factory.mktemp("cluster"), b=1, clients=3)


@pytest.fixture(scope="session")
def other_cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return create(tmp_path_factory.mktemp("other"), b=0, clients=1)


@pytest.fixture(params=["tcp", "local"])
def bench(cluster: Cluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(cluster, tmp_path if request.param == "local" else None)
    with bench.stack:
        yield bench
