"""A bounded number of seeds on every test run.

What seeds have found is kept as deterministic tests of the parts at fault: a seed is another run once the simulator
changes.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.oracles import Violation
from tests.simulation.runner import Outcome, add_up, run
from tests.simulation.world import Plan, World


def _sound(plans: list[Plan]) -> Counter[str]:
    outcomes: list[Outcome] = []
    for plan in plans:
        outcome = run(plan)
        assert outcome.violation is None, f"{plan}: {outcome.violation}"
        outcomes.append(outcome)
    return add_up(outcomes)


def test_safety() -> None:
    """Arbitrary faults; and the rare paths are walked, or the simulator is too kind."""
    seen = _sound([Plan(seed) for seed in range(1000, 1040)])
    assert seen["operations begun"] >= 20 * seen["runs"]
    assert seen["events"] >= 300 * seen["runs"]
    assert seen["histories legal"] >= 0.9 * seen["runs"], "too many histories were too long or given up"
    for rare in (
        "joint copy accepted",
        "copy of a repairable record",
        "inline_repair",
        "adopted",
        "base inserted",
        "skip",
        "culled",
        "syncs",
        "answered",
        "repeated",
        "server crashes",
        "client crashes",
        "proof of wrong-answer",
        "proof of wrong-data",
        "proof of bad-macs",
        "proof of malformed",
        "suspicion of denied",
    ):
        assert seen[rare] > 0, f"no run saw: {rare}"


def test_safety_with_more_faults_tolerated() -> None:
    _sound([Plan(seed, b=2) for seed in range(1000, 1008)])
    _sound([Plan(seed, b=1, t=2) for seed in range(1000, 1008)])


def test_liveness() -> None:
    """Faults stop, t servers stay faulty, b of them lying: a correct client alone gets everything done."""
    _sound([Plan(seed, mode="liveness") for seed in range(1000, 1030)])
    _sound([Plan(seed, b=2, mode="liveness") for seed in range(1000, 1004)])


def test_recursive_thresholds() -> None:
    """A group of servers may be lost as a whole, and a server in each other group."""
    crashing, lying = ((0, 1), (0, 1)), ((1, 1), (0, 1))
    _sound([Plan(1002, levels=crashing), Plan(1002, levels=lying), Plan(1005, levels=lying, mode="liveness")])


def test_more_liars_than_tolerated_are_caught() -> None:
    """With b+1 malevolent servers rules must break, or the adversaries are too kind."""
    assert any(run(Plan(seed, malevolent=2)).violation for seed in range(30))


def test_what_no_order_explains_is_caught() -> None:
    """Whatever else has been looked at: one wrong answer, or a state in which something is missing, is enough."""
    world = World(Plan(1010))
    world.run()
    world.journal.finish()
    told = [done for done in world.journal.operations if done.what == "append" and done.effective]
    for done in (told[0], told[-1]):
        answer, (verdict, lengths) = done.answer, done.answer
        for wrong in ((verdict, tuple(length + 1 for length in lengths)), ("no", lengths)):
            done.answer = wrong
            with pytest.raises(Violation, match="no order explains"):
                world.journal.finish()
        done.answer, ended, done.ended = answer, done.ended, None
        world.journal.finish()  # nobody was told, so that it may have been done
        done.ended = ended
    told[-1].argument = (b"another", None)
    with pytest.raises(Violation, match=r"no order explains .*another"):
        world.journal.finish()


def test_one_seed_is_one_run_whatever_the_hashes() -> None:
    """The same trace in processes that hash strings and bytes differently."""
    root = Path(__file__).parents[2]

    def trace(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.simulation", "--seed", "2"]
        return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout

    assert trace("1") == trace("2")
