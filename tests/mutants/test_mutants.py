"""The tests that are meant to kill mutants do, where that takes a moment; ``python -m tests.mutants`` tries all."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.__main__ import main
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, PatchPointMoved, rewrite
from tests.mutants.running import try_mutant

ROOT = Path(__file__).parents[2]
QUICK = [mutant.name for mutant in MUTANTS.values() if mutant.quick]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What became of each: all in one process that forks, since starting pytest takes most of the time."""
    path = tmp_path_factory.mktemp("mutants") / "verdicts.json"
    command = [sys.executable, "-m", "tests.mutants", "--quick", "--json", str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert path.exists(), ended.stderr
    return {verdict["mutant"]: verdict for verdict in json.loads(path.read_text())}


@pytest.mark.parametrize("name", QUICK)
def test_killed(verdicts: dict[str, dict[str, object]], name: str) -> None:
    verdict = verdicts[name]
    assert verdict["verdict"] == "killed", f"{verdict['breaks']} {verdict['how']}"


def test_a_mutant_that_nothing_notices_survives() -> None:
    """And one whose tests cannot be run is not taken for dead."""
    harmless = Mutant("harmless", "none", "nowhere", lambda: None, ("tests/protocol/test_roll.py",))
    MUTANTS[harmless.name] = harmless
    try:
        survived = try_mutant(harmless, 0)
        untried = try_mutant(replace(harmless, killers=("tests/protocol/test_roll.py::test_no_such",)), 0)
        superfluous = try_mutant(replace(harmless, superfluous="it does nothing"), 0)
    finally:
        del MUTANTS[harmless.name]
    assert [v.word for v in (survived, untried, superfluous)] == ["SURVIVED", "NOT TRIED", "superfluous"]
    assert [v.sound for v in (survived, untried, superfluous)] == [False, False, True]


def test_the_table_for_documents(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", QUICK[0], "--quick", "--markdown"]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(f"| `{QUICK[0]}`")]
    assert [row[2] for row in rows] == ["killed"]


def _add(one: int, other: int) -> int:
    return one + other


def test_a_patch_point_that_moved_is_not_a_dead_mutant() -> None:
    with pytest.raises(PatchPointMoved):
        rewrite(_add, ("one - other", "one"))
    assert _add(1, 2) == 3
    rewrite(_add, ("one + other", "one - other"))
    assert _add(1, 2) == -1


def test_the_mutants_that_the_documentation_names_exist() -> None:
    """In docs/protocol.md whatever is no mutant is a scenario or a test."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    section = text.partition("## What is not in the paper")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", section))
    scenarios = (ROOT / "tests" / "protocol" / "test_scenarios.py").read_text()
    others = {name for name in named - set(MUTANTS) if f"def {name}(" not in scenarios}
    assert not others
    assert len(named & set(MUTANTS)) > 70
