"""The versioned store on rows on disk, killed at every step: everything committed is there, to the version."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qunfs.protocol.history import ZERO_TIMESTAMP, LogicalTimestamp, ReplicaHistory, method
from qunfs.protocol.limits import Limits
from qunfs.protocol.store import MemoryRows, Rows
from qunfs.protocol.versions import VersionStore
from server.disk_rows import DiskRows
from tests.store.test_disk_rows import killed_at

pytestmark = pytest.mark.pure  # steps of the log are replaced, which compiled code does not see

HOT, OBJECTS = 1, 10
COMMITS = 12
GENESIS = {HOT: {b"mode": b"0755"}}
LIMITS = Limits(versions_kept_per_object=2)


def open_small(directory: Path, durability: str) -> tuple[DiskRows, VersionStore]:
    """A checkpoint every few commits, because of the rows or because of the log."""
    rows = DiskRows(directory, durability, rows_max=14, journal_bytes=8_000)
    return rows, store_on(rows)


def store_on(rows: Rows) -> VersionStore:
    return VersionStore(rows, GENESIS, LIMITS)


def at(time: int, client: int = 1) -> LogicalTimestamp:
    return LogicalTimestamp(time, 0, client, bytes(32))


def commit_one(store: VersionStore, number: int) -> None:
    """An update of two objects, of which one is changed each time; now and then a contender, and one that wins."""
    objects = (HOT, OBJECTS + number % 4)
    for obj in objects:
        last = store.history(obj).latest
        view = store.open(obj, last.lt)
        view.put(b"number", b"%d" % number)
        view.put(b"row %d" % (number % 3), bytes(1 if number % 5 else 6_000))
        view.delete(b"row %d" % (number % 2))
        view.delete(b"mode")
        store.add_version(obj, at(number), last.lt, view, b"%d" % number)
        store.set_history(obj, ReplicaHistory((last, method(at(number), objects, (ZERO_TIMESTAMP,) * 2))))
    if number % 3 == 0:
        contender = method(at(number, 2), (HOT,), (ZERO_TIMESTAMP,))
        store.add_version(HOT, contender.lt, store.kept(HOT)[1], {b"contended": b"%d" % number}, b"")
        if number % 2 == 0:
            store.set_history(HOT, ReplicaHistory((store.history(HOT).base, contender)))
    store.commit()


def content(store: VersionStore) -> object:
    return [
        (lt, store.answer(obj, lt), store.history(obj), list(store.open(obj, lt).scan()))
        for obj in (HOT, *range(OBJECTS, OBJECTS + 4))
        for lt in store.kept(obj)
    ]


def number_of(store: VersionStore) -> int:
    """How many commits a store has, and that it has just what they make."""
    number = max(store.history(obj).latest.lt.time for obj in (HOT, *range(OBJECTS, OBJECTS + 4)))
    expected = store_on(MemoryRows())
    for i in range(1, number + 1):
        commit_one(expected, i)
    assert content(store) == content(expected)
    return number


def work(directory: Path, durability: str, report: Callable[[int], None] = lambda number: None) -> None:
    rows, store = open_small(directory, durability)
    for number in range(number_of(store) + 1, COMMITS + 1):
        commit_one(store, number)
        report(number)
    store.checkpoint()
    rows.sync()
    rows.close()


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_killed_at_every_step_nothing_reported_is_lost(tmp_path, durability):
    point, was_killed = 0, True
    while was_killed:
        point += 1
        data = tmp_path / str(point)
        was_killed, reported = killed_at(point, data, durability, work)
        for _ in range(2):
            rows, store = open_small(data, durability)
            assert number_of(store) in (reported, reported + 1)
            rows.close()
        work(data, durability)
        rows, store = open_small(data, durability)
        assert number_of(store) == COMMITS
        rows.close()
        shutil.rmtree(data)
    assert point > 60


def test_killed_at_every_step_of_a_recovery(tmp_path):
    origin = tmp_path / "origin"
    rows = DiskRows(origin, "sync", journal_bytes=8_000)
    store = store_on(rows)
    for number in range(1, 4):
        commit_one(store, number)
    rows.close()
    rows = DiskRows(origin, "sync")
    assert rows.recovered()
    rows.close()
    for point in range(1, 25):
        data = tmp_path / str(point)
        shutil.copytree(origin, data)
        was_killed, reported = killed_at(point, data, "sync", work)
        assert was_killed
        rows, store = open_small(data, "sync")
        assert number_of(store) in (reported or 3, (reported or 3) + 1)
        rows.close()
        shutil.rmtree(data)
