"""``qunfs bench sync``: what object sync and inline repair cost."""

from typing import Annotated, Any, Final

import typer

from qunfs.cli.bench.options import (
    FAULTS_MAX,
    JsonOption,
    PlaceOption,
    PlotOption,
    RepeatOption,
)
from qunfs.cli.bench.output import View, field, number, sink
from qunfs.cli.options import Durability, DurabilityOption

VARIANTS: Final = ("object sync", "inline repair")


def sync(
    faults: Annotated[
        int, typer.Option("--faults", "-b", min=1, max=FAULTS_MAX, metavar="B", help="Malevolent replicas to tolerate.")
    ] = 1,
    count: Annotated[int, typer.Option(min=1, max=2000, metavar="N", help="Counters that are worked on.")] = 200,
    repeat: RepeatOption = 1,
    durability: DurabilityOption = Durability.ASYNC,
    place: PlaceOption = None,
    json_to: JsonOption = None,
    plot_to: PlotOption = None,
) -> None:
    """Have replicas catch up.

    object sync: a replica was down while counters were incremented, and fetches each of them at the next increment.
    inline repair: increments were accepted by too few replicas when their client went away, and the next client
    completes each.  "first" is that next increment, "again" one more of each counter, when nothing is amiss.

    \b
    Example:
      qunfs bench sync --repeat 5 --json sync.json

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench import syncing
    from bench.measuring.document import document
    from bench.measuring.runs import Timing
    from bench.system import interruptible, temporary_replicas

    with interruptible(), sink(json_to, plot_to) as out, View() as view:
        records: list[dict[str, Any]] = []
        for variant in VARIANTS:
            with temporary_replicas(faults, durability.value, place, view.step) as system:
                view.step(variant)
                records.append(syncing.measure(system, variant, count, Timing(0, 0, repeat), view.progress))
        rows = [{**one, **part} for one in records for part in one["parts"]]
        out.finish(document("sync", records), COLUMNS, view, plot_to, rows)


COLUMNS: Final = (
    ("what", field("variant")),
    ("increment", field("operation")),
    ("p50 us", field("latency_us", "p50", digits=0)),
    ("mean", field("latency_us", "mean", digits=0)),
    ("p99", field("latency_us", "p99", digits=0)),
    ("servers us/op", field("server_cpu_us_per_op", digits=0)),
    ("client us/op", field("client_cpu_us_per_op", digits=0)),
    ("KB/op", lambda one: number(one["wire_bytes_per_op"] / 1000, 1)),
    ("servers' KB/op", lambda one: number(one["peer_bytes_per_op"] / 1000, 1)),
    ("trips/op", field("round_trips_per_op", digits=2)),
    ("repairs/op", field("repairs_per_op", digits=2)),
)
