"""PostMark's workload without PostMark: the same random numbers, names and sizes, action after action.

PostMark 1.53 draws from a Mersenne Twister with the seeding of 1998; with the same settings this makes exactly the
actions that it does, which the four counts of any run show.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.postmark import Counts, Phase

SEED: Final = 42
BYTES_MIN: Final = 500
BYTES_MAX: Final = 10_000
_BIAS: Final = 5
"""Of ten: so often a read rather than an append, and a creation rather than a deletion."""
_FILLER: Final = 2 * BYTES_MAX
"""Random bytes that PostMark makes before anything else, as contents of all files."""


class Kind(StrEnum):
    """What PostMark does to a file."""

    CREATE = "create"
    READ = "read"
    APPEND = "append"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Action:
    """One action; ``size`` is the file's afterwards, ``transaction`` its number from 0, or None beside them."""

    phase: Phase
    kind: Kind
    name: str
    size: int
    transaction: int | None = None


def twister(seed: int) -> Callable[[], int]:
    """32 random bits at a time."""
    state = []
    for _ in range(624):
        high = seed & 0xFFFF0000
        seed = (69069 * seed + 1) & 0xFFFFFFFF
        state.append(high | seed >> 16)
        seed = (69069 * seed + 1) & 0xFFFFFFFF
    generator = random.Random()  # noqa: S311 - PostMark's
    generator.setstate((3, (*state, 624), None))
    return lambda: generator.getrandbits(32)


class _Files:
    """PostMark's table of files, twice as large as the number it begins with."""

    def __init__(self, files: int) -> None:
        self._draw = twister(SEED)
        for _ in range(_FILLER):
            self._draw()
        self._entries = 2 * files
        self._names = [""] * self._entries
        self._sizes = [0] * self._entries
        self._next_free = 0
        self._created = 0
        self.live = 0
        """Files that there are."""

    def below(self, bound: int) -> int:
        """A random number."""
        return self._draw() % bound

    def create(self) -> tuple[str, int] | None:
        """A new file; none when the table is full."""
        entry = self._free_entry()
        if entry is None:
            return None
        self._created += 1
        self.live += 1
        self._names[entry] = str(self._created)
        self._sizes[entry] = BYTES_MIN + self.below(BYTES_MAX - BYTES_MIN)
        return self._names[entry], self._sizes[entry]

    def _free_entry(self) -> int | None:
        entry = self._next_free
        if entry >= self._entries or self._sizes[entry]:
            try:
                entry = self._sizes.index(0)
            except ValueError:
                return None
        self._next_free = entry + 1
        return entry

    def used_entry(self) -> int:
        """An entry that holds a file."""
        while True:
            entry = self.below(self._entries)
            if self._sizes[entry]:
                return entry

    def look(self, entry: int) -> tuple[str, int]:
        """Name and size."""
        return self._names[entry], self._sizes[entry]

    def append(self, entry: int) -> bool:
        """Let a file grow; whether it could."""
        room = BYTES_MAX - self._sizes[entry]
        if room > 0:
            self._sizes[entry] += self.below(room) + 1
        return room > 0

    def delete(self, entry: int) -> str:
        """Take a file away; its name."""
        self._sizes[entry] = 0
        self.live -= 1
        return self._names[entry]

    def left(self) -> list[int]:
        """The entries that hold a file."""
        return [entry for entry, size in enumerate(self._sizes) if size]


def actions(files: int, transactions: int) -> Iterator[Action]:
    """Everything that PostMark does, in order."""
    table = _Files(files)
    for _ in range(files):
        made = table.create()
        assert made is not None
        yield Action(Phase.CREATION, Kind.CREATE, *made)
    for number in range(transactions):
        if not table.live:  # PostMark says that it is out of files, and ends
            break
        yield from _transaction(table, number)
    for entry in table.left():
        yield Action(Phase.DELETION, Kind.DELETE, table.delete(entry), 0)


def _transaction(table: _Files, number: int) -> Iterator[Action]:
    """A read or an append, then a creation or a deletion."""
    is_read = table.below(10) < _BIAS
    entry = table.used_entry()
    if is_read or table.append(entry):
        kind = Kind.READ if is_read else Kind.APPEND
        yield Action(Phase.TRANSACTIONS, kind, *table.look(entry), number)
    if table.below(10) < _BIAS:
        made = table.create()
        if made is not None:
            yield Action(Phase.TRANSACTIONS, Kind.CREATE, *made, number)
    else:
        yield Action(Phase.TRANSACTIONS, Kind.DELETE, table.delete(table.used_entry()), 0, number)


def counts(files: int, transactions: int) -> Counts:
    """What PostMark's report must say."""
    done = Counter(action.kind for action in actions(files, transactions))
    return Counts(done[Kind.CREATE], done[Kind.READ], done[Kind.APPEND], done[Kind.DELETE])
