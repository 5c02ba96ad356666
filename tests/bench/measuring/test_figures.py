import os
import sys
from array import array
from pathlib import Path

import pytest

from bench.measuring import clients, closed_loop, latencies, processor, runs, servers
from bench.measuring.closed_loop import Recorder, Schedule
from bench.measuring.processor import Moment
from bench.measuring.runs import Look, Window
from bench.measuring.servers import ServerMoment
from qunfs.protocol.errors import LocalError


def test_percentiles_are_latencies_that_occurred() -> None:
    told = latencies.summary([1000 * i for i in range(1000, 0, -1)])
    assert (told["p50"], told["p90"], told["p99"], told["p99.9"], told["max"]) == (500, 900, 990, 999, 1000)
    assert told["mean"] == 500.5
    assert latencies.summary([7000])["p99.9"] == 7.0
    assert latencies.summary([])["p50"] == 0


def test_latencies_survive_the_pipe() -> None:
    some = array("Q", [1, 2**40, 3])
    assert latencies.unpacked(latencies.packed(some)) == some


def test_processor_time_and_memory_of_processes() -> None:
    before = processor.cpu_s(os.getpid())
    sum(range(10**6))
    assert processor.cpu_s(os.getpid()) > before > 0
    assert processor.rss_bytes(os.getpid()) > 10**6
    assert processor.cpu_s(2**22 + 1) == processor.rss_bytes(2**22 + 1) == 0


def test_foreign_is_what_was_busy_or_stolen_without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "PROCESSORS", 2)
    found = processor.foreign(Moment(0, 100, 10, 50), Moment(10, 112, 11, 56), ours_s=1.0)
    assert found.share == pytest.approx((12 - 6 - 1 + 1) / 20)
    assert found.stolen == pytest.approx(1 / 20)
    assert processor.foreign(Moment(0, 0, 0, 0), Moment(1, 1, 0, 5)).share == 0


def look(at: float, *told: tuple[float, int, int]) -> Look:
    moments = [ServerMoment(cpu, 10**6, {"frames": f, "wire_bytes": w, "fsyncs": f}) for cpu, f, w in told]
    return Look(Moment(at, 0, 0, 0), moments)


def test_the_figures_of_a_window() -> None:
    window = Window(6, 5, look(0, (0, 0, 0), (1, 0, 0), (0, 0, 0)))
    after = look(2, (0.1, 1001, 5000), (1.2, 1001, 5000), (0.0, 2, 0))  # each with the question how it is
    made = window.figures(after, [1000] * 1000, 2.0, 0.3, 20.0, {"round_trips": 1000, "requests": 2000, "copy": 10})
    assert made["ops_per_s"] == 500
    assert made["server_cpu_us_per_request"] == {"median": 150, "max": 200}  # the third had nothing to do
    assert made["client_cpu_us_per_op"] == 300
    assert made["projected_ops_per_s"] == 6000  # (6/5) / 200 us
    assert made["repairs_per_op"] == 0.01
    assert made["peer_bytes_per_op"] == 5
    assert made["fsyncs_per_op"] == pytest.approx(2.004)


def test_counters_of_a_longer_window_are_scaled_to_the_time_that_was_measured() -> None:
    window = Window(1, 1, look(0, (0, 0, 0)))
    made = window.figures(look(4, (4, 4001, 0)), [1] * 2000, 2.0, 0, 0, {})
    assert made["server_cpu_us_per_op"] == 1000


def test_a_run_in_parts_is_weighted_by_operations() -> None:
    window = Window(1, 1, look(0, (0, 0, 0)))
    small = window.figures(look(1, (1, 101, 0)), [1] * 100, None, 1, 1, {"round_trips": 100})
    large = window.figures(look(1, (1, 301, 0)), [1] * 300, None, 1, 1, {"round_trips": 900})
    both = runs.combined([small, large], [1] * 400, 1, 1)
    assert both["operations"] == 400
    assert both["ops_per_s"] == 200
    assert both["round_trips_per_op"] == 2.5
    assert both["client_cpu_us_per_op"] == 5000


def test_no_projection_without_a_cost() -> None:
    assert servers.projected_ops_per_s(6, 5, 0.0, 1.0) is None
    assert servers.projected_ops_per_s(6, 5, 100.0, 2.0) == 6000


def test_disturbed_runs_are_made_again_and_the_best_one_counts() -> None:
    made = [{"foreign_cpu": share, "disturbed": share > 0.05} for share in (0.5, 0.2, 0.4, 0.01)]
    told: list[str] = []
    left = list(made)
    assert runs.undisturbed(lambda: left.pop(0), 3, told.append) is made[1]
    assert len(told) == 2
    left = made[2:]
    assert runs.undisturbed(lambda: left.pop(0), 9, told.append) is made[3]


def test_a_recorder_cuts_off_what_is_before_and_after() -> None:
    counted = iter(range(0, 1000, 10))
    shown: list[int] = []
    recorder = Recorder(Schedule(0.0, 1.0, 2.0), lambda: {"n": next(counted)}, shown.append)
    for ended in (0.5, 0.9, 1.1, 1.5, 2.0, 2.05, 2.2):
        recorder.note(int((ended - 0.1) * 1e9), int(ended * 1e9))
    report = recorder.report()
    assert latencies.unpacked(report.overdue).tolist() == [100_000_000]
    assert len(latencies.unpacked(report.latencies)) == 2  # the one that was under way at the start is left out
    assert report.counters == {"n": 10}
    assert shown == sorted(shown)


# ---- processes

CHILD = """
import sys, trio
from bench.measuring import closed_loop
from qunfs.protocol.errors import LocalError

async def run(task):
    if task.get("fail"):
        raise LocalError("no such thing")
    if task.get("die"):
        sys.exit("gone")
    async def operation():
        await trio.sleep(0.001)
    if task.get("alone"):
        closed_loop.say({"step": "half"})
        closed_loop.say({"result": {"it": 7}})
    else:
        await closed_loop.serve([operation] * 2, lambda: {"n": 1}, lambda: None)

sys.exit(closed_loop.main(run))
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "bench_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return "bench_child"


def test_clients_run_schedule_after_schedule(child: str, tmp_path: Path) -> None:
    with clients.client_processes(child, [{}, {}], tmp_path) as started:
        for _ in range(2):
            schedule = started.begin(0.05, 0.3)
            started.follow(schedule.until, schedule.begin)
            together = clients.Together(started.reports())
            assert len(together.latencies_ns) > 10
        pids = started.pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_client_that_measures_itself(child: str, tmp_path: Path) -> None:
    assert clients.single_run(child, {"alone": True}, tmp_path, lambda _: None) == {"it": 7}


@pytest.mark.parametrize(("task", "why"), [({"fail": True}, "no such thing"), ({"die": True}, "broke off: gone")])
def test_what_is_wrong_with_a_client_is_told(child: str, tmp_path: Path, task: dict[str, bool], why: str) -> None:
    with pytest.raises(LocalError, match=why), clients.client_processes(child, [{}, task], tmp_path):
        pytest.fail("was ready")


def test_only_errors_on_purpose_are_expected() -> None:
    wanted = LocalError("x")
    assert closed_loop.expected_error(BaseExceptionGroup("", [BaseExceptionGroup("", [wanted])])) is wanted
    assert closed_loop.expected_error(ValueError()) is None
    assert closed_loop.expected_error(BaseExceptionGroup("", [wanted, ValueError()])) is None
