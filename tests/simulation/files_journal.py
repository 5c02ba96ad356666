"""What watches over a run on a file system: the tree at every step, and an order of all procedures at the end."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from qunfs.objects.codes import ftype3
from qunfs.objects.ids import TOPOLOGY, is_directory
from qunfs.objects.state import ENTRY_ROWS, TARGET_ROW, unpack_attributes, unpack_entry
from tests.nfs.tree import check_objects
from tests.simulation.linearizability import Operation, Verdict, check
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.reference import Entries, Mode, Modes, filesystem
from tests.support.file_work import READING, Drawn, Tree

MAKING: Final = frozenset({"create", "mkdir", "symlink"})
POSTPONED: Final = "JUKEBOX"
FILESYSTEM: Final = ("fs",)


class TreeOracles(Oracles):
    """The invariants of every run, and a tree that is whole whenever something has been established."""

    def check_effects(self) -> None:
        """Every update has taken effect on all of its objects or on none, or names, links and parents would not fit."""
        try:
            check_objects(self._there())
        except (AssertionError, KeyError) as error:
            raise Violation(f"atomicity: the tree is not whole: {type(error).__name__} {error}") from error

    def _there(self) -> dict[int, dict[bytes, bytes]]:
        """The newest established state of every object that is there, without what the protocol keeps."""
        states = {
            o: {k: v for k, v in self.state(o).items() if k[:1] != b"\x00"} for o in self.objects if o != TOPOLOGY
        }
        return {obj: rows for obj, rows in states.items() if rows}

    def tree(self) -> tuple[frozenset[int], Entries, Modes]:
        """What is established, as the reference has it."""
        there = self._there()
        names = {
            (obj, key[len(ENTRY_ROWS) :].decode(), unpack_entry(value).obj)
            for obj, rows in there.items()
            for key, value in rows.items()
            if key.startswith(ENTRY_ROWS)
        }
        directories = frozenset(obj for obj in there if is_directory(obj))
        return directories, frozenset(names), frozenset((o, _mode(r)) for o, r in there.items() if o not in directories)


def _mode(rows: dict[bytes, bytes]) -> Mode:
    attributes = unpack_attributes(rows[b"a"])
    if attributes.type == ftype3.NF3LNK:
        return attributes.mode, rows[TARGET_ROW].decode()
    return attributes.mode


@dataclass(eq=False)
class Procedure:
    """One procedure of a correct client, or what a malevolent one tries."""

    name: str
    method: str
    argument: Any
    began: float
    new: int = 0
    """The number of the object that it was about to make, if it came to that."""
    ended: float | None = None
    answer: Any = None

    @property
    def status(self) -> str:
        """What it was answered, in a word."""
        return str(self.answer[0] if isinstance(self.answer, tuple) else self.answer)

    @property
    def postponed(self) -> bool:
        """Whether it was told to come again later, and had no effect."""
        return self.ended is not None and self.status == POSTPONED


class FilesJournal:
    """The procedures of a run."""

    def __init__(self, oracles: TreeOracles, tree: Tree) -> None:
        self._oracles, self._tree = oracles, tree
        self.operations: list[Procedure] = []
        self._attempts: list[Procedure] = []
        self.seen: Counter[str] = Counter()

    def begin(self, name: str, drawn: Drawn, now: float) -> Procedure:
        """A procedure begins."""
        procedure = Procedure(name, drawn.method, drawn.argument, now)
        self.operations.append(procedure)
        return procedure

    def attempt(self, name: str, method: str, argument: Any, new: int, now: float) -> None:
        """A malevolent client makes up an update, which may or may not take effect."""
        self._attempts.append(Procedure(name, method, argument, now, new))

    def end(self, procedure: Procedure, argument: Any, answer: Any, now: float) -> None:
        """A procedure is done."""
        procedure.argument, procedure.answer, procedure.ended = argument, answer, now
        self.seen[f"{procedure.method} {procedure.status}"] += 1
        if procedure.method == "create" and procedure.status == "OK" and answer[1] != procedure.new:
            self.seen["existing file taken"] += 1

    # ---- at the end

    def history(self) -> list[Operation]:
        """What some order must explain."""
        history = [Operation("tree", "tree", FILESYSTEM, -1.0, self._tree.initial(), -0.5, None)]
        for procedure in (*self.operations, *self._attempts):
            argument = procedure.argument
            if procedure.ended is None:
                if procedure.method in READING or not self._may_have_made(procedure):
                    continue
                if procedure.method in MAKING:
                    argument = (*argument, procedure.new)
            elif procedure.postponed:
                continue
            times = (procedure.began, argument, procedure.ended, procedure.answer)
            history.append(Operation(procedure.name, procedure.method, FILESYSTEM, *times))
        return history

    def _may_have_made(self, procedure: Procedure) -> bool:
        """Whether the object that it would have made was ever there; true of procedures that make none."""
        if procedure.method not in MAKING and not procedure.new:
            return True
        return len(self._oracles.established.get(procedure.new, ())) > 1

    def finish(self) -> None:
        """Some order explains all answers, those of the last readers too, and leaves the tree that is established."""
        history = self.history()
        found = check(filesystem, history, {FILESYSTEM[0]: self._oracles.tree()})
        self.seen[f"histories {found.verdict.value}"] += 1
        self.seen["longest history searched"] = len(history)
        self.seen["most steps of a search"] = found.steps
        self.seen["procedures postponed"] += sum(procedure.postponed for procedure in self.operations)
        self.seen["objects made by rogues"] += sum(bool(o.new) and self._may_have_made(o) for o in self._attempts)
        self.seen["procedures that may have taken effect"] += sum(o.answered is None for o in history)
        if found.verdict is Verdict.ILLEGAL:
            raise Violation(f"no order explains what clients were told of files: {found.why}")
