import os
import signal
import threading
from pathlib import Path

import pytest

from bench import postmark
from bench.postmark import Counts, Phase, Progress, Transcript
from bench.system import Interrupted, interruptible
from qunfs.protocol.errors import LocalError

REPORT = """Done
Time:
\t12 seconds total
\t9 seconds of transactions (222 per second)

Files:
\t1556 created (129 per second)
\t\tCreation alone: 500 files (500 per second)
\t\tMixed with transactions: 1056 files (117 per second)
\t978 read (108 per second)
\t1018 appended (113 per second)
\t1556 deleted (129 per second)
\t\tDeletion alone: 612 files (612 per second)
\t\tMixed with transactions: 944 files (104 per second)
"""


def transcript(*pieces: str) -> Transcript:
    made = Transcript(0.0)
    for second, piece in enumerate(pieces, start=1):
        made.feed(piece, float(second))
    return made


def test_phases_are_timed_by_what_is_printed() -> None:
    seen = transcript("PostMark v1.51\nCreating files...", "Done\nPerforming trans", "actions..", "....", "....Done\n",
                      "Deleting files...", REPORT)  # fmt: skip
    assert seen.phase is Phase.REPORT
    assert seen.tenths == 10
    assert seen.seconds(Phase.CREATION, Phase.TRANSACTIONS) == 2.0
    assert seen.seconds(Phase.TRANSACTIONS, Phase.DELETION) == 3.0
    assert seen.seconds(Phase.DELETION, Phase.REPORT) == 1.0
    assert seen.counts() == Counts(created=1556, read=978, appended=1018, deleted=1556)


def test_errors_amid_the_dots_are_kept_and_their_own_dots_do_not_count() -> None:
    seen = transcript(
        "Creating files...Done\nPerforming transactions..Error: cannot open './a.b.c' for rea", "ding\n..."
    )
    assert seen.errors == ["Error: cannot open './a.b.c' for reading"]
    assert seen.tenths == 5


def test_a_run_without_a_report_broke_off() -> None:
    seen = transcript("Creating files...", "Error: Cannot create new file 's12'\n")
    with pytest.raises(LocalError, match=r"broke off during its creation phase.*Cannot create new file 's12'"):
        seen.counts()


def test_wrong_counts_and_errors_are_complaints() -> None:
    good = Counts(1, 2, 3, 4)
    result = postmark.Result(1, 10, good, 1.0, 2.0, 1.0, ())
    assert result.transactions_per_s == 5.0
    assert postmark.Result(1, 10, good, 0.0, 0.0, 0.0, ()).transactions_per_s > 0
    assert result.complaints(good) == []
    (complaint,) = result.complaints(Counts(1, 2, 3, 5))
    assert "expected 1 created, 2 read, 3 appended, 5 deleted" in complaint
    noisy = postmark.Result(1, 10, good, 1.0, 2.0, 1.0, tuple(f"Error: {i}" for i in range(5)))
    assert noisy.complaints(good) == [
        "PostMark: Error: 0", "PostMark: Error: 1", "PostMark: Error: 2", "and 2 more errors"
    ]  # fmt: skip


def test_a_real_run_counts_the_same_every_time_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shown: list[Progress] = []
    result = postmark.run(tmp_path / "run", tmp_path, 100, 500, shown.append)
    assert result.complaints(postmark.expected_counts(tmp_path, 100, 500)) == []
    assert result.counts.created == result.counts.deleted > 100
    assert list((tmp_path / "run").iterdir()) == []
    assert not (tmp_path / "plain").exists()
    assert [progress.phase for progress in shown] == sorted((p.phase for p in shown), key=list(Phase).index)
    assert all(progress.share is None or 0 <= progress.share <= 1 for progress in shown)


def test_sizes_that_postmark_cannot_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="10 transactions"):
        postmark.run(tmp_path, tmp_path, 10, 9)


def test_a_run_full_of_errors_ends_well_for_postmark_but_not_for_us(tmp_path: Path) -> None:
    result = postmark.run(Path("/proc"), tmp_path, 10, 10)
    assert "Error: cannot open '1' for writing" in result.errors
    assert result.complaints(postmark.expected_counts(tmp_path, 10, 10))


def test_postmark_is_killed_when_its_caller_fails(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    seen = []

    def fail(progress: Progress) -> None:
        seen.append(progress)
        raise LocalError("enough")

    with pytest.raises(LocalError, match="enough"):
        postmark.run(tmp_path / "run", tmp_path, 5000, 20000, fail)
    assert len(seen) == 1
    configuration = str(tmp_path / "postmark.conf").encode()
    assert not [pid for pid in filter(str.isdigit, os.listdir("/proc")) if configuration in _command_line(pid)]


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_the_next_is_ignored(number: signal.Signals) -> None:
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(number)

    def twice() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)

    with pytest.raises(Interrupted), interruptible():
        twice()
    assert signal.getsignal(number) is before
