"""Constraints (2)-(4) of the paper, section 3.3, by enumeration; and what the predicates mean."""

from itertools import combinations

import pytest

from qunfs.protocol.errors import LocalError
from qunfs.protocol.quorum import ThresholdQuorums, mask_of, servers_of, threshold

SMALL = [(0, 0, None), (0, 1, None), (1, 1, None), (1, 1, 7), (1, 1, 8), (0, 2, None), (1, 2, None), (2, 2, None)]


def _subsets(n: int, size: int) -> list[int]:
    return [mask_of(servers) for servers in combinations(range(n), size)]


@pytest.fixture(params=SMALL, ids=lambda p: f"b{p[0]}-t{p[1]}-n{p[2]}")
def quorums(request: pytest.FixtureRequest) -> ThresholdQuorums:
    b, t, n = request.param
    return threshold(b, t, n)


def test_operations_at_a_quorum_may_complete(quorums: ThresholdQuorums) -> None:
    """(2): whatever t servers are faulty, some quorum has none of them."""
    everyone = (1 << quorums.n) - 1
    for faulty in _subsets(quorums.n, quorums.t):
        assert quorums.contains_quorum(everyone & ~faulty)


def test_an_established_candidate_is_repairable_in_every_quorum(quorums: ThresholdQuorums) -> None:
    """(3): two quorums share a repairable set of benign servers.  One quorum is fixed: servers are alike."""
    first = mask_of(range(quorums.q))
    liars = _subsets(quorums.n, quorums.b)
    for second in _subsets(quorums.n, quorums.q):
        for malevolent in liars:
            assert quorums.contains_repairable(first & second & ~malevolent)


def test_an_established_candidate_excludes_other_potential_ones(quorums: ThresholdQuorums) -> None:
    """(4): a quorum and a repairable set of another share a benign server."""
    quorum = mask_of(range(quorums.q))
    for repairable in _subsets(quorums.n, quorums.r):
        assert quorums.contains_repairable(repairable)
        assert quorums.exceeds_malevolent(quorum & repairable)


@pytest.mark.parametrize(
    ("b", "n", "q", "r"), [(0, 1, 1, 1), (1, 6, 5, 3), (2, 11, 9, 5), (4, 21, 17, 9), (5, 26, 21, 11)]
)
def test_minimal_sizes_of_the_paper(b: int, n: int, q: int, r: int) -> None:
    quorums = threshold(b)
    assert (quorums.n, quorums.q, quorums.r) == (n, q, r)


@pytest.mark.parametrize(
    "fields", [(5, 1, 1, 5, 3), (6, 1, 1, 4, 3), (6, 1, 1, 5, 2), (6, 2, 1, 5, 3), (6, 1, 1, 6, 3)]
)
def test_systems_that_break_a_constraint_are_refused(fields: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(LocalError):
        ThresholdQuorums(*fields)


def test_every_system_of_more_servers_than_needed_is_sound() -> None:
    for b in range(4):
        for t in range(b, 5):
            for n in range(3 * t + 2 * b + 1, 3 * t + 2 * b + 9):
                threshold(b, t, n)
    with pytest.raises(LocalError, match=r"5 servers are too few .* at least 6"):
        threshold(1, 1, 5)


def test_views_are_quorums_of_the_first_servers_first() -> None:
    quorums = threshold(1)
    views = list(quorums.views_within([5, 4, 3, 2, 1, 0], limit=100))
    assert views[0] == mask_of([1, 2, 3, 4, 5])
    assert len(views) == len(set(views)) == 6
    assert all(quorums.is_view(view) for view in views)
    assert not quorums.is_view(0b111111)
    assert len(list(quorums.views_within(range(6), limit=2))) == 2
    assert list(quorums.views_within([0, 1, 2, 3], limit=9)) == []


def test_masks_and_servers() -> None:
    assert mask_of([0, 3]) == 0b1001
    assert servers_of(0b1001) == [0, 3]
