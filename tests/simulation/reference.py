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
Modes = frozenset[tuple[int, int]]
"""(file, mode) of every file."""


def filesystem(method: str, argument: Any, states: States) -> tuple[Any, States]:
    """A file system of plain files in directories, all of it one object, whose state is (directories, names, modes).

    Answers are a status and what belongs to it.  Objects are known by their numbers; whoever creates a file says in
    the argument which number it was answered, if any.
    """
    if method == "tree":
        return None, (argument,)
    directories, names, modes = cast("tuple[frozenset[int], Entries, Modes]", states[0])
    bound = {(directory, name): obj for directory, name, obj in names}
    answer, changed = _METHODS[method](argument, directories, bound, dict(modes))
    if changed is None:
        return answer, states
    directories, bound, kept = changed
    entries = frozenset((directory, name, obj) for (directory, name), obj in bound.items())
    linked = {obj for _, _, obj in entries}
    return answer, ((directories, entries, frozenset((obj, mode) for obj, mode in kept.items() if obj in linked)),)


Bound = dict[tuple[int, str], int]
Changed = tuple[frozenset[int], Bound, dict[int, int]]
Outcome = tuple[Any, Changed | None]


def _create(argument: Any, directories: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    directory, name, mode, guarded, new = argument
    if directory not in directories:
        return ("STALE", 0), None
    old = bound.get((directory, name))
    if old is None:
        return ("OK", new), (directories, {**bound, (directory, name): new}, {**modes, new: mode})
    if guarded:
        return ("EXIST", 0), None
    return ("OK", old) if old in modes else ("ISDIR", 0), None


def _lookup(argument: Any, directories: frozenset[int], bound: Bound, _: dict[int, int]) -> Outcome:
    directory = argument[0]
    if directory not in directories:
        return ("STALE", 0), None
    obj = bound.get(argument, 0)
    return ("OK" if obj else "NOENT", obj), None


def _readdir(directory: Any, directories: frozenset[int], bound: Bound, _: dict[int, int]) -> Outcome:
    if directory not in directories:
        return ("STALE", ()), None
    return ("OK", tuple(sorted((name, obj) for (where, name), obj in bound.items() if where == directory))), None


def _getattr(obj: Any, _: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    if obj not in modes:
        return ("STALE", 0, 0), None
    return ("OK", modes[obj], list(bound.values()).count(obj)), None


def _setattr(argument: Any, directories: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    obj, mode = argument
    if obj not in modes:
        return "STALE", None
    return "OK", (directories, bound, {**modes, obj: mode})


def _link(argument: Any, directories: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    obj, directory, name = argument
    if directory not in directories:
        return "STALE", None
    if (directory, name) in bound:
        return "EXIST", None
    if obj not in modes:
        return "STALE", None
    return "OK", (directories, {**bound, (directory, name): obj}, modes)


def _remove(argument: Any, directories: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    if argument[0] not in directories:
        return ("STALE", 0), None
    obj = bound.get(argument)
    if obj is None:
        return ("NOENT", 0), None
    if obj not in modes:
        return ("ISDIR", 0), None
    return ("OK", obj), (directories, {key: value for key, value in bound.items() if key != argument}, modes)


def _rmdir(argument: Any, directories: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    obj = bound.get(argument)
    if obj is None:
        return "NOENT", None
    if obj not in directories:
        return "NOTDIR", None
    if any(where == obj for where, _ in bound):
        return "NOTEMPTY", None
    return "OK", (directories - {obj}, {key: value for key, value in bound.items() if key != argument}, modes)


def _rename(argument: Any, directories: frozenset[int], bound: Bound, modes: dict[int, int]) -> Outcome:
    source, target, how = argument
    moved, replaced = bound.get(source), bound.get(target)
    if moved is None or (how == "exchange" and replaced is None):
        return "NOENT", None
    if how == "noreplace" and replaced is not None:
        return "EXIST", None
    if moved == replaced:
        return "OK", None
    after = {**bound, target: moved}
    if how == "exchange" and replaced is not None:
        after[source] = replaced
    else:
        del after[source]
    return "OK", (directories, after, modes)


_METHODS = {
    "create": _create,
    "lookup": _lookup,
    "readdir": _readdir,
    "getattr": _getattr,
    "setattr": _setattr,
    "link": _link,
    "remove": _remove,
    "rmdir": _rmdir,
    "rename": _rename,
}
