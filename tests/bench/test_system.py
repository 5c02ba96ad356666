import subprocess
import sys
from pathlib import Path

import pytest

from bench import system
from qunfs import processes
from qunfs.protocol.errors import LocalError

SLEEP = "import time; time.sleep(60)"
IGNORE_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def test_everything_that_names_the_directory_is_ended_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "STOP_SECONDS_MAX", 0.3)
    directory = tmp_path / "qunfs-1-abc"
    (directory / "deep").mkdir(parents=True)
    mild = subprocess.Popen([sys.executable, "-c", SLEEP, f"--contents={directory}/x"])
    tough = subprocess.Popen([sys.executable, "-c", IGNORE_TERM, str(directory)], stdout=subprocess.PIPE)
    other = subprocess.Popen([sys.executable, "-c", SLEEP, str(tmp_path)])
    assert tough.stdout is not None
    with tough.stdout:
        tough.stdout.readline()
    try:
        system.tear_down(directory)
        assert mild.poll() is not None
        assert tough.poll() is not None
        assert other.poll() is None
        assert not directory.exists()
        system.tear_down(directory)  # again: no harm
    finally:
        for child in (mild, tough, other):
            child.kill()
            child.wait()


def test_a_system_that_cannot_be_set_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SERVE", "no_such_module")

    def fail(*_: object, **__: object) -> None:
        raise LocalError("server 0 did not start")

    monkeypatch.setattr(processes, "start_and_wait", fail)
    steps: list[str] = []
    with pytest.raises(LocalError, match="server 0"), system.temporary_system(1, "sync", tmp_path, steps.append):
        pytest.fail("was set up")
    assert list(tmp_path.iterdir()) == []
    assert steps == [
        "making keys and certificates",
        "starting the replicas, 6 of them",
        "unmounting and stopping everything",
    ]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(LocalError, match="Not a directory; choose another place"),
        system.temporary_system(0, "sync", tmp_path / "file"),
    ):
        pytest.fail("was set up")
