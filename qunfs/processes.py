"""The replicas of a cluster that run on this machine: started on their own, found by pid files, stopped for certain.

A replica writes its number to ``DIR/run/server-I.pid``.  The file outlives a killed process, and the number may by
then be another program's: a process counts, and is signalled, only when ``/proc/PID/cmdline`` names the cluster's
directory and the replica.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qunfs.paths import absolute
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from qunfs.cluster import Cluster

START_SECONDS_MAX: Final = 60.0
"""Opening a large store takes a while; a replica that does not listen by then never will."""

STOP_SECONDS_MAX: Final = 10.0
"""A replica stops between two commits; one that takes longer is stuck and gets SIGKILL."""

POLL_SECONDS: Final = 0.02
LINKS_MAX: Final = 40
"""As many as Linux follows in one path (path_resolution(7))."""

LOG_TAIL_BYTES: Final = 4096
LISTENING: Final = "0A"
"""The state column of /proc/net/tcp for a listening socket."""

SERVE: Final = "qunfs.cli.main serve"
"""The module that runs a replica, and its first argument."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Replicas that this process started, kept so that they are reaped when they end."""


# Any process


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone or a zombie."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]


def canonical(path: str | Path, start: str | Path = ".") -> Path:
    """An absolute path without links, found without touching its last part: that may be a mount that hangs."""
    if not os.path.isabs(path):
        path = absolute(Path(start)) / path
    whole = Path(os.path.normpath(path))
    return Path(os.path.realpath(whole.parent)) / whole.name


def followed(path: Path) -> Path:
    """The same, and where it leads if its last part is a link."""
    whole = canonical(path)
    for _ in range(LINKS_MAX):
        try:
            whole = canonical(os.readlink(whole), whole.parent)
        except OSError:  # no link; the kernel knows that of a mount point without asking whoever serves it
            break
    return whole


def names_path(pid: int, path: Path) -> bool:
    """Whether an argument of a process is ``path``; relative ones are seen from the process's directory."""
    return path_in(pid, arguments_of(pid)[1:], path)


def path_in(pid: int, words: Iterable[str], path: Path) -> bool:
    """Whether one of some arguments of a process is ``path``."""
    try:
        start = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        start = "/"
    wanted = canonical(path)
    return any(canonical(word, start) == wanted for word in words if Path(word).name == wanted.name)


def wait_gone(pids: Sequence[int], seconds_max: float) -> list[int]:
    """Wait for processes to end; those that did not."""
    end = time.monotonic() + seconds_max
    left = [pid for pid in pids if _runs(pid)]
    while left and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        left = [pid for pid in left if _runs(pid)]
    return left


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process; one that is already gone is no error.  Raises LocalError when it belongs to someone else."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise LocalError(f"process {pid} belongs to another user; run this as that user or as root") from error


def tail_of(log: Path, start: int = 0) -> str:
    """The last line that a log got after byte ``start``; says so when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError as error:
        return f"no log ({error.strerror})"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")


def _runs(pid: int) -> bool:
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    return bool(arguments_of(pid))


# Replicas


def log_directory(cluster: "Cluster") -> Path:
    """Where the processes of a cluster write their logs."""
    return cluster.directory / "log"


def server_log(cluster: "Cluster", server: int) -> Path:
    """The log of a replica that :func:`start` started."""
    return log_directory(cluster) / f"server-{server}.log"


def replica_pid(cluster: "Cluster", server: int) -> int | None:
    """The process that runs a replica on this machine, or None."""
    try:
        pid = int(_pid_file(cluster, server).read_text("ascii"))
    except (OSError, ValueError):
        return None
    words = arguments_of(pid) if pid > 1 and _runs(pid) else []
    numbers = [after for word, after in pairwise(words) if word == "--server"]
    joined = [word.removeprefix("--server=") for word in words if word.startswith("--server=")]
    return pid if str(server) in numbers + joined and names_path(pid, cluster.directory) else None


@contextlib.contextmanager
def registered(cluster: "Cluster", server: int) -> Iterator[None]:
    """The block runs a replica: others find this process.  Raises LocalError when the replica runs already."""
    running = _enter(cluster, server, os.getpid())
    if running != os.getpid():
        raise LocalError(f"server {server} runs already as process {running}; stop it with: kill {running}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _strike(cluster, server, os.getpid())


def start(cluster: "Cluster", server: int, arguments: Sequence[str] = (), module: str = SERVE) -> int:
    """Start a replica in a session of its own, logging to its log; its process number.

    ``module`` is the Python module to run, with a first argument if it needs one; ``arguments`` go last.
    """
    log = server_log(cluster, server)
    command = [sys.executable, "-m", *module.split(), str(cluster.directory), "--server", str(server), *arguments]
    with _writing(cluster):
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    with output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    _children[child.pid] = child
    while child.poll() is None and not arguments_of(child.pid):
        time.sleep(0)  # the kernel says that a program has been started a moment before it shows its command line
    _enter(cluster, server, child.pid)
    return child.pid


def start_and_wait(
    cluster: "Cluster",
    servers: Sequence[int],
    arguments: Sequence[str] = (),
    *,
    module: str = SERVE,
    on_listening: Callable[[int], None] | None = None,
) -> None:
    """Start replicas and wait until each one listens; of the same that somebody else starts meanwhile one is enough.

    Raises LocalError that names the first one that died or stayed silent, with the last line of its log.
    """
    sizes = {server: _size(server_log(cluster, server)) for server in servers}
    pids = {server: start(cluster, server, arguments, module) for server in servers}
    end = time.monotonic() + START_SECONDS_MAX
    while pids:
        for server, pid in list(pids.items()):
            log = server_log(cluster, server)
            if listens(pid, cluster.servers[server].port):
                del pids[server]
                if on_listening is not None:
                    on_listening(server)
            elif not _runs(pid):
                _strike(cluster, server, pid)
                other = replica_pid(cluster, server)
                if other is not None and _is_started_with(other, module, arguments):
                    pids[server] = other
                    continue
                reason = tail_of(log, sizes[server]).removeprefix("qunfs: ")
                raise LocalError(f"server {server} did not start: {reason} (log: {log})")
            elif time.monotonic() > end:
                raise LocalError(f"server {server} does not listen after {START_SECONDS_MAX:.0f} s (log: {log})")
        time.sleep(POLL_SECONDS)


def stop(cluster: "Cluster", servers: Sequence[int], seconds_max: float = STOP_SECONDS_MAX) -> dict[int, bool]:
    """Stop replicas with SIGTERM, after ``seconds_max`` with SIGKILL: for each that ran, whether it needed SIGKILL."""
    running = {server: pid for server in servers if (pid := request_stop(cluster, server)) is not None}
    stuck = wait_gone(list(running.values()), seconds_max)
    for pid in stuck:
        send_signal(pid, signal.SIGKILL)
    if wait_gone(stuck, STOP_SECONDS_MAX):
        raise LocalError(f"processes {stuck} survive SIGKILL: they wait for the disk; try again when it answers")
    for server, pid in running.items():
        _strike(cluster, server, pid)
    return {server: pid in stuck for server, pid in running.items()}


def request_stop(cluster: "Cluster", server: int) -> int | None:
    """Ask a replica to stop, without waiting; its process number, None when it does not run on this machine."""
    pid = replica_pid(cluster, server)
    if pid is not None:
        send_signal(pid, signal.SIGTERM)
    return pid


def kill(cluster: "Cluster", server: int) -> None:
    """Kill a replica on the spot, as a crash would."""
    pid = replica_pid(cluster, server)
    if pid is None:
        raise LocalError(f"server {server} does not run on this machine")
    send_signal(pid, signal.SIGKILL)
    wait_gone([pid], STOP_SECONDS_MAX)


def listens(pid: int, port: int) -> bool:
    """Whether a process has a listening TCP socket on a port; asked of the kernel, so that no connection is made.

    The tables of all sockets take it milliseconds: they are looked at when the process has one to look for.
    """
    held = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    except OSError:
        return False
    return any(link.startswith("socket:") for link in held) and any(link in held for link in _listening(port))


def _listening(port: int) -> Iterator[str]:
    """The sockets of this machine that listen on a port, as links in /proc/PID/fd name them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(table).read_text("ascii").splitlines()[1:]:
                fields = row.split()
                local_port = int(fields[1].rpartition(":")[2], 16)
                if fields[3] == LISTENING and local_port == port:
                    yield f"socket:[{fields[9]}]"


def _pid_file(cluster: "Cluster", server: int) -> Path:
    return cluster.run_directory / f"server-{server}.pid"


@contextlib.contextmanager
def _writing(cluster: "Cluster") -> Iterator[None]:
    """Errors of the disk within the block are LocalErrors."""
    try:
        yield
    except OSError as error:
        where = error.filename or cluster.directory
        raise LocalError(f"cannot write {where} ({error.strerror}): free space or repair the disk") from error


@contextlib.contextmanager
def _pid_files(cluster: "Cluster") -> Iterator[None]:
    """Nobody else changes pid files within the block: of two that start a replica, one sees the other's."""
    directory = os.open(cluster.run_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _enter(cluster: "Cluster", server: int, pid: int) -> int:
    """Name the process that runs a replica, unless another one does; whichever it is then."""
    path = _pid_file(cluster, server)
    with _writing(cluster):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _writing(cluster), _pid_files(cluster):
        running = replica_pid(cluster, server)
        if running is not None and running != pid:
            return running
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(f"{pid}\n", "ascii")
        draft.replace(path)  # in one step: a reader never sees half a number
    return pid


def _strike(cluster: "Cluster", server: int, pid: int) -> None:
    """A process runs a replica no more."""
    path = _pid_file(cluster, server)
    with contextlib.suppress(FileNotFoundError, ValueError), _pid_files(cluster):
        if int(path.read_text("ascii")) == pid:
            path.unlink()


def _is_started_with(pid: int, module: str, arguments: Sequence[str]) -> bool:
    """Whether a replica is what :func:`start` would start with these."""
    words, last = arguments_of(pid), list(arguments)
    called = ["-m", *module.split()]
    return words[1 : 1 + len(called)] == called and words[len(words) - len(last) :] == last


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
