"""``qunfs bench compare``: the whole comparison of fault levels, with a report."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from qunfs.cli.bench.options import FAULTS_MAX, FaultsOption, Numbers, PlaceOption
from qunfs.cli.bench.output import Figures, View, field, make_directory, number, table_of
from qunfs.cli.bench.report import write
from qunfs.cli.options import Durability, DurabilityOption
from qunfs.cli.output import console, say

OUT: Final = Path("bench-results")
ALL_LEVELS: Final = Numbers(range(6))
assert ALL_LEVELS[-1] <= FAULTS_MAX


def compare(
    faults: FaultsOption = ALL_LEVELS,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes instead of an hour: short runs, small numbers.")
    ] = False,
    durability: DurabilityOption = Durability.ASYNC,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where results, plots and the report go.")] = OUT,
    place: PlaceOption = None,
    json_to: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="All results as one document too; - is standard output."),
    ] = None,
    plot_to: Annotated[
        Path | None, typer.Option("--plot", metavar="DIR", help="Where the plots go, if not there too.")
    ] = None,
) -> None:
    """Compare fault levels.

    At each level of faults it measures counters, NFS procedures, PostMark's actions and contention, and the
    agreement-based baseline (PBFT) on the same counters.  It leaves a JSON file for each workload, plots (PNG and SVG)
    and report.html in a directory, and prints a table.

    \b
    Example:
      qunfs bench compare --faults 0-5 --quick
      qunfs bench compare --faults 0-5 --out results

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench.comparing import FULL, QUICK, Comparison, Progress
    from bench.measuring.document import document, save
    from bench.plots import plot, require_matplotlib
    from bench.report import page
    from bench.system import interruptible
    from qunfs.cli.bench.output import sink

    require_matplotlib()
    make_directory(out)
    with interruptible(), sink(json_to, plot_to) as target, View() as view:
        tell = Progress(view.step, view.progress, lambda one: view.done(in_a_line(one)))
        comparison = Comparison(QUICK if quick else FULL, durability.value, place, tell)
        documents: list[dict[str, Any]] = []
        for b in faults:
            comparison.level(b)
            documents = [
                document(workload, records, quick=quick, left_out=comparison.left_out)
                for workload, records in comparison.records.items()
            ]
            for made in documents:  # at each level: what is measured stays, whatever comes
                save(made, out / f"{made['workload']}.json")
        view.step("drawing")
        paths = plot(documents, plot_to or out)
        write(out / "report.html", page(documents, paths))
        view.clear()
        names = ", ".join(f"{made['workload']}.json" for made in documents)
        say(f"written: {names} and {len(paths)} files with plots in {plot_to or out}")
        every = [one for records in comparison.records.values() for one in records]
        target.only_json(document("compare", every, quick=quick))
        if target.wants_table:
            _print(comparison.records, faults)


def in_a_line(one: Figures) -> str:
    """A record of any workload."""
    what = f"{one['workload']}, b={one['b']}, {one['operation']}, {one['clients']} clients"
    p50 = one["latency_us"].get("p50") or one["latency_us"]["mean"]
    mark = "*" if one["disturbed"] else ""
    return f"{what}: {one['ops_per_s']:,.0f}{mark} operations/s, {p50:,.0f} us"


def _print(records: dict[str, list[dict[str, Any]]], faults: Numbers) -> None:
    from bench import paper
    from bench.comparing import lost, rows

    out = console()
    levels = rows(records, faults)
    out.print(table_of(levels, COUNTERS))
    out.print(table_of(levels, SERVICE))
    if any(one["disturbed"] for some in records.values() for one in some):
        out.print("others used more than 5 % of the processors in some runs; foreign_cpu in the JSON says in which")
    out.print(
        "projected: not measured; what servers would do with a machine each, from the busiest one's CPU per request"
    )
    for workload, name, of_paper in (("counter", "Q/U", "Q/U"), ("pbft", "PBFT", "BFT")):
        share = lost(records.get(workload, []), 1, 5)
        if share is not None:
            change = f"{share:.0%} of" if share >= 0 else f"nothing, but {-share:.0%} gained, of"
            out.print(
                f"{name}: lost from b=1 to b=5 is {change} the projected capacity at one client "
                f"(paper, measured: {paper.LOST[of_paper]:.0%})"
            )


COUNTERS: Final = (
    ("b", field("b", digits=0)),
    ("increment p50 us", field("increment_few", "latency_us", "p50", digits=0)),
    ("peak/s", field("increment_peak", "ops_per_s", digits=0)),
    ("server us", field("increment_peak", "server_cpu_us_per_request", "max")),
    ("KB", lambda row: number(row["increment_few"]["wire_bytes_per_op"] / 1000, 1) if "increment_few" in row else "-"),
    ("projected/s", field("increment_peak", "projected_ops_per_s", digits=0)),
    ("PBFT p50 us", field("pbft_few", "latency_us", "p50", digits=0)),
    ("peak/s", field("pbft_peak", "ops_per_s", digits=0)),
    ("projected/s", field("pbft_peak", "projected_ops_per_s", digits=0)),
)
SERVICE: Final = (
    ("b", field("b", digits=0)),
    ("fetch p50 us", field("fetch_few", "latency_us", "p50", digits=0)),
    ("peak/s", field("fetch_peak", "ops_per_s", digits=0)),
    ("getattr us", field("getattr", "latency_us", "p50", digits=0)),
    ("create", field("create", "latency_us", "p50", digits=0)),
    ("rename", field("rename", "latency_us", "p50", digits=0)),
    ("PostMark direct/s", field("postmark_direct", "ops_per_s", digits=0)),
    ("FUSE/s", field("postmark_fuse", "ops_per_s", digits=0)),
)
