"""What has been worked out lately, by key, in plain dictionaries: an ordered one costs several times as much."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers the last ``kept`` values that were put, and at most as many older ones; None is no value."""

    __slots__ = ("_kept", "_new", "_old")

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: K) -> V | None:
        """The value last put, unless it has been forgotten."""
        found = self._new.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: K, value: V) -> None:
        """Remember a value."""
        if len(self._new) >= self._kept:
            self._old, self._new = self._new, {}
        self._new[key] = value

    def clear(self) -> None:
        """Forget everything."""
        self._new, self._old = {}, {}
