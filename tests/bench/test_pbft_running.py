"""The baseline as processes: on real sockets, disks and certificates."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import pytest
import trio

from bench.baselines.pbft import driver, keys, runner
from bench.baselines.pbft.core.client import PrimaryFailed
from bench.baselines.pbft.core.state import ServiceState
from bench.baselines.pbft.core.tuning import Tuning
from bench.baselines.pbft.options import arguments_of
from bench.measuring.document import complaints
from bench.system import processes_of, tear_down
from qunfs import cluster, processes
from qunfs.objects import REGISTRY
from qunfs.protocol.errors import LocalError
from server.disk_rows import DiskRows
from tests.bench.pbft_group import fetch, increment

SMALL = Tuning(checkpoint_every=8, log_batches_max=16)


@pytest.fixture
def group(tmp_path: Path):
    made = keys.create(tmp_path / "cluster", 1, 3)
    arguments = ["--durability", "async", *arguments_of(SMALL)]
    try:
        processes.start_and_wait(made, range(made.n), arguments, module=runner.SERVE)
        trio.run(met, made)
        yield made
    finally:
        tear_down(tmp_path)


async def met(made: cluster.Cluster) -> None:
    """Wait until all replicas have reached each other: one that comes late is left behind."""
    with trio.fail_after(300):
        async with driver.open_client(made, None, SMALL) as core:
            for server in range(made.n):
                status = None
                while status is None or status["replicas_connected"] < made.n - 1:
                    status = await core.server_status(server)


def counted(made: cluster.Cluster) -> list[list[int]]:
    """What lies on the disks of a group that has stopped: by replica, the counters 1 to 3."""
    found = []
    for server in range(made.n):
        rows = DiskRows(made.data_directory(server), "async")
        state = ServiceState(REGISTRY, rows)
        values = [state._object(obj).rows.get(b"n") for obj in (1, 2, 3)]
        found.append([0 if value is None else msgpack.unpackb(value) for value in values])
        rows.close()
    return found


def test_several_clients_at_once(group: cluster.Cluster) -> None:
    answers: list[int] = []

    async def work(name: str, own: int) -> None:
        async with driver.open_client(group, name, SMALL) as core:
            for turn in range(1, 31):
                answers.append(msgpack.unpackb(await core.update(increment(1))))
                assert msgpack.unpackb(await core.update(increment(own))) == turn
                ((value, _),) = await core.query(fetch(own))
                assert msgpack.unpackb(value) == turn
            await one_task_each(core)

    async def one_task_each(core: driver.PbftDriver) -> None:
        async with trio.open_nursery() as nursery:
            for obj in range(10, 20):
                nursery.start_soon(core.update, increment(obj))
                nursery.start_soon(core.query, fetch(obj))

    async def run() -> None:
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, "client-1", 2)
                nursery.start_soon(work, "client-2", 3)

    trio.run(run)
    assert sorted(answers) == list(range(1, 61))
    assert processes.stop(group, range(4)) == dict.fromkeys(range(4), False)
    assert counted(group) == [[60, 30, 30]] * 4
    assert not processes_of(group.directory)


def test_a_killed_backup_is_tolerated_and_a_killed_primary_named(group: cluster.Cluster) -> None:
    async def run() -> None:
        with trio.fail_after(300):
            async with driver.open_client(group, None, SMALL) as core:
                assert msgpack.unpackb(await core.update(increment(1))) == 1
                processes.kill(group, 3)
                for turn in range(2, 40):  # past two checkpoints
                    assert msgpack.unpackb(await core.update(increment(1))) == turn
                    ((value, _),) = await core.query(fetch(1))
                    assert msgpack.unpackb(value) == turn
                processes.kill(group, 0)
                with pytest.raises(PrimaryFailed, match=r"server 0, has failed .*this baseline has no view change"):
                    await core.update(increment(1))

    trio.run(run)


def test_a_replica_that_has_run_is_not_started_again(group: cluster.Cluster) -> None:
    async def run() -> None:
        async with driver.open_client(group, None, SMALL) as core:
            await core.update(increment(1))
            while True:  # three of four are enough for an answer
                status = await core.server_status(2)
                if status is not None and status["agreement"]["executed"]:
                    return

    trio.run(run)
    processes.stop(group, [2])
    with pytest.raises(LocalError, match="cannot catch up: make a new cluster"):
        processes.start_and_wait(group, [2], module=runner.SERVE)


def test_another_cluster_is_refused(tmp_path: Path) -> None:
    made = cluster.create(tmp_path / "ours", b=1)
    with pytest.raises(LocalError, match="not made for this baseline"):
        keys.faults_of(made)


@pytest.mark.parametrize("operation", ["increment", "fetch"])
def test_the_command_prints_one_document(tmp_path: Path, operation: str) -> None:
    options = ["--faults", "1", "--clients", "1,3", "--processes", "2", "--seconds", "1", "--attempts", "1"]
    options += ["--operation", operation, "--json", "-", "--place", str(tmp_path)]
    command = [sys.executable, "-m", "bench.baselines.pbft", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert complaints(made) == []
    assert [(one["clients"], one["processes"]) for one in made["results"]] == [(1, 1), (3, 2)]
    for one in made["results"]:
        assert one["workload"] == "pbft"
        assert one["label"] == "failure-free"
        assert (one["b"], one["t"], one["n"], one["q"]) == (1, 1, 4, 3)
        assert one["operations"] > 0
        for figure in ("ops_per_s", "client_cpu_us_per_op", "wire_bytes_per_op", "projected_ops_per_s"):
            assert one[figure] > 0
        assert one["server_cpu_us_per_request"]["max"] >= one["server_cpu_us_per_request"]["median"] > 0
        assert set(one["latency_us"]) >= {"p50", "p90", "p99"}
        assert one["round_trips_per_op"] == pytest.approx(1, abs=0.2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench.baselines.pbft", "--clients", "2", "--seconds", "60", "--place"]
    child = subprocess.Popen([*command, str(tmp_path)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + 200
        while len(processes_of(tmp_path, "-m")) < 6 and time.monotonic() < end:  # itself, replicas and a client
            time.sleep(0.1)
        assert len(processes_of(tmp_path, "-m")) == 6
        os.kill(child.pid, number)
        _, said = child.communicate(timeout=200)
        assert child.returncode == 130
        assert "nothing is left behind" in said
    finally:
        child.kill()
        child.wait()
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
