"""How benchmarks speak: live progress on the terminal, a table at the end, JSON, plots."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qunfs.cli.output import Status, console, say
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from rich.table import Table

Figures = Mapping[str, Any]
Column = tuple[str, Callable[[Figures], str]]


class View:
    """What goes on, on one line of the terminal; elsewhere a line for each thing that is done."""

    def __init__(self) -> None:
        self._status = Status()

    def step(self, text: str) -> None:
        """Something new has begun."""
        self._status.show(text)

    def of(self, b: int) -> Callable[[str], None]:
        """The same for steps at a level of faults."""
        return lambda text: self.step(f"b={b}: {text}")

    def progress(self, text: str) -> None:
        """How far it is: only for a terminal, where the line is written over."""
        if self._status.interactive:
            self._status.show(text)

    def done(self, text: str) -> None:
        """A line that stays."""
        self._status.clear()
        say(text)

    def clear(self) -> None:
        """Nothing goes on any more."""
        self._status.clear()

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *_: object) -> None:
        self._status.clear()


class Sink:
    """Where results go, opened before anything is measured, so that a wrong name costs no run."""

    def __init__(self, json_to: str | None) -> None:
        self._json_to = json_to

    @property
    def wants_table(self) -> bool:
        """Whether standard output is free for people."""
        return self._json_to != "-"

    def finish(
        self,
        made: Figures,
        columns: Sequence[Column],
        view: View,
        plot_to: Path | None = None,
        rows: Sequence[Figures] | None = None,
    ) -> None:
        """The document where it was asked for, a table of its results (or of ``rows``), plots."""
        view.clear()
        self._write(made, columns, made["results"] if rows is None else rows)
        if plot_to is not None:
            from bench.plots import plot

            for path in plot([made], plot_to):
                say(f"written: {path}")

    def only_json(self, made: Figures) -> None:
        """The document where it was asked for."""
        from bench.measuring.document import as_text, save

        if self._json_to == "-":
            print(as_text(dict(made)), end="")
        elif self._json_to is not None:
            save(dict(made), Path(self._json_to))
            say(f"written: {self._json_to}")

    def _write(self, made: Figures, columns: Sequence[Column], rows: Sequence[Figures]) -> None:
        if self.wants_table:
            console().print(table_of(rows, columns))
            for line in remarks(made["results"], columns):
                console().print(line)
        self.only_json(made)


@contextlib.contextmanager
def sink(json_to: str | None, plot_to: Path | None = None) -> Iterator[Sink]:
    """Where the block's results go.  Raises LocalError for a file or directory that cannot be written to."""
    if plot_to is not None:
        from bench.plots import require_matplotlib

        require_matplotlib()
        make_directory(plot_to)
    made = None
    if json_to is not None and json_to != "-":
        path = Path(json_to)
        made = path if not path.exists() else None
        try:
            path.open("a").close()
        except OSError as error:
            raise LocalError(f"{json_to}: {error.strerror}; name another file") from error
    try:
        yield Sink(json_to)
    except BaseException:
        if made is not None:
            made.unlink(missing_ok=True)
        raise


def make_directory(directory: Path) -> None:
    """A directory to write to.  Raises LocalError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".qunfs-bench"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LocalError(f"{directory}: {error.strerror}; name a directory that you can write to") from error


# Tables


def table_of(records: Sequence[Figures], columns: Sequence[Column]) -> "Table":
    """Records as rows."""
    from rich.table import Table

    table = Table()
    for name, _ in columns:
        table.add_column(name, justify="right", overflow="fold")
    for one in records:
        table.add_row(*[cell(one) for _, cell in columns])
    return table


def number(value: float | None, digits: int | None = None) -> str:
    """A figure for a table: three digits that mean something, thousands apart."""
    if value is None:
        return "-"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def field(*path: str, digits: int | None = None) -> Callable[[Figures], str]:
    """A figure of a record, by where it is."""

    def cell(one: Figures) -> str:
        value: Any = one
        for name in path:
            value = None if value is None else value.get(name)
        return str(value) if isinstance(value, str) else number(value, digits)

    return cell


def throughput(one: Figures) -> str:
    """Operations per second, marked when others disturbed the runs."""
    return number(one["ops_per_s"]) + ("*" if one["disturbed"] else "")


COMMON: Final[tuple[Column, ...]] = (
    ("ops/s", throughput),
    ("p50 us", field("latency_us", "p50", digits=0)),
    ("p90", field("latency_us", "p90", digits=0)),
    ("p99", field("latency_us", "p99", digits=0)),
    ("server us/request", field("server_cpu_us_per_request", "median")),
    ("busiest", field("server_cpu_us_per_request", "max")),
    ("client us/op", field("client_cpu_us_per_op", digits=0)),
    ("KB/op", lambda one: number(one["wire_bytes_per_op"] / 1000, 1)),
    ("trips/op", field("round_trips_per_op", digits=2)),
    ("projected ops/s", field("projected_ops_per_s", digits=0)),
)
"""Columns of every workload of closed loops."""


def remarks(records: Sequence[Figures], columns: Sequence[Column]) -> list[str]:
    """What must be said below a table."""
    lines = []
    if any(one["disturbed"] for one in records):
        lines.append("* others used more than 5 % of the processors at each attempt: foreign_cpu in the JSON")
    if any(name.startswith("projected") for name, _ in columns):
        lines.append(
            "projected: not measured; (n/q) / the busiest server's CPU per request and round trip, were each server a "
            "machine of its own"
        )
    return lines


def spread(one: Figures) -> str:
    """The range over the runs of a record."""
    values = [run["ops_per_s"] for run in one["runs"]]
    return f"{number(min(values))}-{number(max(values))}" if len(values) > 1 else "-"
