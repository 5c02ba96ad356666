"""The exact types of what msgpack decoded, asked for before anything that has an annotation touches it.

Compiled code takes True for an int where an annotation says so, and raises TypeError where the Python sources go on.
What a malevolent client says must come to the same at every replica, whichever code it runs: a method declares the
shapes of its argument, and gets no other.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any, Final

Shapes = frozenset[object]
"""Each a type, or the tuple of the types of a tuple's fields."""

Nothing: Final = type(None)


def one_of(*types: type) -> Shapes:
    """A value of one of these types."""
    return frozenset(types)


def fields(*types: type | tuple[type, ...]) -> Shapes:
    """A tuple of so many fields, each of a type or of one of several; what is in tuples inside is not looked at."""
    choices: list[Iterable[type]] = [kind if isinstance(kind, tuple) else (kind,) for kind in types]
    return frozenset(product(*choices))


def shape_of(value: Any) -> object:
    """What :class:`Shapes` are made of."""
    kind: object = type(value)
    if kind is not tuple:
        return kind
    fields_of: tuple[Any, ...] = value
    return tuple([type(field) for field in fields_of])


NO_ARGUMENT: Final = one_of(Nothing)
PAIR: Final = fields(int, int)
