"""The side that measures: client processes are started, told when to run, and their reports put together."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.measuring.closed_loop import STUCK_S, Report, Schedule
from bench.measuring.latencies import unpacked
from qunfs.processes import tail_of
from qunfs.protocol.errors import LocalError

READY_SECONDS_MAX: Final = 120.0
END_SECONDS_MAX: Final = 5.0
LEAD_S: Final = 0.05
"""Between telling the schedule and its beginning."""

Progress = Callable[[int, float], object]
"""Called with the operations done so far and the seconds since the beginning."""


class _Member:
    """One client process."""

    def __init__(self, module: str, task: Mapping[str, Any], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *module.split(), str(log.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                cwd="/",
                env={**os.environ, **environment},
            )
        self._unread = b""
        self.done = 0
        self.is_ready = False
        self.report: Report | None = None
        self.result: Any = None
        self.said = ""
        self.tell(task)

    def tell(self, message: Mapping[str, Any]) -> None:
        """One line to the process."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is noticed where its lines are read
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def read(self) -> None:
        """Take in what has come.  Raises LocalError when the process says what is wrong, or has ended."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        if not data:
            raise LocalError(f"a client process broke off: {tail_of(self.log)}")
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "error" in message:
                raise LocalError(f"a client process: {message['error']}")
            self.is_ready |= "ready" in message
            self.done = message.get("done", self.done)
            self.said = message.get("step", self.said)
            self.result = message.get("result", self.result)
            if "report" in message:
                self.report = Report(**message["report"])


class Clients:
    """Client processes that have been started and are ready."""

    def __init__(self, members: Sequence[_Member]) -> None:
        self._members = members

    @property
    def pids(self) -> list[int]:
        """Their process numbers."""
        return [member.process.pid for member in self._members]

    def begin(self, warm_up_s: float, seconds: float) -> Schedule:
        """Tell all of them to begin, a moment from now."""
        begin = time.monotonic() + LEAD_S
        schedule = Schedule(begin, begin + warm_up_s, begin + warm_up_s + seconds)
        for member in self._members:
            member.report, member.done = None, 0
            member.tell(asdict(schedule))
        return schedule

    def follow(self, until: float, began: float, on_progress: Progress | None = None) -> None:
        """Take in what they say until a moment of the monotonic clock."""
        while (left := until - time.monotonic()) > 0:
            self._take_in(left)
            if on_progress is not None:
                on_progress(sum(member.done for member in self._members), time.monotonic() - began)

    def reports(self, seconds_max: float = STUCK_S + 10.0) -> list[Report]:
        """What each of them did, when all have said it."""
        self._wait(lambda member: member.report is not None, seconds_max, "have not finished")
        return [member.report for member in self._members if member.report is not None]

    def tell(self, message: Mapping[str, Any]) -> None:
        """Say something to all of them."""
        for member in self._members:
            member.tell(message)

    def result(self, on_step: Callable[[str], object]) -> Any:
        """What the only one has to say in the end."""
        (member,) = self._members
        while member.result is None:
            self._take_in(1.0)
            on_step(member.said)
        return member.result

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Wait until all of them can begin."""
        self._wait(lambda member: member.is_ready, seconds_max, "are not ready")

    def _wait(self, holds: Callable[[_Member], bool], seconds_max: float, what: str) -> None:
        end = time.monotonic() + seconds_max
        while not all(map(holds, self._members)):
            if time.monotonic() > end:
                raise LocalError(f"client processes {what} after {seconds_max:.0f} s: {tail_of(self._members[0].log)}")
            self._take_in(1.0)

    def _take_in(self, seconds: float) -> None:
        with selectors.DefaultSelector() as selector:
            for member in self._members:
                assert member.process.stdout is not None
                selector.register(member.process.stdout, selectors.EVENT_READ, member)
            for key, _ in selector.select(min(seconds, 0.25)):
                key.data.read()


@contextlib.contextmanager
def client_processes(
    module: str,
    tasks: Sequence[Mapping[str, Any]],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    *,
    wait: bool = True,
) -> Iterator[Clients]:
    """Run ``python -m MODULE DIRECTORY`` for each task, for the block; they log to the directory.

    Their command lines name the directory, which is how they are found if the block is interrupted meanwhile.  Unless
    ``wait`` the block begins before they are ready.
    """
    members: list[_Member] = []
    try:
        for number, task in enumerate(tasks):
            members.append(_Member(module, task, directory / f"client-{number}.log", environment or {}))
        clients = Clients(members)
        if wait:
            clients.wait_ready()
        yield clients
    finally:
        _end(members)


def single_run(
    module: str,
    task: Mapping[str, Any],
    directory: Path,
    on_step: Callable[[str], object],
    environment: Mapping[str, str] | None = None,
) -> Any:
    """The result of one client process that measures for itself what it does; ``on_step`` is told how far it is."""
    with client_processes(module, [task], directory, environment, wait=False) as clients:
        return clients.result(on_step)


def _end(members: Sequence[_Member]) -> None:
    """No more schedules: those that run none end by themselves, the others are killed."""
    for member in members:
        assert member.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            member.process.stdin.close()
    end = time.monotonic() + END_SECONDS_MAX
    for member in members:
        if member.report is None and member.result is None:
            member.process.kill()
        try:
            member.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()
        assert member.process.stdout is not None
        member.process.stdout.close()


class Together:
    """The reports of all clients as one."""

    def __init__(self, reports: Sequence[Report]) -> None:
        self.each_ns = [unpacked(report.latencies) for report in reports]
        """The latencies of each client process."""
        self.overdue_ns = [unpacked(report.overdue) for report in reports]
        """Those of the operations that were under way at the end."""
        self.latencies_ns: list[int] = sorted(one for latencies in self.each_ns for one in latencies)
        self.cpu_s = sum(report.cpu_s for report in reports)
        self.rss_mb = max(report.rss_bytes for report in reports) / 1e6
        self.counters: Counter[str] = Counter()
        for report in reports:
            self.counters.update(report.counters)
