"""What the command says and which code it exits with, whatever becomes of the check."""

import sqlite3
import sys
from pathlib import Path

import pytest

from qunfs import cluster
from qunfs.cli import fsck
from qunfs.cli import main as program
from qunfs.fsck.findings import Fate, Fault, Kind, Report
from qunfs.protocol.errors import LocalError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return cluster.create(tmp_path / "c").directory


class Ran:
    """The program's exit code and what it said."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], made: Path, check: object, *words: str
    ) -> None:
        def run(*_: object) -> object:
            if isinstance(check, BaseException):
                raise check
            return check

        monkeypatch.setattr(fsck, "_run", run)
        monkeypatch.setattr(sys, "argv", ["qunfs", "fsck", str(made), *words])
        with pytest.raises(SystemExit) as ended:
            program.main()
        self.code = ended.value.code or 0
        self.output, self.errors = capfd.readouterr()


@pytest.mark.parametrize(
    "error",
    [
        LocalError("too few replicas"),
        sqlite3.OperationalError("database or disk is full"),
        OSError(28, "No space left on device"),
        ExceptionGroup("a", [ExceptionGroup("b", [sqlite3.OperationalError("database or disk is full")])]),
        BaseExceptionGroup("a", [LocalError("too few replicas")]),
    ],
    ids=["own", "database", "system", "database in groups", "own in a group"],
)
def test_what_can_happen_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], made: Path, error: BaseException
) -> None:
    ran = Ran(monkeypatch, capfd, made, error)
    assert ran.code == 8
    (line,) = ran.errors.splitlines()
    assert line.startswith("qunfs: ")
    assert any(words in line for words in ("too few replicas", "disk is full", "No space left"))


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("never"),
        ExceptionGroup("a", [KeyError("odd")]),
        ExceptionGroup("a", [LocalError("one"), LocalError("two")]),
    ],
    ids=["alone", "in a group", "two"],
)
def test_what_nobody_expects_is_a_traceback_and_never_looks_like_all_repaired(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], made: Path, error: BaseException
) -> None:
    ran = Ran(monkeypatch, capfd, made, error)
    assert ran.code == 8
    assert "Traceback" in ran.errors


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("a", [KeyboardInterrupt()]), None])
def test_an_interruption_at_any_moment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], made: Path, error: BaseException | None
) -> None:
    ran = Ran(monkeypatch, capfd, made, error)
    assert (ran.code, ran.errors) == (130, "interrupted\n")


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize(("fates", "code"), [([], 0), ([Fate.REPAIRED], 1), ([Fate.REPAIRED, Fate.LEFT], 4)])
def test_the_report_s_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    made: Path,
    fates: list[Fate],
    code: int,
    words: tuple[str, ...],
) -> None:
    report = Report(faults=[Fault(Kind.ORPHAN, 7, path="#7", fate=fate) for fate in fates])
    ran = Ran(monkeypatch, capfd, made, report, *words)
    assert (ran.code, ran.errors) == (code, "")
    assert ran.output


def test_a_report_that_cannot_be_shown_is_no_repair(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], made: Path
) -> None:
    def closed(_: Report) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(fsck, "_tell", closed)
    ran = Ran(monkeypatch, capfd, made, Report())
    assert ran.code == 8
    assert ran.errors == "qunfs: [Errno 32] Broken pipe\n"
