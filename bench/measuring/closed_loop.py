"""A client process: closed loops, each of which begins its next operation when the last one has ended.

It talks to the process that measures in lines of JSON.  It is told what to do (a *task*, whose fields are the
workload's), says "ready", and is then told one schedule after the other, and gives a report after each.
"""

import json
import resource
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import trio

from bench.measuring.latencies import packed
from qunfs.protocol.errors import LocalError, QunfsError

REPORT_NS: Final = 250_000_000
STUCK_S: Final = 30.0
"""How long after the end an operation may still take before it counts as stuck."""

Operation = Callable[[], Awaitable[object]]
Counters = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to begin, and when the measured part begins and ends, in seconds of the machine's monotonic clock."""

    begin: float
    measured_from: float
    until: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a client process did in the measured part; latencies are :func:`bench.measuring.latencies.packed`."""

    latencies: str
    overdue: str
    """Of the operations that were under way when it ended, at most one for each loop."""
    cpu_s: float
    rss_bytes: int
    counters: dict[str, float]


class Recorder:
    """Latencies of the measured part of a schedule, and what the process used and counted meanwhile."""

    def __init__(self, schedule: Schedule, counters: Counters, progress: Callable[[int], None]) -> None:
        self._from_ns, self.until_ns = int(schedule.measured_from * 1e9), int(schedule.until * 1e9)
        self._counters, self._progress = counters, progress
        self._next_report_ns = int(schedule.begin * 1e9) + REPORT_NS
        self._done = 0
        self.latencies: array[int] = array("Q")
        self.overdue: array[int] = array("Q")
        self._before: tuple[float, dict[str, float]] | None = None
        self._after: tuple[float, dict[str, float]] | None = None

    def note(self, began_ns: int, ended_ns: int) -> None:
        """An operation has ended."""
        self._done += 1
        if ended_ns >= self._next_report_ns:
            self._next_report_ns = ended_ns + REPORT_NS
            self._progress(self._done)
        if ended_ns < self._from_ns:
            return
        if began_ns < self.until_ns < ended_ns:
            self.overdue.append(ended_ns - began_ns)
        if self._before is None:
            self._before = self._now()
        elif ended_ns <= self.until_ns:
            self.latencies.append(ended_ns - began_ns)
        elif self._after is None:
            self._after = self._now()

    def _now(self) -> tuple[float, dict[str, float]]:
        return time.process_time(), dict(self._counters())

    def report(self) -> Report:
        """All of it."""
        cpu_after, after = self._after or self._now()
        cpu_before, before = self._before or (cpu_after, after)
        grown = {name: value - before.get(name, 0) for name, value in after.items()}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Report(packed(self.latencies), packed(self.overdue), cpu_after - cpu_before, memory, grown)


async def closed_loop(operation: Operation, recorder: Recorder) -> None:
    """One operation after the other until the time is over."""
    clock, until = time.monotonic_ns, recorder.until_ns
    began = clock()
    while began < until:
        await operation()
        ended = clock()
        recorder.note(began, ended)
        began = ended


async def serve(operations: Sequence[Operation], counters: Counters, waits_for: Callable[[], str | None]) -> None:
    """Say that the process is ready, and run the loops of each schedule that comes; until no more come.

    ``waits_for`` says what operations wait for when they get stuck.
    """
    say({"ready": True})
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        schedule = Schedule(**json.loads(line))
        recorder = Recorder(schedule, counters, lambda done: say({"done": done}))
        await trio.sleep(max(0.0, schedule.begin - time.monotonic()))
        late = schedule.until - time.monotonic() + STUCK_S
        with trio.move_on_after(late) as scope:
            async with trio.open_nursery() as nursery:
                for operation in operations:
                    nursery.start_soon(closed_loop, operation, recorder)
        if scope.cancelled_caught:
            raise LocalError(waits_for() or f"an operation has not ended {STUCK_S:.0f} s after its time")
        say({"report": asdict(recorder.report())})


def say(message: Mapping[str, Any]) -> None:
    """One line to the process that measures."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(run: Callable[[dict[str, Any]], Awaitable[None]]) -> int:
    """Be a client process: take the task from standard input and run it; the exit code.

    An error that qunfs raises on purpose is told in a line, others are a traceback.
    """
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    try:
        trio.run(run, task, strict_exception_groups=True)
    except BaseException as error:
        expected = expected_error(error)
        if expected is None:
            raise
        say({"error": str(expected)})
        return 1
    return 0


def expected_error(error: BaseException) -> BaseException | None:
    """The error that somebody raised on purpose, if there is nothing else in a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, QunfsError) else None
