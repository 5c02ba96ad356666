"""Each NFSv3 procedure, over and over (paper section 4.4, Table 3)."""

import secrets
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.measuring.document import Figures
from bench.measuring.runs import combined
from bench.service_client import WARM_UP, Bench, sound, step
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import (
    ACCESS3_READ,
    COOKIE_VERIFIER,
    createmode3,
    ftype3,
    nfs_fh3,
    nfsstat3,
    sattr3,
)
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials

LISTED: Final = 16
"""Names in the directory that is listed."""
PAGE_BYTES: Final = 8192


class Result(Protocol):
    """What every procedure returns."""

    @property
    def status(self) -> nfsstat3:
        """How it went."""


class Caller(Protocol):
    """Who calls the procedures."""

    @property
    def service(self) -> MetadataService:
        """Where they are."""

    @property
    def credentials(self) -> Credentials:
        """Theirs."""


@dataclass(frozen=True, slots=True)
class Part:
    """A procedure: what it is called, of which type, which objects it touches, and how to call it for the i-th time."""

    name: str
    type: str
    objects: str
    call: Callable[[int], Awaitable[Result]]


class Places:
    """The directories and files that the procedures are called on; made as they go."""

    def __init__(self, work: nfs_fh3, other: nfs_fh3, listed: nfs_fh3) -> None:
        self.work, self.other, self.listed = work, other, listed
        self.files: dict[int, nfs_fh3] = {}
        self.links: dict[int, nfs_fh3] = {}
        self.directories: dict[int, nfs_fh3] = {}
        self.targets: dict[int, nfs_fh3] = {}


async def make_places(caller: Caller) -> Places:
    """Fresh directories in one of their own, as those are that files are moved between; one has names in it."""
    service, who = caller.service, caller.credentials
    result = await service.mkdir(who, ROOT, f"bench-{secrets.token_hex(6)}".encode(), sattr3(mode=0o755))
    sound(result.status, "MKDIR")
    top, made = result.obj, []
    for name in (b"work", b"other", b"listed"):
        result = await service.mkdir(who, top, name, sattr3(mode=0o755))
        sound(result.status, "MKDIR")
        made.append(result.obj)
    for i in range(LISTED):
        result = await service.create(who, made[2], b"file-%d" % i, createmode3.GUARDED, sattr3(mode=0o644))
        sound(result.status, "CREATE")
    return Places(*made)


def parts(caller: Caller, places: Places) -> Iterator[Part]:
    """The procedures in an order in which each finds what it needs."""
    yield from _making(caller, places)
    yield from _asking(caller, places)
    yield from _changing(caller, places)


def _making(caller: Caller, places: Places) -> Iterator[Part]:
    service, who, work = caller.service, caller.credentials, places.work

    async def create(i: int) -> Result:
        made = await service.create(who, work, b"f%d" % i, createmode3.GUARDED, sattr3(mode=0o644))
        places.files[i] = made.obj
        return made

    async def symlink(i: int) -> Result:
        made = await service.symlink(who, work, b"s%d" % i, sattr3(mode=0o777), b"../somewhere/else")
        places.links[i] = made.obj
        return made

    async def mkdir(i: int) -> Result:
        made = await service.mkdir(who, work, b"d%d" % i, sattr3(mode=0o755))
        places.directories[i] = made.obj
        return made

    yield Part("create", "update", "attr. & dir.", create)
    yield Part("mkdir", "update", "2 dir.", mkdir)
    yield Part("symlink", "update", "attr. & dir.", symlink)
    yield Part(
        "mknod", "update", "attr. & dir.",
        lambda i: service.mknod(who, work, b"p%d" % i, ftype3.NF3FIFO, sattr3(mode=0o644)),
    )  # fmt: skip


def _asking(caller: Caller, places: Places) -> Iterator[Part]:
    service, who, files, listed = caller.service, caller.credentials, places.files, places.listed
    yield Part("getattr", "query", "attribute", lambda i: service.getattr(who, files[i]))
    yield Part("access", "query", "attribute", lambda i: service.access(who, files[i], ACCESS3_READ))
    yield Part("lookup", "query", "dir. & attr.", lambda i: service.lookup(who, places.work, b"f%d" % i))
    yield Part("readlink", "query", "attribute", lambda i: service.readlink(who, places.links[i]))
    yield Part("readdir", "query", "directory", lambda _: service.readdir(who, listed, 0, COOKIE_VERIFIER, PAGE_BYTES))
    yield Part(
        "readdirplus", "query", f"dir. & {LISTED} attr.",
        lambda _: service.readdirplus(who, listed, 0, COOKIE_VERIFIER, PAGE_BYTES, PAGE_BYTES),
    )  # fmt: skip
    yield Part("fsstat", "query", "directory", lambda _: service.fsstat(who, ROOT))
    yield Part("fsinfo", "query", "directory", lambda _: service.fsinfo(who, ROOT))
    yield Part("pathconf", "query", "directory", lambda _: service.pathconf(who, listed))


def _changing(caller: Caller, places: Places) -> Iterator[Part]:
    service, who, files, work, other = caller.service, caller.credentials, places.files, places.work, places.other
    yield Part("setattr", "update", "attribute", lambda i: service.setattr(who, files[i], sattr3(mode=0o600)))
    yield Part("link", "update", "attr. & dir.", lambda i: service.link(who, files[i], work, b"l%d" % i))
    yield Part(
        "rename", "update", "2 attr. & 2 dir.",
        lambda i: service.rename(
            who, work, b"f%d" % i, other, b"t%d" % i, hint=files[i], to_hint=places.targets[i]
        ),
    )  # fmt: skip
    yield Part("remove", "update", "attr. & dir.", lambda i: service.remove(who, work, b"s%d" % i, places.links[i]))
    yield Part("rmdir", "update", "2 dir.", lambda i: service.rmdir(who, work, b"d%d" % i, places.directories[i]))


async def run_parts(bench: Bench) -> Figures:
    """All procedures once each ``count`` times; the figures of all together and of each."""
    places = await make_places(bench)
    warm_up = max(1, int(bench.task.count * WARM_UP))
    every: array[int] = array("Q")
    measured: list[Figures] = []
    for part in parts(bench, places):
        step(part.name)
        if part.name == "rename":
            for i in range(-warm_up, bench.task.count):
                await make_target(bench, places, i)
        for i in range(-warm_up, 0):
            sound((await part.call(i)).status, part.name.upper())
        figures, latencies = await _measure(bench, part)
        every.extend(latencies)
        measured.append({"operation": part.name, "type": part.type, "objects": part.objects, **figures})
    return {**combined(measured, every, bench.n, bench.q), "parts": measured}


async def make_target(caller: Caller, places: Places, i: int) -> None:
    """A file in the way of the i-th renamed one, which is what makes that an update of four objects."""
    made = await caller.service.create(
        caller.credentials, places.other, b"t%d" % i, createmode3.GUARDED, sattr3(mode=0o644)
    )
    sound(made.status, "CREATE")
    places.targets[i] = made.obj


async def _measure(bench: Bench, part: Part) -> tuple[Figures, "array[int]"]:
    latencies: array[int] = array("Q")
    clock = time.monotonic_ns
    start = await bench.begin()
    for i in range(bench.task.count):
        began = clock()
        result: Any = await part.call(i)
        latencies.append(clock() - began)
        sound(result.status, part.name.upper())
    return await bench.end(start, latencies), latencies
