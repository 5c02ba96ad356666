"""What methods make of arguments of all kinds: ``python -m tests.objects.outcomes SEED CASES``.

Prints one line for each case: the method, how it ended, and a digest of the answer and of all rows that would change.
Whichever code the process runs, compiled or not, it must print the same.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgpack

from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT, TOPOLOGY, is_directory, new_id, type_of
from qunfs.objects.state import unpack_attributes, unpack_header
from qunfs.protocol.execution import Execution, run_query, run_update
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Credentials, MethodClass, Operation
from tests.support.local_qu import START_NS, State

COUNTER = 900
NAMES = [b"d", b"s", b"f", b"g", b"l", *(b"new%d" % number for number in range(12)), b"n" * 255]
NO_NAMES = [b".", b"..", b"a/b", b"", b"n" * 256, b"\0"]
XATTRS = [b"user.a", b"user.a", b"user.b", b"trusted.t", b"security.s"]
NO_XATTRS = [b"system.x", b"user.", b"", b"u" * 256, b"user.\0"]
MODES = [0, 0o644, 0o777, 0o4755, 0o6711, 0o2770, 0o1777]
OWNERS = [0, 50, 1000, 2000, (1 << 32) - 2]
NO_WORDS = [1 << 32, (1 << 32) - 1, -1]
TIMES = [True, True, 0, START_NS, START_NS + 5, -(1 << 63), (1 << 63) - 1]
NO_TIMES = [-(1 << 63), 1 << 63, (1 << 64) - 1]
SIZES = [0, 0, 1, 4096, (1 << 63) - 1]
NO_SIZES = [1 << 63, -1]
STORES = [bytes(16), b"\1" * 16]
NO_STORES = [b"", b"\1" * 15]
PEOPLE = [Credentials(0, 0), Credentials(1000, 1000), Credentials(1000, 50, (1000,)), Credentials(2000, 2000, (50, 0))]
VALUES = (0, 1, 2, 3, 7, -1, 1 << 31, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63))
NUMBERS = (0.0, 1.0, 2.5, float("nan"), float("inf"), 2.0**63)
SIMPLE = (None, True, False, "", "f", "1", b"", b"f", b"1", b"\xff" * 300)
NESTED = ((), (1,), (None,), ((1, 2), 3), {}, {1: 2}, {"a": b"b"}, msgpack.ExtType(5, b"x"), msgpack.Timestamp(3, 4))
ODD = (*VALUES, *NUMBERS, *SIMPLE, *NESTED)

rng = random.Random()


class Tree:
    """Objects of all types, and which ids there are to speak of."""

    def __init__(self) -> None:
        self.state = State(REGISTRY, genesis_rows(1000, 1000, 0o777, START_NS))
        self.sequence = 0
        self.ids = [ROOT, COUNTER]
        none = (None,) * 6 + (False, None, None)
        directory, sub, sticky = (self.new(directory=True) for _ in range(3))
        file, other, target = (self.new(directory=False) for _ in range(3))
        owner, stranger = PEOPLE[1], PEOPLE[3]
        self.make(owner, "dir.mkdir", (ROOT, b"d", directory, (0o2777, *none[1:])))
        self.make(owner, "dir.mkdir", (directory, b"s", sub, (0o755, *none[1:])))
        self.make(stranger, "dir.mkdir", (ROOT, b"s", sticky, (0o1777, *none[1:])))
        self.make(owner, "dir.create", (ROOT, b"f", file, (0o6755, *none[1:]), None))
        self.make(stranger, "dir.create", (sticky, b"g", other, none, b"verifier"))
        self.make(owner, "dir.symlink", (ROOT, b"l", target, none, b"target"))
        self.ids += [directory, sub, sticky, file, other, target]

    def new(self, *, directory: bool) -> int:
        """An id that nothing has."""
        return new_id(rng.randrange(6), 6, directory, rng.getrandbits)

    def make(self, cred: Credentials, method: str, argument: tuple[Any, ...]) -> None:
        """Have something made that must be."""
        execution, changes = self.run(method, argument, {argument[0], argument[2]}, cred)
        assert execution.effective, method
        self.apply(changes)

    def run(
        self, method: str, argument: Any, objects: set[int], cred: Credentials
    ) -> tuple[Execution, dict[int, dict[bytes, bytes | None]]]:
        """The outcome of an operation, and what would change."""
        self.sequence += 1
        order = tuple(sorted(objects))
        kinds = tuple("counter" if obj == COUNTER else type_of(obj) for obj in order)
        found = REGISTRY.find(method, 1)
        assert found is not None
        views = self.state.views(order)
        packed = msgpack.packb(argument)
        if found.kind is MethodClass.QUERY:
            execution = run_query(found, Operation(order, kinds, method, 1, packed, cred), views)
        else:
            now = START_NS + self.sequence
            once = (now, order[0], b"\7" * 16, self.sequence)
            execution = run_update(
                found, Operation(order, kinds, method, 1, packed, cred, *once), 9, self.sequence, views, DEFAULT_LIMITS
            )
        return execution, {obj: dict(view.changes()) for obj, view in views.items()} if execution.effective else {}

    def apply(self, changes: dict[int, dict[bytes, bytes | None]]) -> None:
        """Let an operation take effect."""
        for obj, difference in changes.items():
            for key, value in difference.items():
                self.state.put(obj, key, value)

    def all_rows(self) -> dict[int, dict[bytes, bytes]]:
        """Every row of every object, with what the protocol keeps."""
        return {obj: {key[1:]: value for key, value in rows.scan(b".")} for obj, rows in self.state.rows.items()}

    def bound(self, directory: int, name: bytes) -> int:
        """What a name is bound to, or an id that it is not."""
        row = self.state.get(directory, b"e" + name)
        return rng.choice(self.ids) if row is None or rng.random() < 0.1 else int.from_bytes(row[:8], "big")


def _mostly(good: Sequence[Any], bad: Sequence[Any]) -> Any:
    return rng.choice(good if rng.random() < 0.9 else bad)


def _sattr() -> tuple[Any, ...]:
    """Mostly alone, mostly in bounds."""

    def some(good: Sequence[Any], bad: Sequence[Any]) -> Any:
        return _mostly(good, bad) if rng.random() < 0.2 else None

    words = (some(MODES, NO_WORDS), some(OWNERS, NO_WORDS), some(OWNERS, NO_WORDS))
    times = (some(TIMES, NO_TIMES), some(TIMES, NO_TIMES))
    rest = (rng.random() < 0.2, some(STORES, NO_STORES), some([0], [1, 1 << 63]))
    return (*words, some(SIZES, NO_SIZES), *times, *rest)


def _entry(tree: Tree) -> tuple[int, bytes]:
    """A directory and the name of something in it, more often than not."""
    directory = rng.choice([obj for obj in tree.ids if is_directory(obj)])
    there = sorted(key[2:] for key, _ in tree.state.rows_of(directory).scan(b".e", b".f"))
    return directory, rng.choice(there) if there and rng.random() < 0.7 else _mostly(NAMES, NO_NAMES)


def _place(tree: Tree, *, directory: bool = False) -> tuple[Any, ...]:
    where, name = _entry(tree)
    obj = tree.new(directory=directory) if rng.random() < 0.9 else rng.choice(tree.ids)
    return where, (name if rng.random() < 0.2 else _mostly(NAMES, NO_NAMES)), obj, _sattr()


def _removal(tree: Tree) -> tuple[Any, ...]:
    where, name = _entry(tree)
    return where, name, tree.bound(where, name)


def _link(tree: Tree) -> tuple[Any, ...]:
    return rng.choice(tree.ids), _entry(tree)[0], _mostly(NAMES, NO_NAMES)


def _rename(tree: Tree) -> tuple[Any, ...]:
    (source, name), (target, new_name) = _entry(tree), _entry(tree)
    new_name = rng.choice([new_name, _mostly(NAMES, NO_NAMES)])
    moved = tree.bound(source, name)
    there = tree.state.get(target, b"e" + new_name)
    replaced = 0 if there is None else tree.bound(target, new_name)
    flags = rng.choice([0, 0, 1, 2]) if there is None else rng.choice([0, 0, 0, 1, 2, 2, 3])
    climbs = source != target and (is_directory(moved) or (flags == 2 and is_directory(replaced)))
    row = tree.state.get(TOPOLOGY, b"g") or bytes(8)
    generation = int.from_bytes(row, "big") if climbs else None
    return source, name, target, new_name, moved, replaced, flags, generation, rng.random() < 0.1


def _page(_tree: Tree) -> tuple[int, ...]:
    return rng.choice([0, 1, 2, 3, 1 << 40]), rng.randrange(6), rng.choice([0, 60, 900]), rng.randrange(-1, 30)


def _nothing(_tree: Tree) -> None:
    return None


def _there(tree: Tree, *, file: bool = False) -> int:
    """An object, and what its attributes say, more often than not."""
    return rng.choice([obj for obj in tree.ids if obj != COUNTER and not (file and is_directory(obj))])


def _ctime(tree: Tree, obj: int) -> int:
    row = tree.state.get(obj, b"a")
    return 1 if row is None or rng.random() < 0.1 else unpack_attributes(row).ctime


def _generation(tree: Tree) -> int:
    return int.from_bytes(tree.state.get(TOPOLOGY, b"g") or bytes(8), "big")


def _unbind(tree: Tree) -> tuple[Any, ...]:
    """A name of something that is no more, or else of something that is."""
    where, name = _entry(tree)
    obj = tree.bound(where, name)
    if rng.random() < 0.2:
        tree.state.put(obj, b"a", None)
    return where, name, obj, *_mostly([(0, b"")], [_entry(tree)])


def _retype(tree: Tree) -> tuple[Any, ...]:
    where, name = _entry(tree)
    row = tree.state.get(where, b"e" + name)
    if row is not None and rng.random() < 0.5:
        tree.state.put(where, b"e" + name, row[:8] + bytes((rng.randrange(1, 8),)) + row[9:])
    return where, name, tree.bound(where, name)


def _reparent(tree: Tree) -> tuple[Any, ...]:
    where, name = _entry(tree)
    obj = tree.bound(where, name)
    row = tree.state.get(obj, b"d")
    parent = 0 if row is None else unpack_header(row).parent
    if row is not None and rng.random() < 0.7:
        parent = rng.choice(tree.ids)
        header = unpack_header(row)
        header.parent = parent
        tree.state.put(obj, b"d", header.pack())
    return where, name, obj, parent, _generation(tree)


def _relink(tree: Tree) -> tuple[int, int]:
    relink_target[0] = _there(tree, file=True)
    return _ctime(tree, relink_target[0]), _mostly([2, 3], [0, -1])


def _attach(tree: Tree) -> tuple[Any, ...]:
    where = rng.choice([obj for obj in tree.ids if is_directory(obj)])
    obj = _there(tree)
    return where, obj, _ctime(tree, obj), _generation(tree) if is_directory(obj) else None


relink_target = [ROOT]
"""Whose ctime is in the argument."""


def _xattr(_tree: Tree) -> bytes:
    return _mostly(XATTRS, NO_XATTRS)


ARGUMENTS: dict[str, Callable[[Tree], Any]] = {
    "attr.access": lambda _: rng.randrange(-1, 128),
    "attr.getattr": _nothing,
    "attr.getxattr": _xattr,
    "attr.listxattr": _nothing,
    "attr.readlink": _nothing,
    "attr.removexattr": _xattr,
    "attr.setattr": lambda _: (_sattr(), _mostly([None], [1, START_NS])),
    "attr.setxattr": lambda _: (_xattr(_), b"v" * _mostly([0, 5, 20_000], [61_441]), _mostly([0, 0, 1, 2], [3])),
    "attr.verify": lambda _: rng.choice([b"verifier", b"another.", b"short"]),
    "counter.fetch": _nothing,
    "counter.increment": lambda _: rng.choice([None, 1, -1, 1 << 62, (1 << 64) - 1]),
    "dir.create": lambda tree: (*_place(tree), _mostly([None, bytes(8)], [b"short"])),
    "dir.link": _link,
    "dir.lookup": lambda tree: _entry(tree)[1],
    "dir.find": lambda tree: _entry(tree)[1],
    "dir.mkdir": lambda tree: _place(tree, directory=True),
    "dir.mknod": lambda tree: (*_place(tree), _mostly([3, 4, 6, 7], range(9)), (1, _mostly(OWNERS, NO_WORDS))),
    "dir.parent": _nothing,
    "dir.readdir": _page,
    "dir.remove": _removal,
    "dir.rename": _rename,
    "dir.rmdir": _removal,
    "dir.symlink": lambda tree: (*_place(tree), _mostly([b"to"], [b"", b"\0", b"t" * 4096])),
    "fsck.attach": _attach,
    "fsck.index": _nothing,
    "fsck.names": lambda tree: (_there(tree), tuple(_entry(tree) for _ in range(rng.randrange(3)))),
    "fsck.refresh": _nothing,
    "fsck.relink": _relink,
    "fsck.reparent": _reparent,
    "fsck.retype": _retype,
    "fsck.rows": lambda _: (rng.choice([b"", b"a", b"e", b"ed", b"x"]), rng.choice([0, 60, 900])),
    "fsck.unbind": _unbind,
    "topo.fetch": _nothing,
}
"""Arguments of the right shape, by method."""


def _named(tree: Tree, method: str, argument: Any) -> set[int]:
    """The objects that an operation with such an argument names."""
    kind, _, name = method.partition(".")
    if kind in ("counter", "topo"):
        return {COUNTER if kind == "counter" else TOPOLOGY}
    if kind == "fsck":
        return _named_by_check(tree, name, argument)
    if kind == "attr" or type(argument) is not tuple or name == "readdir":
        return {rng.choice([obj for obj in tree.ids if kind == "attr" or is_directory(obj)])}
    if name == "rename":
        at = [argument[0], argument[2], argument[4], argument[5] or argument[0]]
        return {*at, TOPOLOGY} if argument[7] is not None else set(at)
    return {argument[0], argument[1] if name == "link" else argument[2]}


def _named_by_check(tree: Tree, name: str, argument: Any) -> set[int]:
    if name == "relink":
        return {relink_target[0]}
    if name == "names":
        return {argument[0], *[where for where, _ in argument[1]]}
    if name == "attach":
        return {argument[0], argument[1], *[TOPOLOGY] * is_directory(argument[1])}
    if name == "reparent":
        return {argument[0], argument[2], TOPOLOGY}
    if name in ("unbind", "retype"):
        return {argument[0], argument[2], *([argument[3]] if name == "unbind" and argument[3] else [])}
    return {_there(tree) if name == "refresh" else rng.choice([obj for obj in tree.ids if is_directory(obj)])}


def _twisted(value: Any, depth: int = 0) -> Any:
    """The value with something wrong somewhere."""
    if type(value) is tuple and value and rng.random() < 0.8 - depth * 0.2:
        at = rng.randrange(len(value))
        way = rng.random()
        if way < 0.1:
            return value[:at] + value[at + 1 :]
        if way < 0.2:
            return (*value[:at], rng.choice(ODD), *value[at:])
        return (*value[:at], _twisted(value[at], depth + 1), *value[at + 1 :])
    way = rng.random()
    if type(value) is int and way < 0.5:
        return rng.choice([float(value), bool(value), str(value), str(value).encode()])
    if type(value) is bytes and way < 0.3:
        return value.decode("latin-1")
    if way < 0.4:
        return rng.choice([(value,), (value, value), ((((value,),),),)])
    return rng.choice(ODD)


def _spoilt(tree: Tree, objects: set[int]) -> None:
    """Put something into a row that no method has written."""
    obj, key = rng.choice(sorted(objects)), rng.choice([b"a", b"a", b"d", b"n", b"g"])
    row = tree.state.get(obj, key)
    if row is not None and key == b"n":
        tree.state.put(obj, key, msgpack.packb(_twisted(msgpack.unpackb(row, use_list=False))))
    elif row is not None:
        at = rng.randrange(len(row))
        tree.state.put(obj, key, row[:at] + rng.randbytes(rng.choice([0, 1, 1, 2, 16])) + row[at + 1 :])


def _digest(value: object) -> str:
    return blake2b(repr(value).encode(), digest_size=8).hexdigest()


def outcomes(seed: int, cases: int) -> Iterator[str]:
    """One line for each case."""
    rng.seed(seed)
    tree = Tree()
    methods = sorted(ARGUMENTS)
    for case in range(cases):
        if case % 400 == 0:
            tree = Tree()
        method = methods[case % len(methods)]
        argument = ARGUMENTS[method](tree)
        objects = _named(tree, method, argument)
        kind = rng.choice(["right", "right", "right", "wrong", "wrong", "wrong", "others", "spoilt"])
        before = tree.all_rows() if kind == "spoilt" else None
        if kind == "wrong":
            argument = _twisted(argument)
        elif kind == "others":
            objects = set(rng.sample([*tree.ids, TOPOLOGY], rng.randrange(1, 4)))
        elif kind == "spoilt":
            _spoilt(tree, objects)
        execution, changes = tree.run(method, argument, objects, rng.choice([*PEOPLE, *PEOPLE[:2]]))
        yield f"{method} {kind} {execution.code.name} {_digest((execution.answer, execution.effective, changes))}"
        if method == "dir.lookup":
            follow = REGISTRY.find(method, 1).follow  # type: ignore[union-attr]
            answer = msgpack.packb(_twisted((0, (rng.choice(tree.ids), 1), ())))
            yield f"{method} follow {follow(answer)!r}"  # type: ignore[misc]
        if before is not None:
            tree.state = State(REGISTRY, before)
        elif execution.effective:
            tree.apply(changes)
            tree.ids = [*tree.ids, *(obj for obj in objects if obj not in tree.ids and obj != TOPOLOGY)][:40]


if __name__ == "__main__":
    for line in outcomes(int(sys.argv[1]), int(sys.argv[2])):
        print(line)
