"""Simulated time: events in the order of their instants, those of one instant in the order they were scheduled."""

import heapq
from collections.abc import Callable
from typing import Final

WALL_ORIGIN_NS: Final = 1_700_000_000 * 1_000_000_000
"""The wall clock of the simulation when its monotonic clock reads zero."""

Action = Callable[[], None]


class Clock:
    """The event queue of a run; ``now`` in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._queue: list[tuple[float, int, Action]] = []
        self._scheduled = 0

    def after(self, delay: float, action: Action) -> None:
        """Have something happen so many seconds from now."""
        self._scheduled += 1
        heapq.heappush(self._queue, (self.now + max(0.0, delay), self._scheduled, action))

    def step(self) -> bool:
        """Let the next event happen; False when there is none."""
        if not self._queue:
            return False
        self.now, _, action = heapq.heappop(self._queue)
        self.events += 1
        action()
        return True

    def wall_ns(self, skew_s: float = 0.0) -> int:
        """The wall clock of a machine whose clock is off by so much."""
        return WALL_ORIGIN_NS + int((self.now + skew_s) * 1e9)
