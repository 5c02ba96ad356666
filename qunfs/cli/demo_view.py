"""What the demonstration shows while it runs: a live picture on a terminal, lines elsewhere; tables at the end."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bench.postmark import Phase, Result
from bench.postmark import Progress as PostmarkProgress
from qunfs.cli.demo_story import Event
from qunfs.cli.status import FIGURES, figures

ALWAYS_COUNTED: Final = ("operations", "queries", "updates", "repairs")
"""Counters of the client that are told even when they are zero."""

PHASES: Final = (Phase.CREATION, Phase.TRANSACTIONS, Phase.DELETION)
MARKS: Final = {
    "correct": ("●", "green"),
    "killed": ("✗", "red"),
    "starting": ("◌", "yellow"),
    "lying": ("☻", "magenta"),
}


class View:
    """The live picture; a context manager, so that the terminal is right again however the run ends."""

    def __init__(self, console: Console, transactions: int) -> None:
        self._console, self._transactions = console, transactions
        self._bars = Progress(
            TextColumn("  {task.description:<13}"),
            BarColumn(40),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks = {phase: self._bars.add_task(phase, total=1.0, start=False, note="") for phase in PHASES}
        self._events: list[Text] = []
        self._replicas, self._client = Text(), Text()
        self._live = Live(self._picture(), console=console, refresh_per_second=5, transient=False)
        self._plain = ""
        self._phase = Phase.START

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def step(self, text: str) -> None:
        """Something of the setting-up or taking-down is done."""
        self._console.print(f"{text} ...")

    def event(self, event: Event) -> None:
        """A fault or its end."""
        line = Text(f"  {_clock(event.seconds)}  {event.text}", style="bold")
        self._events.append(line)
        if not self._console.is_terminal:
            self._console.print(line)

    def progress(
        self, at: PostmarkProgress, doing: Mapping[int, str], statistics: Mapping[str, float], waiting: str | None
    ) -> None:
        """PostMark is here, the replicas do this, the mount's client counts that."""
        self._move(at)
        self._replicas = Text("  replicas     ")
        for server, state in doing.items():
            mark, colour = MARKS[state]
            self._replicas.append(f" {server} {mark} ", style=colour)
        self._client = Text(f"  client        {describe(statistics)}")
        if waiting:
            self._client = Text(f"  operations wait: {waiting}", style="red")
        if self._console.is_terminal:
            self._live.update(self._picture())
            return
        plain = f"  PostMark: {at.phase}" + (f", {at.tenths} of 10" if at.phase is Phase.TRANSACTIONS else "")
        if plain != self._plain and at.phase in PHASES:
            self._console.print(plain)
            self._plain = plain

    def _move(self, at: PostmarkProgress) -> None:
        """Bring the bars to where PostMark is; those of the phases before it are full and stand still."""
        order = list(Phase)
        for phase, task in self._tasks.items():
            if order.index(phase) < order.index(at.phase):
                self._bars.update(task, completed=1.0, visible=True)
                self._bars.stop_task(task)
        if at.phase not in self._tasks:
            return
        task = self._tasks[at.phase]
        if at.phase is not self._phase:
            self._bars.start_task(task)
            self._phase = at.phase
        note = ""
        if at.phase is Phase.TRANSACTIONS and at.share and at.seconds > 1:
            note = f"{at.share * self._transactions / at.seconds:,.0f}/s"
        self._bars.update(task, completed=at.share or 0.0, note=note)

    def _picture(self) -> Group:
        return Group(self._bars, self._replicas, self._client, *self._events)


def describe(statistics: Mapping[str, float]) -> str:
    """The client's work in one line."""
    return ", ".join(f"{statistics.get(name, 0):,.0f} {name}" for name in ("operations", "repairs"))


def tables(
    result: Result, rows: Sequence[Mapping[str, Any]], roles: Mapping[int, str], statistics: Mapping[str, float]
) -> Group:
    """What happened: PostMark's figures, the client's counters, what each replica did."""
    return Group(_postmark_table(result), _client_table(statistics), _replica_table(rows, roles))


def _postmark_table(result: Result) -> Table:
    table = Table(title="PostMark", title_justify="left")
    for title in (
        "transactions/s",
        "creation s",
        "transactions s",
        "deletion s",
        "created",
        "read",
        "appended",
        "deleted",
    ):
        table.add_column(title, justify="right")
    counts = result.counts
    seconds = (result.creation_s, result.transactions_s, result.deletion_s)
    numbers = (counts.created, counts.read, counts.appended, counts.deleted)
    table.add_row(f"{result.transactions_per_s:,.1f}", *(f"{s:.1f}" for s in seconds), *map(str, numbers))
    return table


def _client_table(statistics: Mapping[str, float]) -> Table:
    shown = {name: statistics.get(name, 0) for name in ALWAYS_COUNTED} | dict(statistics)
    table = Table("counter", title="The mount's client", title_justify="left")
    table.add_column("value", justify="right")
    for name, value in shown.items():
        table.add_row(name.replace("_", " "), f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}")
    return table


def _replica_table(rows: Sequence[Mapping[str, Any]], roles: Mapping[int, str]) -> Table:
    table = Table("replica", "what it was", title="The replicas, since each one started", title_justify="left")
    for name in (*FIGURES, "lies"):
        table.add_column(name, justify="right")
    for row in rows:
        lies = f"{row['lies']:,}" if row.get("lies") else "-"
        table.add_row(str(row["server"]), roles[row["server"]], *figures(row).values(), lies)
    return table


def _clock(seconds: float) -> str:
    return time.strftime("%M:%S", time.gmtime(seconds))
