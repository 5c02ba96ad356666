"""PostMark, the mail server benchmark, run for real in a directory.

PostMark rounds its rates to whole seconds and exits with 0 whatever happens: its phases are timed here, by what it
prints and when, and its four counts are checked.  With its own seed the counts depend on the size alone.
"""

import contextlib
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from qunfs.protocol.errors import LocalError

FILES: Final = 5000
TRANSACTIONS: Final = 20000
TRANSACTIONS_MIN: Final = 10
"""PostMark prints a dot per tenth, and divides by zero when a tenth is none."""

FILE_BYTES: Final = 5250
TRANSACTION_BYTES: Final = 6500
"""What a file and a transaction read or write on average: only to move the progress bar between the dots."""

END_SECONDS_MAX: Final = 1.0
"""A killed program that waits for a FUSE request lives on until the request is answered or the mount is gone."""

SHORTEST_S: Final = 0.001
"""All output of a tiny run comes in one piece: its phases have no length that could be seen."""

STEP_SECONDS: Final = 0.2
TENTHS: Final = 10


class Phase(StrEnum):
    """What PostMark does, in this order."""

    START = "start"
    CREATION = "creation"
    TRANSACTIONS = "transactions"
    DELETION = "deletion"
    REPORT = "report"


MARKS: Final = (
    (Phase.CREATION, "Creating files..."),
    (Phase.TRANSACTIONS, "Performing transactions"),
    (Phase.DELETION, "Deleting files..."),
    (Phase.REPORT, "Time:"),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """The four counts of PostMark's report."""

    created: int
    read: int
    appended: int
    deleted: int

    def __str__(self) -> str:
        return f"{self.created} created, {self.read} read, {self.appended} appended, {self.deleted} deleted"


STANDARD_COUNTS: Final = Counts(created=14928, read=10018, appended=9954, deleted=14928)
"""Of 5000 files and 20000 transactions."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: the phase, the tenths of its transactions that began, the share of the phase that is done."""

    phase: Phase
    tenths: int
    share: float | None
    """From 0 to 1; None in phases that show no sign of progress."""
    seconds: float
    """Since the phase began."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run; times in seconds."""

    files: int
    transactions: int
    counts: Counts
    creation_s: float
    transactions_s: float
    deletion_s: float
    errors: tuple[str, ...]

    @property
    def transactions_per_s(self) -> float:
        """By our own clock, over the transaction phase alone."""
        return self.transactions / max(self.transactions_s, SHORTEST_S)

    def complaints(self, expected: Counts) -> list[str]:
        """What is wrong with the run; empty when it did what it must."""
        wrong = [f"PostMark: {line}" for line in self.errors[:3]]
        if len(self.errors) > len(wrong):
            wrong.append(f"and {len(self.errors) - len(wrong)} more errors")
        if self.counts != expected:
            wrong.append(f"counts are {self.counts}; expected {expected}")
        return wrong


class Transcript:
    """PostMark's output as it comes: phases, tenths, errors, and the report at the end."""

    def __init__(self, now: float) -> None:
        self.phase = Phase.START
        self.tenths = 0
        self.began = {Phase.START: now}
        self.errors: list[str] = []
        self.text = ""
        self._unread = ""

    def feed(self, text: str, now: float) -> None:
        """More output, that came at ``now``."""
        self._unread += text
        while match := re.search(r"Error:[^\n]*\n", self._unread):  # they stand in the middle of the dots
            self.errors.append(match[0].strip())
            self._unread = self._unread[: match.start()] + self._unread[match.end() :]
        whole = self._unread.find("Error:")
        self.text += self._unread if whole < 0 else self._unread[:whole]
        self._unread = "" if whole < 0 else self._unread[whole:]
        for phase, mark in MARKS:
            if phase not in self.began and mark in self.text:
                self.phase, self.began[phase] = phase, now
        dots = re.search(r"Performing transactions(\.*)", self.text)
        self.tenths = len(dots[1]) if dots else 0

    def counts(self) -> Counts:
        """The four counts of the report.  Raises LocalError when there is none: PostMark broke off."""
        found = {name: re.search(rf"^\s*(\d+) {name}\b", self.text, re.MULTILINE) for name in Counts.__slots__}
        numbers = {name: int(match[1]) for name, match in found.items() if match}
        if len(numbers) < len(found):
            said = (self.errors or [line for line in self.text.splitlines() if line.strip()] or ["nothing"])[-1]
            raise LocalError(f"PostMark broke off during its {self.phase} phase; its last words: {said.strip()}")
        return Counts(**numbers)

    def seconds(self, phase: Phase, following: Phase) -> float:
        """How long a phase took."""
        return self.began[following] - self.began[phase]


def run(
    directory: Path,
    scratch: Path,
    files: int = FILES,
    transactions: int = TRANSACTIONS,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Run PostMark once in ``directory``; its configuration goes to ``scratch``.

    ``on_progress`` is called several times a second and may take its time: PostMark goes on meanwhile.  PostMark is
    killed when the caller is interrupted.  Raises LocalError when it is missing or breaks off.
    """
    if transactions < TRANSACTIONS_MIN or files < 1:
        raise LocalError(f"PostMark needs at least one file and {TRANSACTIONS_MIN} transactions")
    program = shutil.which("postmark")
    if program is None:
        raise LocalError("postmark is missing; install the package postmark")
    configuration = scratch / "postmark.conf"
    configuration.write_text(f"set number {files}\nset transactions {transactions}\nrun\nquit\n")
    transcript = Transcript(time.monotonic())
    child = subprocess.Popen(
        [program, str(configuration)],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _follow(child, transcript, files, transactions, on_progress)
        child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS_MAX)
        if child.stdout is not None:
            child.stdout.close()
    counts = transcript.counts()
    return Result(
        files,
        transactions,
        counts,
        transcript.seconds(Phase.CREATION, Phase.TRANSACTIONS),
        transcript.seconds(Phase.TRANSACTIONS, Phase.DELETION),
        transcript.seconds(Phase.DELETION, Phase.REPORT),
        tuple(transcript.errors),
    )


def expected_counts(scratch: Path, files: int, transactions: int) -> Counts:
    """What a run of this size must count, found by running it in an ordinary directory made in ``scratch``."""
    if (files, transactions) == (FILES, TRANSACTIONS):
        return STANDARD_COUNTS
    plain = scratch / "plain"
    plain.mkdir()
    try:
        return run(plain, scratch, files, transactions).counts
    finally:
        shutil.rmtree(plain)


def _follow(
    child: "subprocess.Popen[bytes]",
    transcript: Transcript,
    files: int,
    transactions: int,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    assert child.stdout is not None
    output = child.stdout.fileno()
    mark, moved_at_mark = (Phase.START, 0), 0
    while True:
        if select.select([output], [], [], STEP_SECONDS)[0]:
            data = os.read(output, 65536)
            if not data:
                return
            transcript.feed(data.decode(errors="replace"), time.monotonic())
        moved = _bytes_moved(child.pid)
        if (transcript.phase, transcript.tenths) != mark:
            mark, moved_at_mark = (transcript.phase, transcript.tenths), moved
        if on_progress is not None:
            share = _share(transcript, moved - moved_at_mark, files, transactions)
            seconds = time.monotonic() - transcript.began[transcript.phase]
            on_progress(Progress(transcript.phase, transcript.tenths, share, seconds))


def _share(transcript: Transcript, moved: int, files: int, transactions: int) -> float | None:
    """The share of the phase that is done, from the last mark and the bytes that PostMark moved since."""
    if transcript.phase is Phase.CREATION:
        return min(1.0, moved / (files * FILE_BYTES))
    if transcript.phase is Phase.TRANSACTIONS:
        since = min(1.0, moved / (transactions / TENTHS * TRANSACTION_BYTES))
        return max(0.0, min(1.0, (transcript.tenths - 1 + since) / TENTHS))  # a dot opens its tenth
    return None


def _bytes_moved(pid: int) -> int:
    """Bytes that a process has read and written; 0 where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError):
        rows = dict(row.split(": ") for row in Path(f"/proc/{pid}/io").read_text("ascii").splitlines())
        return int(rows.get("rchar", 0)) + int(rows.get("wchar", 0))
    return 0
