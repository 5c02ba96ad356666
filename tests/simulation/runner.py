"""Running one seed or many, and what is to be said of it."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.simulation.oracles import Violation
from tests.simulation.world import Plan, World


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
    world = World(plan, trace)
    try:
        world.run()
    except Violation as error:
        violation = str(error)
    except Exception as error:  # whatever escapes the production code is a finding
        violation = f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error)[-4:])}"
    operations = world.journal.operations
    completed = sum(1 for o in operations if o.ended is not None)
    return Outcome(plan, violation, len(operations), completed, world.clock.events, world.clock.now, world.seen)


def run_many(plans: Iterable[Plan], jobs: int = 1) -> Iterator[Outcome]:
    """Runs in the order of their plans."""
    if jobs == 1:
        yield from map(run, plans)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, plans, chunksize=8)


def add_up(outcomes: Iterable[Outcome]) -> Counter[str]:
    """What was seen over several runs; the names with "long" or "most" are maxima."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        for name, value in outcome.seen.items():
            largest = name.startswith(("longest", "most"))
            total[name] = max(total[name], value) if largest else total[name] + value
        total["runs"] += 1
        total["operations begun"] += outcome.operations
        total["operations completed"] += outcome.completed
        total["events"] += outcome.events
    return total
