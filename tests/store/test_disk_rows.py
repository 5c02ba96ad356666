"""Log and database together: killed at any step, torn, damaged, on a full disk."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import server.disk_rows
import server.journal
from qunfs.protocol.errors import StorageError
from qunfs.protocol.store import MemoryRows
from server.disk_rows import DiskRows
from server.journal import Journal
from server.lmdb_rows import LmdbRows
from tests.store.kept_rows import KeptRows
from tests.store.test_lmdb_rows import run

COMMITS = 14

WRITER = """
import sys
from pathlib import Path
from tests.store.kept_rows import KeptRows

rows = KeptRows(Path(sys.argv[1]), sys.argv[2])
number = int(rows.get(b"number") or b"0")
while True:
    number += 1
    rows.put(b"number", b"%d" % number)
    for i in range(20):
        rows.put(b"row %d" % i, b"%d " % number * 100 * i)
    rows.put(b"passing %d" % number, b"")
    rows.delete(b"passing %d" % (number - 1))
    rows.commit()
    print(number, flush=True)
"""


def small(directory: Path, durability: str = "async", accept_loss: bool = False) -> KeptRows:
    """A checkpoint every few commits."""
    return KeptRows(directory, durability, accept_loss, rows_max=8, journal_bytes=8_000)


def batch(rows: KeptRows | MemoryRows, number: int) -> None:
    rows.put(b"number", b"%d" % number)
    rows.put(b"row %d" % (number % 5), b"%d " % number * 20)
    rows.put(b"passing %d" % number, b"")
    rows.delete(b"passing %d" % (number - 1))
    if number % 4 == 0:
        rows.put(b"large", b"%d " % number * 4000)  # the log has no room for it


def expected(number: int) -> list[tuple[bytes, bytes]]:
    rows = MemoryRows()
    for i in range(1, number + 1):
        batch(rows, i)
    return list(rows.scan(b""))


def number_of(rows: KeptRows) -> int:
    number = int(rows.get(b"number") or b"0")
    assert list(rows.scan(b"")) == expected(number)
    assert list(rows.scan(b"passing", b"q")) == ([(b"passing %d" % number, b"")] if number else [])
    return number


def commit_many(directory: Path, durability: str, report: Callable[[int], None] = lambda number: None) -> None:
    rows = small(directory, durability)
    for number in range(number_of(rows) + 1, COMMITS + 1):
        batch(rows, number)
        rows.commit()
        report(number)
    rows.sync()
    rows.close()


class Killed:
    """Dies by SIGKILL at the n-th step of what touches the disk: before it, after it, in the middle of a write."""

    def __init__(self, point: int) -> None:
        self._left = point
        self._arm(os, "pwrite")
        self._arm(Journal, "_put", self._half)
        self._arm(os, "fdatasync")
        self._arm(os, "fsync")
        self._arm(Path, "replace")
        self._arm(LmdbRows, "apply")
        self._arm(LmdbRows, "_commit")
        self._arm(LmdbRows, "sync")
        self._arm(Journal, "restart")

    def _arm(self, owner: object, name: str, middle: Callable[..., None] = lambda *_: None) -> None:
        real = getattr(owner, name)

        def step(*arguments: object) -> object:
            self._pass()
            middle(real, *arguments)
            result = real(*arguments)
            self._pass()
            return result

        setattr(owner, name, step)

    def _half(self, put: Callable[..., None], journal: Journal, data: bytes, at: int) -> None:
        if self._left == 1:
            self._left = 1000  # not killed inside
            put(journal, data[: len(data) // 2], at)
            self._left = 1
        self._pass()

    def _pass(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(
    point: int, directory: Path, durability: str, work: Callable[..., None] = commit_many
) -> tuple[bool, int]:
    """Whether a process that commits got killed at a step, and the number that it reported last."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            Killed(point)
            work(directory, durability, lambda number: os.write(writer, b"%c" % number) and None)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reported = pipe.read()
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status != 0, reported[-1] if reported else 0


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_killed_at_every_step_nothing_reported_is_lost(tmp_path, durability):
    point, was_killed = 0, True
    while was_killed:
        point += 1
        data = tmp_path / str(point)
        was_killed, reported = killed_at(point, data, durability)
        for _ in range(2):
            rows = small(data, durability)
            assert number_of(rows) in (reported, reported + 1)
            rows.close()
        commit_many(data, durability)
        rows = small(data, durability)
        assert number_of(rows) == COMMITS
        rows.close()
        shutil.rmtree(data)
    assert point > 80


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_killed_at_every_step_of_a_recovery(tmp_path, durability):
    origin = tmp_path / "origin"
    rows = small(origin, "sync")  # whose database is no larger than what is in it
    for number in range(1, 7):
        batch(rows, number)
        rows.commit()
    assert rows.recent
    rows.close()
    point, was_killed = 0, True
    while was_killed and point < 30:  # the rest is the other test's
        point += 1
        data = tmp_path / str(point)
        shutil.copytree(origin, data)
        was_killed, reported = killed_at(point, data, durability)
        rows = small(data, durability)
        assert number_of(rows) in (reported or 6, (reported or 6) + 1)
        rows.close()
        shutil.rmtree(data)


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_killed_process_loses_nothing_it_reported(tmp_path, durability):
    reported = 0
    for lines in (1, 50, 500):
        with run(WRITER, tmp_path / "data", durability) as writer:
            for _ in range(lines):
                reported = int(writer.stdout.readline())
            writer.kill()
        rows = KeptRows(tmp_path / "data", durability)
        number = int(rows.get(b"number"))
        assert number >= reported
        assert all(rows.get(b"row %d" % i) == b"%d " % number * 100 * i for i in range(20))
        assert list(rows.scan(b"passing", b"q")) == [(b"passing %d" % number, b"")]
        rows.close()


def log_of(directory: Path, commits: int) -> list[int]:
    """Commit, with no checkpoint, and say where each record begins."""
    rows = KeptRows(directory, "async")
    begins = []
    for number in range(1, commits + 1):
        begins.append(rows.disk._journal._end)
        rows.put(b"number", b"%d" % number)
        rows.commit()
    rows.close()
    return begins


def flip(directory: Path, at: int) -> None:
    with (directory / "journal").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes((byte[0] ^ 255,)))


def test_a_torn_tail_is_forgotten(tmp_path):
    begins = log_of(tmp_path, 3)
    flip(tmp_path, begins[2] + 40)
    for durability in ("async", "sync"):
        rows = KeptRows(tmp_path, durability)
        assert rows.get(b"number") == b"2"
        rows.close()


def test_damage_is_refused_unless_loss_is_accepted(tmp_path):
    begins = log_of(tmp_path, 3)
    flip(tmp_path, begins[1] + 40)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"record 2 cannot be read and record 3 follows.*rebuild"):
            KeptRows(tmp_path, "sync")
    rows = KeptRows(tmp_path, "sync", accept_loss=True)
    assert rows.get(b"number") == b"1"
    rows.put(b"number", b"one more")
    rows.commit()
    rows.close()
    rows = KeptRows(tmp_path, "sync")
    assert rows.get(b"number") == b"one more"
    rows.close()


def test_a_database_older_than_the_log_is_refused(tmp_path):
    rows = small(tmp_path / "data", "sync")
    batch(rows, 1)
    rows.commit()
    rows.close()
    shutil.copy(tmp_path / "data" / "data.mdb", tmp_path / "older.mdb")
    commit_many(tmp_path / "data", "sync")
    rows = small(tmp_path / "data", "sync")
    rows.put(b"number", b"13")
    rows.commit()
    rows.close()
    shutil.copy(tmp_path / "older.mdb", tmp_path / "data" / "data.mdb")
    with pytest.raises(StorageError, match=r"begins with record \d+ where the database has only 0.*rebuild"):
        small(tmp_path / "data", "sync")
    rows = small(tmp_path / "data", "sync", accept_loss=True)
    assert number_of(rows) == 0
    rows.close()


@pytest.mark.parametrize("damage", ["missing", "foreign", "cut", "header", "no database"])
def test_a_log_that_does_not_fit(tmp_path, damage):
    data, other = tmp_path / "data", tmp_path / "other"
    log_of(data, 2)
    if damage == "missing":
        (data / "journal").unlink()
    elif damage == "foreign":
        log_of(other, 1)
        shutil.copy(other / "journal", data / "journal")
    elif damage == "cut":
        os.truncate(data / "journal", 5000)
    elif damage == "header":
        flip(data, 20)
    else:
        (data / "data.mdb").unlink()
    for _ in range(2):
        with pytest.raises(StorageError, match="rebuild"):
            KeptRows(data, "sync")
    rows = KeptRows(data, "sync", accept_loss=True)
    rows.put(b"number", b"3")
    rows.commit()
    rows.close()
    rows = KeptRows(data, "sync")
    assert rows.get(b"number") == b"3"
    rows.close()


def test_a_log_whose_database_does_not_name_it_yet_is_taken(tmp_path):
    """Killed between making the log and the database's first transaction."""
    log_of(tmp_path, 0)
    (tmp_path / "data.mdb").unlink()
    rows = KeptRows(tmp_path, "sync")
    assert list(rows.scan(b"")) == []
    rows.close()


def test_replaying_twice_changes_nothing(tmp_path):
    rows = KeptRows(tmp_path, "async", journal_bytes=20_000)
    for value in (b"1", b"2", b"x" * 50_000, b"4"):
        rows.put(b"k", value)
        rows.commit()
        log = (tmp_path / "journal").read_bytes()
    rows.close()
    for _ in range(3):
        rows = KeptRows(tmp_path, "async")
        assert list(rows.scan(b"")) == [(b"k", b"4")]
        rows.close()
        (tmp_path / "journal").write_bytes(log)


def test_a_long_batch_goes_over_what_the_log_still_says(tmp_path):
    rows = KeptRows(tmp_path, "async", journal_bytes=20_000)
    for value in (b"1", b"2", b"x" * 50_000):
        rows.put(b"k", value)
        rows.commit()
    rows.close()
    rows = KeptRows(tmp_path, "async")
    assert rows.get(b"k") == b"x" * 50_000
    rows.close()


class Trace:
    """The order of what goes to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        for owner, name in ((Journal, "_put"), (os, "fdatasync"), (LmdbRows, "_commit"), (Journal, "restart")):
            self._watch(monkeypatch, owner, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        real = getattr(owner, name)

        def step(*arguments: object) -> object:
            result = real(*arguments)
            self.steps.append(name)
            return result

        monkeypatch.setattr(owner, name, step)

    def take(self) -> list[str]:
        steps, self.steps = self.steps, []
        return steps


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_what_a_commit_does_to_the_disk(tmp_path, monkeypatch, durability):
    rows = KeptRows(tmp_path, durability, rows_max=4)
    trace = Trace(monkeypatch)
    append = ["_put", "fdatasync"] if durability == "sync" else ["_put"]
    rows.commit()
    rows.get(b"a")
    rows.commit()
    assert trace.take() == []
    for _ in range(10):
        rows.put(b"a", b"1")
        rows.put(b"b", b"1")
        rows.commit()
        assert trace.take() == append
    rows.put(b"c", b"1")
    rows.delete(b"d")
    rows.commit()
    assert trace.take() == ["_commit", "restart"]  # which needs no record
    assert rows.recent == rows.batch == {}
    rows.commit()
    assert trace.take() == []
    rows.close()


@pytest.mark.parametrize(("durability", "counted"), [("sync", 2), ("async", 0)])
def test_what_is_brought_to_the_disk_is_counted(tmp_path, durability, counted):
    rows = DiskRows(tmp_path, durability)
    try:
        assert rows.append(b"a record", 1)
        rows.apply([(b"key", b"value")])
        assert not rows.append(b"another", server.disk_rows.ROWS_MAX)  # to be applied first
        assert rows.fsyncs == counted
    finally:
        rows.close()


def test_the_files_keep_their_size(tmp_path):
    rows = KeptRows(tmp_path, "async")
    for i in range(12_000):
        rows.put(b"%d" % (i % 3000), bytes(1000))
        rows.commit()
        assert len(rows.recent) < server.disk_rows.ROWS_MAX + 1
    assert (tmp_path / "journal").stat().st_size == server.journal.JOURNAL_BYTES
    rows.close()
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("durability", "call"), [("sync", "pwrite"), ("sync", "fdatasync"), ("sync", "apply"), ("async", "apply")]
)
def test_a_disk_error_stops_everything(tmp_path, monkeypatch, durability, call):
    rows = KeptRows(tmp_path, durability, rows_max=3 if call == "apply" else 4)
    rows.put(b"a", b"1")
    rows.commit()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "apply":
            patch.setattr(LmdbRows, "_make_room", fail)
        else:
            patch.setattr(os, call, fail)
        for key in (b"a", b"b", b"c"):
            rows.put(key, b"2")
        with pytest.raises(StorageError, match="free space"):
            rows.commit()
    disk = rows.disk
    uses = (disk.sync, rows.commit, lambda: disk.apply([]), lambda: disk.get(b"a"), lambda: list(disk.scan(b"")))
    for use in uses:
        with pytest.raises(StorageError, match="free space"):
            use()
    rows.close()
    rows = KeptRows(tmp_path, durability)
    assert rows.get(b"a") == (b"2" if call == "fdatasync" else b"1")  # whole or not at all
    assert (rows.get(b"b") is None) == (call != "fdatasync")
    rows.close()


def test_half_a_record_on_a_full_disk(tmp_path, monkeypatch):
    rows = KeptRows(tmp_path, "sync")
    rows.put(b"a", b"1")
    rows.commit()
    pwrite, calls = os.pwrite, []

    def half(file: int, data: bytes, at: int) -> int:
        calls.append(at)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return pwrite(file, data[:20], at)

    rows.put(b"a", b"2")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(StorageError, match="free space"):
            rows.commit()
    assert calls == [calls[0], calls[0] + 20]
    rows = KeptRows(tmp_path, "sync")
    assert rows.get(b"a") == b"1"
    rows.close()


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_full_disk_keeps_what_was_committed(small_disk, durability):
    data = small_disk / "data"
    rows = KeptRows(data, durability, rows_max=500)
    committed = 0
    with pytest.raises(StorageError, match="free space"):  # noqa: PT012 - how far it gets is the question
        while committed < 1000:
            for i in range(100):
                rows.put(b"%d" % (committed * 100 + i), bytes(1000))
            rows.commit()
            committed += 1
    assert committed > 50
    rows.close()
    subprocess.run(["mount", "-o", "remount,size=120m", small_disk], check=True)
    rows = KeptRows(data, durability)
    assert len(list(rows.scan(b""))) - committed * 100 in (0, 100)
    rows.close()


def test_no_room_to_begin_with(small_disk):
    (small_disk / "ballast").write_bytes(bytes(38 << 20))
    for _ in range(2):
        with pytest.raises(StorageError, match="free space"):
            KeptRows(small_disk / "data", "sync")
    (small_disk / "ballast").unlink()
    KeptRows(small_disk / "data", "sync").close()


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_the_map_grows_with_the_data(tmp_path, durability):
    for _ in range(2):
        rows = KeptRows(tmp_path, durability, rows_max=10, map_bytes_min=1 << 20)
        for i in range(40):
            rows.put(b"%02d" % i, bytes(100_000))
            rows.commit()
        rows.put(b"all at once", bytes(30 << 20))
        rows.commit()
        rows.close()
    rows = KeptRows(tmp_path, durability, map_bytes_min=1 << 20)
    assert [len(value) for _, value in rows.scan(b"")] == [100_000] * 40 + [30 << 20]
    rows.close()


def test_what_is_closed_is_of_no_use(tmp_path):
    rows = DiskRows(tmp_path, "sync")
    rows.close()
    rows.close()
    uses = (
        lambda: rows.append(b"", 0),
        lambda: rows.apply([(b"a", b"")]),
        rows.sync,
        lambda: rows.get(b"a"),
        lambda: list(rows.scan(b"")),
    )
    for use in uses:
        with pytest.raises(StorageError, match="closed"):
            use()


@pytest.mark.parametrize("accept_loss", [False, True])
def test_a_log_of_another_release_is_refused_and_left_alone(tmp_path, accept_loss):
    rows = DiskRows(tmp_path, "sync")
    assert rows.append(b"one", 1)
    rows.close()
    path = tmp_path / "journal"
    identity = Journal(path, durable=True).identity
    with path.open("r+b") as file:
        file.write(server.journal._header(b"qunfs journal 2\n", identity, path.stat().st_size))
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another release of qunfs: go on with that one"):
        DiskRows(tmp_path, "sync", accept_loss=accept_loss)
    assert path.read_bytes() == before


@pytest.mark.parametrize("killed", ["", "create_journal", "_mark"])
def test_what_comes_before_a_gap_is_applied_before_the_log_goes(tmp_path, monkeypatch, killed):
    rows = DiskRows(tmp_path, "sync")
    for record in (b"one", b"two", b"three"):
        assert rows.append(record, 0)
    rows.close()
    flip(tmp_path, 4096 + 32 + 3 + 33)
    rows = DiskRows(tmp_path, "sync", accept_loss=True)
    assert rows.recovered() == [b"one"]
    assert not rows.append(b"two again", 0)
    if killed:
        calls = iter([server.disk_rows._mark] if killed == "_mark" else [])
        with monkeypatch.context() as patch:
            patch.setattr(server.disk_rows, killed, lambda *journal: next(calls)(*journal))
            with pytest.raises(StopIteration):
                rows.apply([(b"one", b"1")])
        rows.close()
        with pytest.raises(StorageError, match="rebuild"):
            DiskRows(tmp_path, "sync")
        rows = DiskRows(tmp_path, "sync", accept_loss=True)
        assert rows.recovered() == []
        assert list(rows.scan(b"")) == [(b"one", b"1")]
    else:
        rows.apply([(b"one", b"1")])
    assert rows.append(b"two again", 0)
    rows.close()
    rows = DiskRows(tmp_path, "sync")
    assert rows.recovered() == [b"two again"]
    assert list(rows.scan(b"")) == [(b"one", b"1")]
    rows.close()
