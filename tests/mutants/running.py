"""Trying a mutant: its killers first, then seeds of the simulator, each in a process of its own.

The processes are forked from one that has imported everything, which saves most of the time of a short test.
"""

import contextlib
import gc
import io
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import pytest_trio.plugin

import server.service
import tests.protocol.scripted
from tests.mutants.mutant import Mutant
from tests.simulation.runner import run
from tests.simulation.world import Plan

ROOT: Final = Path(__file__).parents[2]
TESTS_WAIT_S: Final = 60.0
"""A mutant whose killers hang so long is as dead as one that fails them."""
SEEDS_S: Final = 45.0
"""No further seed is begun after so long."""
SEEDS_WAIT_S: Final = 120.0
"""A run takes half a second: one that does not end is a finding."""
MODES: Final = ("safety", "liveness")
IMPORTED_ONCE: Final = (hypothesis, pytest_trio.plugin, server.service, tests.protocol.scripted)
"""What the forked processes would otherwise import, each for itself."""
NEEDLESS: Final = ("cacheprovider", "unraisableexception", "threadexception", "terminalreporter", "junitxml", "doctest")
"""Plugins of pytest that take time and change nothing."""
_FORK: Final = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    killer: str | None
    """The test or seed that noticed; None when it survived."""
    how: str
    """What the killer said, in a line."""
    seconds: float

    tried: bool = True
    """False when the mutant or its tests could not be run."""

    @property
    def sound(self) -> bool:
        """Whether it went as it should: killed, unless nothing can kill it."""
        return self.tried and (self.killer is None) == bool(self.mutant.superfluous)

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if not self.tried:
            return "NOT TRIED"
        if self.killer is not None:
            return "killed" if self.sound else "NOT SUPERFLUOUS"
        return "superfluous" if self.sound else "SURVIVED"


class MutantFailed(Exception):
    """A mutant could not be tried."""


Found = tuple[str, str]
"""A killer and what it said."""


def try_mutant(mutant: Mutant, seeds: int) -> Verdict:
    """Run its killers, and so many seeds of each mode of the simulator if they all pass."""
    began = time.monotonic()
    found = None
    gc.freeze()  # or every child would go through all that is imported, more than once
    try:
        if mutant.killers:
            found = _in_child(_run_tests, (mutant,), TESTS_WAIT_S, "its tests")
        if found is None and seeds:
            found = _in_child(_run_seeds, (mutant, seeds), SEEDS_WAIT_S, "the simulator")
    except MutantFailed as error:
        return Verdict(mutant, None, str(error), time.monotonic() - began, tried=False)
    killer, how = found or (None, "")
    return Verdict(mutant, killer, how, time.monotonic() - began)


def _in_child(work: Callable[..., Found | None], arguments: tuple[Any, ...], wait_s: float, what: str) -> Found | None:
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_report, args=(theirs, work, arguments))
    child.start()
    theirs.close()
    try:
        if not ours.poll(wait_s):
            return what, f"not done after {wait_s:.0f} s"
        found: Found | MutantFailed | None = ours.recv()
        if isinstance(found, MutantFailed):
            raise found
        return found
    except EOFError:
        return what, "the process died"
    finally:
        child.kill()
        child.join()
        ours.close()


def _report(pipe: Connection, work: Callable[..., Found | None], arguments: tuple[Any, ...]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            pipe.send(work(*arguments))
    except Exception as error:  # must not pass for a mutant that is dead
        pipe.send(MutantFailed(f"{type(error).__name__}: {error}\n{said.getvalue()[-2_000:]}"))


class _FirstFailure:
    """A pytest plugin that keeps which test failed first and why.

    An error while a test is set up has noticed nothing, unless an assertion has failed there.
    """

    def __init__(self) -> None:
        self.found: Found | None = None
        self.not_set_up: Found | None = None
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed
        if not report.failed:
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        text = str(report.longrepr) if crash is None else crash.message
        failure = report.nodeid, text.strip().partition("\n")[0]
        if report.when == "setup" and not failure[1].startswith("AssertionError"):
            self.not_set_up = self.not_set_up or failure
        else:
            self.found = self.found or failure


def _run_tests(mutant: Mutant) -> Found | None:
    seen = _FirstFailure()
    arguments = ["-x", "-q", "--assert=plain", "--tb=line", "-p", "tests.mutants.plugin", "--mutant", mutant.name]
    for plugin in NEEDLESS:
        arguments += ["-p", f"no:{plugin}"]
    code = pytest.main([*arguments, f"--rootdir={ROOT}", *_absolute(mutant.killers)], plugins=[seen])
    if seen.found is None and seen.not_set_up is not None:
        raise MutantFailed(": ".join(("set-up failed", *seen.not_set_up)))
    if seen.found is None and (code != pytest.ExitCode.OK or not seen.passed):
        raise MutantFailed(f"the tests that are to kill {mutant.name} cannot be run: {code!r}")
    return seen.found


def _absolute(killers: Sequence[str]) -> list[str]:
    return [str(ROOT / killer) for killer in killers]


def _run_seeds(mutant: Mutant, seeds: int) -> Found | None:
    mutant.apply()
    began = time.monotonic()
    for seed in range(seeds):
        for mode in MODES:
            if time.monotonic() - began > SEEDS_S:
                return None
            outcome = run(Plan(seed, mode=mode))
            if outcome.violation is not None:
                return f"seed {seed} {mode}", outcome.violation.partition("\n")[0]
    return None
