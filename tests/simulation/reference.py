"""What operations do, written down again without the production code: models to check histories against.

States are plain values; None is an object that nothing has been done to.
"""

from typing import Any, cast

from tests.simulation.linearizability import State

States = tuple[State, ...]


def simulated(method: str, argument: Any, states: States) -> tuple[Any, States]:
    """The objects of the simulator: counters and ledgers, as its clients know them."""
    if method in ("increment", "count"):
        (value,) = cast("tuple[int | None]", states)
        value = (value or 0) + (method == "increment")
        return value, (value or None,)
    ledgers = [cast("tuple[bytes, ...]", state or ()) for state in states]
    if method == "fetch":
        return tuple(ledgers), states
    if method == "append":
        entry, expected = argument
        lengths = tuple(len(ledger) for ledger in ledgers)
        if expected not in (None, lengths):
            return ("no", lengths), states
        return ("ok", lengths), tuple((*ledger, entry) for ledger in ledgers)
    raise ValueError(f"no such method: {method}")


Entries = frozenset[tuple[int, str, int]]
"""(directory, name, object) of every name in a file system."""
Mode = int | tuple[int, str]
"""Of a file; a symlink's with its target."""
Modes = frozenset[tuple[int, Mode]]
"""(file, mode) of every file."""


def filesystem(method: str, argument: Any, states: States) -> tuple[Any, States]:
    """A file system, all of it one object, whose state is (directories, names, modes).

    Answers are a status and what belongs to it.  Objects are known by their numbers; whoever makes one says in the
    argument which number it was answered, if any.
    """
    if method == "tree":
        return None, (argument,)
    directories, names, modes = cast("tuple[frozenset[int], Entries, Modes]", states[0])
    bound = {(directory, name): obj for directory, name, obj in names}
    if method == "if bound":
        expected, method, argument = argument
        if any(bound.get(where, 0) != obj for where, obj in expected):
            return None, states
    answer, changed = _METHODS[method](argument, directories, bound, dict(modes))
    if changed is None:
        return answer, states
    directories, bound, kept = changed
    entries = frozenset((directory, name, obj) for (directory, name), obj in bound.items())
    linked = {obj for _, _, obj in entries}
    return answer, ((directories, entries, frozenset((obj, mode) for obj, mode in kept.items() if obj in linked)),)


Bound = dict[tuple[int, str], int]
Kept = dict[int, Mode]
Changed = tuple[frozenset[int], Bound, Kept]
Outcome = tuple[Any, Changed | None]


def _create(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    directory, name, mode, guarded, new = argument
    if directory not in directories:
        return ("STALE", 0), None
    old = bound.get((directory, name))
    if old is None:
        return ("OK", new), (directories, {**bound, (directory, name): new}, {**modes, new: mode})
    if guarded:
        return ("EXIST", 0), None
    if old in modes:
        return ("OK", old) if isinstance(modes[old], int) else ("EXIST", 0), None
    return ("ISDIR", 0), None


def _mkdir(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    directory, name, new = argument
    if directory not in directories:
        return ("STALE", 0), None
    if (directory, name) in bound:
        return ("EXIST", 0), None
    return ("OK", new), (directories | {new}, {**bound, (directory, name): new}, modes)


def _symlink(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    directory, name, target, new = argument
    return _create((directory, name, (0o777, target), True, new), directories, bound, modes)


def _readlink(obj: Any, _: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    if obj not in modes:
        return ("STALE", ""), None
    mode = modes[obj]
    return ("INVAL", "") if isinstance(mode, int) else ("OK", mode[1]), None


def _lookup(argument: Any, directories: frozenset[int], bound: Bound, _: Kept) -> Outcome:
    directory = argument[0]
    if directory not in directories:
        return ("STALE", 0), None
    obj = bound.get(argument, 0)
    return ("OK" if obj else "NOENT", obj), None


def _readdir(directory: Any, directories: frozenset[int], bound: Bound, _: Kept) -> Outcome:
    if directory not in directories:
        return ("STALE", ()), None
    return ("OK", tuple(sorted((name, obj) for (where, name), obj in bound.items() if where == directory))), None


def _getattr(obj: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    """Status, mode (that of directories is not modelled) and link count."""
    if obj in directories:
        return ("OK", 0, 2 + sum(where == obj and what in directories for (where, _), what in bound.items())), None
    if obj not in modes:
        return ("STALE", 0, 0), None
    mode = modes[obj]
    return ("OK", mode if isinstance(mode, int) else mode[0], list(bound.values()).count(obj)), None


def _setattr(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    obj, mode = argument
    if obj not in modes:
        return "STALE", None
    old = modes[obj]
    return "OK", (directories, bound, {**modes, obj: mode if isinstance(old, int) else (mode, old[1])})


def _link(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    obj, directory, name = argument
    if directory not in directories:
        return "STALE", None
    if (directory, name) in bound:
        return "EXIST", None
    if obj in directories:
        return "PERM", None
    if obj not in modes:
        return "STALE", None
    return "OK", (directories, {**bound, (directory, name): obj}, modes)


def _remove(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    if argument[0] not in directories:
        return ("STALE", 0), None
    obj = bound.get(argument)
    if obj is None:
        return ("NOENT", 0), None
    if obj not in modes:
        return ("ISDIR", 0), None
    return ("OK", obj), (directories, {key: value for key, value in bound.items() if key != argument}, modes)


def _rmdir(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    if argument[0] not in directories:
        return "STALE", None
    obj = bound.get(argument)
    if obj is None:
        return "NOENT", None
    if obj not in directories:
        return "NOTDIR", None
    if any(where == obj for where, _ in bound):
        return "NOTEMPTY", None
    return "OK", (directories - {obj}, {key: value for key, value in bound.items() if key != argument}, modes)


def _rename(argument: Any, directories: frozenset[int], bound: Bound, modes: Kept) -> Outcome:
    """The names are looked up apart, and a refusal holds when its directory is asked: ``told`` says which it was."""
    source, target, how, *told = argument
    moved, replaced = bound.get(source), bound.get(target)
    if source[0] not in directories or (told == ["STALE"] and target[0] not in directories):
        return "STALE", None
    if moved is None:
        return "NOENT", None
    if target[0] not in directories:
        return "STALE", None
    if how == "exchange" and replaced is None:
        return "NOENT", None
    if how == "noreplace" and replaced is not None:
        return "EXIST", None
    if moved == replaced:
        return "OK", None
    refusal = _rename_refusal(source, target, how, directories, bound)
    if refusal:
        return refusal, None
    after = {**bound, target: moved}
    if how == "exchange" and replaced is not None:
        after[source] = replaced
    else:
        del after[source]
        directories -= {replaced}
    return "OK", (directories, after, modes)


def _rename_refusal(source: Any, target: Any, how: str, directories: frozenset[int], bound: Bound) -> str:
    moved, replaced = bound[source], bound.get(target)
    if moved in _path(target[0], directories, bound):
        return "INVAL"
    if how == "exchange" and replaced in _path(source[0], directories, bound):
        return "INVAL"
    if replaced is None or how == "exchange":
        return ""
    if replaced == source[0]:
        return "NOTEMPTY"
    if replaced not in directories:
        return "NOTDIR" if moved in directories else ""
    if moved not in directories:
        return "ISDIR"
    return "NOTEMPTY" if any(where == replaced for where, _ in bound) else ""


def _path(directory: int, directories: frozenset[int], bound: Bound) -> list[int]:
    """A directory and those above it."""
    parents = {obj: where for (where, _), obj in bound.items() if obj in directories}
    path = [directory]
    while path[-1] in parents:
        path.append(parents[path[-1]])
    return path


_METHODS = {
    "create": _create,
    "mkdir": _mkdir,
    "symlink": _symlink,
    "readlink": _readlink,
    "lookup": _lookup,
    "readdir": _readdir,
    "getattr": _getattr,
    "setattr": _setattr,
    "link": _link,
    "remove": _remove,
    "rmdir": _rmdir,
    "rename": _rename,
}
