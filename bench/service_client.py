"""A client process that works at MetadataService: ``python -m bench.service_client DIR``, told its task in JSON.

It is alone, so it measures itself, the replicas and the machine before and after each part.
"""

import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.measuring import closed_loop
from bench.measuring.document import Figures
from bench.measuring.processor import rss_bytes
from bench.measuring.runs import Look, Window, look
from bench.replicas import ask_all
from qunfs import cluster, garbage
from qunfs.cluster import Cluster
from qunfs.net.driver import QuClient, open_client
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3
from qunfs.objects import REGISTRY
from qunfs.processes import replica_pid
from qunfs.protocol.errors import LocalError
from qunfs.protocol.operation import Credentials

WARM_UP: Final = 0.1
"""Share of the operations of a part that come before it and are not measured."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the process does: ``work`` is nfs, postmark, mkdir or names; the numbers are what that takes."""

    cluster: str
    client: str
    work: str
    count: int = 0
    files: int = 0
    transactions: int = 0
    directory: int = 0


@dataclass(frozen=True, slots=True)
class _Start:
    """The beginning of a part."""

    look: Look
    cpu_s: float
    counters: dict[str, int]


class Bench:
    """A service, and what its use costs."""

    def __init__(self, loaded: Cluster, core: QuClient, task: Task) -> None:
        self.core, self.task = core, task
        self.n, self.q = loaded.n, loaded.quorums.q
        self.service = MetadataService(core, loaded.n, secrets.randbits)
        self.credentials: Final = Credentials(os.getuid(), os.getgid())
        self._pids = [replica_pid(loaded, server) or 0 for server in range(loaded.n)]

    async def begin(self) -> _Start:
        """A part begins."""
        told = await ask_all(self.core, self.n)
        now = look(self._pids, told, [os.getppid()])
        return _Start(now, time.process_time(), self.core.statistics())

    async def end(self, start: _Start, latencies_ns: Sequence[int]) -> Figures:
        """A part has ended: its figures, the questions how the replicas are left out."""
        cpu_s = time.process_time() - start.cpu_s
        counters = self.core.statistics()
        grown = {name: value - start.counters.get(name, 0) for name, value in counters.items()}
        window = Window(self.n, self.q, start.look)
        after = look(self._pids, await ask_all(self.core, self.n), [os.getppid()])
        return window.figures(after, latencies_ns, None, cpu_s, rss_bytes(os.getpid()) / 1e6, grown)


def step(text: str) -> None:
    """Say how far it is."""
    closed_loop.say({"step": text})


def sound(status: nfsstat3, what: str) -> None:
    """Raises LocalError unless a procedure did what it was asked."""
    if status is not nfsstat3.NFS3_OK:
        raise LocalError(f"{what} was answered with {status.name}")


async def run(fields: dict[str, Any]) -> None:
    """Do the task and say what it cost."""
    task = Task(**fields)
    loaded = cluster.load(Path(task.cluster))
    async with open_client(loaded, task.client, REGISTRY) as core:
        bench = Bench(loaded, core, task)
        sound((await bench.service.getattr(bench.credentials, 1)).status, "GETATTR of the root")
        garbage.look_rarely()
        closed_loop.say({"result": await work_of(task)(bench)})


def work_of(task: Task) -> Callable[[Bench], Awaitable[Figures]]:
    """What is done for a task."""
    from bench import direct_postmark, growing, nfs_parts

    works: dict[str, Callable[[Bench], Awaitable[Figures]]] = {
        "nfs": nfs_parts.run_parts,
        "postmark": direct_postmark.run_postmark,
        "mkdir": growing.make_directory,
        "names": growing.run_creations,
    }
    return works[task.work]


def main() -> int:
    """Be a client process."""
    return closed_loop.main(run)


if __name__ == "__main__":
    sys.exit(main())
