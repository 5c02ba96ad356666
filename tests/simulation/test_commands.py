"""What the simulator's commands print and how they end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.simulation import __main__ as command
from tests.simulation import results
from tests.simulation.campaign import Campaign, in_turn
from tests.simulation.runner import Outcome, Workers, complaint, run
from tests.simulation.tally import Tally
from tests.simulation.world import Plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def violating() -> Outcome:
    """Some run in which more servers lie than are tolerated and a rule breaks."""
    outcomes = (run(Plan(seed, malevolent=2)) for seed in range(30))
    return next(outcome for outcome in outcomes if outcome.violation is not None)


def test_a_range_ends_with_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seeds", "1-2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("2 seeds, 0 violations; 40 operations begun, ")
    assert told[1] == "sometimes:"
    assert "           1  adopted" in told


def test_a_violation_is_named_and_replayed(violating: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    seed = violating.plan.seed
    assert command.main(["--seeds", f"{seed}-{seed + 5}", "--malevolent", "2"]) == 1
    told = capsys.readouterr().out
    assert told.splitlines()[0] == complaint(violating).splitlines()[0]
    assert "\n1 seeds, 1 violations; " in told
    options = told.partition("VIOLATION with ")[2].partition(":")[0].split()
    assert command.main(options) == 1
    assert complaint(violating).splitlines()[0] in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("wrong", ["--seeds 5-1", "--seeds x", "--minutes 1 -b 1", "--seed 1 --jobs 0", "", "-b 1"])
def test_wrong_arguments(wrong: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(wrong.split())
    assert ended.value.code == 2


def test_several_processes_find_the_same_in_the_same_order() -> None:
    plans = [Plan(seed) for seed in range(1, 6)]
    with Workers(2) as two:
        assert list(two.run(plans)) == [run(plan) for plan in plans]
        assert next(iter(two.run(in_turn(1)))).plan == Plan(1), "plans without end are asked for as runs end"


@pytest.fixture
def campaign_process() -> Iterator[subprocess.Popen[str]]:
    """A campaign with two workers that has been under way for some seconds."""
    arguments = [sys.executable, "-m", "tests.simulation", "--minutes", "5", "--jobs", "2"]
    running = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert running.stderr is not None
        assert running.stderr.readline().startswith("... seed ")
        yield running
    finally:
        running.kill()
        running.communicate()


def test_ctrl_c_stops_a_range_and_says_what_was_done(campaign_process: subprocess.Popen[str]) -> None:
    os.killpg(campaign_process.pid, signal.SIGINT)  # as a terminal does: workers too
    out, err = campaign_process.communicate(timeout=200)
    assert campaign_process.returncode == 2
    assert "seeds, 0 violations; " in out
    assert "| all | " in out
    assert err.splitlines()[-1] == "stopped by Ctrl-C: this is what was done until then"


def test_workers_end_with_their_parent(campaign_process: subprocess.Popen[str]) -> None:
    def alive() -> int:
        count = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it may end meanwhile
                state, _, group = path.read_text().rpartition(")")[2].split()[:3]
                count += int(group) == campaign_process.pid and state != "Z"
        return count

    assert alive() >= 3
    campaign_process.kill()
    campaign_process.wait()
    until = time.monotonic() + 120
    while alive():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_campaign_counts_each_configuration_and_mode() -> None:
    campaign = Campaign()
    for plan in (Plan(1), Plan(2), Plan(1, 1, 2, "liveness"), Plan(1, workload="files")):
        campaign.add(run(plan))
    table = list(campaign.table())
    assert [row.split(" | ")[:3] for row in table[2:]] == [
        ["| `-b 1 --mode safety`", "2", "0"],
        ["| `-b 1 --mode liveness`", "0", "0"],
        ["| `-b 2 --mode safety`", "0", "0"],
        ["| `-b 2 --mode liveness`", "0", "0"],
        ["| `-b 1 -t 2 --mode safety`", "0", "0"],
        ["| `-b 1 -t 2 --mode liveness`", "1", "0"],
        ["| `-b 1 --mode safety --workload files`", "1", "0"],
        ["| `-b 1 --mode liveness --workload files`", "0", "0"],
        ["| `-b 2 --mode safety --workload files`", "0", "0"],
        ["| `-b 2 --mode liveness --workload files`", "0", "0"],
        ["| `-b 1 -t 2 --mode safety --workload files`", "0", "0"],
        ["| `-b 1 -t 2 --mode liveness --workload files`", "0", "0"],
        ["| all", "4", "0"],
    ]
    for workload, path in (("ledgers", "inline_repair"), ("files", "told STALE")):
        assert sum(row.startswith(f"| {path} | ") for row in campaign.sometimes(workload)) == 1


def test_what_no_run_saw_is_named(violating: Outcome) -> None:
    tally = Tally([run(Plan(3)), violating])
    assert tally.violations == [violating]
    assert Tally().never()
    assert "server crashes" in Tally([run(Plan(3))]).never()


def test_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "CONTROLS", 2)
    document = tmp_path / "simulation.md"
    command_line = ["--minutes", "0.01", "--jobs", "1", "--without-mutants", "--output", str(document)]
    assert results.main(command_line) in (0, 1)  # two seeds are few for a control
    text = document.read_text()
    assert f"    python -m tests.simulation.results {' '.join(command_line)}\n" in text
    for part in (
        "commit ",
        "## Seeds",
        "| all | ",
        "| inline_repair | ",
        "## Controls",
        "`-b 2 --mode safety --malevolent 3`",
        "`-b 1 --mode safety --malevolent 2 --workload files`",
    ):
        assert part in text
