"""Constraints (2)-(4) of the paper, section 3.3, and what the predicates of quorum systems mean.

Small systems of either construction are enumerated: every quorum, repairable set and set of faults.  Larger ones are
sampled.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb, prod
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qunfs.protocol.errors import LocalError
from qunfs.protocol.quorum import QuorumSystem, ThresholdQuorums, mask_of, servers_of, threshold
from qunfs.protocol.recursive_quorum import RecursiveThresholdQuorums, recursive_threshold

SMALL = [(0, 0, None), (0, 1, None), (1, 1, None), (1, 1, 7), (1, 1, 8), (0, 2, None), (1, 2, None), (2, 2, None)]
"""b, t and n of thresholds."""

ONE = threshold(0)
"""A server by itself."""


def _groups(outer: ThresholdQuorums, *groups: QuorumSystem) -> RecursiveThresholdQuorums:
    """A system of these groups and as many single servers as it further takes."""
    return RecursiveThresholdQuorums(outer, [*groups, *[ONE] * (outer.n - len(groups))])


ENUMERATED = {
    **{f"b{b}-t{t}-n{n}": threshold(b, t, n) for b, t, n in SMALL},
    "two-crashing-groups": _groups(threshold(0, 1), threshold(0, 1), threshold(0, 1)),
    "three-crashing-groups": _groups(threshold(0, 1), *[threshold(0, 1)] * 3),
    "a-lying-group-among-crashing": _groups(threshold(0, 1), threshold(1)),
    "groups-that-differ": _groups(threshold(0, 1), threshold(1), threshold(0, 1)),
    "a-crashing-group-among-lying": _groups(threshold(1), threshold(0, 1), threshold(0, 1)),
    "lying-groups": _groups(threshold(1), threshold(1)),
    "one-more-group": _groups(threshold(0, 1, 5), threshold(0, 1, 5), threshold(0, 1)),
    "one-group-of-one": RecursiveThresholdQuorums(ONE, [threshold(1)]),
    "hybrid": _groups(threshold(1, 2), threshold(0, 1)),
    "three-levels": _groups(threshold(0, 1), _groups(threshold(0, 1), threshold(0, 1))),
    "three-levels-lying": _groups(threshold(0, 1), _groups(threshold(1), threshold(0, 1))),
    "three-levels-of-one": recursive_threshold([(0, 0), (0, 0), (1, 1)]),
}

LARGER = {
    **{f"b{b}-t{t}": threshold(b, t) for b, t in [(0, 5), (2, 4), (3, 3), (5, 5)]},
    **{f"n{n}": threshold(1, 2, n) for n in (10, 11, 12, 40)},
    "crashes-twice": recursive_threshold([(0, 1), (0, 1)]),
    "lying-sites": recursive_threshold([(1, 1), (0, 1)]),
    "crashing-sites": recursive_threshold([(0, 1), (1, 1)]),
    "lying-twice": recursive_threshold([(1, 1), (1, 1)]),
    "more-sites": recursive_threshold([(1, 1), (0, 1)], 32),
    "hybrid-twice": recursive_threshold([(0, 2), (1, 2)]),
    "three-levels": recursive_threshold([(0, 1), (0, 1), (0, 1)]),
    "unlike": _groups(threshold(0, 1), recursive_threshold([(1, 1), (0, 1)]), threshold(2), threshold(1, 2)),
}


ALIKE = ("crashes-twice", "lying-sites", "crashing-sites", "lying-twice", "more-sites", "hybrid-twice", "three-levels")
"""Those whose groups are alike, like all that can be given by levels."""


@pytest.fixture(params=ENUMERATED.values(), ids=ENUMERATED.keys())
def quorums(request: pytest.FixtureRequest) -> QuorumSystem:
    system: QuorumSystem = request.param
    return system


def _minimal(n: int, holds: Callable[[int], bool]) -> list[int]:
    """The sets of which a predicate holds, and of none of whose subsets it does."""
    return [m for m in range(1 << n) if holds(m) and not any(holds(m & ~(1 << s)) for s in servers_of(m))]


def _maximal(n: int, holds: Callable[[int], bool]) -> list[int]:
    """The sets of which a predicate holds, and of none of whose supersets it does."""
    return [m for m in range(1 << n) if holds(m) and not any(holds(m | 1 << s) for s in range(n) if not m >> s & 1)]


def _liars(system: QuorumSystem) -> list[int]:
    return _maximal(system.n, lambda mask: not system.exceeds_malevolent(mask))


# ---- the constraints, by enumeration


def test_constraint_2_operations_at_a_quorum_may_complete(quorums: QuorumSystem) -> None:
    """(2): whatever servers are faulty together, some quorum has none of them."""
    everyone = (1 << quorums.n) - 1
    for faulty in _maximal(quorums.n, lambda mask: not quorums.exceeds_faulty(mask)):
        assert quorums.contains_quorum(everyone & ~faulty)


def test_constraint_3_an_established_candidate_is_repairable_in_every_quorum(quorums: QuorumSystem) -> None:
    """(3): two quorums share a repairable set of benign servers."""
    smallest = _minimal(quorums.n, quorums.contains_quorum)
    liars = _liars(quorums)
    for shared in {first & second for first, second in combinations(smallest, 2)} | {*smallest}:
        for malevolent in liars:
            assert quorums.contains_repairable(shared & ~malevolent)


def test_constraint_4_an_established_candidate_excludes_other_potential_ones(quorums: QuorumSystem) -> None:
    """(4): a quorum and a repairable set of another share a benign server."""
    repairables = _minimal(quorums.n, quorums.contains_repairable)
    for shared in {q & r for q in _minimal(quorums.n, quorums.contains_quorum) for r in repairables}:
        assert quorums.exceeds_malevolent(shared)


def test_what_is_malevolent_is_faulty_and_too_few_for_anything(quorums: QuorumSystem) -> None:
    """B is a subset of T (section 3.1); all repairable sets and quorums have benign servers."""
    for malevolent in _liars(quorums):
        assert not quorums.exceeds_faulty(malevolent)
        assert not quorums.contains_repairable(malevolent)
    for quorum in _minimal(quorums.n, quorums.contains_quorum):
        assert quorums.contains_repairable(quorum)


def test_predicates_are_monotone(quorums: QuorumSystem) -> None:
    """What holds of a set holds of every larger one."""
    for holds in (
        quorums.contains_quorum,
        quorums.contains_repairable,
        quorums.exceeds_malevolent,
        quorums.exceeds_faulty,
    ):
        told = [holds(mask) for mask in range(1 << quorums.n)]
        assert told[-1]
        assert not told[0]
        assert all(told[m | 1 << s] for m in range(1 << quorums.n) if told[m] for s in range(quorums.n))


def test_sizes_are_those_of_the_smallest_sets(quorums: QuorumSystem) -> None:
    def least(holds: Callable[[int], bool]) -> int:
        return min(mask.bit_count() for mask in range(1 << quorums.n) if holds(mask))

    assert quorums.q == least(quorums.contains_quorum)
    assert quorums.r == least(quorums.contains_repairable)
    assert quorums.b + 1 == least(quorums.exceeds_malevolent)
    assert quorums.t + 1 == least(quorums.exceeds_faulty)


def test_views_are_the_quorums_with_none_to_spare(quorums: QuorumSystem) -> None:
    smallest = _minimal(quorums.n, quorums.contains_quorum)
    assert [mask for mask in range(1 << quorums.n) if quorums.is_view(mask)] == smallest
    for order in (list(range(quorums.n)), list(reversed(range(quorums.n)))):
        views = list(quorums.views_within(order, limit=1 << quorums.n))
        assert sorted(views) == smallest
    assert not quorums.is_view(smallest[0] | 1 << quorums.n)


# ---- the constraints, of larger systems


def _drawn(chance: Random, n: int, holds: Callable[[int], bool]) -> int:
    """A set, as large as may be, of which a predicate holds that holds of all its subsets."""
    mask = 0
    for server in chance.sample(range(n), n):
        if holds(mask | 1 << server):
            mask |= 1 << server
    return mask


def _sampled(system: QuorumSystem, chance: Random) -> None:
    n, everyone = system.n, (1 << system.n) - 1
    first, second = (
        next(islice(system.views_within(chance.sample(range(n), n), 20), chance.randrange(20), None), None)
        or next(system.views_within(range(n), 1))
        for _ in range(2)
    )
    repairable = everyone & ~_drawn(chance, n, lambda mask: system.contains_repairable(everyone & ~mask))
    faulty = _drawn(chance, n, lambda mask: not system.exceeds_faulty(mask))
    malevolent = _drawn(chance, n, lambda mask: not system.exceeds_malevolent(mask))
    for view in (first, second):
        assert system.is_view(view)
        assert system.contains_quorum(view)
        assert not any(system.contains_quorum(view & ~(1 << s)) for s in servers_of(view))
        assert view & repairable & ~malevolent
        assert system.exceeds_malevolent(view & repairable)
    assert system.contains_quorum(everyone & ~faulty)
    assert next(system.views_within(servers_of(everyone & ~faulty), 1), None) is not None
    assert system.contains_repairable(first & second & ~malevolent)
    assert not system.exceeds_faulty(malevolent)
    assert faulty.bit_count() >= system.t
    assert malevolent.bit_count() >= system.b
    assert repairable.bit_count() >= system.r


@pytest.mark.parametrize("system", LARGER.values(), ids=LARGER.keys())
def test_larger_systems_satisfy_the_constraints(system: QuorumSystem) -> None:
    chance = Random(1)
    for _ in range(25):
        _sampled(system, chance)


@dataclass(frozen=True)
class Made:
    """How a system is made: hypothesis keeps weak references to what it draws, which compiled objects don't stand."""

    b: int
    t: int
    n: int
    groups: "tuple[Made, ...]" = ()

    def system(self) -> QuorumSystem:
        outer = threshold(self.b, self.t, self.n)
        return RecursiveThresholdQuorums(outer, [g.system() for g in self.groups]) if self.groups else outer

    @property
    def servers(self) -> int:
        return sum(g.servers for g in self.groups) if self.groups else self.n


@st.composite
def systems(draw: st.DrawFn, servers_max: int = 64, levels: int = 3) -> Made:
    """A threshold, or a threshold of such systems that may differ."""
    t = draw(st.integers(0, 2))
    b = draw(st.integers(0, t))
    least = 3 * t + 2 * b + 1
    if least > servers_max:
        return Made(0, 0, 1)
    n = draw(st.integers(least, min(servers_max, least + 3)))
    if levels == 1 or draw(st.booleans()):
        return Made(b, t, n)
    groups: list[Made] = []
    left = servers_max - n
    for _ in range(n):
        groups.append(draw(systems(left + 1, levels - 1)) if left > 0 else Made(0, 0, 1))
        left -= groups[-1].servers - 1
    return Made(b, t, n, tuple(groups))


@given(systems(), st.integers(0, 2**32))
@settings(deadline=None)
def test_any_threshold_of_sound_systems_is_sound(made: Made, seed: int) -> None:
    system = made.system()
    assert system.n == made.servers <= 64
    _sampled(system, Random(seed))


# ---- sizes


@pytest.mark.parametrize(
    ("b", "n", "q", "r"), [(0, 1, 1, 1), (1, 6, 5, 3), (2, 11, 9, 5), (4, 21, 17, 9), (5, 26, 21, 11)]
)
def test_minimal_sizes_of_the_paper(b: int, n: int, q: int, r: int) -> None:
    quorums = threshold(b)
    assert (quorums.n, quorums.q, quorums.r) == (n, q, r)


def test_minimal_sizes_under_crashes_and_lies() -> None:
    """n = 3t+2b+1, q = 2t+2b+1, r = t+b+1 (section 3.3), and no threshold of fewer servers satisfies (2)-(4)."""
    for t in range(5):
        for b in range(t + 1):
            least = threshold(b, t)
            assert (least.n, least.q, least.r) == (3 * t + 2 * b + 1, 2 * t + 2 * b + 1, t + b + 1)
            for sizes in ((q, r) for n in [least.n - 1] for q in range(n + 1) for r in range(n + 1)):
                with pytest.raises(LocalError):
                    ThresholdQuorums(least.n - 1, b, t, *sizes)


@pytest.mark.parametrize(
    "fields", [(5, 1, 1, 5, 3), (6, 1, 1, 4, 3), (6, 1, 1, 5, 2), (6, 2, 1, 5, 3), (6, 1, 1, 6, 3)]
)
def test_systems_that_break_a_constraint_are_refused(fields: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(LocalError):
        ThresholdQuorums(*fields)


def test_formulas_refuse_what_enumeration_finds_broken() -> None:
    """Of all thresholds of up to six servers: the constructor takes exactly those that satisfy (2)-(4) set by set."""
    for n in range(1, 7):
        for t in range(n + 1):
            for b in range(t + 1):
                for q in range(1, n + 1):
                    for r in range(1, q + 1):
                        try:
                            ThresholdQuorums(n, b, t, q, r)
                        except LocalError:
                            taken = False
                        else:
                            taken = True
                        assert taken == _satisfied(n, b, t, q, r), (n, b, t, q, r)


def _sets(n: int, size: int) -> Iterator[int]:
    return (mask_of(servers) for servers in combinations(range(n), size))


def _satisfied(n: int, b: int, t: int, q: int, r: int) -> bool:
    """Constraints (2)-(4) as section 3.3 states them, of families of all sets of these sizes."""
    everyone, first = (1 << n) - 1, (1 << q) - 1  # servers are alike: one of two quorums may be this one
    if not all(any(not quorum & faulty for quorum in _sets(n, q)) for faulty in _sets(n, t)):
        return False
    for quorum in _sets(n, q):
        for malevolent in _sets(n, b):
            shared = first & quorum & everyone & ~malevolent
            if not any(repairable & ~shared == 0 for repairable in _sets(n, r)):
                return False
    return all(first & repairable & ~malevolent for repairable in _sets(n, r) for malevolent in _sets(n, b))


def test_every_system_of_more_servers_than_needed_is_sound() -> None:
    for b in range(4):
        for t in range(b, 5):
            for n in range(3 * t + 2 * b + 1, 3 * t + 2 * b + 9):
                threshold(b, t, n)
    with pytest.raises(LocalError, match=r"5 servers are too few .* at least 6"):
        threshold(1, 1, 5)


@pytest.mark.parametrize("levels", [[(1, 1)], [(1, 1), (0, 1)], [(0, 1), (1, 2)], [(0, 1), (0, 1), (0, 1)]])
def test_sizes_of_recursive_thresholds_multiply(levels: list[tuple[int, int]]) -> None:
    each = [threshold(b, t) for b, t in levels]
    system = recursive_threshold(levels)
    assert system.n == prod(level.n for level in each)
    assert system.q == prod(level.q for level in each)
    assert system.r == prod(level.r for level in each)
    assert system.b == prod(level.b + 1 for level in each) - 1
    assert system.t == prod(level.t + 1 for level in each) - 1


def test_a_group_may_be_lost_as_a_whole_and_a_server_in_each_other() -> None:
    """Six sites of four servers: one site lies, in each of the five others a server has crashed."""
    system = recursive_threshold([(1, 1), (0, 1)])
    site, crashed = 0b1111, mask_of([4 * i for i in range(1, 6)])
    assert not system.exceeds_malevolent(site)
    assert system.exceeds_malevolent(site | 1 << 4)
    assert not system.exceeds_faulty(site | crashed)
    assert system.contains_quorum((1 << 24) - 1 & ~(site | crashed))
    assert system.exceeds_faulty(site | crashed | 0b11 << 4)
    flat = threshold(3, 3, 24)
    assert flat.exceeds_malevolent(site)


def test_recursive_systems_that_make_no_sense_are_refused() -> None:
    with pytest.raises(LocalError, match=r"3 groups of servers given where the threshold .* takes 4"):
        RecursiveThresholdQuorums(threshold(0, 1), [ONE] * 3)
    with pytest.raises(LocalError, match=r"5 groups of servers given where the threshold .* takes 4"):
        RecursiveThresholdQuorums(threshold(0, 1), [ONE] * 5)
    with pytest.raises(LocalError, match="at least one level"):
        recursive_threshold([])
    with pytest.raises(LocalError, match="multiple of 4"):
        recursive_threshold([(1, 1), (0, 1)], 26)
    with pytest.raises(LocalError, match="20 servers make too few groups of 4 for b=1, t=1: give at least 24"):
        recursive_threshold([(1, 1), (0, 1)], 20)
    with pytest.raises(LocalError, match="b=2 malevolent servers cannot exceed t=1"):
        recursive_threshold([(1, 1), (2, 1)])
    with pytest.raises(LocalError, match=r"constraint \(3\)"):
        RecursiveThresholdQuorums(ThresholdQuorums(6, 1, 1, 4, 3), [ONE] * 6)


# ---- views and what else is asked


def test_views_are_quorums_of_the_first_servers_first() -> None:
    quorums = threshold(1)
    views = list(quorums.views_within([5, 4, 3, 2, 1, 0], limit=100))
    assert views[0] == mask_of([1, 2, 3, 4, 5])
    assert len(views) == len(set(views)) == 6
    assert all(quorums.is_view(view) for view in views)
    assert not quorums.is_view(0b111111)
    assert len(list(quorums.views_within(range(6), limit=2))) == 2
    assert list(quorums.views_within([0, 1, 2, 3], limit=9)) == []


def test_recursive_views_take_the_first_servers_of_the_groups_that_are_first() -> None:
    """Four sites of four; servers 0, 5 and 10 and the whole last site come last in the order."""
    quorums = recursive_threshold([(0, 1), (0, 1)])
    last = [0, 5, 10, 12, 13, 14, 15]
    order = [s for s in range(16) if s not in last] + last
    views = list(quorums.views_within(order, limit=1000))
    assert views[0] == mask_of([1, 2, 3, 4, 6, 7, 8, 9, 11])
    assert len(views) == len(set(views)) == comb(4, 3) * comb(4, 3) ** 3
    assert list(quorums.views_within(order, limit=7)) == views[:7]
    assert list(quorums.views_within(order[:8], limit=7)) == []
    assert all(view & mask_of(last) == 0 for view in quorums.views_within(order[:9], limit=7))


def test_few_recursive_views_suffice_to_do_without_any_one_server() -> None:
    """A limit on the views that are tried must not keep a liar of the first group in all of them."""
    quorums = recursive_threshold([(1, 1), (1, 1)])
    views = list(quorums.views_within(range(36), limit=40))
    assert all(any(not view >> server & 1 for view in views) for server in range(36))
    assert all(any(not view >> group * 6 & 0b111111 for view in views) for group in range(6))


def test_a_client_asks_a_view_first_and_every_server_has_its_share() -> None:
    """Of groups that are alike, that is; over all turns each server is as often among those asked first."""
    for name, system in (ENUMERATED | LARGER).items():
        asked: list[int] = []
        for turn in range(system.n):
            order = system.rotated(turn)
            assert sorted(order) == list(range(system.n))
            first = system.to_ask(0, order, system.q)
            assert system.is_view(mask_of(first)), name
            assert mask_of(first) == next(system.views_within(order, 1))
            asked += first
        if isinstance(system, ThresholdQuorums) or name in ALIKE:
            assert {asked.count(server) for server in range(system.n)} == {system.q}, name


def test_whom_to_ask_besides_those_asked(quorums: QuorumSystem) -> None:
    """Whatever set is held: enough for a quorum if those given suffice, and no more than it takes and is asked for."""
    chance = Random(2)
    for held in range(1 << quorums.n):
        given = [s for s in chance.sample(range(quorums.n), quorums.n) if not held >> s & 1 and chance.random() < 0.9]
        count = max(quorums.q - held.bit_count(), chance.choice((-1, 0, 1, 2, 3)))
        chosen = quorums.to_ask(held, given, count)
        assert len(set(chosen)) == len(chosen) >= min(count, len(given))
        assert set(chosen) <= set(given)
        if quorums.contains_quorum(held | mask_of(given)):
            assert quorums.contains_quorum(held | mask_of(chosen))
        if len(chosen) > max(count, 0):
            assert not any(quorums.contains_quorum(held | mask_of(chosen) & ~(1 << s)) for s in chosen)


def test_what_a_set_lacks_of_a_quorum(quorums: QuorumSystem) -> None:
    """By enumeration: as few servers as any that make a quorum of the set, and those that such may have."""
    smallest = _minimal(quorums.n, quorums.contains_quorum)
    for mask in range(0, 1 << quorums.n, 1 if quorums.n < 9 else 7):
        lacks = {view & ~mask for view in smallest}
        least = min(more.bit_count() for more in lacks)
        assert quorums.lacking(mask) == least
        shortest = [more for more in lacks if more.bit_count() == least]
        assert quorums.helping(mask) == [s for s in range(quorums.n) if any(more >> s & 1 for more in shortest)]
        assert mask_of(quorums.completion(mask)) in shortest


def test_another_server_of_the_same_site_takes_a_silent_one_s_place() -> None:
    """Four sites of four, three servers of each of the first three asked: one server more is enough, if of its site."""
    quorums = recursive_threshold([(0, 1), (0, 1)])
    asked = mask_of([0, 1, 2, 4, 5, 6, 8, 9, 10])
    assert quorums.to_ask(asked & ~(1 << 5), [12, 13, 14, 15, 3, 11, 7], 1) == [7]
    assert quorums.to_ask(asked & ~(1 << 5), [12, 13, 14, 15, 3, 11], 1) == [12, 13, 14]
    assert quorums.to_ask(asked, [12, 13, 14, 15, 3, 11, 7], 1) == [3], "who lies there can be done without"
    three = recursive_threshold([(0, 1), (0, 1), (0, 1)])
    asked = next(three.views_within(range(64), 1))
    assert three.to_ask(asked & ~(1 << 5), [48, 49, 12, 13, 14, 3, 7], 1) == [7]


def test_systems_are_equal_when_their_sizes_and_groups_are() -> None:
    two = [(1, 1), (0, 1)]
    assert recursive_threshold(two) == recursive_threshold(two)
    assert hash(recursive_threshold(two)) == hash(recursive_threshold(two))
    assert recursive_threshold(two) != recursive_threshold(two[::-1])
    assert recursive_threshold(two) != threshold(3, 3, 24)
    assert recursive_threshold([(1, 1)]) == threshold(1)
    assert "n=6" in repr(recursive_threshold(two))


def test_masks_and_servers() -> None:
    assert mask_of([0, 3]) == 0b1001
    assert servers_of(0b1001) == [0, 3]
