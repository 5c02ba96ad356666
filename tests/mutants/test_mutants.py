"""The tests that are meant to kill the mutants do, as far as that takes a moment (the rest: python -m tests.mutants)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import PatchPointMoved, rewrite

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


def test_a_killer_names_a_mutant_s_own_tests() -> None:
    """A mutant that fails its tests otherwise than by a test is not dead: nothing is said to be killed by accident."""
    for mutant in MUTANTS.values():
        for killer in mutant.killers:
            assert (ROOT / killer.partition("::")[0]).is_file(), f"{mutant.name}: no {killer}"


def _add(one: int, other: int) -> int:
    return one + other


def test_a_patch_point_that_moved_is_not_a_dead_mutant() -> None:
    with pytest.raises(PatchPointMoved):
        rewrite(_add, ("one - other", "one"))
    assert _add(1, 2) == 3
    rewrite(_add, ("one + other", "one - other"))
    assert _add(1, 2) == -1
