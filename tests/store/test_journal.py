"""The log alone: what is a torn tail, what is damage, and how numbers tell new records from old ones."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from qunfs.protocol.errors import StorageError
from server.journal import Journal, create_journal

SIZE = 4096 + 600
RECORDS = (b"first", b"the second record", b"", b"fourth" * 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_journal(tmp_path / "journal", SIZE)
    return tmp_path / "journal"


@pytest.fixture(params=[False, True])
def journal(request: pytest.FixtureRequest, path: Path) -> Iterator[Journal]:
    journal = Journal(path, durable=request.param)
    yield journal
    journal.close()
    journal.close()


def write(path: Path, *payloads: bytes, after: int = 0) -> list[int]:
    """Where each record begins and the last one ends."""
    journal = Journal(path, durable=False)
    journal.restart(after)
    ends = [4096]
    for payload in payloads:
        assert journal.append(payload)
        ends.append(ends[-1] + 32 + len(payload))
    journal.close()
    return ends


def read(path: Path, applied: int = 0) -> tuple[list[bytes], str | None]:
    journal = Journal(path, durable=False)
    try:
        return journal.read(applied)
    finally:
        journal.close()


def test_records_are_read_back_in_order_and_from_any_number(path, journal):
    for number, payload in enumerate(RECORDS, 1):
        assert journal.append(payload)
        assert journal.sequence == number
    journal.sync()
    for applied in range(5):
        assert read(path, applied) == (list(RECORDS[applied:]), None)
    assert read(path, 77) == ([], None)


def test_what_does_not_fit_is_not_written(path, journal):
    assert not journal.append(bytes(600))
    assert journal.append(bytes(300))
    assert not journal.append(bytes(300))
    assert journal.append(b"fits")
    assert read(path) == ([bytes(300), b"fits"], None)
    assert path.stat().st_size == SIZE


def test_after_a_restart_older_records_behind_the_newest_count_no_more(path):
    write(path, *RECORDS)
    for count in range(1, 4):
        write(path, *RECORDS)
        payloads = [b"x" * (5 + length) for length in (0, 12, 0)][:count]
        write(path, *payloads, after=4)  # of the same lengths, so that an old record follows at once
        assert read(path, 4) == (payloads, None)


@pytest.mark.parametrize("before", ["zeros", "older records"])
def test_a_record_torn_at_any_byte_is_no_record(path, before):
    if before == "older records":
        write(path, *[b"%d" % i * 3 for i in range(14)])
    applied = 14 if before == "older records" else 0
    old = path.read_bytes()
    ends = write(path, *RECORDS, after=applied)
    new = path.read_bytes()
    for start, end in pairwise(ends):
        for cut in range(start, end):
            torn = new[:cut] + old[cut:]
            path.write_bytes(torn)
            expected = sum(last <= cut for last in ends[1:])
            if torn[start:end] == new[start:end]:
                expected += 1  # what was missing lay there already
            assert read(path, applied) == (list(RECORDS[:expected]), None)


def test_a_flipped_bit_before_the_last_record_is_damage(path):
    ends = write(path, *RECORDS)
    whole = path.read_bytes()
    for at in range(ends[0], ends[-1]):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 4,)) + whole[at + 1 :])
        number = sum(end <= at for end in ends[1:])
        payloads, damage = read(path)
        assert payloads == list(RECORDS[:number])
        if at < ends[-2]:
            assert damage == f"record {number + 1} cannot be read and record {number + 2} follows it"
        else:
            assert damage is None  # cannot be told from a torn tail


def test_a_record_that_vanished_is_damage(path):
    write(path, *RECORDS, after=5)
    for applied, expected in ((4, 0), (5, 4), (6, 3)):
        payloads, damage = read(path, applied)
        assert len(payloads) == expected
        assert (damage is None) == (applied >= 5)
    assert read(path, 4)[1] == "it begins with record 6 where the database has only 4"


def test_a_payload_that_looks_like_records_of_another_log_does_not_matter(path, tmp_path):
    create_journal(tmp_path / "other", SIZE)
    ends = write(tmp_path / "other", b"a", b"b", after=1000)
    forged = (tmp_path / "other").read_bytes()[ends[0] : ends[-1]]
    ends = write(path, b"a", forged)
    data = path.read_bytes()
    path.write_bytes(data[: ends[1]] + b"\0" + data[ends[1] + 1 :])
    assert read(path) == ([b"a"], None)


def test_a_file_that_is_no_log(path):
    whole = path.read_bytes()
    for at in range(44):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :])
        with pytest.raises(StorageError, match="damaged"):
            Journal(path, durable=False)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="damaged"):
        Journal(path, durable=False)
    for content in (whole[:-1], whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(StorageError, match="cut or extended"):
            Journal(path, durable=False)
