"""A bounded number of seeds on every test run.

What seeds have found is kept as deterministic tests of the parts at fault: a seed is another run once the simulator
changes.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.simulation.campaign import FAULTS, MODES
from tests.simulation.oracles import Violation
from tests.simulation.runner import Workers, complaint, run
from tests.simulation.tally import Tally
from tests.simulation.world import Plan, World

ROOT = Path(__file__).parents[2]
SAFETY = [
    pytest.param(1, None, range(1000, 1700), id="b=1"),
    pytest.param(2, None, range(1000, 1200), id="b=2"),
    pytest.param(1, 2, range(1000, 1120), id="b=1,t=2"),
]
LIVENESS = [
    pytest.param(1, None, range(1000, 1200), id="b=1"),
    pytest.param(2, None, range(1000, 1060), id="b=2"),
    pytest.param(1, 2, range(1000, 1050), id="b=1,t=2"),
]
FILES = [
    pytest.param(1, None, range(1000, 1036), range(1000, 1012), id="b=1"),
    pytest.param(2, None, range(1000, 1008), range(1000, 1004), id="b=2"),
    pytest.param(1, 2, range(1000, 1008), range(1000, 1004), id="b=1,t=2"),
]
"""Safety and liveness, on a file system."""
FOUND_OUT = (
    "proof of wrong-answer",
    "proof of wrong-data",
    "proof of malformed",
    "proof of bad-macs",
    "suspicion of bad-macs",
    "suspicion of future-times",
    "suspicion of denied",
)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """A process for every processor."""
    with Workers(len(os.sched_getaffinity(0))) as workers:
        yield workers


def _sound(workers: Workers, plans: list[Plan]) -> Tally:
    """No run violates a rule, every run does enough, and the rare paths are walked, or the simulator is too kind."""
    tally = Tally()
    for outcome in workers.run(plans):
        assert outcome.violation is None, f"python -m tests.simulation: {complaint(outcome)}"
        assert outcome.operations >= 20, outcome
        assert outcome.events >= 300, outcome
        tally.add(outcome)
    assert tally.total["histories legal"] >= 0.9 * len(plans), "too many histories were too long or given up"
    return tally


@pytest.mark.parametrize(("b", "t", "seeds"), SAFETY)
def test_safety(workers: Workers, b: int, t: int | None, seeds: range) -> None:
    """Arbitrary faults; and clients find out who lies."""
    tally = _sound(workers, [Plan(seed, b, t) for seed in seeds])
    assert not tally.never(), "no run saw these"
    assert [found for found in FOUND_OUT if not tally.total[found]] == [], "no run saw these"


@pytest.mark.parametrize(("b", "t", "seeds"), LIVENESS)
def test_liveness(workers: Workers, b: int, t: int | None, seeds: range) -> None:
    """Faults stop, t servers stay faulty, b of them lying: a correct client alone gets everything done."""
    tally = _sound(workers, [Plan(seed, b, t, "liveness") for seed in seeds])
    assert not tally.never(), "no run saw these"


@pytest.mark.parametrize(("b", "t", "safety", "liveness"), FILES)
def test_files(workers: Workers, b: int, t: int | None, safety: range, liveness: range) -> None:
    """Both, with clients that run procedures of the metadata service: a serial order of them explains all answers."""
    both = zip(MODES, (safety, liveness), strict=True)
    plans = [Plan(seed, b, t, mode, workload="files") for mode, seeds in both for seed in seeds]
    tally = _sound(workers, plans)
    if len(plans) > 40:
        assert not tally.never(), "no run saw these"
    assert not tally.total["procedures postponed"]


def test_recursive_thresholds() -> None:
    """A group of servers may be lost as a whole, and a server in each other group."""
    crashing, lying = ((0, 1), (0, 1)), ((1, 1), (0, 1))
    for plan in (Plan(1002, levels=crashing), Plan(1002, levels=lying), Plan(1005, levels=lying, mode="liveness")):
        outcome = run(plan)
        assert outcome.violation is None, complaint(outcome)


@pytest.mark.parametrize(("b", "t"), FAULTS)
def test_more_liars_than_tolerated_are_caught(b: int, t: int | None) -> None:
    """With b+1 malevolent servers rules must break, or the adversaries are too kind."""
    assert any(run(Plan(seed, b, t, malevolent=b + 1)).violation for seed in range(30))


def _world_in_which_much_was_told() -> World:
    for seed in count(1010):
        world = World(Plan(seed))
        world.run()
        world.journal.finish()
        told = [done for done in world.journal.operations if done.what == "append" and done.effective]
        if len(told) > 1:
            return world
    raise AssertionError


def test_what_no_order_explains_is_caught() -> None:
    """Whatever else has been looked at: one wrong answer, or a state in which something is missing, is enough."""
    world = _world_in_which_much_was_told()
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

    def trace(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.simulation", "--seed", "12"]
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    assert trace("1") == trace("2")
