"""``qunfs bench scale``: what an operation costs as things grow."""

from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from qunfs.cli.bench.options import (
    AttemptsOption,
    JsonOption,
    Numbers,
    OneLevelOption,
    PlaceOption,
    PlotOption,
    RepeatOption,
    SecondsOption,
    WarmUpOption,
    numbers,
)
from qunfs.cli.bench.output import View, field, number, sink, throughput
from qunfs.cli.options import Durability, DurabilityOption

SIZE_MAX: Final = 10_000_000
OWN_SIZES: Final = Numbers()


class What(StrEnum):
    """What grows."""

    NAMES = "names"
    OBJECTS = "objects"
    CLIENTS = "clients"
    UPDATES = "updates"


def _sizes(text: str) -> Numbers:
    return numbers(str(text), 1, SIZE_MAX) if str(text) else OWN_SIZES


def scale(
    what: Annotated[
        list[What] | None,
        typer.Option("--what", help="What grows; all of them by default, one after the other."),
    ] = None,
    sizes: Annotated[
        Numbers,
        typer.Option(parser=_sizes, metavar="N,...", show_default=False, help="How far, such as 10,1000 (one --what)."),
    ] = OWN_SIZES,
    faults: OneLevelOption = 1,
    count: Annotated[int, typer.Option(min=10, max=100_000, metavar="N", help="Calls of each procedure.")] = 300,
    seconds: SecondsOption = 5.0,
    warm_up: WarmUpOption = 1.0,
    repeat: RepeatOption = 1,
    durability: DurabilityOption = Durability.ASYNC,
    attempts: AttemptsOption = 3,
    place: PlaceOption = None,
    json_to: JsonOption = None,
    plot_to: PlotOption = None,
) -> None:
    """Let things grow.

    names: in a directory, 10 to 1,000,000 of them, where names are made, looked up, listed and removed.  objects:
    counters that one client goes round.  clients: closed loops on counters of their own.  updates: those that a
    counter has had before; versions that nobody needs any more must not cost anything.

    \b
    Example:
      qunfs bench scale --json scale.json --plot plots
      qunfs bench scale --what names --sizes 100,1000000

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench import scale as workload
    from bench.measuring.document import document
    from bench.measuring.runs import Timing
    from bench.system import interruptible

    chosen = what or list(What)
    if sizes and len(chosen) > 1:
        raise typer.BadParameter("--sizes: say with --what whose sizes they are")
    timing = Timing(seconds, warm_up, repeat, attempts)
    with interruptible(), sink(json_to, plot_to) as out, View() as view:
        records: list[dict[str, Any]] = []
        for one in chosen:
            for size in workload.sizes_of(one.value, sizes):
                records.append(_measure(one, size, faults, count, timing, durability, place, view))
                view.done(f"{size} {one}: p50 {records[-1]['latency_us']['p50']:,.0f} us")
        rows = [{**one, **part} for one in records for part in one.get("parts") or [one]]
        out.finish(document("scale", records), COLUMNS, view, plot_to, rows)


def _measure(
    what: What, size: int, b: int, count: int, timing: Any, durability: Durability, place: PlaceOption, view: View
) -> dict[str, Any]:
    """One size, on a cluster of its own: what was there before must not count."""
    from bench import scale as workload
    from bench.replicas import observed
    from bench.system import temporary_replicas

    with temporary_replicas(b, durability.value, place, view.of(b), clients=16) as system:
        view.step(f"{size} {what}")
        if what is What.NAMES:
            return workload.names(system, size, count, timing, view.progress)
        with observed(system) as servers:
            return workload.loops(system, servers, what.value, size, timing, view.progress)


COLUMNS: Final = (
    ("what", field("variant")),
    ("size", field("size", digits=0)),
    ("operation", field("operation")),
    ("ops/s", throughput),
    ("p50 us", field("latency_us", "p50", digits=0)),
    ("p90", field("latency_us", "p90", digits=0)),
    ("p99", field("latency_us", "p99", digits=0)),
    ("server us/request", field("server_cpu_us_per_request", "median")),
    ("client us/op", field("client_cpu_us_per_op", digits=0)),
    ("KB/op", lambda one: number(one["wire_bytes_per_op"] / 1000, 1)),
    ("server MB", field("memory_mb", "server_max", digits=0)),
)
