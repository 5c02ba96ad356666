"""Running one seed or many, and what came of it."""

import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from types import TracebackType
from typing import Final, Self

from tests.simulation.files import FilesWorld
from tests.simulation.oracles import Violation
from tests.simulation.stories import STORIES
from tests.simulation.world import DEFAULT_WORKLOAD, Plan, World

AHEAD: Final = 4
"""Runs per process that are under way or waiting: enough to keep all busy behind a long one."""
WORKLOADS: Final[dict[str, type[World]]] = {"ledgers": World, "files": FilesWorld}


@dataclass(frozen=True)
class Outcome:
    """How a run ended; ``violation`` is None when every oracle was content."""

    plan: Plan
    violation: str | None
    operations: int
    completed: int
    events: int
    seconds: float
    seen: Counter[str]


def run(plan: Plan, trace: Callable[[str], None] | None = None) -> Outcome:
    """One run.  An exception that no rule allows for is a violation too."""
    violation = None
    world = STORIES.get(plan, WORKLOADS[plan.workload])(plan, trace)
    try:
        world.run()
    except Violation as error:
        violation = str(error)
    except Exception as error:  # whatever escapes the production code is a finding
        violation = f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error)[-4:])}"
    operations = world.journal.operations
    completed = sum(1 for o in operations if o.ended is not None)
    return Outcome(plan, violation, len(operations), completed, world.clock.events, world.clock.now, world.seen)


def options(plan: Plan) -> str:
    """What to say to ``python -m tests.simulation``, beside the seeds, for such a run."""
    if plan.levels:
        said = "--levels " + " ".join(f"{b},{t}" for b, t in plan.levels)
    else:
        said = f"-b {plan.b}" + ("" if plan.t is None else f" -t {plan.t}")
    said += f" --mode {plan.mode}" + ("" if plan.malevolent is None else f" --malevolent {plan.malevolent}")
    return said + ("" if plan.workload == DEFAULT_WORKLOAD else f" --workload {plan.workload}")


def complaint(outcome: Outcome) -> str:
    """Which rule a run broke, and the command that replays it."""
    plan = outcome.plan
    return f"VIOLATION with --seed {plan.seed} {options(plan)}: {outcome.violation}"


class Workers:
    """Processes that run seeds; with one job this process does.

    They are new interpreters, so that they run compiled code where there is some, whatever their parent runs.
    """

    def __init__(self, jobs: int) -> None:
        self._ahead = AHEAD * jobs
        self._pool = None if jobs == 1 else ProcessPoolExecutor(jobs, get_context("spawn"), _obey_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, plans: Iterable[Plan]) -> Iterator[Outcome]:
        """The outcomes in the order of the plans, which are asked for as runs end and may have no end."""
        if self._pool is None:
            yield from map(run, plans)
            return
        waiting: deque[Future[Outcome]] = deque()
        try:
            for plan in plans:
                waiting.append(self._pool.submit(run, plan))
                if len(waiting) >= self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            error.add_note(f"a process died in one of the {self._ahead} runs from {plan} backwards")
            raise
        finally:
            for future in waiting:
                future.cancel()


def _obey_parent() -> None:
    """Leave Ctrl-C to the parent, and end when it has been killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
