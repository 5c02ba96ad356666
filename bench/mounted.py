"""PostMark through the kernel: on a mount of ours, on a plain passthrough, on the directory beneath (Table 4)."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench import mail, passthrough, postmark
from bench.counter import configuration
from bench.measuring.document import Figures, per, record
from bench.measuring.processor import cpu_s, rss_bytes
from bench.measuring.runs import Look, Servers, Window, look, undisturbed
from bench.postmark import Phase, Progress, Result
from bench.system import System
from qunfs import mounts
from qunfs.processes import arguments_of, wait_gone
from qunfs.protocol.errors import LocalError

UNMOUNT_SECONDS_MAX: Final = 20.0
NOT_SEEN: Final = ("p50", "p90", "p99", "p99.9", "deviation", "max")
"""What PostMark does not tell of its transactions."""

Watch = Callable[[Progress], object]


class NoServers:
    """What there is to measure where no replicas take part."""

    n = q = 1

    def pids(self) -> Sequence[int]:
        """None."""
        return ()

    def ask(self) -> Sequence[None]:
        """Nobody."""
        return ()


class _Meter:
    """Looks at servers and machine when the transactions begin and when they end."""

    def __init__(self, servers: Servers, clients: Sequence[int], watch: Watch) -> None:
        self._servers, self._clients, self._watch = servers, clients, watch
        self._looks: list[Look] = []
        self._cpu_s: list[float] = []

    def __call__(self, progress: Progress) -> None:
        wanted = {Phase.START: 0, Phase.CREATION: 0, Phase.TRANSACTIONS: 1}.get(progress.phase, 2)
        while len(self._looks) < wanted:
            self._look()
        self._watch(progress)

    def _look(self) -> None:
        told = self._servers.ask()
        self._looks.append(look(self._servers.pids(), told, [*self._clients, *_postmarks()]))
        self._cpu_s.append(sum(map(cpu_s, self._clients)))

    def figures(self, result: Result) -> Figures:
        """Those of the transactions."""
        while len(self._looks) < 2:
            self._look()
        before, after = self._looks
        client_s = self._cpu_s[1] - self._cpu_s[0]
        memory = max(map(rss_bytes, self._clients), default=0) / 1e6
        done, seconds = result.transactions, result.transactions_s
        frames, wire_bytes = _grown(before, after, "frames"), _grown(before, after, "wire_bytes")
        counters = {"wire_bytes": wire_bytes, "requests": frames, "round_trips": frames / self._servers.q}
        window = Window(self._servers.n, self._servers.q, before)
        figures = window.figures(after, [0] * done, seconds, client_s, memory, counters)
        latency = {**dict.fromkeys(NOT_SEEN), "mean": per(seconds * 1e6, done)}
        unknown = dict.fromkeys(("peer_bytes_per_op", "repairs_per_op", "retries_per_op"))
        return {**figures, "latency_us": latency, **unknown}


def _grown(before: Look, after: Look, name: str) -> float:
    pairs = zip(before.servers, after.servers, strict=True)
    return float(sum(late.counters.get(name, 0) - early.counters.get(name, 0) for early, late in pairs))


def _postmarks() -> list[int]:
    """The PostMark that this process runs."""
    children = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    return [pid for pid in children if any(Path(word).name == "postmark" for word in arguments_of(pid)[:1])]


def measure(
    made: Figures,
    directory: Path,
    scratch: Path,
    size: tuple[int, int],
    repeat: int,
    attempts: int,
    watch: Watch,
    tell: Callable[[str], object],
    servers: Servers | None = None,
    clients: Callable[[], Sequence[int]] = tuple,
) -> Figures:
    """The record of PostMark in a directory; ``clients`` are the processes that serve it.

    Raises LocalError when PostMark met errors or counted wrong.
    """
    files, transactions = size
    expected = mail.counts(files, transactions)
    runs: list[Figures] = []

    def once() -> Figures:
        os.sync()  # or what others wrote before goes to the disk meanwhile
        meter = _Meter(servers or NoServers(), clients(), watch)
        result = postmark.run(directory, scratch, files, transactions, meter)
        check(result, expected)
        return {**meter.figures(result), **as_fields(result)}

    while len(runs) < repeat:
        runs.append(undisturbed(once, attempts, tell))
    one = record({**made, "workload": "postmark", "operation": "transaction", "clients": 1, "processes": 1}, runs)
    return {**one, "files": files, "transactions": transactions}


def on_mount(system: System, servers: Servers, variant: str = "fuse", **given: Any) -> Figures:
    """The record of a system that is mounted; ``variant`` says how."""
    made = configuration(system, "postmark", variant=variant, clients=1, processes=1)

    def serving() -> list[int]:
        return [one.pid for one in mounts.records(system.cluster)]

    return measure(made, system.mountpoint, system.scratch, servers=servers, clients=serving, **given)


def on_directory(directory: Path, scratch: Path, variant: str, clients: Sequence[int] = (), **given: Any) -> Figures:
    """The record of a directory that no replica knows of."""
    levels = dict.fromkeys(("b", "t", "n", "q"))
    made = {"workload": "postmark", "operation": "transaction", "variant": variant, **levels, "durability": None}
    run_in = directory / "run"
    run_in.mkdir()
    try:
        one = measure(made, run_in, scratch, clients=lambda: clients, **given)
    finally:
        with contextlib.suppress(OSError):
            run_in.rmdir()
    return {**one, "projected_ops_per_s": None, "directory": str(directory)}


@contextlib.contextmanager
def passed_through(source: Path, mountpoint: Path, timeout_s: float) -> Iterator[int]:
    """A plain pyfuse3 mount of a directory for the block; its process."""
    command = [sys.executable, "-m", "bench.passthrough", str(source), str(mountpoint), "--timeout", str(timeout_s)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True, cwd="/"
    )
    assert child.stdout is not None
    try:
        said = child.stdout.readline().strip()
        if said != passthrough.READY:
            rest = [said, *child.stdout.read().splitlines()]
            raise LocalError(f"{mountpoint}: the passthrough cannot be mounted: {rest[-1] or 'no reason given'}")
        yield child.pid
    finally:
        if mounts.filesystem_at(mountpoint) is not None:
            mounts.detach(mountpoint, lazy=True)
        if wait_gone([child.pid], UNMOUNT_SECONDS_MAX):
            child.kill()
        child.wait()
        child.stdout.close()


def check(result: Result, expected: postmark.Counts) -> None:
    """Raises LocalError when PostMark met errors or did not do what it must."""
    complaints = result.complaints(expected)
    if complaints:
        raise LocalError("; ".join(complaints))


def as_fields(result: Result) -> Figures:
    """A result as JSON fields; times in seconds."""
    return {
        "transactions_per_s": round(result.transactions_per_s, 1),
        **asdict(result.counts),
        "creation_s": round(result.creation_s, 3),
        "transactions_s": round(result.transactions_s, 3),
        "deletion_s": round(result.deletion_s, 3),
    }
