"""What was seen over many runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tests.simulation.runner import Outcome

SOMETIMES: Final = (
    "copy accepted",
    "joint copy accepted",
    "copy of a repairable record",
    "inline_repair",
    "adopted",
    "proof by base",
    "duplicate hit",
    "base inserted",
    "skip",
    "culled",
    "too late",
    "syncs",
    "answered",
    "repeated",
    "server crashes",
    "client crashes",
)
"""Rare paths: a range of some length in which one was never walked comes from too kind a simulator."""
_OF_FILES: Final = (
    "rename over another",
    "directory to another parent",
    "existing file taken",
    "told to RETRY",
    "told STALE",
    "joint record adopted",
    "procedures cut short",
)
"""Rare paths of runs on a file system, beside the others."""
PATHS: Final = {"ledgers": SOMETIMES, "files": SOMETIMES + _OF_FILES}
"""Rare paths by workload."""


class Tally:
    """Sums and maxima over outcomes."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.total: Counter[str] = Counter()
        """By name; those that begin with "longest" or "most" are maxima."""
        self.violations: list[Outcome] = []
        self._paths = dict.fromkeys(SOMETIMES)
        """In order; those of all workloads seen."""
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: Outcome) -> None:
        """Count one more run."""
        total = self.total
        for name, value in outcome.seen.items():
            largest = name.startswith(("longest", "most"))
            total[name] = max(total[name], value) if largest else total[name] + value
        total["runs"] += 1
        self._paths |= dict.fromkeys(PATHS[outcome.plan.workload])
        total["operations begun"] += outcome.operations
        total["operations completed"] += outcome.completed
        total["events"] += outcome.events
        if outcome.violation is not None:
            self.violations.append(outcome)

    def never(self) -> list[str]:
        """The rare paths that no run has walked."""
        return [name for name in self._paths if not self.total[name]]

    def lines(self) -> Iterator[str]:
        """All of it for a reader, the rare paths and the adversaries' doings apart."""
        total = self.total
        yield (
            f"{total['runs']} seeds, {len(self.violations)} violations; {total['operations begun']} operations begun, "
            f"{total['operations completed']} completed; {total['events']} events; longest history "
            f"{total['longest history']}"
        )
        yield "sometimes:"
        for name in self._paths:
            yield f"{total[name] or 'never':>12}  {name}"
        yield "counters:"
        for name in sorted(set(total) - set(self._paths)):
            yield f"{total[name]:>12}  {name}"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")
