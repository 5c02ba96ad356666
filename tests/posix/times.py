"""Which timestamps a call moves."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

TICK_S: Final = 0.012
"""Longer than a tick of the kernel's clock, which is what local file systems tell the time by."""


@contextmanager
def moves(expected: Mapping[str | int, str]) -> Iterator[None]:
    """The block moves just these of the times (letters of "amc") of each path or descriptor, and forward."""
    before = {target: _times(target) for target in expected}
    time.sleep(TICK_S)
    yield
    for target, letters in expected.items():
        after = _times(target)
        moved = "".join(letter for letter in "amc" if after[letter] != before[target][letter])
        assert moved == letters, f"{target}: {moved!r} moved, expected {letters!r}"
        assert all(after[letter] > before[target][letter] for letter in letters), f"{target}: a time went back"


@contextmanager
def moves_nothing(*targets: str | int) -> Iterator[None]:
    """The block, a failure most likely, moves no time of any of these."""
    with moves(dict.fromkeys(targets, "")):
        yield


def settle(*paths: str) -> None:
    """Bring the access times of paths ahead of their other times, so that by relatime no read moves them."""
    for path in paths:
        now = time.time_ns()
        os.utime(path, ns=(now + 1_000_000_000, now), follow_symlinks=False)


def _times(target: str | int) -> dict[str, int]:
    seen = os.fstat(target) if isinstance(target, int) else os.lstat(target)
    return {"a": seen.st_atime_ns, "m": seen.st_mtime_ns, "c": seen.st_ctime_ns}
