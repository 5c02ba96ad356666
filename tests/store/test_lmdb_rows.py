"""What only rows on disk must stand: killed processes, full disks, growth."""

import subprocess
import sys
from pathlib import Path

import pytest

from qunfs.protocol.errors import StorageError
from server.lmdb_rows import LmdbRows

WRITER = """
import sys
from pathlib import Path
from server.lmdb_rows import LmdbRows

rows = LmdbRows(Path(sys.argv[1]), sys.argv[2])
number = int(rows.get(b"number") or b"0")
while True:
    number += 1
    changes = {b"row %d" % i: b"%d " % number * 100 * i for i in range(20)}
    changes |= {b"number": b"%d" % number, b"passing %d" % number: b"", b"passing %d" % (number - 1): None}
    rows.apply(sorted(changes.items()))
    print(number, flush=True)
"""

FILLER = """
import sys
from pathlib import Path
from qunfs.protocol.errors import StorageError
from server.lmdb_rows import LmdbRows

rows = LmdbRows(Path(sys.argv[1]), sys.argv[2])
number = 0
try:
    while number < 1000:
        rows.apply([(b"%d" % (number * 100 + i), bytes(1000)) for i in range(100)])
        number += 1
except StorageError as error:
    print(number, error)
for use in (lambda: rows.apply([(b"0", b"")]), lambda: rows.get(b"0"), lambda: list(rows.scan(b"")), rows.sync):
    try:
        use()
    except StorageError:
        print("refused")
"""


def run(script: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_killed_process_loses_nothing_it_reported(tmp_path, durability):
    reported = 0
    for lines in (1, 5, 30):
        with run(WRITER, tmp_path / "data", durability) as writer:
            for _ in range(lines):
                reported = int(writer.stdout.readline())
            writer.kill()
        rows = LmdbRows(tmp_path / "data", durability)
        number = int(rows.get(b"number"))
        assert number >= reported
        assert all(rows.get(b"row %d" % i) == b"%d " % number * 100 * i for i in range(20))
        assert list(rows.scan(b"passing", b"q")) == [(b"passing %d" % number, b"")]
        rows.close()


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_full_disk_is_an_error_and_keeps_what_was_committed(small_disk, durability):
    with run(FILLER, small_disk / "data", durability) as filler:
        output = filler.stdout.read().splitlines()
    assert filler.returncode == 0
    committed, text = output[0].split(" ", 1)
    assert int(committed) > 50
    assert str(small_disk / "data") in text
    assert "free space" in text
    assert output[1:].count("refused") >= 3
    rows = LmdbRows(small_disk / "data", "sync")
    found = len(list(rows.scan(b"")))
    rows.close()
    # the last commit may have succeeded before there was no room for a next one
    assert found - int(committed) * 100 in (0, 100)


def test_no_room_to_begin_with(small_disk):
    (small_disk / "ballast").write_bytes(bytes(39 << 20))
    with pytest.raises(StorageError, match="free space"):
        LmdbRows(small_disk / "data", "async")


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_the_map_grows_with_the_data(tmp_path, durability):
    rows = LmdbRows(tmp_path, durability, map_bytes_min=1 << 20)
    for i in range(40):
        rows.apply([(b"%02d" % i, bytes(100_000))])
    rows.close()
    rows = LmdbRows(tmp_path, durability, map_bytes_min=1 << 20)
    assert [len(value) for _, value in rows.scan(b"")] == [100_000] * 40
    rows.close()


def test_blocks_are_allocated_ahead_of_one_large_transaction(tmp_path, monkeypatch):
    rows = LmdbRows(tmp_path, "async")
    commit, allocated = LmdbRows._commit, []

    def look(rows: LmdbRows, transaction: object) -> None:
        allocated.append((tmp_path / "data.mdb").stat().st_blocks * 512)
        commit(rows, transaction)

    monkeypatch.setattr(LmdbRows, "_commit", look)
    for _ in range(2):
        rows.apply([(b"%d" % (i * 7919 % 3000), bytes(9000)) for i in range(3000)])
        used = (rows._environment.info()["last_pgno"] + 1) * 4096
        assert allocated.pop() > used > 3000 * 9000
    assert rows.get(b"5") == bytes(9000)
    rows.close()


def test_the_files_are_private(tmp_path):
    rows = LmdbRows(tmp_path / "deep" / "data", "sync")
    assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep" / "data" / "data.mdb").stat().st_mode & 0o777 == 0o600
    rows.close()


def test_what_is_closed_is_of_no_use(tmp_path):
    rows = LmdbRows(tmp_path, "sync")
    rows.apply([(b"a", b"1")])
    rows.close()
    rows.close()
    for use in (lambda: rows.get(b""), lambda: rows.apply([(b"a", b"")]), lambda: list(rows.scan(b""))):
        with pytest.raises(StorageError, match="closed"):
            use()
    rows = LmdbRows(tmp_path, "sync")
    assert rows.get(b"a") == b"1"
    rows.close()


def test_what_lmdb_refuses_stops_the_store_and_changes_nothing(tmp_path):
    rows = LmdbRows(tmp_path, "sync")
    with pytest.raises(StorageError, match="cannot keep data"):
        rows.apply([(b"a", b"1"), (bytes(1000), b"")])
    with pytest.raises(StorageError, match="cannot keep data"):
        rows.get(b"a")
    rows.close()
    rows = LmdbRows(tmp_path, "sync")
    assert list(rows.scan(b"")) == []
    rows.close()


@pytest.mark.parametrize("content", [b"not a database", b"\x00" * 8192])
def test_a_file_that_is_no_database(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(StorageError, match="cannot keep data"):
        LmdbRows(tmp_path, "sync")
