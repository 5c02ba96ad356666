"""Recursive threshold quorums (paper section 3.3, after its references [27] and [28]): thresholds whose members are
quorum systems themselves.

Think of sites: servers are divided into groups, a quorum is a quorum of groups with a quorum of servers within each of
them, and repairable sets alike.  Faults follow the same shape: up to t groups are lost, in each other group up to t'
servers are faulty; up to b of the lost groups are malevolent as a whole, in each other group up to b' servers.  This
goes on for as many levels as one likes, and groups may differ.

A system of sound groups under a sound threshold is sound; by induction so is one of any depth.  For each constraint of
section 3.3, apply that of the outer threshold to the groups and that of the groups within:

* (2) At most t groups are lost, so q others have a quorum of servers that are not faulty.
* (3) Two quorums have quorums within 2q - n common groups or more.  At most b of these are malevolent as a whole; in
  each of the others, r or more, the two quorums share a repairable set of benign servers.
* (4) A quorum and a repairable set have a quorum and a repairable set within q + r - n > b common groups, and so share
  more servers than can be malevolent within each of more than b groups.

Whichever servers they are, b = (b1 + 1)(b2 + 1)... - 1 of n1 n2... may be malevolent and t, likewise, faulty, where a
quorum has q1 q2... of them.  A flat threshold takes fewer servers for such b and t, but then cannot lose a whole group.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from qunfs.protocol.errors import LocalError
from qunfs.protocol.quorum import QuorumSystem, ThresholdQuorums, mask_of, servers_of, threshold


class RecursiveThresholdQuorums(QuorumSystem):
    """A threshold of groups; servers are numbered from 0, group after group."""

    def __init__(self, outer: ThresholdQuorums, groups: Sequence[QuorumSystem]) -> None:
        """``groups`` are themselves thresholds, of servers or of further groups.

        Raises LocalError when there are not as many as ``outer`` takes; its constraints and theirs were checked when
        they were made, and no others are needed.
        """
        if len(groups) != outer.n:
            raise LocalError(f"{len(groups)} groups of servers given where the threshold {outer!r} takes {outer.n}")
        self.outer: Final = outer
        self.groups: Final = tuple(groups)
        self.n = sum([group.n for group in groups])
        self.q = _least([group.q for group in groups], outer.q)
        self.r = _least([group.r for group in groups], outer.r)
        self.b = _least([group.b + 1 for group in groups], outer.b + 1) - 1
        self.t = _least([group.t + 1 for group in groups], outer.t + 1) - 1
        parts: list[tuple[int, int, int, QuorumSystem]] = []
        first = 0
        for index, group in enumerate(groups):
            parts.append((1 << index, first, (1 << group.n) - 1, group))
            first += group.n
        self._parts: Final = tuple(parts)
        """Of each group: its bit among the groups, its first server, and the bitmap of its servers from there."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecursiveThresholdQuorums):
            return False
        return self.outer == other.outer and self.groups == other.groups

    def __hash__(self) -> int:
        return hash((self.outer, self.groups))

    def __repr__(self) -> str:
        return f"<{self.outer!r} of {', '.join([repr(group) for group in self.groups])}>"

    def contains_quorum(self, mask: int) -> bool:
        groups = 0
        for bit, first, everyone, group in self._parts:
            if group.contains_quorum(mask >> first & everyone):
                groups |= bit
        return self.outer.contains_quorum(groups)

    def contains_repairable(self, mask: int) -> bool:
        groups = 0
        for bit, first, everyone, group in self._parts:
            if group.contains_repairable(mask >> first & everyone):
                groups |= bit
        return self.outer.contains_repairable(groups)

    def exceeds_malevolent(self, mask: int) -> bool:
        groups = 0
        for bit, first, everyone, group in self._parts:
            if group.exceeds_malevolent(mask >> first & everyone):
                groups |= bit
        return self.outer.exceeds_malevolent(groups)

    def exceeds_faulty(self, mask: int) -> bool:
        groups = 0
        for bit, first, everyone, group in self._parts:
            if group.exceeds_faulty(mask >> first & everyone):
                groups |= bit
        return self.outer.exceeds_faulty(groups)

    def is_view(self, mask: int) -> bool:
        groups = 0
        for bit, first, everyone, group in self._parts:
            part = mask >> first & everyone
            if part:
                if not group.is_view(part):
                    return False
                groups |= bit
        return mask >> self.n == 0 and self.outer.is_view(groups)

    def views_within(self, order: Sequence[int], limit: int) -> Iterator[int]:
        """Views by in how many groups they are not of the first servers: soon there is one without any given server.

        A group comes as early in the order as its servers make a quorum of it.
        """
        groups, within = self._in_order(order, limit)
        chosen = [
            [within[group] for group in groups if view >> group & 1] for view in self.outer.views_within(groups, limit)
        ]
        count = 0
        for differences in range(self.outer.q + 1):
            for options in chosen:
                for view in _choices(options, differences):
                    if count >= limit:
                        return
                    count += 1
                    yield view

    def _in_order(self, order: Sequence[int], limit: int) -> tuple[list[int], dict[int, list[int]]]:
        """The groups with a quorum of the given servers, the first to have one first, and the views within each."""
        ready: list[int] = []
        servers: list[list[int]] = [[] for _ in self.groups]
        masks = [0] * len(self.groups)
        for server in order:
            for index, (_, first, _, group) in enumerate(self._parts):
                if first <= server < first + group.n:
                    servers[index].append(server - first)
                    masks[index] |= 1 << (server - first)
                    if index not in ready and group.contains_quorum(masks[index]):
                        ready.append(index)
        within = {
            index: [view << self._parts[index][1] for view in self.groups[index].views_within(servers[index], limit)]
            for index in ready
        }
        return ready, within

    def rotated(self, turn: int) -> list[int]:
        """Group after group, another group first with each turn, and other servers of the groups with each round."""
        count = len(self._parts)
        servers: list[int] = []
        for place in range(count):
            _, first, _, group = self._parts[(turn + place) % count]
            servers += [first + server for server in group.rotated(turn // count)]
        return servers

    def to_ask(self, held: int, order: Sequence[int], count: int) -> Sequence[int]:
        """Servers of groups that are asked already come first: a group's first servers alone are no use."""
        near = sorted(order, key=lambda s: self._apart(held, s)) if held else order
        first = near[:count] if count > 0 else ()
        if self.contains_quorum(held | mask_of(first)):
            return first
        view = next(self.views_within([*servers_of(held), *near], 1), 0)
        missing = [s for s in near if view >> s & 1]
        others = [s for s in near if not view >> s & 1]
        return missing + others[: max(0, count - len(missing))]

    def _apart(self, held: int, server: int) -> int:
        """Of the groups within groups around a server, how many have none of the servers held."""
        for _, first, everyone, group in self._parts:
            if first <= server < first + group.n:
                part = held >> first & everyone
                within = group._apart(part, server - first) if isinstance(group, RecursiveThresholdQuorums) else 0
                return within + (part == 0)
        return 0

    def lacking(self, mask: int) -> int:
        return _least(
            [group.lacking(mask >> first & everyone) for _, first, everyone, group in self._parts], self.outer.q
        )


def recursive_threshold(levels: Sequence[tuple[int, int]], n: int | None = None) -> QuorumSystem:
    """The smallest system whose levels, the outermost first, tolerate so many malevolent (b) and faulty (t) members.

    With n servers there are more of the outermost groups than needed.  Raises LocalError when n is too small or does
    not come to whole groups.
    """
    if not levels:
        raise LocalError("a recursive quorum system needs at least one level [b, t]")
    (b, t), inner = levels[0], levels[1:]
    if not inner:
        return threshold(b, t, n)
    group = recursive_threshold(inner)
    if n is None:
        outer = threshold(b, t)
    elif n % group.n:
        raise LocalError(f"{n} servers cannot be divided into groups of {group.n}: give a multiple of {group.n}")
    else:
        least = threshold(b, t).n
        if n < least * group.n:
            raise LocalError(
                f"{n} servers make too few groups of {group.n} for b={b}, t={t}: give at least {least * group.n}"
            )
        outer = threshold(b, t, n // group.n)
    return RecursiveThresholdQuorums(outer, [group] * outer.n)


def _least(sizes: Sequence[int], count: int) -> int:
    return sum(sorted(sizes)[:count])


def _choices(options: Sequence[Sequence[int]], others: int) -> Iterator[int]:
    """The unions of one set out of each sequence, of which so many are not the first of their sequence."""
    if not options:
        if others == 0:
            yield 0
    elif 0 <= others <= len(options):
        for place, chosen in enumerate(options[0]):
            for union in _choices(options[1:], others - (place > 0)):
                yield chosen | union
