"""How commands speak: results to standard output, progress and errors to standard error."""

import shlex
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from qunfs.cli.throttle import Throttle

PLAIN_WIDTH: Final = 132
"""Columns of tables that go to a file or a pipe, which would otherwise be cut to 80."""


def say(text: str) -> None:
    """One line about what happens, to standard error."""
    print(text, file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """``1 replica``, ``6 replicas``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ways_out(directory: "Path") -> str:
    """What to do when too few replicas of a cluster answer."""
    where = shlex.quote(str(directory))
    return f"start what does not run: qunfs up {where}, or see: qunfs status {where}"


def console() -> "Console":
    """Where tables go: standard output."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def log_to_standard_error() -> "Throttle":
    """Where the log of a process goes: "up" and "mount" let that be a file.  What keeps it short is returned."""
    import logging

    from qunfs.cli.throttle import Throttle

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    throttle = Throttle()
    for handler in logging.getLogger().handlers:
        handler.addFilter(throttle)
    return throttle


class Status:
    """A line on a terminal that is written over; elsewhere one line for each text."""

    def __init__(self) -> None:
        self._shown = ""
        self.interactive = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Say how far a command is."""
        if text == self._shown:
            return
        if self.interactive:
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
        else:
            say(text)
        self._shown = text

    def clear(self) -> None:
        """Remove the line."""
        if self._shown and self.interactive:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        self._shown = ""
