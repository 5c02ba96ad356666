"""What operations cost in a small and in a large directory: ``python -m bench.large_directory --entries 100 100000``.

Both directories lie in one temporary cluster and take turns, so that whatever else the machine does falls on both.
Costs are processor time, of the replicas and of the client; time that passes says little on a machine that is shared.
"""

import argparse
import contextlib
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import SystemRandom
from typing import Final

import trio

from bench.system import interruptible, tear_down
from qunfs import cluster, processes
from qunfs.cluster import Cluster
from qunfs.net.driver import open_client
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, nfs_fh3, nfsstat3, sattr3
from qunfs.objects import REGISTRY
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials

CRED: Final = Credentials(0, 0)
BATCH: Final = 25
PAGE_BYTES: Final = 2048
"""Some fifty entries: a page of either directory is full."""

Procedure = Callable[[nfs_fh3, int], Awaitable[nfsstat3]]


def name_of(number: int) -> bytes:
    """The name of the entry of a number, as long as any other."""
    return b"entry%09d" % number


class Measurement:
    """Directories of some sizes, and what procedures cost in them."""

    def __init__(self, made: Cluster, service: MetadataService, sizes: list[int]) -> None:
        self.service, self.sizes = service, sizes
        self.directories: dict[int, nfs_fh3] = {}
        self.replicas = [pid for server in range(made.n) if (pid := processes.replica_pid(made, server)) is not None]
        self.chance = SystemRandom()
        self.costs: dict[tuple[str, int], list[tuple[float, float]]] = {}

    async def fill(self) -> None:
        """Make the directories."""
        for size in self.sizes:
            made = await self.service.mkdir(CRED, ROOT, b"of%d" % size, sattr3(mode=0o755))
            self.directories[size] = made.obj
            for number in range(size):
                demand(await self.create(made.obj, number))
                if number % 10_000 == 9_999:
                    print(f"{number + 1} entries", file=sys.stderr)

    async def create(self, directory: nfs_fh3, number: int) -> nfsstat3:
        return (await self.service.create(CRED, directory, name_of(number), createmode3.GUARDED)).status

    async def lookup(self, directory: nfs_fh3, number: int) -> nfsstat3:
        return (await self.service.lookup(CRED, directory, name_of(number))).status

    async def readdir(self, directory: nfs_fh3, number: int) -> nfsstat3:
        got = await self.service.readdir(CRED, directory, number, COOKIE_VERIFIER, PAGE_BYTES)
        assert len(got.entries) > PAGE_BYTES // 64
        return got.status

    async def remove(self, directory: nfs_fh3, number: int) -> nfsstat3:
        return (await self.service.remove(CRED, directory, name_of(number))).status

    async def batch(self, what: str, size: int, procedure: Procedure, numbers: list[int]) -> None:
        """Run a procedure a few times and note what one costs."""
        replicas, client = self.replica_time(), time.process_time()
        for number in numbers:
            demand(await procedure(self.directories[size], number))
        each = (self.replica_time() - replicas) / len(numbers), (time.process_time() - client) / len(numbers)
        self.costs.setdefault((what, size), []).append(each)

    def replica_time(self) -> float:
        """Seconds of processor time that the replicas have had."""
        tasks = [task for pid in self.replicas for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    async def run(self, batches: int) -> None:
        """All procedures, in all directories, in turns."""
        for number in range(batches):
            for size in self.sizes:
                old = [self.chance.randrange(size) for _ in range(BATCH)]
                begins = [self.chance.randrange(size - PAGE_BYTES // 32) for _ in range(BATCH)]
                new = [size + number * BATCH + i for i in range(BATCH)]
                await self.batch("create", size, self.create, new)
                await self.batch("lookup", size, self.lookup, old)
                await self.batch("readdir page", size, self.readdir, begins)
                await self.batch("remove", size, self.remove, new)

    def table(self) -> str:
        """Medians over the batches, in microseconds for one operation, as a table in Markdown."""
        lines = [
            "| | entries | replicas | client | against the smallest |",
            "| --- | --- | --- | --- | --- |",
        ]
        for (what, size), costs in sorted(self.costs.items()):
            replicas, client = [statistics.median(column) * 1e6 for column in zip(*costs, strict=True)]
            base = [statistics.median(sum(cost) for cost in self.costs[what, each]) for each in (self.sizes[0], size)]
            lines.append(f"| {what} | {size} | {replicas:.0f} us | {client:.0f} us | {base[1] / base[0]:.2f} |")
        return "\n".join(lines)


def demand(status: nfsstat3) -> None:
    """Stop unless a procedure succeeded."""
    if status is not nfsstat3.NFS3_OK:
        raise SystemExit(f"a procedure failed: {status.name}")


@contextlib.contextmanager
def temporary_cluster(b: int) -> Iterator[Cluster]:
    """A cluster that runs for the block, without fsync."""
    directory = Path(tempfile.gettempdir()) / f"qunfs-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        directory.mkdir(mode=0o700)
        made = cluster.create(directory / "cluster", b=b)
        processes.start_and_wait(made, range(made.n), ["--durability", "async"])
        yield made
    finally:
        tear_down(directory)


async def measure(made: Cluster, sizes: list[int], batches: int) -> str:
    """The table of costs."""
    async with open_client(made, None, REGISTRY) as core:
        measurement = Measurement(made, MetadataService(core, made.n, SystemRandom().getrandbits), sizes)
        await measurement.fill()
        await measurement.run(1)
        measurement.costs.clear()  # the first time is dearer
        await measurement.run(batches)
        return measurement.table()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_directory", description=__doc__)
    parser.add_argument("--entries", type=int, nargs="+", default=[100, 100_000])
    parser.add_argument("-b", type=int, default=0, help="malevolent replicas to tolerate")
    parser.add_argument("--batches", type=int, default=40, help=f"of {BATCH} operations of each kind")
    given = parser.parse_args()
    with interruptible(), temporary_cluster(given.b) as made:
        print(trio.run(measure, made, given.entries, given.batches))


if __name__ == "__main__":
    main()
