"""The object history sets a client holds (paper section 3.5, "cached object history set")."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from qunfs.protocol.history import ObjectHistorySet, ReplicaHistory
from qunfs.protocol.messages import Shown
from qunfs.protocol.quorum import QuorumSystem

_PATIENCE: Final = 6
"""Attempts under one explanation: enough for a barrier, a copy and a method, each with something in its way."""
_OBJECTS_KEPT: Final = 65_536
"""Objects remembered per client; forgetting one costs a round trip at its next update."""


class Held(NamedTuple):
    """A history that a server showed, with its MACs for all servers (empty when they were not asked for)."""

    history: ReplicaHistory
    vector: bytes


class HistoryCache:
    """Per object and server the last history shown; also keeps what each server is suspected of."""

    def __init__(self, quorums: QuorumSystem) -> None:
        self._quorums = quorums
        self._reporters: dict[int, int] = {}
        """Per server the bitmap of those that found MACs of its bad."""
        self._disagreements: set[tuple[int, int]] = set()
        """Pairs of servers of which one says that the other's MAC is bad: one of each pair lies."""
        self._explained = 0
        self._explanations: list[tuple[int, ...]] = [()]
        """Sets of servers without which nobody disagrees with anybody, the most plausible first."""
        self._futile = 0
        self.doubted: tuple[int, ...] = ()
        """One of these sets; never so many that no quorum is left."""
        self._objects: OrderedDict[int, dict[int, Held]] = OrderedDict()
        self.suspicion: dict[int, int] = {}

    def of(self, obj: int) -> dict[int, Held]:
        """What is held of an object, by server; not to be changed by the caller."""
        held = self._objects.get(obj)
        if held is None:
            return {}
        self._objects.move_to_end(obj)
        return held

    def authenticated(self, obj: int) -> dict[int, Held]:
        """What is held with MACs, and so can be shown to servers.

        A server whose MACs more servers found bad than can lie is malevolent and left out (paper section 3.5), and so
        are those doubted for now.
        """
        doubted = self.doubted
        return {
            s: held for s, held in self.of(obj).items() if held.vector and s not in doubted and not self.convicted(s)
        }

    def to_claim(self, obj: int, server: int, want_auth: bool) -> Held | None:
        """What a server may be told that the client holds of it, so that it need not send it again."""
        held = self.of(obj).get(server)
        return None if held is None or (want_auth and not held.vector) else held

    def convicted(self, server: int) -> bool:
        """Whether more servers found MACs of this one bad than can lie."""
        return self._quorums.exceeds_malevolent(self._reporters.get(server, 0))

    def note(self, obj: int, server: int, shown: Shown, before: Held | None) -> Held | None:
        """Remember what a server showed; ``before`` is what it was told that the client holds.

        Returns what is held now, None when the server said "unchanged" without ground.
        """
        if shown.history is None:
            return before
        held = Held(shown.history, shown.vector)
        if obj not in self._objects and len(self._objects) >= _OBJECTS_KEPT:
            self._objects.popitem(last=False)
        self._objects.setdefault(obj, {})[server] = held
        return held

    def culled(self, pairs: Iterable[tuple[int, int]], reporter: int) -> None:
        """A server did not accept others' MACs, by object and issuer; nobody can tell which of the two lies.

        The histories are dropped: a liar could lock them in behind "unchanged" otherwise.
        """
        for obj, issuer in dict.fromkeys(pairs):
            if 0 <= issuer < self._quorums.n and issuer != reporter:
                self._objects.get(obj, {}).pop(issuer, None)
                self._reporters[issuer] = self._reporters.get(issuer, 0) | 1 << reporter
                self._disagreements.add((min(issuer, reporter), max(issuer, reporter)))
                self.suspect(issuer)

    def reconsider(self) -> None:
        """Something that doubting others may help with went wrong: explain who disagrees with whom, and do without.

        Some explanation is made of liars only, so it comes to views without them for as long as a repair takes.  Under
        suspicion alone, a liar whose MACs are bad for one server only would tie with it for good.
        """
        if len(self._disagreements) > self._explained:
            self._explained, self._futile = len(self._disagreements), 0
            spare = self._quorums.n - self._quorums.preferred(range(self._quorums.n))
            self._explanations = sorted(set(_covers(sorted(self._disagreements), spare)), key=self._plausibility)
        if not self._explanations:  # more servers are faulty than may be, or keys have changed
            self._disagreements.clear()
            self._explained, self._explanations = 0, [()]
        self.doubted = self._explanations[self._futile // _PATIENCE % len(self._explanations)]
        self._futile += 1

    def _plausibility(self, servers: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        """Few servers, and rather those that issued than those that complained: a liar's complaints are harmless."""
        accusations = sum(self._reporters.get(server, 0).bit_count() for server in servers)
        return len(servers), -accusations, servers

    def suspect(self, server: int) -> None:
        """Count one more reason to do without a server where there is a choice."""
        self.suspicion[server] = self.suspicion.get(server, 0) + 1


def _covers(disagreements: list[tuple[int, int]], spare: int) -> Iterator[tuple[int, ...]]:
    """Sets of at most so many servers that have one of each pair: 2 to the power of spare at most, some repeated."""
    if not disagreements:
        yield ()
    elif spare:
        for server in disagreements[0]:
            rest = [pair for pair in disagreements if server not in pair]
            for cover in _covers(rest, spare - 1):
                yield tuple(sorted((server, *cover)))


def history_set(obj: int, held: dict[int, Held], servers: Iterable[int]) -> ObjectHistorySet:
    """The object history set of some of the servers that a client holds histories of."""
    mask = 0
    histories = {}
    for server in servers:
        mask |= 1 << server
        histories[server] = held[server].history
    return ObjectHistorySet.of(obj, histories, mask)
