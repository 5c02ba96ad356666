"""Whether some serial order of operations explains what clients were told: strict serializability, from outside.

A history says of each operation when it was invoked, what it asked of which objects, and when it was answered what.
One that was never answered may have taken effect at any time since it was invoked, once, or not at all.  The history is
legal when its operations, each answered one and some of the others, can be put into an order in which

* no operation precedes one that was answered before it was invoked, and
* a model of the objects, run in that order, gives every answer (and ends in the final states, if those are known).

An operation on several objects takes effect on all of them at one place in the order, which makes this strict
serializability of transactions; with operations on single objects it is linearizability.  Nothing is known here of
timestamps, replicas or versions.

The search is Wing and Gong's (1993) with Lowe's memory of configurations (2017): an operation may come next when none
of those that remain was answered before it was invoked, and no two ways to the same operations and states are both
followed.  Objects that no operation joins are searched apart, for linearizability is local (Herlihy and Wing, 1990).
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Final, Protocol

STEPS_MAX: Final = 20_000
"""Steps of the model before a search is given up: half a second or so."""

State = Hashable
"""The state of one object; None before the first operation."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client asked for and was told."""

    name: str
    method: str
    objects: tuple[Hashable, ...]
    invoked: float
    argument: Any = None
    answered: float | None = None
    """None: pending, the client was never told."""
    answer: Any = None


class Model(Protocol):
    """What operations do to objects, one at a time."""

    def __call__(self, method: str, argument: Any, states: tuple[State, ...]) -> tuple[Any, tuple[State, ...]]:
        """The answer and the next states of the operation's objects."""


class Verdict(Enum):
    """What a search came to."""

    LEGAL = "legal"
    ILLEGAL = "illegal"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict and the ground for it."""

    verdict: Verdict
    steps: int
    orders: tuple[tuple[str, ...], ...] = ()
    """If legal: an order of each group of objects that operations join, by the names of the operations."""
    why: str = ""
    """If not: how far an order goes, and what comes in its way."""


def check(
    model: Model,
    history: Sequence[Operation],
    final: Mapping[Any, State] | None = None,
    steps_max: int = STEPS_MAX,
) -> Result:
    """Search for a legal order of a history; ``final`` is how it must leave all objects that it names."""
    steps, gave_up = 0, ""
    orders: list[tuple[str, ...]] = []
    for objects, operations in _apart(history, list(final or ())):
        end = None if final is None else tuple(final[obj] for obj in objects if obj in final)
        if end is not None and len(end) < len(objects):
            raise ValueError("a history names objects whose final states are not given")
        search = _Search(model, objects, operations, end, steps_max - steps)
        verdict = search.run()
        steps += search.steps
        if verdict is Verdict.ILLEGAL:
            return Result(verdict, steps, why=search.why())
        if verdict is Verdict.GAVE_UP:
            gave_up = gave_up or search.why()
        else:
            orders.append(search.order())
    if gave_up:
        return Result(Verdict.GAVE_UP, steps, why=gave_up)
    return Result(Verdict.LEGAL, steps, tuple(orders))


def _apart(
    history: Sequence[Operation], more: Sequence[Hashable]
) -> Iterator[tuple[tuple[Hashable, ...], list[Operation]]]:
    """The objects in groups that no operation joins, with their operations; ``more`` objects need not have any."""
    group: dict[Hashable, list[Hashable]] = {}
    for objects in [*[operation.objects for operation in history], *[(obj,) for obj in more]]:
        joined: list[Hashable] = []
        for obj in objects:
            for other in group.get(obj, [obj]):
                if other not in joined:
                    joined.append(other)
        for obj in joined:
            group[obj] = joined
    for objects in {id(objects): tuple(objects) for objects in group.values()}.values():
        yield objects, [operation for operation in history if operation.objects[0] in objects]


@dataclass(slots=True)
class _Node:
    """An order of some operations, as the set of them and the states that they leave, and what may come next."""

    done: int
    states: tuple[State, ...]
    last: int
    nexts: Iterator[int]


class _Search:
    """The search among the operations on some objects."""

    def __init__(
        self,
        model: Model,
        objects: tuple[Hashable, ...],
        operations: Sequence[Operation],
        final: tuple[State, ...] | None,
        steps_max: int,
    ) -> None:
        self._model, self._final, self._steps_max = model, final, steps_max
        self._operations = sorted(operations, key=lambda o: (o.invoked, o.name))
        self._until = [inf if o.answered is None else o.answered for o in self._operations]
        place = {obj: i for i, obj in enumerate(objects)}
        self._places = [tuple(place[obj] for obj in o.objects) for o in self._operations]
        self._required = sum(1 << i for i, o in enumerate(self._operations) if o.answered is not None)
        self._start: tuple[State, ...] = (None,) * len(objects)
        self._path: list[_Node] = []
        self._farthest: list[_Node] = []
        self.steps = 0

    def run(self) -> Verdict:
        """Search, depth first."""
        self._path = [_Node(0, self._start, -1, self._nexts(0))]
        seen: set[tuple[int, tuple[State, ...]]] = set()
        while self._path:
            node = self._path[-1]
            if node.done & self._required == self._required and self._final in (None, node.states):
                return Verdict.LEGAL
            index = next(node.nexts, None)
            if index is None:
                self._path.pop()
                continue
            if self.steps >= self._steps_max:
                return Verdict.GAVE_UP
            self.steps += 1
            states = self._step(index, node.states)
            done = node.done | 1 << index
            if states is None or (done, states) in seen:
                continue
            seen.add((done, states))
            self._path.append(_Node(done, states, index, self._nexts(done)))
            if len(self._path) > len(self._farthest):
                self._farthest = list(self._path)
        return Verdict.ILLEGAL

    def _nexts(self, done: int) -> Iterator[int]:
        """The operations that may come next: those answered first, first, and those never answered last."""
        left = [i for i in range(len(self._operations)) if not done >> i & 1]
        horizon = min((self._until[i] for i in left), default=inf)
        may = [i for i in left if self._operations[i].invoked <= horizon]
        return iter(sorted(may, key=lambda i: self._until[i]))

    def _step(self, index: int, states: tuple[State, ...]) -> tuple[State, ...] | None:
        """The states after an operation; None when it would have been answered otherwise, or pending, does nothing."""
        operation, places = self._operations[index], self._places[index]
        before = tuple([states[place] for place in places])
        answer, after = self._model(operation.method, operation.argument, before)
        if answer != operation.answer if operation.answered is not None else after == before:
            return None
        changed = list(states)
        for place, state in zip(places, after, strict=True):
            changed[place] = state
        return tuple(changed)

    def order(self) -> tuple[str, ...]:
        """The order that was found."""
        return tuple(self._operations[node.last].name for node in self._path[1:])

    def why(self) -> str:
        """The longest order that was found, and what could not come next."""
        longest = self._farthest or [_Node(0, self._start, -1, iter(()))]
        done, states = longest[-1].done, longest[-1].states
        names = " ".join(self._operations[node.last].name for node in longest[1:]) or "nothing"
        told: list[str] = []
        for index in self._nexts(done):
            operation = self._operations[index]
            if operation.answered is not None:
                before = tuple(states[place] for place in self._places[index])
                answer, _ = self._model(operation.method, operation.argument, before)
                told.append(f"{operation.name} {operation.method} was answered {operation.answer!r}, not {answer!r}")
        if not told and self._final is not None:
            told.append(f"it leaves {states!r}, not {self._final!r}")
        return f"after {names}: {'; '.join(told)}"
