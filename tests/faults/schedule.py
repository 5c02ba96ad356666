"""Which faults happen when: drawn from a seed, and a matter of how many operations have ended, not of time.

The paper's bounds hold throughout: at most t servers are faulty at once, and b of them, the *traitors*, are the only
ones that ever lie.  Who has lied may be honest again, but lies of one server now and of another later are those of two
to whoever waits all the while, so traitors do not take turns beyond b.

Who lies in one of the ways of ``FOR_GOOD`` counts as faulty to the end, even while honest code runs in its place: the
history on its disk is out of date, and forgetting what was acknowledged is a lie whoever runs on that store later.
Liars of the other kinds keep an honest store, and clients forgive the MACs (*corrupt-macs*) of those who are replaced.

A server that was killed has lost nothing: it is merely slow, and as well as any other as soon as it answers again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final

KINDS: Final = ("amnesia", "corrupt-macs", "silent", "stale", "wrong-answers")
"""Those of bench.malevolent of which it is known what they leave behind; test_liars_found_out.py has all."""

FOR_GOOD: Final = frozenset({"stale", "amnesia"})


class What(Enum):
    """What can be done to a process."""

    KILL = "kill"
    """SIGKILL."""
    STOP = "stop"
    """SIGSTOP."""
    CONTINUE = "continue"
    """SIGCONT."""
    START = "start"
    """An honest replica, in the place of whatever runs there."""
    LIE = "lie"
    """A malevolent one, in the place of whatever runs there."""
    CLIENT = "kill and replace"
    """SIGKILL for a client process; another one under the same name goes on."""


@dataclass(frozen=True, slots=True)
class Move:
    """Something done as soon as ``at`` operations have ended; ``who`` is a server or, for CLIENT, a client process."""

    at: int
    what: What
    who: int
    kind: str = ""
    """How it lies."""

    def __str__(self) -> str:
        who = f"client process {self.who}" if self.what is What.CLIENT else f"server {self.who}"
        return f"{self.what.value} {who}" + (f" as {self.kind}" if self.kind else "")


class State(Enum):
    """How a server is meant to be."""

    WELL = "well"
    KILLED = "killed"
    STOPPED = "stopped"
    LYING = "lying"


AFTER: Final = {
    What.KILL: State.KILLED,
    What.STOP: State.STOPPED,
    What.CONTINUE: State.WELL,
    What.START: State.WELL,
    What.LIE: State.LYING,
}


class Servers:
    """Who is well and who is not after some moves."""

    def __init__(self, n: int) -> None:
        self.states = [State.WELL] * n
        self.lied: set[int] = set()
        self.faulty_for_good: set[int] = set()
        self._before_stop: dict[int, State] = {}

    @property
    def faulty(self) -> set[int]:
        return {s for s, state in enumerate(self.states) if state is not State.WELL} | self.faulty_for_good

    def make(self, move: Move) -> None:
        if move.what is What.CLIENT:
            return
        state = AFTER[move.what]
        if move.what is What.STOP:
            self._before_stop[move.who] = self.states[move.who]
        elif move.what is What.CONTINUE:
            state = self._before_stop[move.who]
        self.states[move.who] = state
        if move.what is What.LIE:
            self.lied.add(move.who)
            if move.kind in FOR_GOOD:
                self.faulty_for_good.add(move.who)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What happens in a run: the servers that may lie, and the moves in order."""

    traitors: tuple[int, ...]
    moves: tuple[Move, ...]


def schedule(seed: int, n: int, b: int, t: int, clients: int, operations: int, moves: int) -> Schedule:
    """About so many moves, spread over so many operations."""
    chance = Random(seed)
    traitors = tuple(chance.sample(range(n), b))
    servers = Servers(n)
    drawn: list[Move] = []
    for at in _times(chance, operations, moves):
        if chance.random() < 0.1:
            drawn.append(Move(at, What.CLIENT, chance.randrange(clients)))
            continue
        # some liars use up a fault for good: with t = 1 no other server would have one after that
        kinds = sorted(kind for kind in KINDS if kind not in FOR_GOOD or at > 0.6 * operations)
        faulty = servers.faulty
        if not faulty or (len(faulty) < t and chance.random() < 0.6):
            move = _fault(chance, at, servers, traitors, kinds)
        else:
            move = _change(chance, at, servers, chance.choice(sorted(faulty)), traitors, kinds)
        servers.make(move)
        drawn.append(move)
    return Schedule(traitors, tuple(drawn))


def _times(chance: Random, operations: int, moves: int) -> Iterator[int]:
    first, last = operations // 20, operations - operations // 10
    yield from sorted(chance.randint(first, last) for _ in range(moves))


def _fault(chance: Random, at: int, servers: Servers, traitors: tuple[int, ...], kinds: list[str]) -> Move:
    """One more faulty server."""
    well = [s for s in range(len(servers.states)) if s not in servers.faulty]
    may_lie = [s for s in well if s in traitors]
    if may_lie and chance.random() < 0.5:
        return Move(at, What.LIE, chance.choice(may_lie), chance.choice(kinds))
    return Move(at, chance.choice((What.KILL, What.STOP)), chance.choice(well))


def _change(
    chance: Random, at: int, servers: Servers, server: int, traitors: tuple[int, ...], kinds: list[str]
) -> Move:
    """Something else for one that is faulty already; most often what makes it well again."""
    lie = Move(at, What.LIE, server, chance.choice(kinds))
    start, kill, stop = (Move(at, what, server) for what in (What.START, What.KILL, What.STOP))
    likely = {
        State.KILLED: [start, start, start, lie],
        State.STOPPED: [Move(at, What.CONTINUE, server)] * 3 + [kill, lie],
        State.LYING: [start, start, kill, stop, lie],
        State.WELL: [lie, kill, stop],
    }[servers.states[server]]
    return chance.choice([move for move in likely if move.what is not What.LIE or server in traitors])
