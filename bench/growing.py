"""Names in a directory that has many: what each costs, whatever is there already."""

import secrets
import time
from array import array
from typing import Final

from bench.measuring.document import Figures
from bench.measuring.runs import combined
from bench.service_client import WARM_UP, Bench, sound, step
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, nfs_fh3, sattr3
from qunfs.objects.ids import ROOT
from qunfs.protocol.errors import LocalError

PAGE_BYTES: Final = 4096
OLD: Final = b"old-"
"""What the names begin with that are there before."""


async def run_creations(bench: Bench) -> Figures:
    """CREATE, LOOKUP, one page of READDIR and REMOVE of fresh names in a directory; each of them is a part."""
    count, warm_up = bench.task.count, max(1, int(bench.task.count * WARM_UP))
    every: array[int] = array("Q")
    parts: list[Figures] = []
    made: dict[int, nfs_fh3] = {}
    service, who, directory = bench.service, bench.credentials, bench.task.directory

    async def create(i: int) -> None:
        result = await service.create(who, directory, b"new-%d" % i, createmode3.GUARDED, sattr3(mode=0o644))
        sound(result.status, "CREATE")
        made[i] = result.obj

    async def lookup(i: int) -> None:
        sound((await service.lookup(who, directory, b"new-%d" % i)).status, "LOOKUP")

    async def readdir(_: int) -> None:
        page = await service.readdir(who, directory, 0, COOKIE_VERIFIER, PAGE_BYTES)
        sound(page.status, "READDIR")
        if not any(entry.name.startswith(OLD) for entry in page.entries):
            raise LocalError("the directory does not list the names that were written into it")

    async def remove(i: int) -> None:
        sound((await service.remove(who, directory, b"new-%d" % i, made[i])).status, "REMOVE")

    for operation in (create, lookup, readdir, remove):
        step(operation.__name__)
        for i in range(-warm_up, 0):
            await operation(i)
        latencies: array[int] = array("Q")
        start = await bench.begin()
        for i in range(count):
            began = time.monotonic_ns()
            await operation(i)
            latencies.append(time.monotonic_ns() - began)
        parts.append({"operation": operation.__name__, **await bench.end(start, latencies)})
        every.extend(latencies)
    return {**combined(parts, every, bench.n, bench.q), "parts": parts}


async def make_directory(bench: Bench) -> Figures:
    """An empty directory below the root, whose preferred quorum it has; its id."""
    while True:
        name = f"scale-{secrets.token_hex(6)}".encode()
        made = await bench.service.mkdir(bench.credentials, ROOT, name, sattr3(mode=0o755))
        sound(made.status, "MKDIR")
        if made.obj % bench.n == ROOT % bench.n:
            return {"directory": made.obj}
