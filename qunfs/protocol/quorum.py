"""Quorum systems as predicates over sets of servers (paper section 3.3).

A set of servers is an int used as a bitmap: bit s stands for server s.  The protocol asks only the predicates
of :class:`QuorumSystem`; "at least q, r, b+1" are what they mean for thresholds.  Thresholds of thresholds are in
:mod:`qunfs.protocol.recursive_quorum`.
"""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import combinations

from qunfs.protocol.errors import LocalError


def mask_of(servers: Sequence[int]) -> int:
    """The bitmap of some servers."""
    mask = 0
    for server in servers:
        mask |= 1 << server
    return mask


def servers_of(mask: int) -> list[int]:
    """The servers of a bitmap, ascending."""
    servers = []
    while mask:
        low = mask & -mask
        servers.append(low.bit_length() - 1)
        mask ^= low
    return servers


class QuorumSystem(metaclass=ABCMeta):
    """What the protocol asks about sets of servers.

    A system is four families of sets: its quorums, their repairable sets, the sets of servers that may be malevolent
    together, and those that may be faulty together (the fail prone system of section 3.1, with two kinds of faults).
    What can be constructed satisfies, for all its quorums:

    * (2) whatever servers are faulty together, some quorum has none of them;
    * (3) what two quorums share holds a repairable set of either even without those that are malevolent together;
    * (4) what a quorum and a repairable set share cannot consist of malevolent servers alone.
    """

    n: int
    """Number of servers."""
    b: int
    """So many servers may be malevolent, whichever they are (B of section 3.1 has all sets of that size)."""
    t: int
    """So many servers may be faulty, the malevolent ones among them, whichever they are."""
    q: int
    """Servers of the smallest quorum: fewer never make one."""
    r: int
    """Servers of the smallest repairable set: fewer never make one."""

    @abstractmethod
    def contains_quorum(self, mask: int) -> bool:
        """Whether some quorum lies within the set ("order >= q")."""

    @abstractmethod
    def contains_repairable(self, mask: int) -> bool:
        """Whether some repairable set lies within the set ("order >= r")."""

    @abstractmethod
    def exceeds_malevolent(self, mask: int) -> bool:
        """Whether the set cannot consist of malevolent servers alone (">= b+1")."""

    @abstractmethod
    def exceeds_faulty(self, mask: int) -> bool:
        """Whether the set cannot consist of faulty servers alone (">= t+1"), so that operations may have to wait."""

    @abstractmethod
    def is_view(self, mask: int) -> bool:
        """Whether the set is a quorum with no server to spare ("exactly q")."""

    @abstractmethod
    def views_within(self, order: Sequence[int], limit: int) -> Iterator[int]:
        """Views made of the given servers, those of the first servers first; at most ``limit``."""

    @abstractmethod
    def rotated(self, turn: int) -> list[int]:
        """All servers in an order; with each turn another view comes first, so that all get their share of work."""

    @abstractmethod
    def to_ask(self, held: int, order: Sequence[int], count: int) -> Sequence[int]:
        """So many of the given servers, the first ones that will do, to be asked besides those held.

        Where q servers need not be a quorum, they are such, and as many more, as make one with those held if any do.
        """

    @abstractmethod
    def lacking(self, mask: int) -> int:
        """How many more servers it takes at least to make a quorum of the set."""

    def helping(self, mask: int) -> list[int]:
        """The servers any one of which makes a set lack one less."""
        lacking = self.lacking(mask)
        return [s for s in range(self.n) if not mask >> s & 1 and self.lacking(mask | 1 << s) < lacking]

    def completion(self, mask: int) -> list[int]:
        """Servers, no more than necessary, that make a quorum of a set."""
        servers: list[int] = []
        while self.lacking(mask):
            servers.append(self.helping(mask)[0])
            mask |= 1 << servers[-1]
        return servers


class ThresholdQuorums(QuorumSystem):
    """The threshold construction of section 3.3: any q servers are a quorum, any r of them a repairable set.

    Any t servers may be faulty, and any b <= t of them malevolent, the others only crashed (section 3.1).  Then (2)
    says q + t <= n, (3) 2q - b - n >= r, and (4) q + r - n > b.
    """

    def __init__(self, n: int, b: int, t: int, q: int, r: int) -> None:
        """Raises LocalError when the sizes do not satisfy the constraints."""
        self.n, self.b, self.t, self.q, self.r = n, b, t, q, r
        if not 0 <= self.b <= self.t:
            raise LocalError(f"b={self.b} malevolent servers cannot exceed t={self.t} faulty ones; need 0 <= b <= t")
        if self.q + self.t > self.n:
            raise LocalError(f"n={self.n} servers are too few for t={self.t}, b={self.b}: q={self.q} and q+t > n (2)")
        if 2 * self.q - self.b - self.n < self.r:
            raise LocalError(f"constraint (3) violated: 2q-b-n < r for n={self.n} q={self.q} r={self.r} b={self.b}")
        if self.q + self.r - self.n <= self.b:
            raise LocalError(f"constraint (4) violated: q+r-n <= b for n={self.n} q={self.q} r={self.r} b={self.b}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThresholdQuorums) and self._sizes() == other._sizes()

    def __hash__(self) -> int:
        return hash(self._sizes())

    def __repr__(self) -> str:
        return f"<n={self.n} b={self.b} t={self.t} q={self.q} r={self.r}>"

    def _sizes(self) -> tuple[int, int, int, int, int]:
        return self.n, self.b, self.t, self.q, self.r

    def contains_quorum(self, mask: int) -> bool:
        return mask.bit_count() >= self.q

    def contains_repairable(self, mask: int) -> bool:
        return mask.bit_count() >= self.r

    def exceeds_malevolent(self, mask: int) -> bool:
        return mask.bit_count() > self.b

    def exceeds_faulty(self, mask: int) -> bool:
        return mask.bit_count() > self.t

    def is_view(self, mask: int) -> bool:
        return mask.bit_count() == self.q

    def views_within(self, order: Sequence[int], limit: int) -> Iterator[int]:
        for count, servers in enumerate(combinations(order, self.q)):
            if count >= limit:
                return
            yield mask_of(servers)

    def rotated(self, turn: int) -> list[int]:
        return [(turn + i) % self.n for i in range(self.n)]

    def to_ask(self, _held: int, order: Sequence[int], count: int) -> Sequence[int]:
        return order[:count] if count > 0 else ()

    def lacking(self, mask: int) -> int:
        return max(0, self.q - mask.bit_count())


def threshold(b: int, t: int | None = None, n: int | None = None) -> ThresholdQuorums:
    """The smallest threshold system for b malevolent among t faulty servers, or the one for n servers.

    ``t`` defaults to b and n to 3t+2b+1.  Raises LocalError when n is too small.
    """
    t = b if t is None else t
    least = 3 * t + 2 * b + 1
    n = least if n is None else n
    if n < least and 0 <= b <= t:
        raise LocalError(f"{n} servers are too few for b={b}, t={t}: give at least {least}, or choose smaller b and t")
    q = -((2 * n + 2 * b + 1) // -3)
    return ThresholdQuorums(n=n, b=b, t=t, q=q, r=n - q + b + 1)
