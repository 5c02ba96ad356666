"""Metadata procedures drawn at random, with what they are in the reference file system (tests.simulation.reference).

A tree is a directory with two others in it, one of which somebody may remove.  Its few names are fought over.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, NO_CHANGE, createmode3, nfsstat3, sattr3
from qunfs.objects.ids import is_directory, is_file
from qunfs.protocol.operation import Credentials
from tests.simulation.linearizability import State
from tests.simulation.reference import States

HOW = ("replace", "noreplace", "exchange")
READING = frozenset({"lookup", "readdir", "getattr", "readlink"})
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

    def heard_of(self, objects: Iterable[int]) -> None:
        """These exist, or did."""
        self.files |= {obj for obj in objects if is_file(obj)}

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
            self.heard_of(entry.fileid for entry in got.entries)
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
            self.heard_of([got.obj] if got.obj else [])
            return (where, name, mode, guarded, got.obj), (status_of(got.status), got.obj)

        return procedure


class TreeWork(FileWork):
    """Procedures of all kinds in a tree whose directories come, go and move; files, symlinks and directories fight over
    the same names.
    """

    KINDS = (
        *("create",) * 5,
        *("rename",) * 6,
        *("remove",) * 3,
        *("mkdir",) * 3,
        *("rmdir",) * 2,
        *("link",) * 2,
        *("symlink", "setattr", "readlink"),
    )
    READS = ("lookup", "lookup", "readdir", "getattr", "getattr of a directory")

    def __init__(self, chance: Random, cred: Credentials, tree: Tree) -> None:
        super().__init__(chance, cred, tree)
        self.directories = list(tree.directories)
        """All that clients know of, the latest last; some are gone."""
        self.entries = [(tree.top, "stays"), (tree.top, "goes")]
        """Names that were there at some time, the latest last."""

    def share(self, other: "TreeWork") -> None:
        """Know what another knows, from now on."""
        self.files, self.directories, self.entries = other.files, other.directories, other.entries

    def heard_of(self, objects: Iterable[int]) -> None:
        objects = list(objects)
        super().heard_of(objects)
        self.directories += [obj for obj in objects if is_directory(obj) and obj not in self.directories]

    def draw(self) -> Drawn:
        return self._drawn(self.chance.choice(self.KINDS if self.chance.random() < 0.75 else self.READS))

    def draw_reading(self) -> Drawn:
        """A procedure without effect."""
        return self._drawn(self.chance.choice(self.READS))

    def _somewhere(self) -> int:
        return self.chance.choice(self.directories[:3] + self.directories[-2:])

    def _some_name(self) -> str:
        """Those that the first directories have are among them."""
        return self.chance.choice(("a", "a", "b", "b", "goes", "stays"))

    def _entry(self, kind: str) -> tuple[int, str]:
        """A directory and a name; for what needs one that is there, most likely one that was."""
        if kind in ("rename", "remove", "rmdir", "lookup") and self.chance.random() < 0.75:
            return self.chance.choice(self.entries[-4:])
        return self._somewhere(), self._some_name()

    def _drawn(self, kind: str) -> Drawn:
        chance, cred, (where, name) = self.chance, self.cred, self._entry(kind)
        file = chance.choice(sorted(self.files)) if self.files else where
        mode, entry = chance.randrange(0o1000), name.encode()
        if kind == "create":
            guarded = chance.random() < 0.4
            self.entries.append((where, name))
            return Drawn(kind, (where, name, mode, guarded), self._create(where, name, mode, guarded))
        if kind == "mkdir":
            return Drawn(kind, (where, name), self._make((where, name), lambda s: s.mkdir(cred, where, entry)))
        if kind == "symlink":
            made = (where, name, f"to {mode}")
            return Drawn(
                kind, made, self._make(made, lambda s: s.symlink(cred, where, entry, NO_CHANGE, made[2].encode()))
            )
        if kind == "rename":
            return self._rename(where, name)
        if kind == "remove":
            return self._simple(kind, (where, name), lambda s: s.remove(cred, where, entry), "object")
        if kind == "rmdir":
            return self._simple(kind, (where, name), lambda s: s.rmdir(cred, where, entry))
        if kind == "link":
            return self._simple(kind, (file, where, name), lambda s: s.link(cred, file, where, entry))
        if kind == "lookup":
            return self._simple(kind, (where, name), lambda s: s.lookup(cred, where, entry), "object")
        if kind == "readdir":
            return self.readdir(where)
        if kind == "getattr of a directory" or file == where:
            return self.getattr_of_directory(where)
        if kind == "readlink":
            return self.readlink(file)
        if kind == "setattr":
            return self._simple(kind, (file, mode), lambda s: s.setattr(cred, file, sattr3(mode=mode)))
        return self.getattr(file)

    def _rename(self, where: int, name: str) -> Drawn:
        source, target = (where, name), (self._somewhere(), self._some_name())
        how = self.chance.choice(HOW)
        ends = (where, name.encode(), target[0], target[1].encode())

        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.rename(self.cred, *ends, HOW.index(how))
            self.entries += [target] if got.moved else []
            return (source, target, how, status_of(got.status)), status_of(got.status)

        return Drawn("rename", (source, target, how), procedure)

    def getattr_of_directory(self, where: int) -> Drawn:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.getattr(self.cred, where)
            return where, (status_of(got.status), 0, got.obj_attributes.nlink if got.obj_attributes else 0)

        return Drawn("getattr", where, procedure)

    def readlink(self, file: int) -> Drawn:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.readlink(self.cred, file)
            return file, (status_of(got.status), got.data.decode())

        return Drawn("readlink", file, procedure)

    def _make(self, made: tuple[Any, ...], call: Callable[[MetadataService], Awaitable[Any]]) -> Procedure:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await call(service)
            self.heard_of([got.obj] if got.obj else [])
            self.entries += [made[:2]] if got.obj else []
            return (*made, got.obj), (status_of(got.status), got.obj)

        return procedure
