"""``qunfs bench nfs``: the response time of each NFS procedure (paper, Table 3)."""

from typing import Annotated, Any, Final

import typer

from qunfs.cli.bench.options import (
    ONE_FAULT,
    AttemptsOption,
    FaultsOption,
    JsonOption,
    PlaceOption,
    PlotOption,
    RepeatOption,
)
from qunfs.cli.bench.output import Figures, View, field, number, sink
from qunfs.cli.options import Durability, DurabilityOption


def nfs(
    faults: FaultsOption = ONE_FAULT,
    count: Annotated[int, typer.Option(min=10, max=100_000, metavar="N", help="Calls of each procedure.")] = 500,
    repeat: RepeatOption = 1,
    durability: DurabilityOption = Durability.ASYNC,
    attempts: AttemptsOption = 3,
    place: PlaceOption = None,
    json_to: JsonOption = None,
    plot_to: PlotOption = None,
) -> None:
    """Call each NFS procedure.

    One client calls one procedure after the other, each over and over, straight at MetadataService: no kernel, no
    FUSE.  It already knows the ids that names are bound to, as a mount does.

    \b
    Example:
      qunfs bench nfs --faults 1 --repeat 5 --json nfs.json --plot plots

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench import service
    from bench.measuring.document import document
    from bench.system import interruptible, temporary_replicas

    with interruptible(), sink(json_to, plot_to) as out, View() as view:
        records: list[dict[str, Any]] = []
        for b in faults:
            with temporary_replicas(b, durability.value, place, view.of(b)) as system:
                view.step(f"b={b}: calling the procedures")
                records.append(service.nfs(system, count, repeat, attempts, view.progress))
        made = document("nfs", records)
        rows = [{**one, **part} for one in records for part in one["parts"]]
        out.finish(made, COLUMNS, view, plot_to, rows)


def _of_the_paper(one: Figures) -> str:
    from bench.paper import NFS_US

    return number(NFS_US.get(one["operation"]) if one["b"] == 1 else None)


COLUMNS: Final = (
    ("b", field("b", digits=0)),
    ("procedure", field("operation")),
    ("type", field("type")),
    ("objects", field("objects")),
    ("p50 us", field("latency_us", "p50", digits=0)),
    ("mean", field("latency_us", "mean", digits=0)),
    ("p99", field("latency_us", "p99", digits=0)),
    ("paper, mean", _of_the_paper),
    ("server us/request", field("server_cpu_us_per_request", "median")),
    ("client us", field("client_cpu_us_per_op", digits=0)),
    ("KB", lambda one: number(one["wire_bytes_per_op"] / 1000, 1)),
    ("trips", field("round_trips_per_op", digits=2)),
)
