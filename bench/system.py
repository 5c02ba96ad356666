"""A whole system for a while: a cluster in a temporary directory, its replicas, a mount; and nothing left of it after.

Everything that belongs to it names its directory: processes on their command line, mounts by their place.  That is
how it is all found again at the end, whatever point an interruption came at.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from qunfs import cluster, mounts, processes
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError

INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS_MAX: Final = 10.0
MOUNT_END_SECONDS_MAX: Final = 5.0
REMOUNT_SECONDS_MAX: Final = 60.0
"""A mount writes everything before it ends."""


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP came."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """The first signal that wants the block to end raises Interrupted in it; further ones are ignored meanwhile."""

    def on_signal(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the shape of a handler
        _ignore_interruptions()
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, on_signal) for number in INTERRUPTIONS}
    try:
        yield
    except Interrupted as interruption:
        print(f"qunfs: interrupted by {interruption}; nothing is left behind", file=sys.stderr)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_interruptions() -> None:
    for number in INTERRUPTIONS:
        signal.signal(number, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class System:
    """A running system; ``scratch`` is a directory of its own on the file system that holds everything else too."""

    directory: Path
    cluster: Cluster
    mountpoint: Path
    scratch: Path
    durability: str

    @property
    def arguments(self) -> list[str]:
        """What its replicas are started with."""
        return ["--durability", self.durability]

    def launch(self, server: int, *, module: str = processes.SERVE, arguments: tuple[str, ...] = ()) -> int:
        """Start a replica that was stopped or killed, or another module in its place; its process number."""
        return processes.start(self.cluster, server, [*self.arguments, *arguments], module)

    def statistics(self) -> dict[str, float]:
        """The mount's counters, at most a second or two old."""
        for record in mounts.records(self.cluster):
            return dict(record.statistics)
        return {}

    def waiting(self) -> str | None:
        """What operations of the mount wait for."""
        return next((record.waiting for record in mounts.records(self.cluster)), None)


def _nobody(step: str) -> None:
    """Where the steps go that nobody wants to hear of."""


@contextlib.contextmanager
def temporary_system(
    b: int,
    durability: str,
    where: Path | None = None,
    on_step: Callable[[str], object] = _nobody,
    mount_options: str = "",
) -> Iterator[System]:
    """A fresh system below ``where`` (the usual temporary directory by default), mounted for the block.

    ``on_step`` is told what is being done, ``mount_options`` is what the mount is given with -o.  Raises LocalError
    when it cannot be set up.  To be used inside :func:`interruptible`: however the block ends, the system is taken
    down and its directory removed.
    """
    with temporary_replicas(b, durability, where, on_step) as system:
        on_step("mounting")
        mount(system, mount_options)
        yield system


@contextlib.contextmanager
def temporary_replicas(
    b: int,
    durability: str,
    where: Path | None = None,
    on_step: Callable[[str], object] = _nobody,
    *,
    clients: int = 4,
    module: str = processes.SERVE,
    arguments: Sequence[str] = (),
) -> Iterator[System]:
    """The same without a mount; ``module`` runs each replica, with ``arguments`` besides the durability."""
    with temporary_directory(where, on_step) as directory:
        mountpoint, scratch = directory / "mnt", directory / "scratch"
        mountpoint.mkdir()
        scratch.mkdir()
        on_step("making keys and certificates")
        made = cluster.create(directory / "cluster", b=b, clients=clients)
        on_step(f"starting the replicas, {made.n} of them")
        system = System(directory, made, mountpoint, scratch, durability)
        processes.start_and_wait(made, range(made.n), [*system.arguments, *arguments], module=module)
        yield system


@contextlib.contextmanager
def temporary_directory(where: Path | None = None, on_step: Callable[[str], object] = _nobody) -> Iterator[Path]:
    """A new directory for the block; at its end the processes and mounts that name it are ended, and it is removed."""
    directory = Path(where or tempfile.gettempdir()).absolute() / f"qunfs-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise LocalError(f"{directory}: {error.strerror}; choose another place") from error
        try:
            yield directory
        finally:
            on_step("unmounting and stopping everything")
            tear_down(directory)
    finally:  # a signal that came between the block's end and the line above ends up here
        tear_down(directory)


def mount(system: System, options: str = "") -> None:
    """Mount a system whose replicas run.  Raises LocalError with the reason when that fails."""
    command = [sys.executable, "-m", "qunfs.cli.main", "mount", str(system.cluster.directory), str(system.mountpoint)]
    command += ["-o", options] if options else []
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True, cwd="/"
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"mount ended with {done.returncode}"]
        raise LocalError(said[-1].removeprefix("qunfs: "))


def remount(system: System, options: str) -> None:
    """Mount a system that is mounted with other options.  Raises LocalError."""
    mounts.unmount(system.mountpoint, seconds_max=REMOUNT_SECONDS_MAX)
    mount(system, options)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals that want the block to end are ignored in it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tear_down(directory: Path) -> None:
    """End every process and mount that belongs to a temporary system and remove its directory; again does no harm."""
    with _uninterrupted():
        _signal_all(directory, signal.SIGKILL, program="postmark")
        for mountpoint in mounts.mounted_below(directory):
            try:
                mounts.detach(mountpoint)
            except LocalError:  # in use, by a shell that went in to look
                mounts.detach(mountpoint, lazy=True)
        processes.wait_gone(_signal_all(directory, signal.SIGTERM, program="mount"), MOUNT_END_SECONDS_MAX)
        processes.wait_gone(_signal_all(directory, signal.SIGTERM), STOP_SECONDS_MAX)
        left = processes.wait_gone(_signal_all(directory, signal.SIGKILL), STOP_SECONDS_MAX)
        for mountpoint in mounts.mounted_below(directory):  # one whose mount was just being made
            mounts.detach(mountpoint, lazy=True)
        if left:
            raise LocalError(f"processes {left} could not be stopped; their files are in {directory}")
        shutil.rmtree(directory, ignore_errors=True)


def kill_all(directory: Path) -> None:
    """End every process that belongs to a directory at once, stopped ones too; again does no harm."""
    with _uninterrupted():
        for _ in range(2):  # one that is just being started shows no command line yet
            processes.wait_gone(_signal_all(directory, signal.SIGKILL), STOP_SECONDS_MAX)
            time.sleep(processes.POLL_SECONDS)


def _signal_all(directory: Path, number: signal.Signals, program: str = "") -> list[int]:
    found = processes_of(directory, program)
    for pid in found:
        processes.send_signal(pid, number)
    return found


def processes_of(directory: Path, program: str = "") -> list[int]:
    """The processes with a command line that names the directory, whose unique name nothing else can contain."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            words = processes.arguments_of(int(name))
            ours = any(str(directory) in word for word in words)
            if ours and (not program or any(Path(word).name == program for word in words)):
                found.append(int(name))
    return found
