"""Seeds for as long as one likes: every workload, configuration and mode in turn, each counted for itself."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.simulation.runner import WORKLOADS, Outcome, Workers, options
from tests.simulation.tally import PATHS, Tally, markdown
from tests.simulation.world import Plan

FAULTS: Final = ((1, None), (2, None), (1, 2))
"""b and t of each configuration."""
MODES: Final = ("safety", "liveness")
SHOWN_EVERY_S: Final = 5.0


def in_turn(first: int) -> Iterator[Plan]:
    """Each seed from the first on with every workload and configuration in both modes, without end."""
    for seed in itertools.count(first):
        for workload in WORKLOADS:
            for b, t in FAULTS:
                for mode in MODES:
                    yield Plan(seed, b, t, mode, workload=workload)


def _first_turn() -> Iterator[Plan]:
    return itertools.islice(in_turn(0), len(WORKLOADS) * len(FAULTS) * len(MODES))


def until(plans: Iterable[Plan], deadline: float) -> Iterator[Plan]:
    """Plans for as long as the monotonic clock has not reached a time."""
    for plan in plans:
        if time.monotonic() >= deadline:
            return
        yield plan


class Progress:
    """Lines that say how far a long range has come and how long it may still take."""

    def __init__(self, say: Callable[[str], None], runs: int | None = None, seconds: float | None = None) -> None:
        self._say, self._runs, self._seconds = say, runs, seconds
        self._began = self._shown = time.monotonic()

    def show(self, tally: Tally, last: Outcome) -> None:
        """Say it, unless it has just been said."""
        now = time.monotonic()
        if now - self._shown < SHOWN_EVERY_S:
            return
        self._shown = now
        passed, done = now - self._began, tally.total["runs"]
        of = "" if self._runs is None else f" of {self._runs}"
        left = (self._seconds or 0) - passed if self._runs is None else passed / done * (self._runs - done)
        self._say(
            f"... seed {last.plan.seed}: {done}{of} seeds, {len(tally.violations)} violations, "
            f"{tally.total['operations begun']} operations, {tally.total['events']} events, "
            f"{done / passed:.1f} seeds/s, {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


class Campaign:
    """What came of it, by configuration and mode."""

    def __init__(self) -> None:
        self.all = Tally()
        self._kinds = {options(plan): Tally() for plan in _first_turn()}
        self._began = time.monotonic()
        self.seconds = 0.0

    def run(self, first: int, minutes: float, workers: Workers, say: Callable[[str], None]) -> Iterator[Outcome]:
        """Run seeds from the first on until time is over; each outcome, when it has been counted."""
        progress = Progress(say, seconds=60 * minutes)
        self._began = time.monotonic()
        for outcome in workers.run(until(in_turn(first), self._began + 60 * minutes)):
            self.add(outcome)
            yield outcome
            progress.show(self.all, outcome)

    def add(self, outcome: Outcome) -> None:
        """Count one more run."""
        self.all.add(outcome)
        self._kinds[options(outcome.plan)].add(outcome)
        self.seconds = time.monotonic() - self._began

    def table(self) -> Iterator[str]:
        """A row for each workload, configuration and mode, and one for all."""
        heads = ["options", "seeds", "violations", "operations", "completed", "events", "longest history"]
        rows = [*((f"`{kind}`", tally) for kind, tally in self._kinds.items()), ("all", self.all)]
        yield from markdown(heads, ([kind, *_figures(tally)] for kind, tally in rows))

    def sometimes(self, workload: str) -> Iterator[str]:
        """How often each configuration and mode with a workload walked its rare paths."""
        kinds = [options(plan) for plan in _first_turn() if plan.workload == workload]
        yield from markdown(
            ["path", *(f"`{kind}`" for kind in kinds)],
            ([name, *(self._kinds[kind].total[name] for kind in kinds)] for name in PATHS[workload]),
        )


def _figures(tally: Tally) -> list[int]:
    total = tally.total
    counted = [total[name] for name in ("operations begun", "operations completed", "events", "longest history")]
    return [total["runs"], len(tally.violations), *counted]
