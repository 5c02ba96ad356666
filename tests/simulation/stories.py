"""Seeds that tell stories: the same world with all its oracles, in which what happens is not left to chance.

A plot is a generator that acts, narrates and yields what it waits for.  When it is over, the clients go on with
operations of their own choice until there are as many as in any run.
"""

import textwrap
from collections.abc import Callable, Iterator
from typing import Final

from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Status
from qunfs.protocol.operation import Call
from tests.simulation.clients import CREDENTIALS, ClientNode
from tests.simulation.clock import Clock
from tests.simulation.liars import Liar
from tests.simulation.narration import Narrator, Said, StoryNetwork, named
from tests.simulation.network import Address
from tests.simulation.objects import LEDGER, pack
from tests.simulation.servers import READ_WRITE
from tests.simulation.trace import short
from tests.simulation.world import Plan, World

Waits = Iterator[Callable[[], bool]]
NEAR_S: Final = 0.001
FAR_S: Final = 0.003


class _Clock(Clock):
    """A clock after each of whose events somebody looks."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def step(self) -> bool:
        stepped = super().step()
        self._look()
        return stepped


class _Actor(ClientNode):
    """A client that appends what the plot says, and no more."""

    world: "Story"

    def _call(self, what: str, name: bytes, objects: tuple[int, ...]) -> Call:
        if self.world.told or what != "append":
            return super()._call(what, name, objects)
        typed = tuple((obj, LEDGER) for obj in objects)
        return Call("ledger.append", typed, pack((name, None)), CREDENTIALS, objects[0])


class Story(World):
    """What all stories have in common: b = t = 1, two clients, two ledgers that prefer s0 to s4."""

    LIARS: tuple[int, ...] = ()

    # ---- the stage

    def _make_objects(self) -> None:
        self.told = False
        self.clock = _Clock(self._look)
        self.limits = DEFAULT_LIMITS
        self.a, self.b = self.ledgers = [60, 120]
        self.counters: list[int] = []
        self.objects = list(self.ledgers)

    def _choose_liars(self) -> list[int]:
        return list(self.LIARS)

    def _make_weather(self) -> None:
        super()._make_weather()
        self.narrator = Narrator(self, self._line)
        self.network = StoryNetwork(self.clock, self, self.narrator)
        self.rates = dict.fromkeys(self.rates, 0.0)
        self.think_s = 0.005

    def _make_servers(self) -> None:
        super()._make_servers()
        self.rights.update(dict.fromkeys((1, 2), READ_WRITE))

    def _make_clients(self) -> None:
        super()._make_clients()
        self._loops = 0
        self.clients = [_Actor(self, index, 0, loops=0) for index in (1, 2)]
        self.rogues = []
        self._operations_wanted = 20
        self._plot = self._acts()
        self._waits: Callable[[], bool] | None = next(self._plot)

    def latency_s(self, sender: Address, receiver: Address) -> float:
        """How long a message takes."""
        return NEAR_S

    # ---- playing it

    def plot(self) -> Waits:
        """What happens."""
        raise NotImplementedError

    def _acts(self) -> Waits:
        everyone = frozenset(range(self.quorums.n))
        yield lambda: all(frozenset(c.client.rpc.reachable) == everyone for c in self.clients)
        yield from self.plot()

    def _look(self) -> None:
        self.narrator.flush()
        while self._waits is not None and self._waits():
            self._waits = next(self._plot, None)
            self.narrator.flush()
            if self._waits is None:
                self.tell("So far the story. The clients go on, in fair weather and untold, to 20 operations in all.")
                self.told = True
                for client in self.clients:
                    self.clock.after(0.0, client._next)

    def client_crashed(self, node: ClientNode) -> None:
        super().client_crashed(node)
        self.narrator.forget(node.address.index)

    def more_work(self) -> bool:
        return self.told and super().more_work()

    def _work_done(self) -> bool:
        return self.told and super()._work_done()

    def trace(self, line: str) -> None:
        self.narrator.flush()
        self._line(line)

    def _line(self, line: str) -> None:
        if not self.told:
            super().trace(line)

    def tell(self, text: str) -> None:
        """Narrate."""
        if self._trace is not None and not self.told:
            for line in ["", *textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# "), ""]:
                self._trace(line)

    # ---- what plots ask

    @property
    def c1(self) -> ClientNode:
        """The first client, in its present incarnation."""
        return self.clients[0]

    @property
    def c2(self) -> ClientNode:
        """The second client."""
        return self.clients[1]

    def idle(self) -> bool:
        """Whether every client has been told what became of all it asked for."""
        return all(client.idle() for client in self.clients)

    def requests(self, kind: str) -> list[Said]:
        """All requests of a kind so far."""
        return [said for said in self.narrator.said if said.kind == kind]

    def hosts(self, said: Said) -> list[int]:
        """The servers that accepted the record that a request makes."""
        assert said.record is not None
        return sorted(self.oracles.acceptors.get(said.record, ()))

    def contents(self, obj: int) -> str:
        """The entries of a ledger."""
        return "[" + ", ".join(entry.decode() for entry in self.oracles.entries(obj)) + "]"


def _lt(said: Said) -> str:
    assert said.record is not None
    return short(said.record.lt)


class Contention(Story):
    """Two clients update one object at once."""

    def latency_s(self, sender: Address, receiver: Address) -> float:
        client, server = (sender, receiver) if sender.kind == "client" else (receiver, sender)
        return NEAR_S if client.kind != "client" or (server.index < 3) == (client.index == 1) else FAR_S

    def plot(self) -> Waits:
        self.tell(
            "Two clients append to ledger a at once. c1 is near s0, s1 and s2, c2 near the others. With b = t = "
            "1 there are 6 servers; quorums have 5, and a record at 3 of a quorum's servers may be established "
            "and must be kept."
        )
        self.c1.submit("append", (self.a,))
        self.c2.submit("append", (self.a,))
        yield lambda: len(self.requests("METHOD")) == 2
        first, second = sorted(self.requests("METHOD"), key=lambda said: said.client)
        self.tell(
            f"Both have read that a is empty, so both requests get time 1: {_lt(first)} of c1 and {_lt(second)} "
            "of c2. A server accepts the one that comes first; the other is conditioned on what is no longer its "
            "latest."
        )
        yield lambda: any(reply.status is Status.FAIL for _, _, reply in self.narrator.replies)
        yield lambda: len(self.hosts(first)) + len(self.hosts(second)) >= 5
        self.tell(
            f"Contention: {named(self.hosts(first))} have accepted c1's, {named(self.hosts(second))} c2's, and "
            "neither has a quorum. Both clients learn so from the answers, and read again."
        )
        yield lambda: bool(self.requests("BARRIER"))
        stop = self.requests("BARRIER")[0]
        self.tell(
            f"What c{stop.client} was shown classifies as BARRIER: one of the contenders may have been "
            f"established, and what is latest is not proven. The barrier {_lt(stop)} has the servers refuse "
            "everything older."
        )
        yield lambda: bool(self.requests("COPY"))
        saved = self.requests("COPY")[0]
        assert saved.record is not None
        source = saved.record.conditioned_on(self.a)
        owner = "the empty version" if source.time == 0 else f"c{source.client}'s {short(source)}"
        self.tell(
            f"A quorum has a barrier, and the classification is COPY. c{saved.client} carries {owner} forward as "
            f"{_lt(saved)}; the contender that is not copied can never be established any more and is skipped."
        )
        yield lambda: self.idle()
        self.tell(
            "Both are told that they are done: who was copied has asked again and got the answer that the "
            "servers remember, and the other has tried again. Each entry is there once: a = "
            f"{self.contents(self.a)}."
        )
        self.c1.submit("fetch", (self.a,))
        yield lambda: self.idle()


class CrashedClient(Story):
    """A client dies in the middle of an update, and another completes it."""

    def chance_of(self, fault: str) -> bool:
        return fault == "crash of client" and self._unlucky is not None and self._unlucky()

    def plot(self) -> Waits:
        self.tell("c1 appends to ledgers a and b in one operation, and will crash in the middle of sending it.")
        self._unlucky = lambda: self._sent("METHOD", 1) == 4
        victim = self.c1
        victim.submit("append", (self.a, self.b))
        yield lambda: not victim.up
        self._unlucky = None
        update = self.requests("METHOD")[-1]
        yield lambda: len(self.hosts(update)) == 4
        self.tell(
            f"c1 is dead and {named(self.hosts(update))} have accepted {_lt(update)}: one short of a quorum of 5. "
            "Nobody was told anything, so it may or may not take effect, but on both ledgers or on none. Now c2 "
            "appends to a."
        )
        self.c2.submit("append", (self.a,))
        yield lambda: bool(self.requests("ADOPT"))
        self.tell(
            f"{_lt(update)} is at 3 servers or more, so it may be established and must be kept; it is the latest, "
            "so it can be completed in place (inline repair). It belongs to b too: c2 has read both ledgers. A "
            "server that lacks it does not believe c2, but asks the hosts, and adopts the record when b+1 = 2 "
            "vouch for it."
        )
        yield lambda: self.idle()
        self.tell(
            "c1's update took effect through c2, on both ledgers, and c2's comes after it: a = "
            f"{self.contents(self.a)}, b = {self.contents(self.b)}."
        )
        yield from self._too_few()

    def _too_few(self) -> Waits:
        yield lambda: self.c1.up and len(self.c1.client.rpc.reachable) == self.quorums.n
        victim, before = self.c1, len(self.requests("METHOD"))
        self.tell(
            "c1 has been started again. It appends once more, and now crashes when only two servers have been sent it."
        )
        self._unlucky = lambda: len(self.requests("METHOD")) > before and len(self.requests("METHOD")[-1].servers) == 2
        victim.submit("append", (self.a, self.b))
        yield lambda: not victim.up
        self._unlucky = None
        lost = self.requests("METHOD")[-1]
        yield lambda: len(self.hosts(lost)) == 2
        self.c2.submit("append", (self.b,))
        yield lambda: bool(self.requests("COPY"))
        self.tell(
            f"Two servers are too few for {_lt(lost)} to be established: a quorum that had it would have shown it "
            "at three. The others have accepted c2's own record; after a barrier c2 carries that one forward, "
            "and c1's is skipped, on both ledgers."
        )
        yield lambda: self.idle()
        self.tell(f"The second update is gone as a whole: a = {self.contents(self.a)}, b = {self.contents(self.b)}.")

    _unlucky: Callable[[], bool] | None = None

    def _sent(self, kind: str, client: int) -> int:
        return max((len(said.servers) for said in self.requests(kind) if said.client == client), default=0)


class FoundOut(Story):
    """A replica lies and is found out."""

    LIARS = (1,)

    def _make_servers(self) -> None:
        super()._make_servers()
        self.victims = list(self.oracles.benign)
        self._lies("macs")

    def _lies(self, vice: str) -> None:
        """From now on the liar always does this."""
        liar = self.servers[1]
        assert isinstance(liar, Liar)
        liar.vices, liar.honesty, liar._framing = (vice,), 0.0, True
        liar._lives, liar._stores, liar.twins = liar._lives[:1], liar._stores[:1], False

    def plot(self) -> Waits:
        trust = self.c1.client._trust
        self.tell(
            "s1 is malevolent. c1 appends to a, for which s0 to s4 are asked first. s1 shows its history with "
            "MACs that no other server will accept; a client has none of the keys and cannot see that."
        )
        self.c1.submit("append", (self.a,))
        yield lambda: sum(reply.status is Status.CULLED for _, _, reply in self.narrator.replies) >= 2
        self.tell(
            "A server that cannot check what a request shows refuses it and names the culprit (CULLED); it does "
            "not leave that history out and go on, or servers would make different records of one request."
        )
        yield lambda: self.idle()
        left_out = "left out" if trust.left_out(1) else "asked last"
        self.tell(
            f"c1 has {trust.suspicion.get(1, 0)} complaints against s1. Of one, nobody could say whether s1 lies "
            f"or who complains; but more than b servers complain, so s1 is malevolent and {left_out}: c1 has "
            "shown s5's history in its place."
        )
        before = len(self.narrator.replies)
        self.c1.submit("append", (self.a,))
        yield lambda: self.idle()
        culled = sum(reply.status is Status.CULLED for _, _, reply in self.narrator.replies[before:])
        self.tell(
            f"The next append shows nothing of s1's and was refused by {culled or 'nobody'}. Now s1 gives wrong "
            "answers, to c2, which has not met it yet."
        )
        self._lies("answer")
        self.c2.submit("fetch", (self.a,))
        yield lambda: self.idle()
        self.tell(
            "An answer counts when more than b servers give it, so that one of them at least is correct. c2 was "
            f"told what is true, a = {self.contents(self.a)}."
        )


STORIES: Final[dict[Plan, type[World]]] = {Plan(1): Contention, Plan(2): CrashedClient, Plan(3): FoundOut}
"""The plans that are stories: the first seeds of the default configuration."""
