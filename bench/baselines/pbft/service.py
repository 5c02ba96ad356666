"""The service loop of one replica of the baseline: like ours, one storage transaction and one flush per wake-up."""

import logging
import os
import time
from pathlib import Path
from typing import Any, Final

from bench.baselines.pbft import keys
from bench.baselines.pbft.core.messages import TYPE_DESCRIBE, pack_description
from bench.baselines.pbft.core.ordering import Origin, Replica
from bench.baselines.pbft.core.state import ServiceState
from bench.baselines.pbft.core.tuning import Tuning
from qunfs import garbage, native
from qunfs.cluster import Cluster, load
from qunfs.net.connection import Connection, send_each
from qunfs.net.reactor import Reactor
from qunfs.net.stopping import Stopping, finish_requests_first
from qunfs.net.tls import Peer
from qunfs.objects import REGISTRY
from qunfs.protocol.errors import LocalError, MalformedMessage, QunfsError
from server.disk_rows import DiskRows
from server.lmdb_rows import Durability

log = logging.getLogger("qunfs.pbft")

IDLE_WAIT_S: Final = 5.0
REDIAL_S: Final = 0.2


class Service:
    """One replica on its sockets and its disk."""

    def __init__(self, cluster: Cluster, server: int, rows: DiskRows, durability: Durability, tuning: Tuning) -> None:
        self._cluster, self._server, self._durability = cluster, server, durability
        self._reactor = Reactor(self, cluster.server_tls(server), cluster.peers)
        self._rows = rows
        self._state = ServiceState(REGISTRY, rows)
        if self._state.executed:
            raise LocalError(f"server {server} has run before, and this baseline cannot catch up: make a new cluster")
        macs = keys.replica_macs(cluster, server, tuning.authenticators)
        self._replica = Replica(server, keys.faults_of(cluster), macs, self._state, tuning)
        self._origins: dict[Connection, Origin] = {}
        self._peers: dict[int, Connection] = {}
        """Replicas, by number."""
        self._links: dict[int, Connection] = {}
        """Clients' connections."""
        self._next_link = 1
        self._redial: dict[int, float] = {}
        self._stopping = Stopping()
        self._batches = 0
        self._frames = 0
        self._questions = 0
        self._bytes_closed = 0
        self._warned = False

    # ---- life

    def listen(self) -> None:
        """Take calls, and orders to stop, from now on.  Raises LocalError for an address that cannot be had."""
        self._stopping.listen()
        finish_requests_first()
        mine = self._cluster.servers[self._server]
        self._reactor.listen(mine.host, mine.port, self._cluster.local_directory(self._server))
        for other in range(self._server):  # the higher one of two calls the lower
            self._redial[other] = 0.0
        log.info("server %d listens on %s:%d, durability %s", self._server, mine.host, mine.port, self._durability)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.  Raises StorageError and StateDiffers."""
        replica = self._replica
        with self._stopping.waking(self._reactor):
            while self._stopping.signal is None:
                now = time.monotonic()
                due = replica.due()
                if self._redial:
                    self._dial(now)
                    due = min([due or now + IDLE_WAIT_S, *self._redial.values()])
                if due is None:
                    self._reactor.poll(IDLE_WAIT_S)
                elif due > now:
                    self._reactor.poll(due - now)
                else:
                    self._reactor.poll(0)
                    self._tick()
            log.info("server %d stops on %s", self._server, self._stopping.signal.name)

    def close(self) -> None:
        """Put everything into the database.  Raises StorageError."""
        self._state.apply()

    def _tick(self) -> None:
        now = time.monotonic()
        self._replica.tick(now)
        self._finish(now)
        if not self._warned and self._replica.agreement.is_behind():
            self._warned = True
            log.warning(
                "server %d has fallen behind, and there is no state transfer: it counts as faulty", self._server
            )

    def _dial(self, now: float) -> None:
        for other, at in list(self._redial.items()):
            if at <= now:
                del self._redial[other]
                peer = self._cluster.servers[other]
                directory = self._cluster.local_directory(other)
                self._reactor.dial(Peer("server", other), peer.host, peer.port, directory)

    # ---- what the reactor tells

    def on_connected(self, connection: Connection) -> None:
        """A client or another replica has called, or has been reached."""
        link, self._next_link = self._next_link, self._next_link + 1
        peer = connection.peer
        origin = self._origins[connection] = Origin(peer.kind == "server", peer.index, link)
        if origin.is_replica:
            self._peers[peer.index] = connection
        else:
            self._links[link] = connection
        self._replica.connected(origin)

    def on_frames(self, batch: list[tuple[Connection, bytes]]) -> None:
        """Step through everything that has come, make it durable, then send."""
        now = time.monotonic()
        self._batches += 1
        self._frames += len(batch)
        step, origins = self._replica.step, self._origins
        for connection, payload in batch:
            origin = origins.get(connection)
            if origin is None:  # it has ended
                continue
            try:
                if not origin.is_replica and payload[:1] == _DESCRIBE:
                    connection.send(pack_description(payload, self._describe()))
                else:
                    step(origin, payload, now)
            except MalformedMessage as error:
                log.warning("%s sent a malformed message: %s", connection.peer, error)
                if not origin.is_replica:  # the others are known to be correct, or there would be a view change
                    connection.close(f"malformed message: {error}")
        self._finish(now)

    def _finish(self, now: float) -> None:
        outgoing = self._replica.finish(now)
        self._state.commit()
        if outgoing.to_replicas:
            send_each(self._peers, outgoing.to_replicas)
        if outgoing.to_links:
            send_each(self._links, outgoing.to_links)

    def on_closed(self, connection: Connection, reason: str) -> None:
        """A connection is over; another replica that this one has called is called again."""
        log.debug("connection to %s ended: %s", connection.peer, reason)
        self._bytes_closed += connection.bytes_in + connection.bytes_out
        origin = self._origins.pop(connection)
        self._links.pop(origin.link, None)
        self._replica.disconnected(origin)
        if origin.is_replica and self._peers.get(origin.principal) is connection:
            del self._peers[origin.principal]
            if origin.principal < self._server:
                self._redial[origin.principal] = time.monotonic() + REDIAL_S

    def on_dial_failed(self, peer: Peer, reason: str) -> None:
        """Another replica cannot be reached yet."""
        log.info("cannot reach %s: %s", peer, reason)
        self._redial[peer.index] = time.monotonic() + REDIAL_S

    def _describe(self) -> dict[str, Any]:
        """As our replicas describe themselves; "frames" are clients' operations here, and questions like this."""
        self._questions += 1
        return {
            "server": self._server,
            "pid": os.getpid(),
            "durability": self._durability,
            "compiled": native.active(),
            "cpu_s": time.process_time(),
            "connections": len(self._origins),
            "local_connections": sum(c.local for c in self._origins),
            "replicas_connected": len(self._peers),
            "batches": self._batches,
            "frames": self._questions + self._replica.counters["requests"] + self._replica.counters["reads"],
            "messages": self._frames,
            "fsyncs": self._rows.fsyncs,
            "wire_bytes": self._bytes_closed + sum(c.bytes_in + c.bytes_out for c in self._origins),
            "agreement": self._replica.describe(),
        }


_DESCRIBE: Final = bytes((TYPE_DESCRIBE,))


def run(directory: Path, server: int, durability: Durability, tuning: Tuning) -> int:
    """Run a replica until it is told to stop; the exit code (0 after SIGTERM or SIGINT, 1 when it had to stop).

    Raises QunfsError when it could not even start.
    """
    cluster = load(directory)
    rows = DiskRows(cluster.data_directory(server), durability)
    try:
        service = Service(cluster, server, rows, durability, tuning)
        service.listen()
        garbage.look_rarely()
        try:
            service.run()
        except QunfsError as error:
            log.error("server %d stops: %s", server, error)
            return 1
        service.close()
    finally:
        rows.close()
    return 0
