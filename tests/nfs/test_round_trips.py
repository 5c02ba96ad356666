"""The table in docs/semantics.md says what procedures cost, on clients and replicas with all of the protocol."""

import random
from pathlib import Path

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, RENAME_EXCHANGE, createmode3, ftype3, nfsstat3, sattr3
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT, TOPOLOGY
from tests.nfs.conftest import ROOT_USER, N
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.support.replicated_qu import Replicas, ReplicatedQu

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
UNCHECKED, GUARDED, EXCLUSIVE = createmode3.UNCHECKED, createmode3.GUARDED, createmode3.EXCLUSIVE
U = ROOT_USER
SEED = 7
"""One with which the directories in the root have three preferred quorums, none of them the root's."""
FIRST = "| procedure | type | objects | round trips |"


def table():
    """The rows of the table, by procedure."""
    lines = PAGE.read_text().split(FIRST)[1].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert name not in rows
        rows[name] = cells
    return rows


class House:
    """A client at work in a tree: directories, files and a symlink."""

    def __init__(self):
        replicas = Replicas(genesis_rows(0, 0, 0o777, WALL_ORIGIN_NS))
        self.core = ReplicatedQu(replicas)
        self.service = self.service_of(self.core)
        self.stranger = ReplicatedQu(replicas, 2)

    def service_of(self, core):
        return MetadataService(core, N, random.Random(SEED + core.number).getrandbits)

    async def settle(self):
        service = self.service
        self.a = (await service.mkdir(ROOT_USER, ROOT, b"a")).obj
        self.b = (await service.mkdir(ROOT_USER, self.a, b"b")).obj
        self.c = (await service.mkdir(ROOT_USER, ROOT, b"c")).obj
        self.f, self.g = [
            (await service.create(ROOT_USER, ROOT, name, createmode3.EXCLUSIVE, sattr3(), b"verifier")).obj
            for name in (b"f", b"g")
        ]
        self.files = (await service.mkdir(ROOT_USER, ROOT, b"files")).obj
        for name in (b"x", b"y"):
            await service.create(ROOT_USER, self.files, name, GUARDED)
        self.link = (await service.symlink(ROOT_USER, ROOT, b"l", sattr3(), b"t")).obj
        await service.setxattr(ROOT_USER, self.f, b"user.x", b"1")
        assert (await service.rename(ROOT_USER, self.a, b"b", self.c, b"b")).status is nfsstat3.NFS3_OK
        assert (await service.rename(ROOT_USER, self.c, b"b", self.a, b"b")).status is nfsstat3.NFS3_OK


CASES = {
    "GETATTR": lambda h, s: s.getattr(U, h.f),
    "SETATTR": lambda h, s: s.setattr(U, h.f, sattr3(mode=0o600)),
    "SETATTR of what this client has not used before": lambda h, s: h.service_of(h.stranger).setattr(
        U, h.f, sattr3(mode=0o600)
    ),
    "LOOKUP of a file": lambda h, s: s.lookup(U, ROOT, b"f"),
    "LOOKUP of a directory of another preferred quorum": lambda h, s: s.lookup(U, ROOT, b"a"),
    "ACCESS": lambda h, s: s.access(U, h.f, 1),
    "READLINK": lambda h, s: s.readlink(U, h.link),
    "CREATE of a new name": lambda h, s: s.create(U, ROOT, b"n", GUARDED),
    "CREATE, UNCHECKED, of an old name": lambda h, s: s.create(U, ROOT, b"f", UNCHECKED),
    "CREATE, UNCHECKED, of an old name with a size": lambda h, s: s.create(U, ROOT, b"f", UNCHECKED, sattr3(size=0)),
    "CREATE, EXCLUSIVE, once more": lambda h, s: s.create(U, ROOT, b"g", EXCLUSIVE, sattr3(), b"verifier"),
    "MKDIR": lambda h, s: s.mkdir(U, ROOT, b"n"),
    "SYMLINK": lambda h, s: s.symlink(U, ROOT, b"n", sattr3(), b"t"),
    "MKNOD": lambda h, s: s.mknod(U, ROOT, b"n", ftype3.NF3FIFO, sattr3()),
    "REMOVE": lambda h, s: s.remove(U, ROOT, b"f", h.f),
    "REMOVE without the id": lambda h, s: s.remove(U, ROOT, b"f"),
    "REMOVE with an id that is no longer right": lambda h, s: s.remove(U, ROOT, b"f", h.g),
    "RMDIR": lambda h, s: s.rmdir(U, h.a, b"b", h.b),
    "RMDIR without the id": lambda h, s: s.rmdir(U, h.a, b"b"),
    "RENAME in a directory": lambda h, s: s.rename(U, ROOT, b"f", ROOT, b"n", 0, h.f, 0),
    "RENAME in a directory without the ids": lambda h, s: s.rename(U, ROOT, b"f", ROOT, b"n"),
    "RENAME to another directory": lambda h, s: s.rename(U, ROOT, b"f", h.a, b"n", 0, h.f, 0),
    "RENAME over something": lambda h, s: s.rename(U, ROOT, b"f", ROOT, b"g", 0, h.f, h.g),
    "RENAME with EXCHANGE": lambda h, s: s.rename(U, ROOT, b"f", ROOT, b"g", RENAME_EXCHANGE, h.f, h.g),
    "RENAME with ids that are no longer right": lambda h, s: s.rename(U, ROOT, b"f", h.a, b"n", 0, h.g, 0),
    "RENAME of a directory into the root": lambda h, s: s.rename(U, h.a, b"b", ROOT, b"n", 0, h.b, 0),
    "RENAME of a directory to one that is 1 below the root": lambda h, s: s.rename(U, h.a, b"b", h.c, b"n", 0, h.b, 0),
    "RENAME of a directory to one that is 2 below the root": lambda h, s: s.rename(U, ROOT, b"c", h.b, b"n", 0, h.c, 0),
    "LINK": lambda h, s: s.link(U, h.f, h.a, b"n"),
    "READDIR": lambda h, s: s.readdir(U, ROOT, 0, COOKIE_VERIFIER, 4096),
    "READDIRPLUS of files": lambda h, s: s.readdirplus(U, h.files, 0, COOKIE_VERIFIER, 4096, 4096),
    "READDIRPLUS of files, and directories of 3 other preferred quorums": lambda h, s: s.readdirplus(
        U, ROOT, 0, COOKIE_VERIFIER, 4096, 4096
    ),
    "FSSTAT": lambda h, s: s.fsstat(U, ROOT),
    "FSINFO": lambda h, s: s.fsinfo(U, ROOT),
    "PATHCONF": lambda h, s: s.pathconf(U, h.f),
    "GETXATTR": lambda h, s: s.getxattr(U, h.f, b"user.x"),
    "SETXATTR": lambda h, s: s.setxattr(U, h.f, b"user.x", b"2"),
    "LISTXATTRS": lambda h, s: s.listxattr(U, h.f),
    "REMOVEXATTR": lambda h, s: s.removexattr(U, h.f, b"user.x"),
}


def test_every_procedure_is_in_the_table():
    assert list(table()) == list(CASES)


@pytest.mark.parametrize("case", CASES)
async def test_the_table_is_right(case):
    house = House()
    await house.settle()
    core = house.stranger if "not used before" in case else house.core
    core.calls.clear()
    before = core.round_trips
    got = await CASES[case](house, house.service)
    assert got.status is nfsstat3.NFS3_OK
    kind, calls = core.calls[-1]
    if kind == "query" and not case.startswith("CREATE"):
        calls = core.calls[0][1]
    objects = sorted(obj for call in calls for obj, _ in call.objects)
    assert (len(calls), TOPOLOGY in objects) == (1, "RENAME of a directory" in case)
    kind_told, objects_told, trips_told = table()[case]
    assert kind_told == kind
    assert len(objects_told.split(", ")) == len(objects), f"{objects}"
    assert int(trips_told.split()[0]) == core.round_trips - before
    assert sum(kind == "update" for kind, _ in core.calls) <= 2
