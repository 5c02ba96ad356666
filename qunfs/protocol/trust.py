"""Whom a client asks, whose histories it shows, and whom it does without.

Nobody can tell which of two servers lies when one reports the other's MAC as bad (paper section 3.5).  So suspicion
only orders the servers; some are left out only when more found fault with them than can lie, or for as long as a repair
tries to do without them.  Whoever is proven to be malevolent comes last in every order, and is asked all the same when
there is no quorum without it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from math import lcm
from typing import Final, NamedTuple

from qunfs.protocol.evidence import Evidence, Ground
from qunfs.protocol.history import ReplicaHistory
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of

_PATIENCE: Final = 6
"""Attempts under one explanation: enough for a barrier, a copy and a method, each with something in its way."""
_LATE_US: Final = DEFAULT_LIMITS.time_ahead_max - DEFAULT_LIMITS.client_time_window_ns // 1000
"""How far above this clock times may be that no correct server refuses, whose clock may be that much behind."""
_FUTURE_US: Final = DEFAULT_LIMITS.time_ahead_max + 2 * DEFAULT_LIMITS.client_time_window_ns // 1000
"""How far above this clock no time is that a correct server has accepted, whose clock may be that much ahead.

Twice that much is more than enough for the operations since: they are less than one in a microsecond.
"""
_LATE_FOR_NS: Final = 60 * 1_000_000_000
"""Late times that nobody has met for so long are a matter of the past: attempts are fractions of a second apart."""
_DOUBLINGS_MAX: Final = 16
_STRETCHES_MAX: Final = 3
"""Doublings of a repair's pause where it waits for clocks: to 1.5 s, so much too long the last one may be."""
_PARDONED_FOR: Final = 16
"""Operations after which a server may be pardoned for the second time; twice as many for the third, and so on."""


class Preference(NamedTuple):
    """The servers in the orders that hold for some objects, until suspicion or reachability changes."""

    to_ask: tuple[int, ...]
    """The preferred ones first, but those under much suspicion late, and those proven malevolent last."""
    to_show: tuple[int, ...]
    """From the least to the most suspected, and then those first that can be reached: the histories of others age.

    Those proven malevolent are the most suspected.
    """
    view: int
    """The bitmap of the first quorum of the order to show, without those that are left out; 0 if there is none."""


def _no_clock() -> int:
    return 0


class Trust:
    """What is held against each server, and the orders of preference that follow from it."""

    def __init__(self, quorums: QuorumSystem, wall_ns: Callable[[], int] = _no_clock) -> None:
        self._quorums, self._wall_ns = quorums, wall_ns
        self.evidence = Evidence(quorums)
        self._reporters: dict[int, int] = {}
        """Per server the bitmap of those that found MACs of its bad."""
        self._disagreements: set[tuple[int, int]] = set()
        """Pairs of servers of which one says that the other's MAC is bad: one of each pair lies."""
        self._explained = 0
        self._explanations: list[tuple[int, ...]] = [()]
        """Sets of servers without which nobody disagrees with anybody, the most plausible first."""
        self._futile = 0
        self._doubted: tuple[int, ...] = ()
        """One of these sets; never so many that no quorum is left."""
        self.suspicion: dict[int, int] = {}
        self.met_late = False
        """Whether histories came up, since something last went wrong, that some correct clocks may find too late."""
        self._late = _Late(quorums.n - quorums.q)
        self._future: dict[int, int] = {}
        """By server the last time of its that no correct clock allows."""
        self.returned = 0
        """The servers that were connected anew since they were last pardoned."""
        self._pardons: dict[int, tuple[int, int]] = {}
        """By server how often it was pardoned, and at which operation that may be so again."""
        self._reachable: frozenset[int] = frozenset()
        self._preferences: dict[int, Preference] = {}
        self._period = quorums.n * lcm(*[max(1, len(self._around(first)[1])) for first in range(quorums.n)])
        """Objects whose ids are equal modulo this have the same order."""

    # ---- preference

    def reached(self, servers: Collection[int]) -> None:
        """These servers can be reached now, and no others."""
        self._reachable = frozenset(servers)
        self._preferences.clear()

    def preference(self, obj: int) -> Preference:
        """The orders of preference for an object."""
        found = self._preferences.get(obj % self._period)
        if found is None:
            found = self._preferences[obj % self._period] = self._preference(obj)
        return found

    def _preference(self, obj: int) -> Preference:
        order = self._order_of(obj)
        proven = self.evidence.is_proven
        # Whoever reports a bad MAC is suspected with whoever issued it, so that only orders of magnitude count.
        to_ask = self._quorum_first(
            sorted(order, key=lambda s: (proven(s), self.suspicion.get(s, 0).bit_length() // 2))
        )
        to_show = sorted(order, key=lambda s: (proven(s), self.suspicion.get(s, 0), s not in self._reachable))
        shown = [s for s in to_show if not self.left_out(s)]
        return Preference(tuple(to_ask), tuple(to_show), next(self._quorums.views_within(shown, 1), 0))

    def _order_of(self, obj: int) -> list[int]:
        """An object's preferred quorum, then a spread of the rest, those of its groups first."""
        preferred, rest = self._around(obj % self._quorums.n)
        turn = obj // self._quorums.n % len(rest) if rest else 0
        return [*preferred, *self._quorums.to_ask(mask_of(preferred), rest[turn:] + rest[:turn], len(rest))]

    def _around(self, turn: int) -> tuple[list[int], list[int]]:
        return self._split(self._quorums.rotated(turn))

    def _split(self, order: Sequence[int]) -> tuple[list[int], list[int]]:
        """The first servers that make a quorum, and the others."""
        preferred = self._quorums.to_ask(0, order, self._quorums.q)
        return list(preferred), [s for s in order if s not in preferred]

    def _quorum_first(self, order: Sequence[int]) -> list[int]:
        preferred, rest = self._split(order)
        return preferred + rest

    # ---- suspicion

    def suspect(self, server: int) -> None:
        """Count one more reason to do without a server where there is a choice."""
        self.suspicion[server] = self.suspicion.get(server, 0) + 1
        self._preferences.clear()

    def accuse(self, issuer: int, reporter: int) -> None:
        """A server found a MAC of another's bad; nobody can tell which of the two lies."""
        before = self._reporters.get(issuer, 0)
        self._reporters[issuer] = before | 1 << reporter
        exceeds = self._quorums.exceeds_malevolent
        if exceeds(self._reporters[issuer]) and not exceeds(before):
            self.returned &= ~(1 << issuer)  # that was before
        self._disagreements.add((min(issuer, reporter), max(issuer, reporter)))
        self.complained(issuer, reporter)
        self.suspect(issuer)

    def contradicted(self, servers: int) -> None:
        """More servers than can lie gave another answer than each of these, for the same candidate or version."""
        for server in servers_of(servers):
            self._note(server, Ground.WRONG_ANSWER)

    def complained(self, issuer: int, reporter: int) -> None:
        """The same, and the request was accepted without it."""
        proven = self.evidence.is_proven(issuer), self.evidence.is_proven(reporter)
        self.evidence.disagree(issuer, reporter, self._wall_ns())
        if proven != (self.evidence.is_proven(issuer), self.evidence.is_proven(reporter)):
            self._preferences.clear()

    def denied(self, server: int) -> None:
        """A server says that it has accepted what its histories do not show."""
        self._note(server, Ground.DENIED)

    def malformed(self, server: int, why: str) -> None:
        """A server sent what no correct one sends."""
        self._note(server, Ground.MALFORMED, why)

    def silent(self, server: int) -> None:
        """A server is late once more without having said anything in between; lateness has its own order."""
        self.evidence.note(server, Ground.SILENT, self._wall_ns())

    def _note(self, server: int, ground: Ground, detail: str = "") -> None:
        self.evidence.note(server, ground, self._wall_ns(), detail)
        self.suspect(server)

    def is_server(self, server: int) -> bool:
        """Whether there is such a server."""
        return 0 <= server < self._quorums.n

    def left_out(self, server: int) -> bool:
        """Whether a server's histories are not to be shown.

        One whose MACs more servers found bad than can lie is malevolent (paper section 3.5); some are doubted for now.
        """
        return server in self._doubted or self._quorums.exceeds_malevolent(self._reporters.get(server, 0))

    def reconsider(self) -> None:
        """Something that doubting others may help with went wrong: explain who disagrees with whom, and do without.

        Some explanation is made of liars only, so it comes to views without them for as long as a repair takes.  Under
        suspicion alone, a liar whose MACs are bad for one server only would tie with it for good.
        """
        if len(self._disagreements) > self._explained:
            self._explained, self._futile = len(self._disagreements), 0
            covers = _covers(sorted(self._disagreements), (1 << self._quorums.n) - 1, self._quorums)
            self._explanations = sorted(set(covers), key=self._plausibility)
        if not self._explanations:  # more servers are faulty than may be, or keys have changed
            self._disagreements.clear()
            self._explained, self._explanations = 0, [()]
        if self._futile and self._futile % (_PATIENCE * len(self._explanations)) == 0:
            # Doubts did not help: they may leave no quorum that can be reached, as when servers that lied once are
            # needed now that they are honest and others are down.  Who is malevolent is soon accused again.
            self._reporters.clear()
            self._disagreements.clear()
            self._explained, self._futile, self._explanations = 0, 0, [()]
        self._doubted = self._explanations[self._futile // _PATIENCE % len(self._explanations)]
        self._futile += 1
        self._preferences.clear()
        self._late.failed(_PATIENCE * len(self._explanations), self.met_late, self._wall_ns())
        self.met_late = False

    def stretch(self) -> int:
        """How many times as long as else to pause after a repair that was refused for late times."""
        return self._late.stretch()

    # ---- times

    def without_late(self, histories: dict[int, ReplicaHistory], least: bool = True) -> dict[int, ReplicaHistory]:
        """The histories of some servers without those that are latest, when correct clocks may differ about them.

        A liar can go on making later ones, so that whoever has accepted what builds on them is always ahead of slower
        clocks: a quorum that does without is shown first.  With ``least`` no fewer than a quorum are left.
        """
        clock = self._wall_ns() // 1000
        late = [server for server, history in histories.items() if history.latest.lt.time > clock + _LATE_US]
        if not late:
            return histories
        self.met_late = True
        for server in late:
            self._note_future(server, histories[server].latest.lt.time, clock)
        late.sort(key=lambda server: histories[server].latest.lt.time, reverse=True)
        kept = mask_of(list(histories))
        for server in late[: self._late.dropped]:
            if not least or self._quorums.contains_quorum(kept & ~(1 << server)):
                kept &= ~(1 << server)
        return {server: history for server, history in histories.items() if kept >> server & 1}

    def _note_future(self, server: int, time: int, clock: int) -> None:
        if time > clock + _FUTURE_US and self._future.get(server) != time:
            self._future[server] = time
            self.evidence.note(server, Ground.FUTURE, self._wall_ns())

    # ---- pardon

    def pardon(self, operations: int) -> list[int]:
        """Forget what was reported against MACs of servers that are left out and were connected anew; those servers.

        Another process may run there.  A liar can connect as often as it likes, so that twice as many operations must
        have begun before each further time: what showing it costs, a few requests refused, is nothing in the long run.
        """
        pardoned = []
        for server in servers_of(self.returned):
            times, due = self._pardons.get(server, (0, 0))
            if operations >= due and self._quorums.exceeds_malevolent(self._reporters.get(server, 0)):
                self._pardons[server] = times + 1, operations + (_PARDONED_FOR << min(times, _DOUBLINGS_MAX))
                self.returned &= ~(1 << server)
                self._forget(server)
                pardoned.append(server)
        return pardoned

    def _forget(self, server: int) -> None:
        """What it and others said of each other's MACs."""
        del self._reporters[server]
        for issuer in self._reporters:
            self._reporters[issuer] &= ~(1 << server)
        self._disagreements = {pair for pair in self._disagreements if server not in pair}
        self._explained, self._futile, self._explanations, self._doubted = 0, 0, [()], ()
        self._preferences.clear()

    def _plausibility(self, servers: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        """Few servers, and rather those that issued than those that complained: a liar's complaints are harmless."""
        accusations = sum(self._reporters.get(server, 0).bit_count() for server in servers)
        return len(servers), -accusations, servers


class _Late:
    """How many servers to do without because their times are the latest: first as many as possible, then fewer.

    With just the liars' later times dropped, all that a quorum of correct servers waits for is that its slowest clock
    reaches what the fastest has accepted.  Liars can have that accepted which lies between their times whenever fewer
    are dropped; so each turn has twice as many attempts as the one before, with longer pauses between them: in the end
    it takes longer than clocks differ.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self.dropped = most
        self._turns = self._tries = self._last_ns = 0

    def failed(self, patience: int, met: bool, wall_ns: int) -> None:
        """One more attempt was in vain; ``met``: late times may be why."""
        if wall_ns - self._last_ns > _LATE_FOR_NS:
            self._turns = self._tries = 0
            self.dropped = self._most
        if not met:  # other operations, on other objects, know of none
            return
        self._last_ns = wall_ns
        self._tries += 1
        if self._tries >= patience << min(self._turns, _DOUBLINGS_MAX):
            self._tries = 0
            self.dropped -= 1
            if self.dropped < 0:
                self.dropped = self._most
                self._turns += 1

    def stretch(self) -> int:
        """How many times as long as else to pause in this turn."""
        return 1 << min(self._turns, _STRETCHES_MAX)


def _covers(disagreements: list[tuple[int, int]], others: int, quorums: QuorumSystem) -> Iterator[tuple[int, ...]]:
    """Sets of servers that have one of each pair and whose removal from the others leaves a quorum; some repeated."""
    if not disagreements:
        yield ()
        return
    for server in disagreements[0]:
        left = others & ~(1 << server)
        if quorums.contains_quorum(left):
            rest = [pair for pair in disagreements if server not in pair]
            for cover in _covers(rest, left, quorums):
                yield tuple(sorted((server, *cover)))
