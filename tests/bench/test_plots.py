from pathlib import Path
from typing import Any

import pytest

from bench import figures, paper, plots
from bench.comparing import lost, rows
from bench.measuring.document import CONFIGURATION, MEASURED, document
from bench.plots import Line
from bench.report import page


def record(workload: str, b: int | None = 1, ops_per_s: float = 100.0, **more: Any) -> dict[str, Any]:
    run = {
        **dict.fromkeys(MEASURED, 1.0), "ops_per_s": ops_per_s, "disturbed": False,
        "latency_us": {"p50": 1e6 / ops_per_s, "mean": 1e6 / ops_per_s}, "server_cpu_us_per_request": {"max": 20.0},
        "projected_ops_per_s": 2 * ops_per_s,
    }  # fmt: skip
    normal = {**dict.fromkeys(CONFIGURATION), "workload": workload, "operation": "increment", "variant": "normal"}
    runs = [run, {**run, "ops_per_s": 1.2 * ops_per_s}]
    return {**normal, "b": b, "clients": 1, "durability": "async", **run, "repeat": 2, "runs": runs, **more}


def part(operation: str, **more: Any) -> dict[str, Any]:
    return {**record("part"), "operation": operation, **more}


CONTENTION = [
    {**part(""), "contending_clients": i, "isolated": {"mean": 1.0} if i < 4 else None,
     "contending": {"mean": 2.0} if i else None, "shared": {"mean": 3.0}}
    for i in range(5)
]  # fmt: skip
RESULTS = [
    *(record("counter", b, 1000 / (1 + b)) for b in range(3)),
    *(record("counter", b, 2000 / (1 + b), clients=16, operation="fetch") for b in range(3)),
    *(record("pbft", b, 900 / (1 + b)) for b in (1, 2)),
    *(record("details", 1, variant=name) for name in ("Q/U", "uncached OHS")),
    record("contention", operation="fetch", parts=CONTENTION),
    record("nfs", parts=[part("getattr", type="query"), part("create", type="update")]),
    record("postmark", 0, operation="transaction", variant="direct"),
    record("postmark", None, operation="transaction", variant="directory"),
    record("sync", variant="object sync", parts=[part("first"), part("again")]),
    *(record("scale", variant="names", size=size, parts=[part("create"), part("lookup")]) for size in (10, 1000)),
    *(record("scale", variant=what, size=7) for what in ("objects", "clients", "updates")),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All plots."""
    return plots.plot([document("compare", RESULTS)], tmp_path_factory.mktemp("plots"))


def test_everything_that_can_be_drawn_is_drawn_as_png_and_svg(written: list[Path]) -> None:
    assert {path.stem for path in written} == set(figures.ALL)
    assert sorted(written) == sorted(written[0].parent.iterdir())
    assert len(written) == 2 * len(figures.ALL)
    assert all(path.stat().st_size > 1000 for path in written)


def test_nothing_is_drawn_of_the_papers_points_alone() -> None:
    drawn = {name for name, draw in figures.ALL.items() if draw([record("counter", operation="fetch")]) is not None}
    assert drawn == {"throughput", "latency", "wire"}
    assert plots.lines_plot([plots.paper_line("paper", paper.POSTMARK_PER_S)], "", "", "") is None


def test_a_page_needs_no_other_file(written: list[Path]) -> None:
    text = page([document("compare", RESULTS, left_out=[4])], written)
    assert text.count("<img") == len(figures.ALL)
    assert 'src="data:' in text
    assert "href=" not in text
    assert "For want of time only counters were measured at b=4" in text
    assert "projected" in text


def test_names_in_results_cannot_break_the_page() -> None:
    text = page([document("counter", [record("counter", variant="<script>")])], [])
    assert "<script>" not in text


def test_a_line_takes_the_peak_or_the_fewest_clients() -> None:
    some = [record("counter", 1, 10, clients=1), record("counter", 1, 50, clients=16), record("counter", 2, 5)]
    assert figures.by_faults("", some, figures.ops_per_s, best=True).y == [50, 5]
    few = figures.by_faults("", some, figures.ops_per_s)
    assert (few.x, few.y) == ([1, 2], [10, 5])
    assert few.high == [pytest.approx(2), pytest.approx(1)]


def test_points_without_a_figure_are_left_out() -> None:
    line = Line("")
    line.add(1, None)
    line.add(2, 5.0, [4.0, 8.0])
    assert (line.x, line.low, line.high) == ([2], [1.0], [3.0])


def test_the_papers_throughput_says_what_its_text_says() -> None:
    ours, theirs = paper.THROUGHPUT["Q/U"], paper.THROUGHPUT["BFT"]
    assert ours[1] - theirs[1] == pytest.approx(1990, abs=5)
    assert ours[5] - theirs[5] == pytest.approx(12400, abs=5)
    assert 1 - ours[5] / ours[1] == pytest.approx(paper.LOST["Q/U"], abs=0.001)
    assert 1 - theirs[5] / theirs[1] == pytest.approx(paper.LOST["BFT"], abs=0.001)


def test_what_is_lost_is_judged_at_the_fewest_clients() -> None:
    some = [record("counter", b, ops, clients=c) for b, ops, c in ((1, 100, 1), (1, 400, 16), (5, 75, 1), (5, 90, 16))]
    assert lost(some, 1, 5) == pytest.approx(0.25)
    assert lost(some, 1, 4) is None


def test_the_comparison_at_a_glance_has_a_row_for_each_level() -> None:
    by_workload: dict[str, list[dict[str, Any]]] = {}
    for one in RESULTS:
        by_workload.setdefault(one["workload"], []).append(one)
    none, one, _ = rows(by_workload, [0, 1, 2])
    assert "pbft_few" not in none
    assert none["postmark_direct"]["ops_per_s"] == 100
    assert (one["increment_peak"]["ops_per_s"], one["fetch_few"]["ops_per_s"]) == (500, 1000)
    assert one["getattr"]["type"] == "query"
