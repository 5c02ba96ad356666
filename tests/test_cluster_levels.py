"""Clusters whose servers are divided into groups: a recursive threshold in cluster.toml."""

import re
from pathlib import Path

import pytest

from qunfs.cluster import Cluster, create, load
from qunfs.protocol.errors import LocalError
from qunfs.protocol.quorum import threshold
from qunfs.protocol.recursive_quorum import recursive_threshold

LEVELS = [(0, 1), (0, 1)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return create(tmp_path_factory.mktemp("made") / "c", levels=LEVELS, clients=1)


def test_what_is_made_is_what_is_loaded(made: Cluster) -> None:
    assert load(made.directory) == made
    assert made.quorums == recursive_threshold(LEVELS)
    assert (made.n, made.b, made.t) == (16, 0, 3)
    assert "levels = [[0, 1], [0, 1]]" in (made.directory / "cluster.toml").read_text()


def test_more_groups_than_needed(tmp_path: Path) -> None:
    addresses = [("10.0.0.1", 7000 + i) for i in range(20)]
    cluster = create(tmp_path / "c", levels=LEVELS, addresses=addresses, clients=1)
    assert cluster.quorums == recursive_threshold(LEVELS, 20)
    assert load(cluster.directory) == cluster


def test_one_level_is_a_threshold(tmp_path: Path) -> None:
    cluster = create(tmp_path / "c", levels=[(0, 1)], clients=1)
    assert cluster.quorums == threshold(0, 1)
    text = (tmp_path / "c" / "cluster.toml").read_text()
    assert "levels" not in text
    (tmp_path / "c" / "cluster.toml").write_text(re.sub(r"(?m)^b = 0\nt = 1$", "levels = [[0, 1]]", text))
    assert load(cluster.directory) == cluster


@pytest.mark.parametrize(
    ("levels", "complaint"),
    [
        ("levels = [[0, 1], [0, 1]]\nb = 1", "b must be left out: levels say what is tolerated"),
        ("levels = 1", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = []", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 1], [0]]", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 1], [1, 0]]", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 1], [-1, 0]]", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 1], [0, 65]]", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 1], [false, true]]", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 0], [0, 0], [0, 0], [0, 1]]", "levels must be 1 to 3 pairs [b, t]"),
        ("levels = [[0, 1], [1, 1]]", "16 servers cannot be divided into groups of 6"),
        ("levels = [[1, 1], [0, 1]]", "16 servers make too few groups of 4 for b=1, t=1: give at least 24"),
        ("", "b must be a whole number"),
    ],
)
def test_levels_that_make_no_sense_are_refused(made: Cluster, tmp_path: Path, levels: str, complaint: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(re.sub(r"(?m)^levels = .*$", levels, (made.directory / "cluster.toml").read_text()))
    with pytest.raises(LocalError, match=re.escape(f"{path}: {complaint}")):
        load(tmp_path)


def test_too_many_servers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="121 servers are too many"):
        create(tmp_path / "c", levels=[(2, 2), (2, 2)], clients=1)
