"""What the process behind a mount tells whoever started it: one word a line, and a text."""

import contextlib
from typing import IO, Final

from qunfs.cli.output import Status, say

READY: Final = "ready"
FAILED: Final = "failed"
WAITING: Final = "waiting"
ANY_PATH: Final = "surrogateescape"
"""How reports name paths that are not UTF-8."""


class Announcer:
    """Tells whoever started the mount how it goes: the parent through a pipe, a person on the terminal."""

    def __init__(self, pipe: IO[str] | None) -> None:
        self._pipe = pipe

    def __call__(self, word: str, text: str = "") -> None:
        if self._pipe is None:
            if word != FAILED:  # that one ends the program, which prints it
                say(text if word == WAITING else f"{word} {text}".rstrip())
            return
        with contextlib.suppress(BrokenPipeError):  # the parent was interrupted
            self._pipe.write(f"{word} {text}\n")


def await_word(reports: IO[str]) -> str | None:
    """None when the mount works; else the reason, empty when the process ended without one."""
    status = Status()
    try:
        for line in reports:
            word, _, text = line.rstrip("\n").partition(" ")
            if word == READY:
                return None
            if word == FAILED:
                return text
            status.show(text)
        return ""
    finally:
        status.clear()
