"""A log in which the same line comes once in a while, however often a program repeats what it is about."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

QUIET_SECONDS: Final = 10.0
"""How long a line that was written is not written again: lines name cause and object, so that others come through."""

LINES_MAX: Final = 1024
"""Lines that are remembered; where more differ within the time, the oldest may be written again."""


@dataclass(slots=True)
class _Line:
    level: int
    until: float
    held_back: int = 0


class Throttle(logging.Filter):
    """Holds back lines that were written just now; :meth:`tell` says how many those were.

    Lines with a traceback are bugs, of which each is written.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """``now``: seconds by a clock that nobody sets."""
        super().__init__()
        self._now = now
        self._lock = threading.RLock()
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        """By text, in the order of their times."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line."""
        if record.exc_info:
            return True
        text, now = record.getMessage(), self._now()
        with self._lock:
            line = self._lines.get(text)
            if line is not None and now < line.until:
                line.held_back += 1
                return False
            if line is not None:
                if line.held_back:
                    record.msg, record.args = _with_count(text, line.held_back), ()
                del self._lines[text]
            elif len(self._lines) == LINES_MAX:
                self._lines.popitem(last=False)
            self._lines[text] = _Line(record.levelno, now + QUIET_SECONDS)
        return True

    def tell(self, *, at_the_end: bool = False) -> None:
        """Write the counts of lines that have not come for the time, or at the end of all, and forget these."""
        now = self._now()
        with self._lock:
            over = [(text, line) for text, line in self._lines.items() if at_the_end or line.until <= now]
            for text, _ in over:
                del self._lines[text]
        for text, line in over:
            if line.held_back:
                log.log(line.level, "%s", _with_count(text, line.held_back))


def _with_count(text: str, times: int) -> str:
    return f"{text} ({times} more like this)"
