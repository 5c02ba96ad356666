import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qunfs import cluster, processes
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError


def test_started_replicas_listen_and_are_found_until_they_are_stopped(
    made: Cluster, running: Callable[..., None]
) -> None:
    running(0, 3)
    pids = {server: processes.replica_pid(made, server) for server in range(made.n)}
    assert {server for server, pid in pids.items() if pid is not None} == {0, 3}
    assert pids[0] is not None
    assert processes.listens(pids[0], made.servers[0].port)
    assert not processes.listens(pids[0], made.servers[3].port)
    assert os.getsid(pids[0]) == pids[0]  # a session of its own: Ctrl-C does not reach it
    assert processes.stop(made, range(made.n)) == {0: False, 3: False}
    assert all(processes.replica_pid(made, server) is None for server in range(made.n))
    assert not list(made.run_directory.glob("server-*"))


def test_the_command_line_shows_directory_and_number(made: Cluster, running: Callable[..., None]) -> None:
    running(2)
    pid = processes.replica_pid(made, 2)
    assert pid is not None
    words = processes.arguments_of(pid)
    assert words[words.index("--server") + 1] == "2"
    assert str(made.directory) in words


def test_a_killed_replica_is_gone_and_its_stale_file_names_nobody(made: Cluster, running: Callable[..., None]) -> None:
    running(1)
    processes.kill(made, 1)
    assert processes.replica_pid(made, 1) is None
    assert (made.run_directory / "server-1.pid").exists()
    with pytest.raises(LocalError, match="does not run"):
        processes.kill(made, 1)


def test_a_replica_that_does_not_show_its_command_line_yet_is_not_taken_for_dead(
    made: Cluster, running: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, looks = processes.arguments_of, iter(range(5))
    monkeypatch.setattr(processes, "arguments_of", lambda pid: [] if next(looks, None) is not None else shown(pid))
    running(1)
    assert next(looks, None) is None
    assert processes.replica_pid(made, 1) is not None


def test_a_stubborn_replica_gets_sigkill(made: Cluster, running: Callable[..., None]) -> None:
    running(1, kind="stubborn")
    assert processes.stop(made, [1], seconds_max=0.2) == {1: True}
    assert processes.replica_pid(made, 1) is None


def test_another_program_with_the_number_of_a_dead_replica_is_left_alone(made: Cluster) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "--server", "4"])
    try:
        (made.run_directory).mkdir(exist_ok=True)
        (made.run_directory / "server-4.pid").write_text(f"{other.pid}\n")
        assert processes.replica_pid(made, 4) is None
        assert processes.stop(made, [4]) == {}
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "1", "99999999"])
def test_a_damaged_pid_file_names_nobody(made: Cluster, content: str) -> None:
    made.run_directory.mkdir(exist_ok=True)
    (made.run_directory / "server-5.pid").write_text(content)
    assert processes.replica_pid(made, 5) is None


def test_a_replica_that_dies_at_start_is_named_with_its_last_words(made: Cluster, fake_replica: str) -> None:
    with pytest.raises(LocalError, match=r"^server 2 did not start: the disk is made of cheese \(log: .*/log/server-2"):
        processes.start_and_wait(made, [2], ["dies"], module=fake_replica)
    assert not (made.run_directory / "server-2.pid").exists()


def test_last_words_of_an_earlier_start_are_not_repeated(made: Cluster, fake_replica: str, tmp_path: Path) -> None:
    processes.log_directory(made).mkdir(exist_ok=True)
    processes.server_log(made, 3).write_text("old words\n")
    (tmp_path / "fake_replica.py").write_text("raise SystemExit(1)")
    with pytest.raises(LocalError, match="it left no message"):
        processes.start_and_wait(made, [3], module=fake_replica)


def test_a_second_process_for_the_same_replica_is_refused(made: Cluster, running: Callable[..., None]) -> None:
    running(0)
    with pytest.raises(LocalError, match="server 0 runs already as process"), processes.registered(made, 0):
        pytest.fail("registered twice")
    assert processes.replica_pid(made, 0) is not None


def test_a_replica_that_another_has_started_meanwhile_is_left_alone_and_still_found(
    made: Cluster, running: Callable[..., None]
) -> None:
    running(0)
    first = processes.replica_pid(made, 0)
    running(0)  # whoever calls this has looked before the first was there
    assert first is not None
    assert processes.replica_pid(made, 0) == first


def test_another_kind_of_replica_is_refused_and_the_running_one_still_found(
    made: Cluster, running: Callable[..., None]
) -> None:
    running(0)
    first = processes.replica_pid(made, 0)
    with pytest.raises(LocalError, match=f"server 0 did not start: .*runs already as process {first}"):
        running(0, kind="stubborn")
    assert first is not None
    assert processes.replica_pid(made, 0) == first


def test_two_that_start_a_replica_at_once_find_the_same_one(
    made: Cluster, running: Callable[..., None], fake_replica: str
) -> None:
    starts = [
        threading.Thread(
            target=processes.start_and_wait, args=(made, [2, 4], ["works"]), kwargs={"module": fake_replica}
        )
        for _ in range(3)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    for server in (2, 4):
        pid = processes.replica_pid(made, server)
        assert pid is not None
        assert processes.listens(pid, made.servers[server].port)
    running()


@pytest.mark.parametrize("what", ["log", "run"])
def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path, what: str, fake_replica: str) -> None:
    broken = cluster.create(tmp_path / "c", b=0)
    (broken.directory / what).write_text("a file where a directory has to be")
    with pytest.raises(LocalError, match=f"cannot write .*/{what}"):
        processes.start_and_wait(broken, [0], ["dies"], module=fake_replica)


def test_relative_arguments_are_seen_from_the_process(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "./c"], cwd=tmp_path)
    try:
        end = time.monotonic() + 60
        while len(processes.arguments_of(child.pid)) < 4 and time.monotonic() < end:
            pass  # until exec has happened
        assert processes.names_path(child.pid, tmp_path / "c")
        assert not processes.names_path(child.pid, tmp_path / "d" / "c")
    finally:
        child.kill()
        child.wait()


def test_canonical_resolves_the_way_but_not_the_last_part(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "m").symlink_to("/nowhere")
    assert processes.canonical(tmp_path / "link" / "x" / ".." / "m") == tmp_path / "real" / "m"
