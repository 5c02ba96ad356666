"""What is said against replicas, and by whom."""

from pathlib import Path
from typing import Any

import pytest

from qunfs import cluster
from qunfs.cli.status import figures, replica_rows
from qunfs.cli.suspects import as_suspect, suspects, table
from qunfs.cluster import Cluster
from qunfs.mounts import MountRecord
from qunfs.protocol.evidence import Evidence, Ground
from qunfs.protocol.quorum import threshold


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return cluster.create(tmp_path_factory.mktemp("suspects") / "c")


def _told(*tellers: int, value: object) -> list[dict[str, Any]]:
    return [{"server": teller, "suspects": value} for teller in tellers]


WRONG_DATA = ((3, "wrong-data", 2, 10, 20),)


def test_a_replica_s_word_is_suspicion_and_that_of_more_than_can_lie_is_proof(six: Cluster) -> None:
    (alone,) = suspects(six, [], _told(1, value=WRONG_DATA))
    assert (alone["server"], alone["evidence"], alone["proof"]) == (3, "wrong-data", False)
    assert alone["told_by"] == "replica 1"
    assert "unless who tells it lies" in alone["text"]
    (two,) = suspects(six, [], _told(0, 1, value=WRONG_DATA))
    assert two["proof"]
    assert two["told_by"] == "replicas 0, 1"
    assert two["count"] == 2
    (itself,) = suspects(six, [], _told(1, 3, value=WRONG_DATA))
    assert not itself["proof"], "the word of the accused does not count"


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        (7,),
        ((3, "wrong-data", 2, 10),),
        ((6, "wrong-data", 2, 10, 20),),
        ((-1, "wrong-data", 2, 10, 20),),
        ((3, "wrong-answer", 2, 10, 20),),
        ((3, b"wrong-data", 2, 10, 20),),
        ((3, "wrong-data", 0, 10, 20),),
        ((3, "wrong-data", 2, 20, 10),),
        ((3, "wrong-data", 2, 10, 1 << 63),),
        ((True, "wrong-data", 2, 10, 20),),
    ],
)
def test_what_makes_no_sense_is_not_told(six: Cluster, value: object) -> None:
    assert suspects(six, [], _told(0, 1, value=value)) == []


def test_what_a_mount_has_seen_is_told_with_its_mount_point(six: Cluster, tmp_path: Path) -> None:
    evidence = Evidence(threshold(1))
    evidence.note(2, Ground.MALFORMED, 1_700_000_000_000_000_000, "[/bold] no markup")
    told = [as_suspect(finding) for finding in evidence.findings()]
    record = MountRecord(1, "/m", "client-1", str(tmp_path), "log", 0.0, suspects=told)
    (suspect,) = suspects(six, [record], [])
    assert suspect["told_by"] == "/m"
    assert suspect["first"] == 1_700_000_000.0
    assert table([suspect]).row_count == 1


def test_a_status_that_makes_no_sense_does_not_end_the_command(six: Cluster) -> None:
    odd = {"uptime_s": "long", "method": "many", "queries": -1, "durability": b"sync", "copy": float("nan"), "x": [1]}
    rows = replica_rows(six, [{**odd, "syncs": 2}] * six.n)
    assert "method" not in rows[0]
    assert "x" not in rows[0]
    assert figures(rows[0])["object syncs"] == "2"
