"""Servers of the simulation: the production replica on rows in memory whose crash drops what was not committed."""

from collections.abc import Mapping, Set
from random import Random
from typing import TYPE_CHECKING, Final

from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.history import Kind
from qunfs.protocol.replica import Origin, Send
from qunfs.protocol.store import MemoryRows
from tests.simulation.network import Address, Link
from tests.simulation.oracles import Violation
from tests.simulation.watched import WatchedReplica, WatchedStore

if TYPE_CHECKING:
    from tests.simulation.world import World

TICK_S: Final = 0.05
SERVICE_S: Final = 0.0002
READ_WRITE: Final = Rights(True, Squash.NONE, (0, 1 << 31), (0, 1 << 31))
READ_ONLY: Final = Rights(False, Squash.NONE, (0, 1 << 31), (0, 1 << 31))


class Server:
    """What every server does with the network: gather a batch, step through it, commit, send."""

    def __init__(self, world: "World", index: int, keys: Mapping[int, bytes]) -> None:
        self.world, self.index = world, index
        self.address = Address("server", index)
        self.chance = Random(f"{world.seed} server {index}")
        self.authenticator = Authenticator(index, keys)
        self.skew_s = self.chance.uniform(-2.0, 2.0)
        self.up = True
        self.inbox: list[tuple[Link, bytes]] = []
        self._process_scheduled = False
        self._tick_scheduled = False
        self._peer_links: dict[int, Link] = {}
        self._links: dict[int, Link] = {}

    # ---- what the network tells

    def on_message(self, link: Link, payload: bytes) -> None:
        if not self.up:
            return
        self._links[link.number] = link
        self.inbox.append((link, payload))
        if not self._process_scheduled:
            self._process_scheduled = True
            self.world.clock.after(self.chance.expovariate(1 / SERVICE_S), self._process)

    def on_broken(self, link: Link) -> None:
        self._links.pop(link.number, None)
        self._peer_links = {peer: known for peer, known in self._peer_links.items() if known is not link}

    # ---- work

    def origin(self, link: Link) -> Origin:
        """Where a message on a link came from, as the driver names it."""
        other = link.other(self).address
        return Origin(other.kind == "server", other.index, link.number)

    def _process(self) -> None:
        self._process_scheduled = False
        if not self.up:
            return
        batch, self.inbox = self.inbox, []
        self.work(batch)

    def work(self, batch: list[tuple[Link, bytes]]) -> None:
        """Handle a batch."""
        raise NotImplementedError

    def schedule_tick(self) -> None:
        """Have :meth:`on_tick` called soon, once."""
        if not self._tick_scheduled:
            self._tick_scheduled = True
            self.world.clock.after(TICK_S, self._tick)

    def _tick(self) -> None:
        self._tick_scheduled = False
        if self.up:
            self.on_tick()

    def on_tick(self) -> None:
        """Time has passed."""
        raise NotImplementedError

    def dispatch(self, sends: list[Send]) -> None:
        """Hand payloads to the network."""
        for send in sends:
            if send.origin is None:
                self._to_server(send.server, send.payload)
            else:
                link = self._links.get(send.origin.link)
                if link is not None:
                    self.world.network.send(link, self, send.payload)

    def _to_server(self, server: int, payload: bytes) -> None:
        link = self._peer_links.get(server)
        if link is None or not link.up:
            peer = self.world.servers[server]
            if not peer.up:
                return
            link = self._peer_links[server] = self.world.network.connect(self, peer)
            self._links[link.number] = link
        self.world.network.send(link, self, payload)

    def drop_links(self) -> None:
        """All connections go, as when the process dies."""
        self.inbox.clear()
        for link in list(self.world.network.links.values()):
            if self in (link.caller, link.called):
                self.world.network.break_link(link)
        self._links.clear()
        self._peer_links.clear()


class BenignServer(Server):
    """A server that does as it should, except that it may crash."""

    def __init__(self, world: "World", index: int, keys: Mapping[int, bytes]) -> None:
        super().__init__(world, index, keys)
        self._rows = MemoryRows()
        self._boot()
        self.store.commit()

    def _boot(self) -> None:
        world = self.world
        self.store = WatchedStore(self._rows, world.limits, world.genesis)
        self.replica = WatchedReplica(
            self.index,
            world.quorums,
            self.authenticator,
            world.registry,
            self.store,
            world.rights,
            world.limits,
            world.justification.stepped,
        )

    def work(self, batch: list[tuple[Link, bytes]]) -> None:
        sends: list[Send] = []
        crash_before = self.chance.randrange(len(batch)) if self.world.chance_of("crash in batch") else None
        for place, (link, payload) in enumerate(batch):
            if place == crash_before:
                self.crash()
                return
            try:
                sends += self.replica.step(
                    self.origin(link), payload, self.world.clock.now, self.world.clock.wall_ns(self.skew_s)
                )
            except MalformedMessage as error:
                if not self.world.may_misbehave(link.other(self).address):
                    raise Violation(
                        f"{self.address} takes a correct message of {link.other(self).address} for malformed: {error}"
                    ) from error
                self.world.network.break_link(link)
        self._conclude(sends)

    def on_tick(self) -> None:
        self._conclude(self.replica.tick(self.world.clock.now, self.world.clock.wall_ns(self.skew_s)))

    def _conclude(self, sends: list[Send]) -> None:
        changes, self.store.changes = self.store.changes, []
        if changes:
            self.store.commit()
            self.world.committed(self.index, changes)
            self._check_held({change.obj for change in changes})
            if self.world.chance_of("crash after commit"):
                self.crash()
                return
        self.dispatch(sends)
        if self.replica.busy():
            self.schedule_tick()

    def crash(self) -> None:
        """Die, with everything that was not committed."""
        self.up = False
        self.conclude_counting()
        self.world.trace(f"{self.address} crashes")
        self.drop_links()
        self.world.seen["server crashes"] += 1
        self.world.clock.after(self.chance.choice((0.01, 0.1, 0.5, 2.0)) * self.chance.random(), self.restart)

    def conclude_counting(self) -> None:
        """Hand in what the replica has counted.  Raises Violation when it takes a correct server for a liar."""
        status = self.replica.status()
        self.world.seen.update(self.replica.counters)
        self.world.seen["syncs"] += status["syncs"]
        for server, ground, *_ in status["suspects"]:
            self.world.oracles.told(f"{self.address}", server, ground, proof=True)

    def restart(self) -> None:
        """Come back with what was committed."""
        if self.up:
            return
        self.world.trace(f"{self.address} restarts")
        self.up = True
        self._boot()
        self.world.oracles.restarted(self.index, {o: self.store.history(o) for o in self.world.oracles.objects})
        self.check_kept()

    def _check_held(self, objects: Set[int]) -> None:
        for obj in objects:
            for record in self.store.history(obj).records:
                if record.kind is not Kind.BARRIER and not self.store.has_version(obj, record.lt):
                    self.world.oracles.kept(self.index, obj, record, None)

    def check_kept(self) -> None:
        """Every version whose record is in a history is there, and is what it was."""
        for obj in self.world.oracles.objects:
            for record in self.store.history(obj).records:
                if record.kind is not Kind.BARRIER:
                    held = self.store.has_version(obj, record.lt)
                    state = tuple(self.store.open(obj, record.lt).scan()) if held else None
                    self.world.oracles.kept(self.index, obj, record, state)
