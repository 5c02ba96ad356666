"""The service loop of one replica: a batch of frames, one storage transaction, one commit, then the replies."""

import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any, Final

from qunfs import garbage, native
from qunfs.cluster import Cluster
from qunfs.net.connection import Connection
from qunfs.net.reactor import Reactor
from qunfs.net.stopping import Stopping, finish_requests_first
from qunfs.net.tls import Peer
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.errors import LocalError, MalformedMessage, StorageError
from qunfs.protocol.replica import Origin, Replica, Send
from server.lmdb_rows import Durability
from server.store import ReplicaStore, open_store

log = logging.getLogger("qunfs.server")

IDLE_WAIT_S: Final = 5.0
SYNC_TICK_S: Final = 0.05
QUEUED_FOR_PEER_MAX: Final = 4096
"""Messages to a peer that is being dialled; the sync jobs behind them ask others when it does not answer."""
COMPLAINT_EVERY_S: Final = 10.0
"""How often the log says that a peer sends nonsense: it can call again at once, and the log is on a disk."""
REPLY_BYTES_AT_ONCE: Final = 8 << 20
"""Replies beyond this leave before the rest of a wake-up is looked at: short questions can have long answers."""

ReplicaFactory = Callable[..., Replica]


class Service:
    """One replica on its sockets and its disk."""

    def __init__(
        self, cluster: Cluster, server: int, store: ReplicaStore, durability: Durability, factory: ReplicaFactory
    ) -> None:
        self._cluster, self._server, self._store, self._durability = cluster, server, store, durability
        self._reactor = Reactor(self, cluster.server_tls(server), cluster.peers)
        rights = {c.index: Rights(c.rights == "rw", Squash(c.squash), c.uids, c.gids) for c in cluster.clients}
        authenticator = Authenticator(server, cluster.pair_keys(server))
        self._replica = factory(
            server, cluster.quorums, authenticator, REGISTRY, store, rights, describe=self._describe
        )
        self._links: dict[int, Connection] = {}
        self._origins: dict[Connection, Origin] = {}
        self._next_link = 1
        self._dialled: dict[int, Connection] = {}
        self._for_peer: dict[int, list[bytes]] = {}
        self._started = time.monotonic()
        self._stopping = Stopping()
        self._complained: dict[Peer, float] = {}
        """When the log was last told of a malformed message of a peer."""
        self._last_tick = 0.0
        self._batches = 0
        self._frames = 0
        self._bytes_closed = 0

    # ---- life

    def listen(self) -> None:
        """Take calls, and orders to stop, from now on.  Raises LocalError for an address that cannot be had."""
        self._stopping.listen()
        finish_requests_first()
        mine = self._cluster.servers[self._server]
        self._reactor.listen(mine.host, mine.port, self._cluster.local_directory(self._server))
        log.info("server %d listens on %s:%d, durability %s", self._server, mine.host, mine.port, self._durability)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.  Raises StorageError."""
        busy = self._replica.busy()
        with self._stopping.waking(self._reactor):
            while self._stopping.signal is None:
                self._reactor.poll(SYNC_TICK_S if busy else IDLE_WAIT_S)
                busy = self._replica.busy()
                if busy and time.monotonic() - self._last_tick >= SYNC_TICK_S:
                    self._tick()
                    busy = self._replica.busy()
            log.info("server %d stops on %s", self._server, self._stopping.signal.name)

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        self._answer(self._replica.tick(self._last_tick, time.time_ns()))

    # ---- what the reactor tells

    def on_connected(self, connection: Connection) -> None:
        """A client or another server has called, or has been reached."""
        link, self._next_link = self._next_link, self._next_link + 1
        self._links[link] = connection
        self._origins[connection] = Origin(connection.peer.kind == "server", connection.peer.index, link)
        if connection.peer.kind == "server":
            queued = self._for_peer.pop(connection.peer.index, [])
            if queued or connection.peer.index not in self._dialled:
                self._dialled[connection.peer.index] = connection
            for payload in queued:
                connection.send(payload)

    def on_frames(self, batch: list[tuple[Connection, bytes]]) -> None:
        """Step through everything that has come, make it durable, then answer."""
        now, wall_ns = time.monotonic(), time.time_ns()
        self._batches += 1
        self._frames += len(batch)
        sends: list[Send] = []
        size = 0
        done_with: set[Connection] = set()
        step, origins = self._replica.step, self._origins
        for connection, payload in batch:
            if connection not in origins or connection in done_with:  # it has ended
                continue
            try:
                replies = step(origins[connection], payload, now, wall_ns)
            except MalformedMessage as error:
                done_with.add(connection)
                self._refuse(connection, error, wall_ns)
                continue
            sends += replies
            for reply in replies:
                size += len(reply.payload)
            if size > REPLY_BYTES_AT_ONCE:
                self._answer(sends)
                sends, size = [], 0
                done_with.update([other for other, _ in batch if other.closed])
        self._answer(sends)

    def _answer(self, sends: list[Send]) -> None:
        """Make everything so far durable, then send."""
        self._store.commit()
        self._dispatch(sends)

    def _refuse(self, connection: Connection, error: MalformedMessage, wall_ns: int) -> None:
        now = time.monotonic()
        if now - self._complained.get(connection.peer, -math.inf) > COMPLAINT_EVERY_S:
            self._complained[connection.peer] = now
            log.warning("%s sent a malformed message: %s", connection.peer, error)
        if connection.peer.kind == "server":
            self._replica.malformed(connection.peer.index, str(error), wall_ns)
        connection.close(f"malformed message: {error}")

    def on_closed(self, connection: Connection, reason: str) -> None:
        """A connection is over; what was to go out on it is moot."""
        log.debug("connection to %s ended: %s", connection.peer, reason)
        self._bytes_closed += connection.bytes_in + connection.bytes_out
        del self._links[self._origins.pop(connection).link]
        if self._dialled.get(connection.peer.index) is connection:
            del self._dialled[connection.peer.index]
            self._dispatch(self._replica.unreachable(connection.peer.index, time.monotonic()))

    def on_dial_failed(self, peer: Peer, reason: str) -> None:
        """Another server cannot be reached; object syncs ask others."""
        log.info("cannot reach %s: %s", peer, reason)
        self._for_peer.pop(peer.index, None)
        self._dispatch(self._replica.unreachable(peer.index, time.monotonic()))

    # ---- sending

    def _dispatch(self, sends: list[Send]) -> None:
        links = self._links
        for origin, server, payload in sends:
            if origin is None:
                self._send_to_server(server, payload)
            elif origin.link in links:
                connection = links[origin.link]
                try:
                    connection.send(payload)
                except LocalError as error:  # larger than a frame: its asker goes without, the others do not
                    log.warning("no reply to %s: %s", connection.peer, error)
                    connection.close(str(error))
        self._reactor.flush()

    def _send_to_server(self, server: int, payload: bytes) -> None:
        connection = self._dialled.get(server)
        if connection is not None:
            connection.send(payload)
            return
        queued = self._for_peer.get(server)
        if queued is None:
            self._for_peer[server] = [payload]
            peer = self._cluster.servers[server]
            self._reactor.dial(Peer("server", server), peer.host, peer.port, self._cluster.local_directory(server))
        elif len(queued) < QUEUED_FOR_PEER_MAX:
            queued.append(payload)

    def _describe(self) -> dict[str, Any]:
        times = os.times()
        return {
            "server": self._server,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - self._started,
            "durability": self._durability,
            "compiled": native.active(),
            "cpu_s": times.user + times.system,
            "connections": len(self._links),
            "local_connections": sum(c.local for c in self._origins),
            "strangers_refused": self._reactor.strangers_refused,
            "batches": self._batches,
            "frames": self._frames,
            "fsyncs": self._store.fsyncs,
            "wire_bytes": self._bytes_closed + sum(c.bytes_in + c.bytes_out for c in self._origins),
        }


def run(
    cluster: Cluster,
    server: int,
    *,
    durability: Durability = "sync",
    accept_loss: bool = False,
    replica_factory: ReplicaFactory = Replica,
) -> int:
    """Run a replica until it is told to stop; the exit code (0 after SIGTERM or SIGINT, 1 when it had to stop).

    ``replica_factory`` takes what :class:`Replica` takes.  Raises QunfsError when it could not even start.
    """
    genesis = cluster.genesis
    rows = genesis_rows(genesis.uid, genesis.gid, genesis.mode, genesis.time_ns)
    store = open_store(cluster.data_directory(server), rows, durability, accept_loss)
    clean = True
    try:
        service = Service(cluster, server, store, durability, replica_factory)
        service.listen()
        garbage.look_rarely()
        clean = False
        service.run()
        clean = True
    except StorageError as error:
        log.error("server %d stops: %s", server, error)
        return 1
    finally:
        store.close(clean=clean)
    return 0
