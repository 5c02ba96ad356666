"""``qunfs bench contention``: response times of clients that contend for one object (paper, Table 2)."""

from typing import Annotated, Any, Final

import typer

from qunfs.cli.bench.counter import CounterOperation
from qunfs.cli.bench.options import (
    AttemptsOption,
    JsonOption,
    OneLevelOption,
    PlaceOption,
    PlotOption,
    RepeatOption,
    SecondsOption,
    WarmUpOption,
)
from qunfs.cli.bench.output import Figures, View, field, number, sink
from qunfs.cli.options import Durability, DurabilityOption


def contention(
    faults: OneLevelOption = 1,
    operations: Annotated[
        list[CounterOperation] | None,
        typer.Option("--operation", help="What the four others do; both by default, one after the other."),
    ] = None,
    seconds: SecondsOption = 5.0,
    warm_up: WarmUpOption = 1.0,
    repeat: RepeatOption = 1,
    durability: DurabilityOption = Durability.ASYNC,
    attempts: AttemptsOption = 3,
    place: PlaceOption = None,
    json_to: JsonOption = None,
    plot_to: PlotOption = None,
) -> None:
    """Let clients contend.

    Five clients run.  One increments a shared counter; of the four others, none to all work on the shared one too
    (contending), the rest on counters of their own (isolated).  Clients that increment read the histories first.

    \b
    Example:
      qunfs bench contention --repeat 5 --json contention.json --plot plots

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench import contention as workload
    from bench.measuring.document import document
    from bench.measuring.runs import Timing
    from bench.replicas import observed
    from bench.system import interruptible, temporary_replicas

    timing = Timing(seconds, warm_up, repeat, attempts)
    with interruptible(), sink(json_to, plot_to) as out, View() as view:
        records: list[dict[str, Any]] = []
        with (
            temporary_replicas(faults, durability.value, place, view.step, clients=workload.CLIENTS) as system,
            observed(system) as servers,
        ):
            for operation in operations or [CounterOperation.FETCH, CounterOperation.INCREMENT]:
                view.step(f"contending: {operation}")
                records.append(workload.measure(system, servers, operation.value, timing, view.progress))
        out.finish(document("contention", records), COLUMNS, view, plot_to, rows(records))


def rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each number of contending clients."""
    return [{**one, **part} for one in records for part in one["parts"]]


def _paper(kind: str) -> "Any":
    def cell(one: Figures) -> str:
        from bench.paper import CONTENTION_US

        return number(CONTENTION_US[one["operation"]][kind].get(one["contending_clients"]) if one["b"] == 1 else None)

    return cell


COLUMNS: Final = (
    ("operation", field("operation")),
    ("contending", field("contending_clients", digits=0)),
    ("isolated us", field("isolated", "mean", digits=0)),
    ("paper", _paper("isolated")),
    ("contending us", field("contending", "mean", digits=0)),
    ("paper", _paper("contending")),
    ("deviation", field("contending", "deviation", digits=0)),
    ("p99", field("contending", "p99", digits=0)),
    ("shared us", field("shared", "mean", digits=0)),
    ("trips/op", field("round_trips_per_op", digits=2)),
    ("repairs/op", field("repairs_per_op", digits=3)),
)
