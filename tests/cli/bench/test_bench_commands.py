"""Each benchmark at a tiny size, with real replicas: what it reports, and that nothing is left of it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from bench.measuring.document import complaints
from bench.system import processes_of
from qunfs import mounts

PATIENCE_S = 300.0
"""When a test gives up; nothing here is expected to take a tenth of it."""

TOP = {
    "workload", "b", "t", "n", "q", "clients", "durability", "ops_per_s", "latency_us", "server_cpu_us_per_request",
    "client_cpu_us_per_op", "wire_bytes_per_op", "round_trips_per_op", "projected_ops_per_s",
}  # fmt: skip
QUICK = ("--seconds", "0.3", "--warm-up", "0.1", "--attempts", "1")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where clusters go; a test fails when anything is left there, or in the usual place."""
    made = tmp_path / "place"
    made.mkdir()
    yield made
    assert list(made.iterdir()) == []
    mine = f"qunfs-{os.getpid()}-"
    assert not [name for name in os.listdir(tempfile.gettempdir()) if name.startswith(mine)]
    assert processes_of(made) == []
    assert mounts.mounted_below(made) == []


def bench(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qunfs.cli.main", "bench", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=cwd)


def result(*words: object) -> dict[str, Any]:
    """The document of a benchmark that must succeed."""
    ended = bench(*words, "--json", "-")
    assert ended.returncode == 0, ended.stderr
    made: dict[str, Any] = json.loads(ended.stdout)
    assert complaints(made) == []
    return made


def test_counter_prints_one_document(place: Path) -> None:
    made = result("counter", "--faults", "1", "--clients", "1", *QUICK, "--repeat", "2", "--in", place)
    assert made.keys() >= TOP
    assert (made["workload"], made["b"], made["t"], made["n"], made["q"]) == ("counter", 1, 1, 6, 5)
    assert made["latency_us"].keys() >= {"p50", "p90", "p99", "p99.9"}
    assert 0 < made["latency_us"]["p50"] <= made["latency_us"]["p99.9"]
    assert made["server_cpu_us_per_request"].keys() == {"median", "max"}
    assert 0.99 < made["round_trips_per_op"] < 2
    assert made["wire_bytes_per_op"] > 1000
    assert made["fsyncs_per_op"] == 0  # async
    (record,) = made["results"]
    assert [run["operations"] > 0 for run in record["runs"]] == [True, True]
    projected = 6 / 5 / (made["server_cpu_us_per_request"]["max"] * 1e-6 * made["round_trips_per_op"])
    assert made["projected_ops_per_s"] == pytest.approx(projected, rel=0.5)  # of medians, not a median of those


def test_counter_over_levels_clients_and_processes(place: Path) -> None:
    made = result(
        "counter", "--faults", "0", "--clients", "1,3", "--processes", "2", "--operation", "fetch", *QUICK,
        "--durability", "sync", "--in", place,
    )  # fmt: skip
    assert [(one["b"], one["clients"], one["processes"]) for one in made["results"]] == [(0, 1, 1), (0, 3, 2)]
    assert "ops_per_s" not in made
    assert {one["operation"] for one in made["results"]} == {"fetch"}


def test_updates_that_must_survive_are_brought_to_the_disk(place: Path) -> None:
    made = result("counter", "--faults", "0", "--clients", "1", "--durability", "sync", *QUICK, "--in", place)
    assert made["fsyncs_per_op"] == pytest.approx(1, rel=0.3)


def test_counter_draws_plots_and_prints_a_table(place: Path, tmp_path: Path) -> None:
    plots, file = tmp_path / "plots", tmp_path / "counter.json"
    ended = bench("counter", "--faults", "0", "--clients", "1", *QUICK, "--in", place, "--plot", plots, "--json", file)
    assert ended.returncode == 0, ended.stderr
    assert "projected" in ended.stdout
    assert complaints(json.loads(file.read_text())) == []
    names = {path.name for path in plots.iterdir()}
    assert {"throughput.png", "throughput.svg", "capacity.png", "latency.svg", "server-cpu.png", "wire.png"} <= names


def test_details_change_one_thing_at_a_time(place: Path) -> None:
    made = result("counter", "--details", "--faults", "1", "--clients", "2", *QUICK, "--in", place)
    by_variant = {one["variant"]: one for one in made["results"]}
    assert list(by_variant) == [
        "Q/U", "uncached OHS", "random quorums", "0-compute authenticators", "no authenticators"
    ]  # fmt: skip
    assert by_variant["uncached OHS"]["round_trips_per_op"] > 1.9
    assert by_variant["Q/U"]["round_trips_per_op"] < 1.5
    assert by_variant["random quorums"]["peer_bytes_per_op"] > by_variant["Q/U"]["peer_bytes_per_op"]
    ordinary, without = (by_variant[name]["wire_bytes_per_op"] for name in ("Q/U", "no authenticators"))
    assert without < ordinary - 400  # n MACs of 16 bytes less from each of q servers, but for one byte
    assert all(one["compiled"] is False for one in made["results"])


def test_each_nfs_procedure_is_measured(place: Path) -> None:
    made = result("nfs", "--faults", "1", "--count", "10", "--attempts", "1", "--in", place)
    assert made.keys() >= TOP
    parts = {part["operation"]: part for part in made["parts"]}
    assert parts.keys() >= {"getattr", "lookup", "readlink", "readdir", "setattr", "create", "link", "remove", "rename"}
    assert all(part["operations"] == 10 and part["latency_us"]["p50"] > 0 for part in parts.values())
    assert (parts["rename"]["type"], parts["rename"]["objects"]) == ("update", "2 attr. & 2 dir.")
    assert made["operations"] == 10 * len(parts)


def test_postmark_straight_at_the_service(place: Path) -> None:
    made = result("postmark", "--direct", "--files", "10", "--transactions", "30", "--attempts", "1", "--in", place)
    assert made.keys() >= TOP
    assert (made["variant"], made["operations"], made["transactions"]) == ("direct", 30, 30)
    assert made["read"] + made["appended"] == 30
    assert made["created"] == made["deleted"]


def test_postmark_through_fuse_with_its_floor(place: Path) -> None:
    made = result(
        "postmark", "--floor", "--files", "10", "--transactions", "30", "--timeout", "5", "--attempts", "1",
        "--in", place,
    )  # fmt: skip
    ours, believing, passthrough, directory = made["results"]
    assert [one["variant"] for one in made["results"]] == ["fuse", "fuse, nocto", "passthrough", "directory"]
    counts = ("created", "read", "appended", "deleted")
    assert len({tuple(one[name] for name in counts) for one in made["results"]}) == 1
    assert ours["b"] == 1
    assert passthrough["b"] is directory["b"] is None
    assert passthrough["share_of_this"] == pytest.approx(ours["ops_per_s"] / passthrough["ops_per_s"], rel=0.01)
    for one in (ours, believing):
        assert one["share_of_passthrough"] == pytest.approx(one["ops_per_s"] / passthrough["ops_per_s"], rel=0.01)
    assert believing["round_trips_per_op"] < ours["round_trips_per_op"] - 0.5  # opens ask no more
    assert ours["kernel_timeout_s"] == 5
    assert ours["server_cpu_us_per_request"]["max"] > 0


def test_postmark_refuses_options_that_would_have_no_effect(tmp_path: Path) -> None:
    for words, why in (
        (("--directory", tmp_path, "--faults", "2"), "leave out --faults"),
        (("--directory", tmp_path, "--durability", "sync"), "leave out --durability"),
        (("--directory", tmp_path, "--floor"), "leave out --floor"),
        (("--directory", tmp_path, "--nocto"), "leave out --nocto"),
        (("--direct", "--nocto"), "leave out --nocto"),
        (("--directory", tmp_path, "--in", tmp_path), "leave out --in"),
        (("--direct", "--floor"), "leave out --floor"),
        (("--direct", "--timeout", "1"), "leave out --timeout"),
    ):
        ended = bench("postmark", *words)
        assert ended.returncode == 2
        assert why in ended.stderr


def test_contention_has_a_part_for_each_number_of_contenders(place: Path) -> None:
    made = result("contention", "--operation", "increment", *QUICK, "--in", place)
    assert [part["contending_clients"] for part in made["parts"]] == [0, 1, 2, 3, 4]
    first, last = made["parts"][0], made["parts"][-1]
    assert first["contending"] is None
    assert last["isolated"] is None
    assert all(part["shared"] is not None for part in made["parts"])
    assert first["isolated"]["mean"] > 0
    assert first["round_trips_per_op"] > 1.9  # histories are read first


def test_scale_takes_one_quantity_or_all(place: Path) -> None:
    made = result(
        "scale", "--what", "names", "--sizes", "10,3000", "--count", "10", "--attempts", "1", "--in", place
    )  # fmt: skip
    assert [one["size"] for one in made["results"]] == [10, 3000]
    assert [part["operation"] for part in made["results"][1]["parts"]] == ["create", "lookup", "readdir", "remove"]
    for what in ("objects", "updates"):
        made = result("scale", "--what", what, "--sizes", "20", "--faults", "0", *QUICK, "--in", place)
        assert (made["variant"], made["size"], made["b"]) == (what, 20, 0)
    assert bench("scale", "--sizes", "10").returncode == 2


def test_sync_and_repair_are_seen(place: Path) -> None:
    made = result("sync", "--count", "5", "--in", place)
    synced, repaired = made["results"]
    assert [one["variant"] for one in made["results"]] == ["object sync", "inline repair"]
    first, again = synced["parts"]
    assert first["peer_bytes_per_op"] > again["peer_bytes_per_op"] + 100
    first, again = repaired["parts"]
    assert (first["repairs_per_op"], again["repairs_per_op"]) == (1, 0)


def test_compare_leaves_results_plots_and_a_page(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import comparing
    from bench.measuring.runs import Timing
    from qunfs.cli import main as program

    short = Timing(0.3, 0.1, 1, 1)
    plan = comparing.Plan(short, short, (1, 2), 10, (5, 10), None, contending=(0, 4))
    monkeypatch.setattr(comparing, "QUICK", plan)
    out = tmp_path / "out"
    words = ["bench", "compare", "--faults", "0,1", "--quick", "--out", str(out), "--in", str(place)]
    monkeypatch.setattr(sys, "argv", ["qunfs", *words])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert not ended.value.code
    written = {path.name for path in out.iterdir()}
    assert {f"{one}.json" for one in ("counter", "pbft", "nfs", "postmark", "contention")} <= written
    assert {"throughput.png", "capacity.svg", "contention.png", "nfs.png", "report.html"} <= written
    text = (out / "report.html").read_text()
    assert text.count("data:image/svg+xml") == len([name for name in written if name.endswith(".svg")])
    assert 'src="http' not in text
    assert [one["b"] for one in json.loads((out / "pbft.json").read_text())["results"]] == [1, 1]
    (out / "report.html").unlink()
    assert bench("report", out).returncode == 0
    assert (out / "report.html").exists()


def test_report_needs_results(tmp_path: Path) -> None:
    ended = bench("report", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "no results there" in ended.stderr


def test_places_that_cannot_be_written_to_are_named_before_anything_runs(tmp_path: Path) -> None:
    for words in (("--json", tmp_path / "no" / "file"), ("--plot", "/proc/no"), ("--in", "/proc")):
        ended = bench("counter", *words)
        assert ended.returncode == 1
        assert str(words[1]) in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "words", [("--clients", "0"), ("--seconds", "0"), ("--faults", "77"), ("--repeat", "0"), ("--attempts", "0")]
)
def test_values_out_of_range_are_wrong_usage(words: tuple[str, str]) -> None:
    ended = bench("counter", *words)
    assert ended.returncode == 2
    assert words[0] in ended.stderr or "give numbers" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "words", [("counter", "--clients", "3", "--seconds", "60"), ("postmark", "--floor"), ("nfs", "--count", "9999")]
)
def test_an_interrupted_benchmark_leaves_nothing(place: Path, words: tuple[str, ...], number: signal.Signals) -> None:
    command = [sys.executable, "-m", "qunfs.cli.main", "bench", *words, "--faults", "0", "--in", str(place)]
    file = place.parent / "out.json"
    child = subprocess.Popen([*command, "--json", str(file)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + PATIENCE_S
    try:
        while not _is_under_way(place) and child.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        child.send_signal(number)
        _, errors = child.communicate(timeout=PATIENCE_S)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130, errors
    assert "nothing is left behind" in errors
    assert "Traceback" not in errors
    assert not file.exists()


def _is_under_way(place: Path) -> bool:
    """Whether client processes or PostMark run already."""
    return any(place.glob("qunfs-*/scratch/*"))
