"""Metadata procedures drawn at random, with what they are in the reference file system (tests.simulation.reference).

A tree is a directory with two others in it, one of which somebody may remove.  Its few names are fought over.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, nfsstat3, sattr3
from qunfs.objects.ids import is_file
from qunfs.protocol.operation import Credentials
from tests.simulation.linearizability import State
from tests.simulation.reference import States

HOW = ("replace", "noreplace", "exchange")
READING = frozenset({"lookup", "readdir", "getattr"})
"""Procedures without effect."""

Procedure = Callable[[MetadataService], Awaitable[tuple[Any, Any]]]
"""Runs and says the argument and the answer as the model has them."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A procedure to run: what the model calls it, and its argument; that of "create" lacks the new file's number."""

    method: str
    argument: Any
    run: Procedure


@dataclass(frozen=True, slots=True)
class Tree:
    """The directories that clients work in."""

    top: int
    stays: int
    goes: int

    @property
    def directories(self) -> tuple[int, int, int]:
        return self.top, self.stays, self.goes

    def initial(self) -> State:
        """Its state in the model before anybody works in it."""
        names = frozenset({(self.top, "stays", self.stays), (self.top, "goes", self.goes)})
        tree: States = (frozenset(self.directories), names, frozenset())
        return tree


async def make_tree(service: MetadataService, cred: Credentials, top: int) -> Tree:
    """The two directories of a tree."""
    stays, goes = [await service.mkdir(cred, top, name) for name in (b"stays", b"goes")]
    return Tree(top, stays.obj, goes.obj)


def status_of(status: nfsstat3) -> str:
    """A status as the model has it."""
    return "OK" if status is nfsstat3.NFS3_OK else status.name.removeprefix("NFS3ERR_")


class FileWork:
    """Procedures in one tree; the numbers of the files that clients know gather in ``files``."""

    def __init__(self, chance: Random, cred: Credentials, tree: Tree) -> None:
        self.chance, self.cred, self.tree = chance, cred, tree
        self.files: set[int] = set()

    def draw(self) -> Drawn:
        chance, cred, directories = self.chance, self.cred, self.tree.directories
        where, name = chance.choice(directories), chance.choice("ab")
        file = chance.choice(sorted(self.files)) if self.files else 0
        mode = chance.randrange(0o1000)
        dice = chance.random()
        if dice < 0.25 or not file:
            guarded = chance.random() < 0.6
            return Drawn("create", (where, name, mode, guarded), self._create(where, name, mode, guarded))
        if dice < 0.4:
            return self._simple("lookup", (where, name), lambda s: s.lookup(cred, where, name.encode()), "object")
        if dice < 0.55:
            return self._simple("remove", (where, name), lambda s: s.remove(cred, where, name.encode()), "object")
        if dice < 0.7:
            source, target = ((chance.choice(directories[:2]), chance.choice("ab")) for _ in range(2))
            how = chance.choice(HOW)
            ends = (source[0], source[1].encode(), target[0], target[1].encode())
            return self._simple("rename", (source, target, how), lambda s: s.rename(cred, *ends, HOW.index(how)))
        if dice < 0.78:
            return self._simple("link", (file, where, name), lambda s: s.link(cred, file, where, name.encode()))
        if dice < 0.84:
            return self._simple("setattr", (file, mode), lambda s: s.setattr(cred, file, sattr3(mode=mode)))
        if dice < 0.9:
            return self.getattr(file)
        if dice < 0.97:
            return self.readdir(where)
        top = self.tree.top
        return self._simple("rmdir", (top, "goes"), lambda s: s.rmdir(cred, top, b"goes"))

    def getattr(self, file: int) -> Drawn:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.getattr(self.cred, file)
            found = got.obj_attributes
            return file, (status_of(got.status), found.mode if found else 0, found.nlink if found else 0)

        return Drawn("getattr", file, procedure)

    def readdir(self, where: int) -> Drawn:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.readdir(self.cred, where, 0, COOKIE_VERIFIER, 4096)
            assert got.eof or got.status is not nfsstat3.NFS3_OK
            names = sorted((entry.name.decode(), entry.fileid) for entry in got.entries)
            self.files |= {file for _, file in names if is_file(file)}
            return where, (status_of(got.status), tuple(entry for entry in names if entry[0] not in (".", "..")))

        return Drawn("readdir", where, procedure)

    def _simple(
        self, method: str, argument: Any, call: Callable[[MetadataService], Awaitable[Any]], field: str = ""
    ) -> Drawn:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await call(service)
            return argument, (status_of(got.status), getattr(got, field)) if field else status_of(got.status)

        return Drawn(method, argument, procedure)

    def _create(self, where: int, name: str, mode: int, guarded: bool) -> Procedure:
        how = createmode3.GUARDED if guarded else createmode3.UNCHECKED

        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.create(self.cred, where, name.encode(), how, sattr3(mode=mode))
            if got.obj:
                self.files.add(got.obj)
            return (where, name, mode, guarded, got.obj), (status_of(got.status), got.obj)

        return procedure
