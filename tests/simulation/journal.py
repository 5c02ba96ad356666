"""What clients asked for and were told, and whether one order of all operations explains it.

Checked at each completion: an update reported done is established, and a query returns an established state no older
than the newest one that was established when it began.  Checked at the end: strict serializability, twice.  Once from
the order in which the replicas' ledgers show what took effect; and once from outside, by a search for any order that
explains what clients were told and the states that are left (:mod:`tests.simulation.linearizability`).  Operations
whose client crashed or that never completed may or may not have taken effect.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.simulation.linearizability import Operation, Verdict, check
from tests.simulation.objects import entries, unpack
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.reference import simulated

SEARCHED_MAX: Final = 60
"""Operations of a run that is searched for an order; longer ones are counted."""


@dataclass(eq=False)
class Done:
    """One operation of a correct client."""

    name: bytes
    what: str
    objects: tuple[int, ...]
    began: float
    floor: dict[int, int]
    """Per object, what was established when it began: entries of a ledger, value of a counter."""
    ended: float | None = None
    reads: dict[int, int] = field(default_factory=dict)
    """Per ledger, how many entries it saw."""
    value: int | None = None
    """What a counter answered."""
    effective: bool = False
    argument: Any = None
    answer: Any = None


class Journal:
    """The operations of a run."""

    def __init__(self, oracles: Oracles, counters: Sequence[int]) -> None:
        self._oracles, self._counters = oracles, frozenset(counters)
        self.operations: list[Done] = []
        self._attempts: list[Done] = []
        self.seen: Counter[str] = Counter()

    def begin(self, name: bytes, what: str, objects: tuple[int, ...], now: float) -> Done:
        """An operation is submitted."""
        done = Done(name, what, objects, now, {o: self._length(o) for o in objects})
        self.operations.append(done)
        return done

    def attempt(self, name: bytes, objects: tuple[int, ...], now: float) -> None:
        """A malevolent client makes up an append, which may or may not take effect."""
        self._attempts.append(Done(name, "append", objects, now, {}, argument=(name, None)))

    def _length(self, obj: int) -> int:
        if obj not in self._counters:
            return len(self._oracles.entries(obj))
        row = self._oracles.state(obj).get(b"n")
        return 0 if row is None else int(unpack(row))

    def end(self, done: Done, answer: bytes, now: float) -> None:
        """An operation is reported done with this answer."""
        done.ended = now
        done.answer = value = unpack(answer)
        if not _is_well_formed(done, value):
            raise Violation(f"{done.name!r} ({done.what}) was answered what no server computed: {value!r}")
        if done.what in ("increment", "count"):
            self._end_counter(done, value)
        elif done.what == "fetch":
            self._end_fetch(done, value)
        else:
            self._end_append(done, value)

    def _end_counter(self, done: Done, value: Any) -> None:
        (obj,) = done.objects
        done.value = value
        step = done.what == "increment"
        if not done.floor[obj] + step <= value <= self._length(obj):
            raise Violation(
                f"{done.what} of {obj:x} answered {value}: {done.floor[obj]} was established when it began and "
                f"{self._length(obj)} when it ended"
            )

    def _end_fetch(self, done: Done, value: Any) -> None:
        for obj, ledger in zip(done.objects, value, strict=True):
            truth = self._oracles.entries(obj)
            if truth[: len(ledger)] != ledger:
                raise Violation(f"a fetch of {obj:x} answered {ledger}, not an established version of {truth}")
            self._read(done, obj, len(ledger))

    def _read(self, done: Done, obj: int, length: int) -> None:
        if length < done.floor[obj]:
            raise Violation(
                f"stale: {done.name!r} ({done.what}) saw {length} entries of {obj:x}, and {done.floor[obj]} were "
                "established when it began"
            )
        done.reads[obj] = length

    def _end_append(self, done: Done, value: Any) -> None:
        verdict, lengths = value
        for obj, length in zip(done.objects, lengths, strict=True):
            truth = self._oracles.entries(obj)
            if verdict == "no":
                if length > len(truth):
                    raise Violation(f"{done.name!r} was refused at length {length} of {obj:x}, never established")
            elif length >= len(truth) or truth[length] != done.name:
                raise Violation(f"{done.name!r} is told to be entry {length} of {obj:x} and is not: {truth}")
            self._read(done, obj, length)
        done.effective = verdict == "ok"

    # ---- at the end

    def finish(self) -> None:
        """Check the whole run."""
        self._check_counters()
        self._check_serializable()
        self._search()

    def _search(self) -> None:
        """An order of all operations that explains all answers, found with no regard to what replicas recorded."""
        final = {
            obj: self._length(obj) if obj in self._counters else self._oracles.entries(obj)
            for obj in self._oracles.objects
        }
        left = {entry for obj, state in final.items() if obj not in self._counters for entry in state}
        history = [
            Operation(done.name.decode(), done.what, done.objects, done.began, done.argument, done.ended, done.answer)
            for done in (*self.operations, *self._attempts)
            # what was not answered and left no entry did nothing, for ledgers only grow
            if done.ended is not None or done.what == "increment" or done.name in left
        ]
        self.seen["longest history searched"] = 0
        if len(history) > SEARCHED_MAX:
            self.seen["histories too long to search"] += 1
            return
        found = check(simulated, history, {obj: state or None for obj, state in final.items()})
        self.seen[f"histories {found.verdict.value}"] += 1
        self.seen["longest history searched"] = len(history)
        self.seen["most steps of a search"] = found.steps
        if found.verdict is Verdict.ILLEGAL:
            raise Violation(f"no order explains what clients were told: {found.why}")

    def _check_counters(self) -> None:
        for obj in self._counters:
            mine = [d for d in self.operations if d.what == "increment" and obj in d.objects]
            values = [d.value for d in mine if d.ended is not None]
            if len(set(values)) != len(values):
                raise Violation(f"two increments of {obj:x} were answered the same value: {sorted(map(str, values))}")
            if not len(values) <= self._length(obj) <= len(mine):
                raise Violation(f"{obj:x} counted {self._length(obj)}; {len(values)} of {len(mine)} were acknowledged")

    def _check_serializable(self) -> None:
        """No cycle in what must come before what: order in the ledgers, what was read, and real time."""
        nodes = {d.name: d for d in self.operations if d.what in ("append", "fetch")}
        before: dict[bytes, set[bytes]] = {}

        def precedes(first: bytes, second: bytes) -> None:
            if first != second:
                before.setdefault(second, set()).add(first)

        for obj in self._oracles.objects:
            if obj in self._counters:
                continue
            ledger = entries(self._oracles.state(obj))
            for first, second in pairwise(ledger):
                precedes(first, second)
            for done in nodes.values():
                length = done.reads.get(obj)
                if length is None or done.effective:
                    continue
                if length:
                    precedes(ledger[length - 1], done.name)
                if length < len(ledger):
                    precedes(done.name, ledger[length])
        for second in nodes.values():
            for first in nodes.values():
                if first.ended is not None and first.ended < second.began:
                    precedes(first.name, second.name)
        _check_acyclic(before)


def _is_well_formed(done: Done, value: Any) -> bool:
    """Whether a value is one that the method can have answered."""
    if done.what in ("increment", "count"):
        return isinstance(value, int)
    if done.what == "fetch":
        return isinstance(value, tuple) and len(value) == len(done.objects)
    return isinstance(value, tuple) and len(value) == 2 and value[0] in ("ok", "no")


def _check_acyclic(before: dict[bytes, set[bytes]]) -> None:
    state: dict[bytes, int] = {}
    for root in sorted(before):
        stack = [(root, iter(sorted(before.get(root, ()))))]
        if root in state:
            continue
        state[root] = 1
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[name] = 2
                stack.pop()
            elif state.get(following) == 1:
                cycle = [n for n, _ in stack] + [following]
                raise Violation(f"not strictly serializable: {b' < '.join(reversed(cycle)).decode(errors='replace')}")
            elif following not in state:
                state[following] = 1
                stack.append((following, iter(sorted(before.get(following, ())))))
