"""Malevolent clients at work on a file system: what other rogues do, with updates of names and attributes."""

from random import Random
from typing import TYPE_CHECKING, Any, Final

from qunfs.nfs.calls import changes_of
from qunfs.nfs.types import sattr3
from qunfs.objects.ids import is_directory, new_id, type_of
from qunfs.protocol.operation import Credentials, Operation
from qunfs.protocol.packing import pack
from tests.simulation.rogues import Rogue

if TYPE_CHECKING:
    from tests.simulation.files import FilesWorld

MAKING: Final = ("create", "mkdir")
OTHERS_MAX: Final = 4
"""How many updates it tries of which no new object tells whether they took effect: each doubles what may have been."""

Made = tuple[str, tuple[int, ...], Any, str, Any, int]
"""Method, objects and argument; what the reference calls it, the argument there, and the number of a new object."""


class FilesRogue(Rogue):
    """Its sessions are few, so that servers remember them and no operation is to happen twice."""

    world: "FilesWorld"

    def __init__(self, world: "FilesWorld", index: int) -> None:
        super().__init__(world, index)
        self._remembered = True
        self._others = 0

    def _prey(self) -> list[int]:
        return self.world.objects

    def _operation_on(self, objects: tuple[int, ...]) -> Operation | None:
        """One that fits the tree as it is now, if it has some of these objects."""
        made = self._made(objects, self.chance)
        if made is None:
            return None
        self._count += 1
        method, named, argument, model, meaning, new = made
        self.world.meet([(obj, "") for obj in named])
        self.world.journal.attempt(
            f"rogue{self.address.index}.{self._count}", model, meaning, new, self.world.clock.now
        )
        session, sequence = self._more.choice(self._sessions), 1 + len(self._operations)
        operation = _operation(method, named, argument, self.world.clock.wall_ns(), named[0], session, sequence)
        self._operations.append(operation)
        return operation

    def _operation(self, objects: tuple[int, ...], like: Operation | None = None) -> Operation:
        """The same as another in all but its time, as if it were another."""
        assert like is not None
        return Operation(
            like.objects,
            like.types,
            like.method,
            like.version,
            like.argument,
            like.credentials,
            like.client_time + self._number(),
            like.home,
            like.session,
            like.sequence,
        )

    def _made(self, objects: tuple[int, ...], chance: Random) -> Made | None:
        directories, names, modes = self.world.oracles.tree()
        bound = sorted((where, name, obj) for where, name, obj in names if not is_directory(obj))
        files, wheres = sorted(file for file, _ in modes), sorted(directories)
        where, name, mode = chance.choice(wheres), chance.choice("abc"), chance.randrange(0o1000)
        kind = chance.choice(("create", "create", "remove", "rename", "link", "setattr", "mkdir"))
        if kind in MAKING or not bound or self._others >= OTHERS_MAX:
            makes_directory = kind == "mkdir"
            new = new_id(chance.randrange(64), self.world.quorums.n, makes_directory, chance.getrandbits)
            changes = changes_of(sattr3(mode=mode))
            if makes_directory:
                meaning: Any = (where, name)
                return "dir.mkdir", (where, new), (where, name.encode(), new, changes), kind, meaning, new
            argument = (where, name.encode(), new, changes, None)
            return "dir.create", (where, new), argument, "create", (where, name, mode, True), new
        self._others += 1
        at, known, obj = chance.choice(bound)
        if kind == "remove":
            meaning = ((((at, known), obj),), "remove", (at, known))
            return "dir.remove", (at, obj), (at, known.encode(), obj), "if bound", meaning, 0
        if kind == "rename":
            replaced = next((o for w, n, o in sorted(names) if (w, n) == (where, name)), 0)
            named = (at, *sorted({where, obj, replaced} - {at, 0}))
            argument = (at, known.encode(), where, name.encode(), obj, replaced, 0, None, False)
            ends = (((at, known), obj), ((where, name), replaced))
            return (
                "dir.rename",
                named,
                argument,
                "if bound",
                (ends, "rename", ((at, known), (where, name), "replace")),
                0,
            )
        file = chance.choice(files)
        if kind == "link":
            return "dir.link", (where, file), (file, where, name.encode()), kind, (file, where, name), 0
        return "attr.setattr", (file,), (changes_of(sattr3(mode=mode)), None), kind, (file, mode), 0


def _operation(
    method: str, objects: tuple[int, ...], argument: Any, time: int, home: int, session: bytes, sequence: int
) -> Operation:
    named = tuple(sorted(objects))
    types, credentials = tuple(map(type_of, named)), Credentials(0, 0)
    return Operation(named, types, method, 1, pack(argument), credentials, time, home, session, sequence)
