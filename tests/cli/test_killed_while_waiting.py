"""Programs that wait for replicas can be killed, and nothing else ends their wait."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuse_client.interrupts import LOOK_S, is_dying
from qunfs import cluster, processes
from tests.cli.test_end_to_end import PATIENCE_S, done, eventually

WRITES_AND_WAITS = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(fd, b"written")
print("open", flush=True)
sys.stdin.readline()
{how}
"""
HANDLES_THE_SIGNAL = """
import os, signal, sys
signal.signal(signal.SIGINT, lambda *_: None)
print("ready", flush=True)
sys.stdin.readline()
os.mkdir(sys.argv[1])
"""


class OneReplica:
    """One replica that can be stopped, and a mount."""

    def __init__(self, base: Path) -> None:
        self.m = base / "m"
        self.m.mkdir()
        self.directory = base / "c"
        done("init", self.directory, "-b", "0")
        self._made = cluster.load(self.directory)
        self._pid = 0

    def start(self) -> None:
        done("up", self.directory, "--durability", "async")
        done("mount", self.directory, self.m, "-o", "attr_timeout=0,entry_timeout=0")
        pid = processes.replica_pid(self._made, 0)
        assert pid is not None
        self._pid = pid

    def stop_answering(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def answer(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        if self._pid:
            self.answer()
        done("umount", self.m, "-z")
        done("down", self.directory)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneReplica]:
    made = OneReplica(tmp_path_factory.mktemp("one"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def stuck(one: OneReplica) -> Iterator[OneReplica]:
    """Every operation waits."""
    one.stop_answering()
    try:
        yield one
    finally:
        one.answer()


def waits(program: subprocess.Popen) -> bool:
    """Whether a program is in a request that nothing but its answer ends."""
    return Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0] in "DS" and "request_wait" in (
        Path(f"/proc/{program.pid}/wchan").read_text()
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_program_that_waits_can_be_killed(stuck: OneReplica, number: int) -> None:
    def as_from_a_terminal() -> None:
        """Background jobs of scripts, and so what they start, ignore SIGINT and SIGQUIT."""
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)

    with subprocess.Popen(["mkdir", stuck.m / f"d{number}"], preexec_fn=as_from_a_terminal) as program:
        eventually(lambda: waits(program))
        program.send_signal(number)
        assert program.wait(PATIENCE_S) == -number
    stuck.answer()
    assert os.listdir(stuck.m) is not None
    (stuck.m / "after").mkdir(exist_ok=True)


def test_threads_that_wait_are_killed_with_their_program(stuck: OneReplica) -> None:
    code = "import os, sys, threading\nfor n in 'ab': threading.Thread(target=os.stat, args=[sys.argv[1] + n]).start()"
    with subprocess.Popen([sys.executable, "-c", code, stuck.m / "missing"]) as program:

        def both_wait() -> bool:
            tasks = Path(f"/proc/{program.pid}/task")
            return sum("request_wait" in (task / "wchan").read_text() for task in tasks.iterdir()) >= 1

        eventually(both_wait)
        program.send_signal(signal.SIGINT)
        program.kill()
        assert program.wait(PATIENCE_S) == -signal.SIGKILL


@pytest.mark.parametrize("how", ["os.close(fd)", "sys.stdin.readline()"])
def test_one_that_waits_to_close_a_file_can_be_killed_and_its_write_is_recorded(one: OneReplica, how: str) -> None:
    """Closing explicitly, and as the kernel does it for a killed program."""
    path = one.m / f"written {how}"
    code = WRITES_AND_WAITS.format(how=how)
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "open\n"
        one.stop_answering()
        try:
            if how == "os.close(fd)":
                program.stdin.write("\n")
                program.stdin.flush()
                eventually(lambda: waits(program))
            program.kill()
            assert program.wait(PATIENCE_S) == -signal.SIGKILL
        finally:
            one.answer()
    eventually(lambda: path.stat().st_size == len("written"))
    assert path.read_text() == "written"


def test_a_signal_that_is_handled_does_not_interrupt(stuck: OneReplica) -> None:
    """Programs do not expect EINTR from calls on files."""
    path = stuck.m / "made in the end"
    with subprocess.Popen(
        [sys.executable, "-c", HANDLES_THE_SIGNAL, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        program.stdin.write("\n")
        program.stdin.flush()
        eventually(lambda: waits(program))
        program.send_signal(signal.SIGINT)
        time.sleep(3 * LOOK_S)
        assert waits(program)
        stuck.answer()
        assert program.wait(PATIENCE_S) == 0
    assert path.is_dir()


def test_who_is_dying(tmp_path: Path) -> None:
    def dying(flags: int, code: int, state: str = "S", **masks: int) -> bool:
        folder = tmp_path / "7"
        folder.mkdir(exist_ok=True)
        names = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
        lines = [f"{name}:\t{masks.get(name, 0):016x}" for name in names]
        (folder / "status").write_text("\n".join(["Name:\tSigPnd: x", "SigQ:\t1/2", *lines]))
        fields = [state, *["0"] * 5, str(flags), *["0"] * 42, str(code)]
        (folder / "stat").write_text(f"7 (a ) b) {' '.join(fields)}\n")
        return is_dying(7, tmp_path)

    term, stop, child = (1 << s - 1 for s in (signal.SIGTERM, signal.SIGSTOP, signal.SIGCHLD))
    assert not dying(0, 0)
    assert dying(0, 0, SigPnd=1 << signal.SIGKILL - 1)
    assert dying(0, 0, ShdPnd=term)
    assert not dying(0, 0, ShdPnd=stop | child)
    for sparing in ("SigBlk", "SigIgn", "SigCgt"):
        assert not dying(0, 0, ShdPnd=term, **{sparing: term})
    assert dying(4, signal.SIGKILL)
    assert not dying(4, signal.SIGKILL, "Z")
    assert not dying(4, 0x100)
    assert not dying(0, signal.SIGKILL)
    assert not is_dying(8, tmp_path)
