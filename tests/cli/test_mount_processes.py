"""The processes behind mounts: odd ways to start them, to end them, and what they leave alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qunfs import mounts, processes
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError
from tests.cli.test_end_to_end import PATIENCE_S, done, eventually, qunfs, running

QUNFS = [sys.executable, "-m", "qunfs.cli.main"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One replica that runs."""
    with running(tmp_path_factory.mktemp("small") / "c", b=0) as made:
        yield made


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_mounted_by_somebody_who_closed_the_standard_streams(small: Cluster, tmp_path: Path, closed: str) -> None:
    def closing(*words: str | Path) -> int:
        script = f'"$@" {closed}'
        command = ["sh", "-c", script, "sh", *QUNFS, *map(str, words)]
        return subprocess.run(command, check=False, timeout=PATIENCE_S).returncode

    assert closing("mount", small.directory, tmp_path) == 0
    assert mounts.filesystem_at(tmp_path) == "fuse.qunfs"
    assert closing("umount", tmp_path) == 0
    assert mounts.filesystem_at(tmp_path) is None


@pytest.mark.parametrize("gap_s", [0.0002, 0.001, 0.1])
def test_a_second_signal_changes_nothing(small: Cluster, tmp_path: Path, gap_s: float) -> None:
    command = [*QUNFS, "mount", "-f", str(small.directory), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as mount:
        assert mount.stderr is not None
        assert any(line.startswith("ready") for line in mount.stderr)
        fd = os.open(tmp_path / f"f{gap_s}", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"written")
        mount.send_signal(signal.SIGTERM)
        time.sleep(gap_s)
        mount.send_signal(signal.SIGHUP)
        mount.communicate(timeout=PATIENCE_S)
        with pytest.raises(OSError, match="not connected"):
            os.close(fd)
    assert mount.returncode == 0
    assert mounts.filesystem_at(tmp_path) is None
    assert mounts.records(small) == []
    done("mount", small.directory, tmp_path)
    assert (tmp_path / f"f{gap_s}").stat().st_size == len("written"), "reported although the file was open"
    done("umount", tmp_path)


def test_a_hangup_that_nohup_has_silenced_ends_nothing(small: Cluster, tmp_path: Path) -> None:
    command = ["nohup", *QUNFS, "mount", "-f", str(small.directory), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as mount:
        assert mount.stderr is not None
        assert any(line.startswith("ready") for line in mount.stderr)
        mount.send_signal(signal.SIGHUP)
        (tmp_path / "after").touch()
        mount.send_signal(signal.SIGTERM)
        mount.communicate(timeout=PATIENCE_S)
    assert mount.returncode == 0


def test_a_detached_mount_that_ends_takes_no_later_one_with_it(small: Cluster, tmp_path: Path) -> None:
    done("mount", small.directory, tmp_path)
    (first,) = mounts.records(small)
    fd = os.open(tmp_path, os.O_RDONLY)  # somebody who stays in the detached tree
    try:
        ended = qunfs("umount", "-z", "--wait", "0", tmp_path)
        assert f"kill {first.pid}" in ended.stderr
        assert f"(process {first.pid}, {first.client}) is detached" in done("status", small.directory)
        told = json.loads(done("status", small.directory, "--json"))["mounts"]
        assert [(mount["pid"], mount["detached"]) for mount in told] == [(first.pid, True)]
        done("mount", small.directory, tmp_path, "--client", "client-2")
        processes.send_signal(first.pid, signal.SIGTERM)
        eventually(lambda: not processes.arguments_of(first.pid))
        (tmp_path / "works").touch()
        assert [record.client for record in mounts.records(small)] == ["client-2"]
    finally:
        os.close(fd)
    done("umount", tmp_path)


def test_mounted_from_a_directory_that_was_removed(small: Cluster, tmp_path: Path) -> None:
    gone, m = tmp_path / "gone", tmp_path / "m"
    m.mkdir()
    script = f'mkdir {gone} && cd {gone} && rmdir {gone} && exec "$@"'
    for words in (["mount", str(small.directory), str(m)], ["umount", str(m)]):
        command = ["sh", "-c", script, "sh", *QUNFS, *words]
        assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == 0


def test_a_mount_point_named_by_a_link(small: Cluster, tmp_path: Path) -> None:
    link, m = tmp_path / "link", tmp_path / "m"
    m.mkdir()
    link.symlink_to("m")
    done("mount", small.directory, link)
    (record,) = mounts.records(small)
    assert record.mountpoint == str(m)
    assert "something is mounted there" in qunfs("mount", small.directory, link, "--client", "client-2").stderr
    os.kill(record.pid, signal.SIGSTOP)
    time.sleep(1.5)  # what the kernel knows of the root is not good any more
    try:
        assert processes.followed(m) == processes.followed(link) == m, "and it did not wait for the mount"
    finally:
        os.kill(record.pid, signal.SIGCONT)
    done("umount", link)
    assert mounts.filesystem_at(m) is None


def test_links_that_lead_nowhere_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert processes.followed(tmp_path / "a").parent == tmp_path


def test_a_relative_path_from_a_directory_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert processes.canonical(tmp_path / "m") == tmp_path / "m"
    with pytest.raises(LocalError, match="current directory was removed"):
        processes.canonical("m")


@pytest.mark.parametrize(
    "words",
    [
        ("init", "c"),
        ("up", "c"),
        ("down", "c"),
        ("serve", "c", "--server", "0"),
        ("status", "c"),
        ("fsck", "c"),
        ("fsck", "CLUSTER", "--contents", "x"),
        ("mount", "c", "m"),
        ("mount", "CLUSTER", "m"),
        ("mount", "CLUSTER", "MOUNTPOINT", "--contents", "x"),
        ("umount", "m"),
    ],
    ids=" ".join,
)
def test_commands_with_relative_paths_in_a_directory_that_was_removed(
    small: Cluster, tmp_path: Path, words: tuple[str, ...]
) -> None:
    gone, m = tmp_path / "gone", tmp_path / "m"
    m.mkdir()
    given = [{"CLUSTER": str(small.directory), "MOUNTPOINT": str(m)}.get(word, word) for word in words]
    script = f'mkdir {gone} && cd {gone} && rmdir {gone} && exec "$@"'
    command = ["sh", "-c", script, "sh", *QUNFS, *given]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == (8 if words[0] == "fsck" else 1)
    (line,) = ended.stderr.splitlines()
    assert "the current directory was removed; go elsewhere or give absolute paths" in line


def test_a_signal_while_it_waits_for_a_quorum_is_no_success(small: Cluster, tmp_path: Path) -> None:
    processes.stop(small, [0])
    try:
        command = [*QUNFS, "mount", "-f", str(small.directory), str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as mount:
            assert mount.stderr is not None
            assert any("waiting" in line for line in mount.stderr)
            mount.send_signal(signal.SIGTERM)
            _, errors = mount.communicate(timeout=PATIENCE_S)
    finally:
        done("up", small.directory, "--durability", "async")
    assert mount.returncode == 1
    assert errors.splitlines()[-1] == f"qunfs: {tmp_path}: a signal came before it was mounted"


def test_the_reason_of_a_failure_comes_through_whatever_the_path_is(small: Cluster, tmp_path: Path) -> None:
    m = tmp_path / os.fsdecode(b"m\xff")
    m.mkdir()
    ended = qunfs("mount", small.directory, m, "--contents", m / "contents")
    assert ended.returncode == 1
    assert "would be covered" in ended.stderr
    assert "Traceback" not in ended.stderr
