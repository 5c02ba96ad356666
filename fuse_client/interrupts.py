"""Programs that are killed while they wait for replicas: their requests end with EINTR, so that they can go.

The kernel says which requests are interrupted, but libfuse keeps that to itself as pyfuse3 uses it.  So whoever has
been waiting for a while is looked at in /proc.  As with NFS, only what ends a program counts: programs do not expect
that other signals interrupt calls on files.
"""

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

import trio

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""How often to look at those that wait; only who still waits at a second look is looked at in /proc."""

_PROC: Final = Path("/proc")

_KILL: Final = 1 << signal.SIGKILL - 1

_HARMLESS: Final = sum(
    1 << number - 1
    for number in (
        signal.SIGCHLD,
        signal.SIGCONT,
        signal.SIGURG,
        signal.SIGWINCH,
        signal.SIGSTOP,
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
    )
)
"""Signals that end no program by default."""

_EXITING: Final = 4
"""PF_EXITING, in the flags of /proc/PID/stat (field 9 of proc(5))."""

_FLAGS_AT: Final = 9 - 3
_EXIT_CODE_AT: Final = 52 - 3
"""Fields of /proc/PID/stat behind the program's name, which is the second."""

_GONE: Final = ("Z", "X")
"""States of threads that nobody has waited for yet."""

_requesters: Final[dict[trio.lowlevel.Task, int]] = {}
"""Who waits for the answer of each request under way that is interruptible, by the task that handles it."""


class interruptible:
    """For ``with``: what this task does now is for a thread, and may be given up when that is killed."""

    __slots__ = ("_task", "_thread")

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._task = trio.lowlevel.current_task()

    def __enter__(self) -> None:
        _requesters[self._task] = self._thread

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del _requesters[self._task]


def is_dying(thread: int, proc: Path = _PROC) -> bool:
    """Whether a thread is being ended by a signal; False for one that cannot be seen, as in another pid namespace."""
    try:
        status = (proc / str(thread) / "status").read_text(errors="replace")
        stat = (proc / str(thread) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    if stat[0] in _GONE:  # another thread waits, with what this one opened
        return False
    masks = {name: int(value, 16) for name, value in _signal_lines(status)}
    pending = masks.get("SigPnd", 0) | masks.get("ShdPnd", 0)
    spared = masks.get("SigBlk", 0) | masks.get("SigIgn", 0) | masks.get("SigCgt", 0) | _HARMLESS
    if pending & _KILL or pending & ~spared:
        return True
    # The signal is not pending any more when the kernel closes the files of a program that it ended.
    return bool(int(stat[_FLAGS_AT]) & _EXITING) and bool(int(stat[_EXIT_CODE_AT]) & 0x7F)


def _signal_lines(status: str) -> list[tuple[str, str]]:
    lines = [line.partition(":") for line in status.splitlines()]
    return [(name, value.strip()) for name, _, value in lines if name.startswith(("Sig", "ShdPnd")) and name != "SigQ"]


async def watch(give_up: Callable[[trio.lowlevel.Task], bool]) -> None:
    """Give up what tasks wait for whose requester is being killed; until cancelled."""
    before: dict[trio.lowlevel.Task, int] = {}
    while True:
        await trio.sleep(LOOK_S)
        for task, thread in before.items():
            if _requesters.get(task) == thread and is_dying(thread) and give_up(task):
                log.info("a request of thread %d is given up: a signal ends it", thread)
        before = dict(_requesters)
