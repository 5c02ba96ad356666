"""PostMark through a mount while one replica lies: it counts right, and ``qunfs status`` names the liar and its lies.

What honest failures look like too leaves no proof: a history that shrank (``stale``, ``amnesia``, ``replay``,
``twins``) is what a crash without sync durability leaves, refusals are what load and other cluster files make, silence
is what a stopped process keeps.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench import malevolent, postmark
from bench.postmark import Counts
from qunfs import cluster, mounts, processes
from qunfs.cli.status import status
from qunfs.cluster import Cluster

FILES, TRANSACTIONS = 40, 100
PATIENCE_S = 200.0
LIAR = 1
LEFT_BEHIND = 4
ASYNC = ["--durability", "async"]


@dataclass(frozen=True)
class Trace:
    """What a kind of lie must leave in a mount's or replica's record, and whether that is proof."""

    evidence: str
    """One of these words."""
    proof: bool | None
    """None: it depends on how many replicas were told the lie."""


LEAVES: dict[str, Trace | None] = {
    "wrong-answers": Trace("wrong-answer", proof=True),
    "wrong-data": Trace("wrong-data", proof=None),
    "corrupt-macs": Trace("bad-macs", proof=True),
    "corrupt-mac": Trace("bad-macs", proof=False),
    "forged-barriers": None,  # whoever was sent a barrier that nobody else got shows the same
    "forged-times": Trace("future-times", proof=False),
    "complaints": Trace("complaints", proof=True),
    "refusals": None,  # a busy replica refuses too
    "mutations": Trace("malformed wrong-answer bad-macs", proof=True),
    "replay": Trace("denied", proof=False),
    "stale": Trace("denied", proof=False),
    "amnesia": Trace("denied", proof=False),
    "twins": None,  # either of them is a replica that has missed something
    "silent": Trace("silent", proof=False),
}


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = cluster.create(tmp_path_factory.mktemp("liars") / "c")
    try:
        processes.start_and_wait(made, range(made.n), ASYNC)
        yield made
    finally:
        processes.stop(made, range(made.n))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Counts:
    return postmark.expected_counts(tmp_path_factory.mktemp("plain"), FILES, TRANSACTIONS)


def test_every_kind_says_what_it_leaves() -> None:
    assert LEAVES.keys() == malevolent.KINDS.keys()


@pytest.mark.parametrize("kind", LEAVES)
def test_postmark_counts_right_and_the_liar_is_named(
    six: Cluster, kind: str, expected: Counts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each liar has the data that the one before it left, as it would after crashes."""
    mountpoint, scratch = tmp_path / "m", tmp_path / "s"
    mountpoint.mkdir()
    scratch.mkdir()
    processes.stop(six, [LIAR])
    processes.start_and_wait(six, [LIAR], ["--kind", kind, *ASYNC], module="bench.malevolent")
    command = [sys.executable, "-m", "qunfs.cli.main", "mount", str(six.directory), str(mountpoint)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    try:
        result = postmark.run(mountpoint, scratch, FILES, TRANSACTIONS)
        assert result.complaints(expected) == []
        if kind == "wrong-data":
            _leave_one_behind(six, mountpoint)
        trace = LEAVES[kind]
        told = _suspects(six, capsys)
        end = time.monotonic() + PATIENCE_S
        while trace is not None and not any(_is(suspect, trace) for suspect in told):
            assert time.monotonic() < end, told
            (mountpoint / f"again{time.monotonic_ns()}").mkdir()
            told = _suspects(six, capsys)
        assert {suspect["server"] for suspect in told if suspect["proof"]} <= {LIAR}
        _check_words(six, mountpoint, told, capsys)
    finally:
        mounts.unmount(mountpoint)


def _leave_one_behind(six: Cluster, mountpoint: Path) -> None:
    """A replica misses something, and must fetch it from others."""
    processes.kill(six, LEFT_BEHIND)
    for number in range(6):
        (mountpoint / f"missed{number}").mkdir()
    processes.start_and_wait(six, [LEFT_BEHIND], ASYNC)
    time.sleep(2.5)  # until the mount has called it again


def _suspects(six: Cluster, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    status(six.directory, None, as_json=True)
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["suspects"]
    return found


def _is(suspect: dict[str, Any], trace: Trace) -> bool:
    if suspect["server"] != LIAR or suspect["evidence"] not in trace.evidence.split():
        return False
    return trace.proof in (None, suspect["proof"]) and suspect["count"] > 0 and suspect["first"] <= time.time()


def _check_words(
    six: Cluster, mountpoint: Path, told: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """People read the same, and the mount's log has it once."""
    status(six.directory, None)
    said = capsys.readouterr().out
    (record,) = mounts.records(six)
    log = Path(record.log).read_text()
    for suspect in told:
        assert ("proof" if suspect["proof"] else "suspicion") in said
        if suspect["told_by"] == str(mountpoint):
            verdict = "is malevolent" if suspect["proof"] else "is under suspicion"
            assert log.count(f"server {suspect['server']} {verdict} ({suspect['evidence']})") == 1
