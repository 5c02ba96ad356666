"""A log in which the same line comes once in a while, however often a program repeats what it is about."""

import logging
from collections import OrderedDict
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

    def __init__(self, quiet_seconds: float = QUIET_SECONDS) -> None:
        super().__init__()
        self._quiet_seconds = quiet_seconds
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        """By text, in the order of their times."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line."""
        if record.exc_info:
            return True
        text = record.getMessage()
        line = self._lines.get(text)
        if line is not None and record.created < line.until:
            line.held_back += 1
            return False
        if line is not None:
            if line.held_back:
                record.msg, record.args = _with_count(text, line.held_back), ()
            del self._lines[text]
        elif len(self._lines) == LINES_MAX:
            self._lines.popitem(last=False)
        self._lines[text] = _Line(record.levelno, record.created + self._quiet_seconds)
        return True

    def tell(self, now: float) -> None:
        """Write the counts that nothing has brought up by now (seconds since the epoch), and forget their lines."""
        over = [(text, line) for text, line in self._lines.items() if line.until <= now]
        for text, line in over:
            del self._lines[text]
            if line.held_back:
                log.log(line.level, "%s", _with_count(text, line.held_back))


def _with_count(text: str, times: int) -> str:
    return f"{text} ({times} more like this)"
