"""Which object a name was last seen to be bound to: hints for updates, which the service checks."""

from collections import OrderedDict
from typing import Final

NAMES_MAX: Final = 65_536
"""Names remembered; about 15 MiB.  The kernel's own name cache is what keeps lookups away."""

ABSENT: Final = 0
"""The name was seen to be bound to nothing."""


class NameCache:
    """The names lately seen, each with an object id or ABSENT."""

    def __init__(self, capacity: int = NAMES_MAX) -> None:
        self._capacity = capacity
        self._bound: OrderedDict[tuple[int, bytes], int] = OrderedDict()

    def learn(self, directory: int, name: bytes, obj: int) -> None:
        """A name is bound to this object now."""
        key = (directory, name)
        self._bound[key] = obj
        self._bound.move_to_end(key)
        if len(self._bound) > self._capacity:
            self._bound.popitem(last=False)

    def forget(self, directory: int, name: bytes) -> None:
        """A name may be bound to anything."""
        self._bound.pop((directory, name), None)

    def hint(self, directory: int, name: bytes) -> int | None:
        """The object that a name is believed to be bound to, ABSENT for none, None when nothing is known."""
        return self._bound.get((directory, name))

    def object_at(self, directory: int, name: bytes) -> int | None:
        """The object that a name is believed to be bound to; None when it is unknown or there is none."""
        return self._bound.get((directory, name)) or None
