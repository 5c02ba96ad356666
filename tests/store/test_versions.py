"""The versioned store, promise by promise; test_model.py checks all of them together."""

import msgpack
import pytest

from qunfs.protocol.errors import LocalError, StorageError, VersionMissing
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    ZERO_TIMESTAMP,
    Candidate,
    LogicalTimestamp,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.version_tree import Version
from qunfs.protocol.versions import VersionStore

ROOT, OBJECT, LAST = 1, 7, 2**64 - 1
GENESIS = {ROOT: {b"mode": b"0755", b"owner": b"0"}}


def at(time: int, client: int = 1, is_barrier: int = 0) -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, client, bytes(31) + bytes((client,)))


def record(time: int, obj: int = OBJECT, client: int = 1) -> Candidate:
    return method(at(time, client), (obj,), (ZERO_TIMESTAMP,))


def records(*times: int) -> ReplicaHistory:
    return ReplicaHistory(record(time) if time else ZERO for time in times)


def state(store: VersionStore, lt: LogicalTimestamp, obj: int = OBJECT) -> dict[bytes, bytes]:
    return dict(store.open(obj, lt).scan())


@pytest.fixture
def store(rows) -> VersionStore:
    return VersionStore(rows, GENESIS)


class CountingRows(MemoryRows):
    """Counts what is asked of it, and the rows that scans give and that are applied."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.gets = self.puts = self.deletes = self.scanned = self.appended = 0

    def get(self, key):
        self.gets += 1
        return super().get(key)

    def append(self, record, waiting):
        self.appended += len(record)
        return super().append(record, waiting)

    def apply(self, changes):
        self.deletes += sum(value is None for _, value in changes)
        self.puts += sum(value is not None for _, value in changes)
        super().apply(changes)

    def scan(self, start, stop=None):
        for row in super().scan(start, stop):
            self.scanned += 1
            yield row


@pytest.mark.parametrize("obj", [ROOT, OBJECT, LAST])
def test_an_object_nobody_touched(store, obj):
    assert store.history(obj) is ZERO_HISTORY
    assert store.kept(obj) == [ZERO_TIMESTAMP]
    assert store.has_version(obj, ZERO_TIMESTAMP)
    assert not store.has_version(obj, at(1))
    assert state(store, ZERO_TIMESTAMP, obj) == GENESIS.get(obj, {})
    assert store.answer(obj, ZERO_TIMESTAMP) is None
    assert store.answer(obj, at(1)) is None
    assert store.difference(obj, ZERO_TIMESTAMP, ZERO_TIMESTAMP, b"", 100) == ([], False)
    with pytest.raises(VersionMissing):
        store.open(obj, at(1))


def test_a_version_is_held_before_it_is_accepted(store):
    store.add_version(ROOT, at(1), ZERO_TIMESTAMP, {b"mode": b"0700"}, b"done")
    assert store.history(ROOT) is ZERO_HISTORY
    assert store.kept(ROOT) == [ZERO_TIMESTAMP, at(1)]
    assert state(store, at(1), ROOT) == {b"mode": b"0700", b"owner": b"0"}
    assert state(store, ZERO_TIMESTAMP, ROOT) == GENESIS[ROOT]
    assert store.answer(ROOT, at(1)) == b"done"


def test_the_head_follows_the_history(store):
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"a": b"1"}, b"")
    store.add_version(OBJECT, at(2), at(1), {b"a": b"2", b"b": b"2"}, b"")
    store.add_version(OBJECT, at(3, client=2), at(1), {b"a": None, b"c": b"3"}, b"")
    other = method(at(3, client=2), (OBJECT,), (at(1),))
    for history, expected in (
        (records(0, 1), {b"a": b"1"}),
        (records(0, 1, 2), {b"a": b"2", b"b": b"2"}),
        (ReplicaHistory((ZERO, record(1), other)), {b"c": b"3"}),
        (records(0, 1, 2), {b"a": b"2", b"b": b"2"}),
        (records(0), {}),
    ):
        store.set_history(OBJECT, history)
        assert store.history(OBJECT) == history
        assert store.kept(OBJECT)[0] == history.head.lt
        assert state(store, history.head.lt) == expected
    assert state(store, at(3, client=2)) == {b"c": b"3"}


def test_barriers_have_no_version(store):
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"a": b"1"}, b"")
    history = ReplicaHistory((ZERO, record(1), barrier(at(2, is_barrier=1), (OBJECT,), (at(1),))))
    store.set_history(OBJECT, history)
    assert store.history(OBJECT) == history
    assert store.kept(OBJECT) == [at(1), ZERO_TIMESTAMP]


def test_a_history_needs_its_versions(store):
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"a": b"1"}, b"")
    for history in (records(0, 1, 2), records(0, 1, 2, 1), records(2)):
        with pytest.raises(VersionMissing, match="not held"):
            store.set_history(OBJECT, history)
    assert store.history(OBJECT) is ZERO_HISTORY
    assert store.kept(OBJECT) == [ZERO_TIMESTAMP, at(1)]


def test_a_version_needs_its_parent(store):
    with pytest.raises(VersionMissing):
        store.add_version(OBJECT, at(2), at(1), {}, b"")
    assert store.kept(OBJECT) == [ZERO_TIMESTAMP]


def test_a_version_cannot_hold_what_rows_cannot(store):
    for key in (b"", b"x" * 481):
        with pytest.raises(LocalError, match="1 to 480"):
            store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"fine": b"", key: b""}, b"")
    with pytest.raises(LocalError, match="initial"):
        store.add_version(OBJECT, ZERO_TIMESTAMP, ZERO_TIMESTAMP, {}, b"")
    assert not store.has_version(OBJECT, at(1))
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"x" * 480: b"y"}, b"")
    assert state(store, at(1)) == {b"x" * 480: b"y"}


def test_adding_a_version_again_changes_nothing(store):
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"a": b"1"}, b"first")
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"a": b"2"}, b"second")
    assert state(store, at(1)) == {b"a": b"1"}
    assert store.answer(OBJECT, at(1)) == b"first"


def test_a_version_outlives_its_record(store):
    parent = 0
    for time in range(1, 4):
        value = b"%d" % time
        store.add_version(OBJECT, at(time), at(parent) if parent else ZERO_TIMESTAMP, {b"a": value}, value)
        store.set_history(OBJECT, records(parent, time))
        parent = time
    assert store.kept(OBJECT) == [at(3), at(2), at(1), ZERO_TIMESTAMP]
    assert state(store, at(1)) == {b"a": b"1"}
    assert store.answer(OBJECT, at(1)) == b"1"
    assert state(store, ZERO_TIMESTAMP) == {}


def chain(store: VersionStore, first: int, last: int) -> None:
    """An uncontended run of updates that ends with the history {last-1, last}."""
    for time in range(first, last + 1):
        parent = at(time - 1) if time > 1 else ZERO_TIMESTAMP
        store.add_version(OBJECT, at(time), parent, {b"k%d" % (time % 3): b"%d" % time}, b"%d" % time)
        store.set_history(OBJECT, records(time - 1, time))


def test_old_versions_go_when_there_are_too_many(rows):
    store = VersionStore(rows, GENESIS, Limits(versions_kept_per_object=3))
    chain(store, 1, 10)
    assert store.kept(OBJECT) == [at(10), at(9), at(8), at(7), at(6), ZERO_TIMESTAMP]
    assert store.answer(OBJECT, at(5)) is None
    with pytest.raises(VersionMissing):
        store.open(OBJECT, at(5))
    with pytest.raises(VersionMissing):
        store.difference(OBJECT, at(5), at(10), b"", 100)
    assert state(store, at(6)) == {b"k0": b"6", b"k1": b"4", b"k2": b"5"}


def test_versions_of_the_history_are_never_collected(rows):
    store = VersionStore(rows, GENESIS, Limits(versions_kept_per_object=0))
    for time in range(1, 40):
        store.add_version(OBJECT, at(time), at(time - 1) if time > 1 else ZERO_TIMESTAMP, {b"a": b"%d" % time}, b"")
        store.set_history(OBJECT, records(*range(time + 1)))
    assert len(store.kept(OBJECT)) == 40
    store.set_history(OBJECT, records(5, 20, 39))
    assert store.kept(OBJECT) == [at(39), at(20), at(5), ZERO_TIMESTAMP]
    assert [state(store, lt) for lt in store.kept(OBJECT)] == [{b"a": b"39"}, {b"a": b"20"}, {b"a": b"5"}, {}]


def test_a_version_just_added_and_its_parent_are_not_collected_at_once(rows):
    store = VersionStore(rows, GENESIS, Limits(versions_kept_per_object=1))
    store.add_version(OBJECT, at(10), ZERO_TIMESTAMP, {b"a": b"10"}, b"")
    store.add_version(OBJECT, at(20), at(10), {b"a": b"20"}, b"")
    store.set_history(OBJECT, records(10, 20))
    store.add_version(OBJECT, at(9), at(10), {b"a": b"9"}, b"")
    store.add_version(OBJECT, at(3), at(9), {b"b": b"3"}, b"")
    assert store.kept(OBJECT) == [at(20), at(10), at(9), at(3), ZERO_TIMESTAMP]
    store.add_version(OBJECT, at(4), at(3), {b"b": b"4"}, b"")
    assert store.kept(OBJECT) == [at(20), at(10), at(9), at(4), at(3), ZERO_TIMESTAMP]
    assert state(store, at(4)) == {b"a": b"9", b"b": b"4"}
    store.set_history(OBJECT, records(10, 20))
    assert store.kept(OBJECT) == [at(20), at(10), at(9), ZERO_TIMESTAMP]


def test_a_version_made_from_the_initial_one_after_that_left_the_tree(store):
    chain(store, 1, 5)
    store.add_version(OBJECT, at(6), ZERO_TIMESTAMP, {b"k0": b"3", b"new": b"6", b"absent": None}, b"")
    assert state(store, at(6)) == {b"k0": b"3", b"new": b"6"}
    store.set_history(OBJECT, records(5, 6))
    assert state(store, at(6)) == {b"k0": b"3", b"new": b"6"}
    assert state(store, at(5)) == {b"k0": b"3", b"k1": b"4", b"k2": b"5"}


def test_a_version_that_comes_back_below_its_own_descendant(rows):
    store = VersionStore(rows, GENESIS, Limits(versions_kept_per_object=1))
    chain(store, 1, 4)
    assert not store.has_version(OBJECT, at(1))
    store.add_version(OBJECT, at(1), at(2), {b"k2": None}, b"1")
    store.checkpoint()
    for fresh in (store, VersionStore(rows, GENESIS, Limits(versions_kept_per_object=1))):
        assert state(fresh, at(1)) == {b"k1": b"1"}
        assert state(fresh, at(2)) == {b"k1": b"1", b"k2": b"2"}


def test_difference_is_net_sorted_and_cut_alike_everywhere(store):
    store.add_version(ROOT, at(1), ZERO_TIMESTAMP, {b"a": b"1", b"b": b"1", b"mode": b"0"}, b"")
    store.add_version(ROOT, at(2), at(1), {b"a": b"2", b"b": None, b"mode": b"0755"}, b"")
    store.add_version(ROOT, at(3, client=2), at(1), {b"c": b"3"}, b"")
    assert store.difference(ROOT, ZERO_TIMESTAMP, at(2), b"", 1 << 20) == ([(b"a", b"2")], False)
    assert store.difference(ROOT, at(2), ZERO_TIMESTAMP, b"", 1 << 20) == ([(b"a", None)], False)
    expected = [(b"a", b"1"), (b"b", b"1"), (b"c", b"3"), (b"mode", b"0")]
    assert store.difference(ROOT, at(2), at(3, client=2), b"", 1 << 20) == (expected, False)
    assert store.difference(ROOT, at(2), at(3, client=2), b"", 0) == (expected[:1], True)
    assert store.difference(ROOT, at(2), at(3, client=2), b"a", 3) == (expected[1:3], True)
    assert store.difference(ROOT, at(2), at(3, client=2), b"c", 1) == (expected[3:], False)
    assert store.difference(ROOT, at(2), at(3, client=2), b"mode", 100) == ([], False)
    assert store.difference(ROOT, ZERO_TIMESTAMP, at(1), b"b", 100) == ([(b"mode", b"0")], False)
    assert store.difference(ROOT, ZERO_TIMESTAMP, at(1), b"\xff" * 2000, 100) == ([], False)
    for pair in ((at(9), at(1)), (at(1), at(9)), (ZERO_TIMESTAMP, at(9)), (at(9), ZERO_TIMESTAMP), (at(9), at(9))):
        with pytest.raises(VersionMissing):
            store.difference(ROOT, *pair, b"", 100)


def test_difference_does_not_depend_on_how_the_versions_came(rows):
    """A host that made the versions one by one and one that synced the last from nothing say the same."""
    made, synced = VersionStore(rows, GENESIS), VersionStore(MemoryRows(), GENESIS)
    chain(made, 1, 5)
    for time in (3, 5):
        redo, _ = made.difference(OBJECT, ZERO_TIMESTAMP, at(time), b"", 1 << 20)
        synced.add_version(OBJECT, at(time), ZERO_TIMESTAMP, dict(redo), b"")
        synced.set_history(OBJECT, records(time))
    assert made.difference(OBJECT, at(3), at(5), b"", 100) == synced.difference(OBJECT, at(3), at(5), b"", 100)


def test_the_initial_state_is_in_the_rows_only_once(rows):
    VersionStore(rows, GENESIS).commit()
    store = VersionStore(rows, GENESIS)
    store.add_version(ROOT, at(1), ZERO_TIMESTAMP, {b"mode": None}, b"")
    store.set_history(ROOT, ReplicaHistory((ZERO, record(1, ROOT))))
    store.checkpoint()
    assert state(VersionStore(rows, GENESIS), at(1), ROOT) == {b"owner": b"0"}


def test_rows_of_another_cluster_or_release_are_refused(rows):
    VersionStore(rows, GENESIS)
    for genesis in ({}, {ROOT: {b"mode": b"0700", b"owner": b"0"}}, {2: GENESIS[ROOT]}):
        with pytest.raises(StorageError, match="another genesis"):
            VersionStore(rows, genesis)
    rows.apply([(b"m", b"qunfs 99 ")])
    with pytest.raises(StorageError, match="another release"):
        VersionStore(rows, GENESIS)


@pytest.mark.parametrize("damage", ["header", "history", "parent", "version", "short"])
def test_damaged_rows_stop_the_replica(rows, damage):
    store = VersionStore(rows, GENESIS)
    chain(store, 1, 5)
    store.checkpoint()
    header, last = b"o" + OBJECT.to_bytes(8, "big"), b"v" + OBJECT.to_bytes(8, "big") + at(5).pack()
    if damage == "header":
        rows.apply([(header, b"")])
    elif damage == "history":
        rows.apply([(header, rows.get(header)[:-1])])
    elif damage == "parent":
        rows.apply([(last, at(77).pack() + rows.get(last)[45:])])
    elif damage == "version":
        rows.apply([(last, None)])
    else:
        rows.apply([(last, b"")])
    with pytest.raises(StorageError, match="rebuild"):
        VersionStore(rows, GENESIS).history(OBJECT)


def test_an_update_costs_what_it_changes():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"%05d" % i: b"x" for i in range(10_000)}, b"")
    store.set_history(OBJECT, records(1))
    store.checkpoint()
    for time in range(2, 120):
        rows.reset()
        view = store.open(OBJECT, at(time - 1))
        view.put(b"%05d" % (time * 37), b"%d" % time)
        store.add_version(OBJECT, at(time), at(time - 1), view, b"")
        store.set_history(OBJECT, records(time - 1, time))
        store.commit()
        assert (rows.puts, rows.deletes, rows.gets, rows.scanned) == (0, 0, 1, 0)
        assert rows.appended < 700
        store.checkpoint()
        assert rows.puts == 3
        assert rows.deletes == (1 if time > DEFAULT_LIMITS.versions_kept_per_object + 2 else 0)
        assert rows.gets == 1
        assert rows.scanned == 0
    assert len(store.kept(OBJECT)) == DEFAULT_LIMITS.versions_kept_per_object + 2 + 1


def test_what_is_superseded_before_a_checkpoint_is_never_written():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    chain(store, 1, 200)
    assert store._waiting == 1 + 3 + 2 + DEFAULT_LIMITS.versions_kept_per_object
    rows.reset()
    store.checkpoint()
    assert (rows.puts, rows.deletes) == (1 + 3 + 2 + DEFAULT_LIMITS.versions_kept_per_object, 0)
    assert store._waiting == 0


def test_going_back_costs_what_was_changed():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"%05d" % i: b"x" for i in range(10_000)}, b"")
    store.set_history(OBJECT, records(1))
    store.add_version(OBJECT, at(2), at(1), {b"a": b"2", b"b": b"2"}, b"")
    store.set_history(OBJECT, records(1, 2))
    store.checkpoint()
    rows.reset()
    store.set_history(OBJECT, records(1))
    store.checkpoint()
    assert (rows.puts, rows.deletes, rows.gets, rows.scanned) == (1, 2, 1, 0)
    rows.reset()
    assert store.open(OBJECT, at(2)).get(b"b") == b"2"
    assert store.open(OBJECT, at(2)).get(b"00007") == b"x"
    assert rows.scanned == 0


def test_what_every_request_asks_is_answered_from_memory():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    chain(store, 1, 5)
    rows.reset()
    store.history(OBJECT)
    store.has_version(OBJECT, at(3))
    store.has_version(OBJECT, at(99))
    store.kept(OBJECT)
    store.open(OBJECT, at(5))
    assert (rows.gets, rows.puts, rows.scanned) == (0, 0, 0)


def test_a_whole_state_is_stored_once():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"%05d" % i: b"x" * 10 for i in range(10_000)}, b"kept")
    store.set_history(OBJECT, records(1))
    store.checkpoint()
    key = b"v" + OBJECT.to_bytes(8, "big") + at(1).pack()
    assert len(rows.get(key)) < 100
    assert store.answer(OBJECT, at(1)) == b"kept"
    assert len(list(store.open(OBJECT, at(1)).scan())) == 10_000


def test_memory_holds_a_bounded_number_of_versions():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS, cached_versions=20)
    for obj in range(100, 200):
        store.add_version(obj, at(1), ZERO_TIMESTAMP, {b"a": b"%d" % obj}, b"")
        store.set_history(obj, ReplicaHistory((ZERO, record(1, obj))))
    rows.reset()
    for obj in range(100, 200):
        assert store.has_version(obj, at(1))
    assert rows.gets == 0  # until they are written
    assert store._waiting > 100 * 3 + 90 * 2  # which is soon
    store.checkpoint()
    in_memory = 0
    for obj in range(199, 99, -1):
        rows.reset()
        assert store.has_version(obj, at(1))
        in_memory += rows.gets == 0
    assert in_memory == 10
    assert all(state(store, at(1), obj) == {b"a": b"%d" % obj} for obj in range(100, 200))


def test_a_version_knows_its_place():
    root = Version(ZERO_TIMESTAMP)
    child = Version(at(1), root)
    assert [version.lt for version in child.ancestry()] == [at(1), ZERO_TIMESTAMP]


def test_rows_of_another_release_or_genesis_are_refused(rows):
    VersionStore(rows, GENESIS)
    mark = rows.get(b"m")
    for other, why in ((b"qunfs 2 " + mark[8:], "another release"), (mark[:8] + bytes(16), "another genesis")):
        rows.apply([(b"m", other)])
        with pytest.raises(StorageError, match=why):
            VersionStore(rows, GENESIS)
    rows.apply([(b"m", mark)])
    VersionStore(rows, GENESIS)


def test_an_object_nobody_touched_costs_one_look():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    rows.reset()
    view = store.open(OBJECT, ZERO_TIMESTAMP)
    assert (view.get(b"a"), list(view.scan())) == (None, [])
    view.put(b"a", b"1")
    assert list(view.scan()) == [(b"a", b"1")]
    assert view.changes() == {b"a": b"1"}
    assert (rows.gets, rows.scanned) == (1, 0)
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, view, b"")
    store.set_history(OBJECT, records(0, 1))
    view = store.open(OBJECT, at(1))
    assert (view.get(b"a"), view.get(b"b"), list(view.scan())) == (b"1", None, [(b"a", b"1")])
    assert (rows.gets, rows.scanned) == (1, 0)  # nor as long as it has no rows


def test_what_an_overlay_read_counts_only_for_the_version_it_was_opened_on(store):
    chain(store, 1, 3)
    view = store.open(OBJECT, at(3))
    view.put(b"k0", b"new")
    store.add_version(OBJECT, at(4), at(1), view, b"")
    store.add_version(OBJECT, at(5), at(3), view, b"")
    assert state(store, at(4)) == {b"k0": b"new", b"k1": b"1"}
    store.set_history(OBJECT, records(3, 4))
    store.set_history(OBJECT, records(3))
    assert state(store, at(3)) == {b"k0": b"3", b"k1": b"1", b"k2": b"2"}


def test_calls_are_made_again_as_they_were(medium):
    """Whatever a crash interrupts: what was committed is there, to the version."""
    limits = Limits(versions_kept_per_object=3)
    store = VersionStore(medium.rows, GENESIS, limits)
    for time in range(1, 12):
        chain(store, time, time)
        if time % 4 == 0:
            store.add_version(OBJECT, at(time, client=2), at(time - 1), {b"other": b"%d" % time}, b"")
        store.commit()
        kept = store.kept(OBJECT)
        states = [state(store, lt) for lt in kept]
        store.add_version(OBJECT, at(77), at(time), {b"k0": None}, b"")
        store.set_history(OBJECT, records(77))
        store = VersionStore(medium.crash(), GENESIS, limits)
        assert store.kept(OBJECT) == kept
        assert [state(store, lt) for lt in kept] == states
        assert store.history(OBJECT) == records(time - 1, time)
        assert store.answer(OBJECT, at(time)) == b"%d" % time


def test_calls_are_made_again_with_the_limit_of_their_time(medium):
    store = VersionStore(medium.rows, GENESIS, Limits(versions_kept_per_object=20))
    chain(store, 1, 10)
    store.add_version(OBJECT, at(11), at(2), {b"a": b"11"}, b"")
    store.commit()
    store = VersionStore(medium.crash(), GENESIS, Limits(versions_kept_per_object=2))
    assert state(store, at(11)) == {b"k1": b"1", b"k2": b"2", b"a": b"11"}
    store.set_history(OBJECT, records(9, 10))
    assert len(store.kept(OBJECT)) == 5


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xc1",
        b"\x07",
        msgpack.packb((3, [(OBJECT, b"")])),
        b"\0\0\0\3o",
        b"\0\0\0\3" + b"o" + OBJECT.to_bytes(8, "big") + b"\0\0\0\0",
        b"\0\0\0\3" + b"r" + OBJECT.to_bytes(8, "big") + b"\0\0\0\0",
        b"\0\0\0\3" + b"o" + OBJECT.to_bytes(8, "big") + b"\0\0\xff\0" + ZERO_HISTORY.wire,
        b"\0\0\0\3" + b"v" + OBJECT.to_bytes(8, "big") + at(1).pack() + b"\0\0\0\1\0",
        b"\0\0\0\3" + b"v" + OBJECT.to_bytes(8, "big") + at(2).pack() + b"\0\0\0\x32" + at(1).pack() + b"\0\0\0\0\x90",
        b"\0\0\0\3" + b"v" + OBJECT.to_bytes(8, "big") + at(2).pack() + b"\0\0\0\x32" + bytes(45) + b"\0\0\0\0\x91",
    ],
)
def test_records_that_do_not_fit_stop_the_replica(medium, record):
    VersionStore(medium.rows, GENESIS)
    assert medium.rows.append(record, 0)
    rows = medium.crash()
    for _ in range(2):
        with pytest.raises(StorageError, match="rebuild"):
            VersionStore(rows, GENESIS)


def test_a_version_dropped_and_added_again_between_two_checkpoints(medium):
    limits = Limits(versions_kept_per_object=1)
    store = VersionStore(medium.rows, GENESIS, limits)
    chain(store, 1, 5)
    store.checkpoint()
    chain(store, 6, 8)
    assert not store.has_version(OBJECT, at(3))
    store.add_version(OBJECT, at(3), at(8), {b"k1": None, b"back": b"3"}, b"again")
    before = state(store, at(3))
    store.checkpoint()
    for _ in range(2):
        assert state(store, at(3)) == before
        assert store.answer(OBJECT, at(3)) == b"again"
        store = VersionStore(medium.crash(), GENESIS, limits)


def test_what_waits_in_memory_and_is_not_in_the_log_counts_as_rows():
    rows = CountingRows()
    store = VersionStore(rows, GENESIS)
    store.add_version(OBJECT, at(1), ZERO_TIMESTAMP, {b"a": bytes(64 * 1024)}, b"")
    store.set_history(OBJECT, records(1))
    assert store._waiting == 3
    store.checkpoint()
    view = store.open(OBJECT, at(1))
    view.delete(b"a")
    store.add_version(OBJECT, at(2), at(1), view, b"")
    assert store._waiting == 2
    store.commit()
    assert rows.appended > 64 * 1024  # what was there before as well
    store.set_history(OBJECT, records(1, 2))
    store.checkpoint()
    store.set_history(OBJECT, records(1))
    assert store._waiting == 2 + 64
    store.checkpoint()
    store.add_version(OBJECT, at(3), at(2), {b"a": b"", b"b": b""}, b"")
    assert store._waiting == 2
    store.add_version(OBJECT, at(4), at(1), {b"a": b""}, b"")
    assert store._waiting == 3
