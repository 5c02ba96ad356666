"""``qunfs bench counter``: closed loops on counters (paper, Figures 4 and 5)."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qunfs.cli.bench.options import (
    ONE_FAULT,
    ONE_TO_PEAK,
    AttemptsOption,
    ClientsOption,
    FaultsOption,
    JsonOption,
    Numbers,
    PlaceOption,
    PlotOption,
    RepeatOption,
    SecondsOption,
    WarmUpOption,
)
from qunfs.cli.bench.output import COMMON, View, field, sink, spread
from qunfs.cli.options import Durability, DurabilityOption

if TYPE_CHECKING:
    from bench.measuring.runs import Timing


class CounterOperation(StrEnum):
    """What the loops do."""

    INCREMENT = "increment"
    FETCH = "fetch"


def counter(
    faults: FaultsOption = ONE_FAULT,
    clients: ClientsOption = ONE_TO_PEAK,
    seconds: SecondsOption = 5.0,
    warm_up: WarmUpOption = 1.0,
    repeat: RepeatOption = 1,
    operation: Annotated[CounterOperation, typer.Option(help="An update or a query.")] = CounterOperation.INCREMENT,
    durability: DurabilityOption = Durability.ASYNC,
    processes: Annotated[
        int, typer.Option(min=0, max=64, metavar="P", help="Client processes; 0: one for every 32 loops.")
    ] = 0,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Figure 5: without authenticators, uncached histories, random quorums; pure Python."
        ),
    ] = False,
    attempts: AttemptsOption = 3,
    place: PlaceOption = None,
    json_to: JsonOption = None,
    plot_to: PlotOption = None,
) -> None:
    """Increment counters as fast as it goes.

    Clients are closed loops, each on a counter of its own.  With several numbers of clients the best one of each
    level of faults is its peak.  All servers and clients share this machine's processors: beside what is measured
    there is a projection of what servers would do with a machine each.

    \b
    Example:
      qunfs bench counter --faults 0-5 --clients 1,16 --repeat 5 --json counter.json --plot plots
      qunfs bench counter --faults 1 --clients 1 --seconds 5 --json -
      qunfs bench counter --details --faults 1,3,5 --json details.json

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench.measuring.document import document
    from bench.measuring.runs import Timing
    from bench.system import interruptible

    if details and operation is not CounterOperation.INCREMENT:
        raise typer.BadParameter("--details is about increments: leave out --operation")
    timing = Timing(seconds, warm_up, repeat, attempts)
    with interruptible(), sink(json_to, plot_to) as out, View() as view:
        records: list[dict[str, Any]] = []
        for b in faults:
            if details:
                records += _details(b, clients, processes, durability, timing, place, view)
            else:
                records += _level(b, clients, processes, operation, durability, timing, place, view)
        columns = (COLUMNS[0], ("variant", field("variant")), *COLUMNS[1:]) if details else COLUMNS
        out.finish(document("details" if details else "counter", records), columns, view, plot_to)


def _level(
    b: int,
    clients: Numbers,
    processes: int,
    operation: CounterOperation,
    durability: Durability,
    timing: "Timing",
    place: PlaceOption,
    view: "View",
) -> list[dict[str, Any]]:
    """The records of one level of faults."""
    from bench.counter import Load, measure, peak, tell_of
    from bench.replicas import observed
    from bench.system import temporary_replicas

    records = []
    with (
        temporary_replicas(b, durability.value, place, view.of(b), clients=16) as system,
        observed(system) as servers,
    ):
        for count in clients:
            load = Load(count, processes, operation.value)
            records.append(measure(system, servers, load, timing, view.progress))
            view.done(tell_of(records[-1]))
    if len(records) > 1:
        peak(records)["peak"] = True
    return records


def _details(
    b: int,
    clients: Numbers,
    processes: int,
    durability: Durability,
    timing: "Timing",
    place: PlaceOption,
    view: View,
) -> list[dict[str, Any]]:
    """The records of all variants at one level of faults."""
    from bench.counter import tell_of
    from bench.details import level

    def on_record(one: dict[str, Any]) -> None:
        view.done(f"{one['variant']}: {tell_of(one)}")

    return level(b, clients, processes, durability.value, timing, place, view.of(b), view.progress, on_record)


COLUMNS: Final = (
    ("b", field("b", digits=0)),
    ("n", field("n", digits=0)),
    ("clients", field("clients", digits=0)),
    *COMMON,
    ("range", spread),
    ("", lambda one: "peak" if one.get("peak") else ""),
)
