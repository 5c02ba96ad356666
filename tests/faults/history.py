"""What clients of the real cluster did, as the independent checker takes it; and the lines in which they tell it.

A client process tells of every operation before it begins, when it has drawn the number of a file that it makes, and
when it has ended, answered or not.  Times are those of CLOCK_MONOTONIC, which all processes of a machine share.
"""

import json
import os
from collections import Counter
from collections.abc import Container, Hashable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulation.linearizability import Operation, Result, check
from tests.simulation.reference import States, filesystem, simulated
from tests.support.file_work import READING

STEPS_MAX = 3_000_000
"""Of the search; a history that is legal takes hardly more steps than it has operations."""
COUNTING = frozenset({"increment", "count"})
WITHOUT_EFFECT = READING | {"count"}


def model(method: str, argument: Any, states: States) -> tuple[Any, States]:
    """Counters, and file systems."""
    return (simulated if method in COUNTING else filesystem)(method, argument, states)


def tell(descriptor: int, **event: Any) -> None:
    """Write a line in one piece, so that whoever is killed leaves whole lines."""
    os.write(descriptor, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def hear(line: bytes) -> dict[str, Any]:
    """The event of a line, lists as the tuples that they were."""
    return {key: _frozen(value) for key, value in json.loads(line).items()}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@dataclass(slots=True)
class Told:
    """What is known of one operation."""

    method: str
    obj: int
    argument: Any
    invoked: float
    new: int | None = None
    """The number of the file that "create" was about to make, if it came to that."""
    answered: float | None = None
    answer: Any = None
    ended: bool = False
    """Answered, or given up by whoever asked."""


class History:
    """The operations of all clients."""

    def __init__(self) -> None:
        self.told: dict[tuple[Hashable, int], Told] = {}
        self.ended = 0
        """How many operations have ended, answered or given up by whoever asked."""

    def hear(self, who: Hashable, event: dict[str, Any]) -> None:
        """Take in what a client process tells."""
        key = (who, event["op"])
        if "method" in event:
            self.told[key] = Told(event["method"], event["object"], event["argument"], event["at"])
        elif "new" in event:
            self.told[key].new = event["new"]
        else:
            self.ended += 1
            self.told[key].ended = True
            if "answer" in event:
                told = self.told[key]
                told.argument, told.answer, told.answered = event["argument"], event["answer"], event["at"]

    def open_now(self, of: Container[Hashable]) -> list[tuple[tuple[Hashable, int], Told]]:
        """What some clients are at."""
        return [(key, told) for key, told in self.told.items() if key[0] in of and not told.ended]

    def files(self) -> dict[int, int]:
        """The numbers of all files that clients made or may have made, and the trees that they are in."""
        made = {told.new: told.obj for told in self.told.values() if told.new}
        for told in self.told.values():
            if told.method == "create" and told.answer and told.answer[1]:
                made[told.answer[1]] = told.obj
        return made

    def operations(self) -> list[Operation]:
        """The history; an operation that was not answered may have taken effect or not."""
        found = []
        for (who, number), told in self.told.items():
            argument = told.argument
            if told.answered is None:
                if told.method in WITHOUT_EFFECT:
                    continue
                if told.method == "create":
                    if told.new is None:
                        continue
                    argument = (*argument, told.new)
            elif "JUKEBOX" in (told.answer, *(told.answer if isinstance(told.answer, tuple) else ())):
                continue  # it was refused each time that it was tried
            found.append(
                Operation(
                    f"{who}.{number}",
                    told.method,
                    (told.obj,),
                    told.invoked,
                    argument,
                    told.answered,
                    told.answer,
                )
            )
        return found

    def check(self) -> Result:
        """Whether some order explains all of it."""
        return check(model, self.operations(), steps_max=STEPS_MAX)

    def falsified(self, chance: Random) -> "History":
        """The same, but for one client that was told of a file what is not so."""
        made = [key for key, told in self.told.items() if told.method == "create" and told.answer and told.answer[1]]
        other, key = History(), chance.choice(made)
        told = self.told[key]
        lie = Told(told.method, told.obj, told.argument, told.invoked, told.new, told.answered, ("OK", 1))
        other.told = {**self.told, key: lie}
        return other

    def seen(self) -> Counter[str]:
        """What there was of each."""
        counts: Counter[str] = Counter()
        for told in self.told.values():
            if told.answered is None:
                counts["not answered"] += 1
            else:
                status = told.answer[0] if isinstance(told.answer, tuple) else told.answer
                counts[f"{told.method} {status}" if isinstance(status, str) else told.method] += 1
        return counts
