"""Processor time and memory, as the kernel accounts for them: of processes, and of the machine as a whole."""

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
KTHREADD: Final = 2
"""The parent of all kernel threads."""
PROCESSORS: Final = os.cpu_count() or 1


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 when it is gone.

    The scheduler counts nanoseconds per thread and forgets those of threads that have ended; the process's own count is
    in ticks.  Neither is ever too high.
    """
    ticks, fine_ns = 0, 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
    with contextlib.suppress(OSError, ValueError, IndexError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            fine_ns += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return max(ticks / TICKS_PER_S, fine_ns / 1e9)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    return 0


def kernel_threads() -> list[int]:
    """The kernel's own threads: they work for whoever uses disk and network, and are no users themselves."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if name.isdigit() and int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]) == KTHREADD:
                found.append(int(name))
    return found


@dataclass(frozen=True, slots=True)
class Moment:
    """The machine at one moment: the clock, seconds of all its processors that were busy or stolen, and our part."""

    at: float
    busy_s: float
    stolen_s: float
    ours_s: float
    """Of our processes and of the kernel's threads."""


def moment(pids: Iterable[int]) -> Moment:
    """Now; ``pids`` are the processes that belong to the measurement, beside this one."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    at, ours = time.monotonic(), time.process_time() + sum(map(cpu_s, pids))
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = fields
    busy = user + nice + system + interrupts + soft_interrupts
    return Moment(at, busy / TICKS_PER_S, stolen / TICKS_PER_S, ours + sum(map(cpu_s, kernel_threads())))


@dataclass(frozen=True, slots=True)
class Foreign:
    """Shares of the machine's processor time, from 0 to 1, that a measurement did without."""

    share: float
    """Used by others, on this machine or (stolen) on the one beneath it."""
    stolen: float


def foreign(before: Moment, after: Moment, ours_s: float = 0.0) -> Foreign:
    """What others took between two moments; ``ours_s``: of processes of ours that the moments do not know."""
    capacity = max(1e-9, (after.at - before.at) * PROCESSORS)
    stolen = after.stolen_s - before.stolen_s
    others = after.busy_s - before.busy_s - (after.ours_s - before.ours_s) - ours_s
    return Foreign(min(1.0, max(0.0, (others + stolen) / capacity)), min(1.0, stolen / capacity))
