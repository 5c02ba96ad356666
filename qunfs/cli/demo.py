"""``qunfs demo``: the whole system at work, faults included, on a temporary cluster."""

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from qunfs.cli.bench.postmark import FILES, TRANSACTIONS
from qunfs.cli.options import Durability, DurabilityOption
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from bench.postmark import Counts, Progress, Result
    from bench.system import System
    from qunfs.cli.demo_story import Story
    from qunfs.cli.demo_view import View

STALL_SECONDS_MAX: Final = 120.0
"""PostMark and the client's counters stand still this long: something is wrong, and waiting longer helps nobody."""

SETTLE_SECONDS: Final = 1.5
"""The mount publishes its counters once a second."""


def demo(
    malevolent: Annotated[int, typer.Option("-b", min=0, metavar="N", help="Malevolent replicas to tolerate.")] = 1,
    durability: DurabilityOption = Durability.ASYNC,
    files: Annotated[int, typer.Option(min=1, metavar="N", help="Files that PostMark starts with.")] = FILES,
    transactions: Annotated[int, typer.Option(min=10, metavar="N", help="Transactions on them.")] = TRANSACTIONS,
) -> None:
    """Show the system at work.

    It starts replicas, mounts them and runs PostMark on the mount, with crashes and lies meanwhile.  Half-way
    through PostMark b replicas are killed; they come back; then b others give wrong answers.  At the end PostMark's
    counts are checked and tables say what happened.  All of it lives in a temporary directory and is gone
    afterwards, also after Ctrl-C.

    \b
    Example:
      qunfs demo
      qunfs demo -b 2 --files 500 --transactions 2000

    Exit codes: 0 PostMark counted right, 1 it did not or something failed, 2 wrong usage, 130 interrupted.
    """
    from bench import postmark
    from bench.system import interruptible, temporary_system
    from qunfs.cli.demo_view import View
    from qunfs.cli.output import console

    out = console()
    began = time.monotonic()
    out.print(f"b={malevolent}, durability {durability}, PostMark with {files} files and {transactions} transactions")
    if malevolent == 0:
        out.print("b=0 tolerates no fault: one replica, and the part with crashes and lies is left out")
    view = View(out, transactions)
    with interruptible(), temporary_system(malevolent, durability.value, on_step=view.step) as system:
        expected = postmark.expected_counts(system.scratch, files, transactions)
        out.print(f"mounted on {system.mountpoint}")
        _run(system, view, expected, files, transactions)
    out.print(f"nothing is left of it; {time.monotonic() - began:.0f} s in all")


def _run(system: "System", view: "View", expected: "Counts", files: int, transactions: int) -> None:
    """PostMark with the faults, then the tables.  Raises LocalError when PostMark was wrong."""
    from bench import postmark
    from bench.mounted import check
    from qunfs.cli.demo_story import Story
    from qunfs.cli.output import console

    story = Story(system, view.event)
    watch = _Watch(system, story, view)
    with view:
        result = postmark.run(system.mountpoint, system.scratch, files, transactions, watch)
        on_time = story.finished
        story.complete()
    console().print(_report(system, story, result))
    check(result, expected)
    left = list(system.mountpoint.iterdir())
    if left:
        raise LocalError(f"PostMark deleted everything, yet the mount shows {len(left)} names")
    console().print("PostMark's counts are right and it left no file behind")
    if not on_time:
        console().print("the run was too short for all its faults; give more --transactions to see PostMark meet them")


def _report(system: "System", story: "Story", result: "Result") -> "object":
    from qunfs.cli.demo_view import tables
    from qunfs.cli.status import ask, replica_rows

    time.sleep(SETTLE_SECONDS)
    rows = replica_rows(system.cluster, ask(system.cluster, None))
    return tables(result, rows, story.roles, system.statistics())


class _Watch:
    """Called with PostMark's progress: plays the story, draws, and gives up when nothing moves any more."""

    def __init__(self, system: "System", story: "Story", view: "View") -> None:
        self._system, self._story, self._view = system, story, view
        self._last: object = None
        self._moved = time.monotonic()

    def __call__(self, progress: "Progress") -> None:
        self._story.advance(progress)
        statistics, waiting = self._system.statistics(), self._system.waiting()
        self._view.progress(progress, self._story.doing, statistics, waiting)
        state = (progress.phase, progress.tenths, progress.share, statistics.get("operations"))
        if state != self._last:
            self._last, self._moved = state, time.monotonic()
        elif time.monotonic() - self._moved > STALL_SECONDS_MAX:
            raise LocalError(f"nothing has moved for {STALL_SECONDS_MAX:.0f} s: {waiting or 'the reason is unknown'}")
