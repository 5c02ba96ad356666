"""The commands together: real replicas, a real mount."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qunfs import cluster, mounts, processes
from qunfs.cluster import Cluster
from qunfs.cluster.model import ID_MAX

PATIENCE_S = 200.0
"""When a test gives up; nothing here is expected to take a fiftieth of it."""


def qunfs(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qunfs.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def done(*words: str | Path) -> str:
    """Run a command that must succeed; what it printed."""
    ended = qunfs(*words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "gave up waiting"
        time.sleep(0.05)


@contextmanager
def running(directory: Path, b: int) -> Iterator[Cluster]:
    """A new cluster whose replicas run."""
    done("init", directory, "-b", str(b))
    made = cluster.load(directory)
    try:
        done("up", directory, "--durability", "async")
        yield made
    finally:
        processes.stop(made, range(made.n))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six replicas that run."""
    with running(tmp_path_factory.mktemp("six") / "c", b=1) as made:
        yield made


@pytest.fixture
def mounted(six: Cluster, tmp_path: Path) -> Iterator[Path]:
    """A mount of the six; all of them run at the end of the test again."""
    mountpoint = tmp_path / "m"
    mountpoint.mkdir()
    done("mount", six.directory, mountpoint)
    try:
        yield mountpoint
    finally:
        done("up", six.directory, "--durability", "async")
        done("umount", mountpoint, "-z")


def status(made: Cluster) -> dict[str, object]:
    told: dict[str, object] = json.loads(done("status", made.directory, "--json"))
    return told


def test_a_mount_works_when_the_command_returns_and_is_gone_after_umount(six: Cluster, tmp_path: Path) -> None:
    done("mount", six.directory, tmp_path)
    assert mounts.filesystem_at(tmp_path) == "fuse.qunfs"
    (record,) = mounts.records(six)
    assert record.mountpoint == str(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("hello")
    again = qunfs("mount", six.directory, tmp_path)
    assert again.returncode == 1
    assert "something is mounted there; first: qunfs umount" in again.stderr
    done("umount", tmp_path)
    assert mounts.filesystem_at(tmp_path) is None
    assert processes.arguments_of(record.pid) == []
    assert mounts.records(six) == []
    assert list(tmp_path.iterdir()) == []


def test_a_busy_mount_is_refused_unless_lazily(six: Cluster, tmp_path: Path) -> None:
    done("mount", six.directory, tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        refused = qunfs("umount", tmp_path)
        assert refused.returncode == 1
        assert "in use" in refused.stderr
        assert mounts.filesystem_at(tmp_path) is not None
    finally:
        os.close(descriptor)
        done("umount", tmp_path, "--lazy")


def test_a_killed_mount_can_be_cleared_and_made_again(six: Cluster, tmp_path: Path) -> None:
    done("mount", six.directory, tmp_path)
    (tmp_path / "kept").mkdir(exist_ok=True)
    (record,) = mounts.records(six)
    os.kill(record.pid, 9)
    processes.wait_gone([record.pid], PATIENCE_S)
    assert f"was killed; first: qunfs umount {tmp_path}" in done("status", six.directory)
    assert status(six)["killed_mounts"] == [str(tmp_path)]
    done("umount", tmp_path)
    assert status(six)["killed_mounts"] == []
    done("mount", six.directory, tmp_path)
    assert (tmp_path / "kept").is_dir()
    done("umount", tmp_path)


def test_sigterm_unmounts(six: Cluster, tmp_path: Path) -> None:
    done("mount", six.directory, tmp_path)
    (record,) = mounts.records(six)
    os.kill(record.pid, 15)
    eventually(lambda: processes.arguments_of(record.pid) == [])
    assert mounts.filesystem_at(tmp_path) is None


def test_operations_wait_for_a_quorum_and_everyone_says_so(six: Cluster, mounted: Path) -> None:
    processes.kill(six, 1)
    (mounted / "with-five").mkdir()
    assert status(six)["quorum"] is True
    processes.kill(six, 2)
    with subprocess.Popen(["mkdir", mounted / "with-four"], stdin=subprocess.DEVNULL) as waiting:
        told = {}

        def mount_waits() -> bool:
            told.update(status(six))
            return any(record.waiting for record in mounts.records(six))

        eventually(mount_waits)
        assert waiting.poll() is None
        assert told["quorum"] is False
        assert told["waiting"] == "for 1 of the replicas 1, 2"
        (record,) = mounts.records(six)
        assert "missing 1:" in str(record.waiting)
        told_first = record.waiting
        eventually(lambda: mounts.records(six)[0].waiting != told_first)  # it says for how long
        assert Path(record.log).read_text().count("waiting") == 1  # which the log does not repeat every second
        told_text = done("status", six.directory)
        assert "operations wait: for 1 of the replicas 1, 2" in told_text
        assert f"start what does not run: qunfs up {six.directory}" in told_text
        processes.start_and_wait(six, [1], ["--durability", "async"])
        assert waiting.wait(PATIENCE_S) == 0
    assert {"with-five", "with-four"} <= set(os.listdir(mounted))


def test_a_mount_whose_replicas_are_all_down_can_be_detached(six: Cluster, mounted: Path) -> None:
    """Looking at the mount point would wait for them: the commands must not."""
    for server in range(six.n):
        processes.kill(six, server)
    time.sleep(1.5)  # until the kernel no longer believes the attributes that it has
    again = qunfs("mount", six.directory, mounted)
    assert "something is mounted there; first: qunfs umount" in again.stderr
    done("umount", mounted, "-z")
    assert mounts.filesystem_at(mounted) is None
    done("up", six.directory, "--durability", "async")
    done("mount", six.directory, mounted)


def test_everything_acknowledged_survives_the_kill_of_all(six: Cluster, mounted: Path) -> None:
    names = {f"n{i}" for i in range(20)}
    for name in names:
        (mounted / name).mkdir()
    for server in range(six.n):
        processes.kill(six, server)
    done("up", six.directory, "--durability", "async")
    assert names <= set(os.listdir(mounted))


def test_without_replicas_mount_says_what_it_waits_for(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    done("init", tmp_path / "c", "-b", "0")
    failed = qunfs("mount", tmp_path / "c", tmp_path / "m", "--wait", "1")
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()[-1:]
    assert line.startswith(f"qunfs: {tmp_path}/m: not mounted: ")
    assert "qunfs status" in line
    assert "missing 0: " in line
    assert "Connection refused" in line
    assert str(tmp_path / "c" / "log") in line
    assert mounts.filesystem_at(tmp_path / "m") is None
    in_foreground = qunfs("mount", tmp_path / "c", tmp_path / "m", "--wait", "1", "-f")
    assert in_foreground.returncode == 1
    assert in_foreground.stderr.splitlines()[-1].startswith("qunfs: ")
    assert "Traceback" not in in_foreground.stderr


def test_a_client_acts_only_for_whom_cluster_toml_lets_it(tmp_path: Path) -> None:
    """Replicas refuse the others' operations; the mount maps nobody to anybody else."""
    directory, mountpoint = tmp_path / "c", tmp_path / "m"
    mountpoint.mkdir()
    done("init", directory, "-b", "0", "--clients", "squashed,ranged")
    toml = directory / "cluster.toml"
    text = toml.read_text().replace('squash = "none"', 'squash = "root"', 1)
    head, name, rest = text.partition('name = "ranged"')
    toml.write_text(head + name + rest.replace(f"uids = [0, {ID_MAX}]", "uids = [0, 999]", 1))
    done("up", directory, "--durability", "async")
    try:
        refused = qunfs("mount", directory, mountpoint, "--client", "squashed")
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert "not mounted: client squashed may not act for user 0 and group 0 (squash, uids and gids in" in line
        assert mounts.filesystem_at(mountpoint) is None
        done("mount", directory, mountpoint, "--client", "ranged")
        mountpoint.chmod(0o777)
        for user, allowed in ((999, True), (1000, False)):
            command = ["mkdir", str(user)]
            made = subprocess.run(command, cwd=mountpoint, user=user, group=user, extra_groups=(), check=False)
            assert (made.returncode == 0) is allowed
            assert (mountpoint / str(user)).is_dir() is allowed
        (log,) = (directory / "log").glob("mount-*.log")
        assert "uid 1000 is outside the range of this client" in log.read_text()
    finally:
        qunfs("umount", mountpoint)
        done("down", directory)


def test_up_names_a_replica_that_cannot_start(tmp_path: Path) -> None:
    done("init", tmp_path / "c", "-b", "0")
    (tmp_path / "c" / "servers" / "0" / "key.pem").unlink()
    failed = qunfs("up", tmp_path / "c")
    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert line.startswith("qunfs: server 0 did not start: ")
    assert "key.pem" in line


def test_up_starts_those_replicas_whose_keys_are_here(tmp_path: Path) -> None:
    """As on one of three machines; the addresses of the others lead nowhere (RFC 5737)."""
    directory, address = tmp_path / "c", cluster.create(tmp_path / "ports", b=1).servers
    own = [f"127.0.0.1:{address[server].port}" for server in (0, 1)]
    done("init", directory, "--servers", ",".join([*own, *(f"192.0.2.{i}:9000" for i in (2, 3, 4, 5))]))
    for server in (2, 3, 4, 5):
        shutil.rmtree(directory / "servers" / str(server))
    try:
        for before in ("", ", 2 of them did before"):
            ended = qunfs("up", directory, "--durability", "async")
            assert ended.returncode == 0, ended.stderr
            told = ended.stderr.splitlines()[-2:]
            assert told[0] == "2 replicas listen" + before
            assert told[1].startswith(f"not started: replicas 2, 3, 4, 5, whose keys are not in {directory}/servers; ")
        rows = status(cluster.load(directory))["replicas"]
        assert [row["state"] for row in rows] == ["running"] * 2 + ["silent"] * 4
        done("down", directory)
        assert "start what does not run" in done("status", directory)
        shutil.rmtree(directory / "servers" / "1")
        ended = qunfs("up", directory, "--durability", "async")
        assert ended.returncode == 1, "nobody else can have the keys of one that listens on loopback"
        assert "server 1 did not start" in ended.stderr
    finally:
        processes.stop(cluster.load(directory), range(6))


def test_up_where_no_replica_is_at_home_says_so(tmp_path: Path) -> None:
    done("init", tmp_path / "c", "-b", "0", "--servers", "192.0.2.1:9000")
    shutil.rmtree(tmp_path / "c" / "servers")
    ended = qunfs("up", tmp_path / "c")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "no replica's keys are on this machine" in line
    assert "start what does not run" not in done("status", tmp_path / "c")


def test_up_says_that_running_replicas_keep_their_durability(tmp_path: Path) -> None:
    directory = tmp_path / "with blank"
    assert "next: qunfs up '" in qunfs("init", directory, "-b", "0").stderr
    try:
        done("up", directory, "--durability", "async")
        told = qunfs("up", directory).stderr
        assert "another --durability than sync" in told
        assert f"qunfs down '{directory}'" in told
        assert "another" not in qunfs("up", directory, "--durability", "async").stderr
    finally:
        done("down", directory)
