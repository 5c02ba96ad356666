"""The list of all objects that a store holds, wherever they lie at the moment."""

import pytest

from qunfs.protocol.errors import StorageError
from qunfs.protocol.history import ZERO_TIMESTAMP, LogicalTimestamp, ReplicaHistory, method
from qunfs.protocol.store import Listed, MemoryRows
from qunfs.protocol.versions import VersionStore

ROOT = 1
GENESIS = {ROOT: {b"mode": b"0755"}}
LAST = 2**64 - 1


def at(time: int) -> LogicalTimestamp:
    return LogicalTimestamp(time, 0, 1, bytes(32))


def make(store: VersionStore, obj: int, time: int = 1, **rows: bytes | None) -> None:
    """One more version of an object, whose key ``protocol`` methods do not see."""
    parent = store.history(obj).head.lt
    redo = {b"\x00" + key.encode() if key == "protocol" else key.encode(): value for key, value in rows.items()}
    store.add_version(obj, at(time), parent, redo, b"")
    store.set_history(obj, ReplicaHistory([method(at(time), (obj,), (parent,))]))


def test_objects_are_listed_in_order_wherever_they_lie() -> None:
    rows = MemoryRows()
    store = VersionStore(rows, GENESIS)
    for obj in (9, 5, LAST):
        make(store, obj, a=b"1")
    store.checkpoint()
    for obj in (7, ROOT):
        make(store, obj, a=b"1")
    make(store, 5, 2, a=b"2")
    expected = [(ROOT, 1), (5, 2), (7, 1), (9, 1), (LAST, 1)]
    for _ in range(2):
        listed, more = store.roll(0, 10)
        assert listed == [Listed(obj, at(time), True) for obj, time in expected]
        assert not more
        store.checkpoint()
    assert VersionStore(rows, GENESIS).roll(0, 10) == (listed, False)
    assert store.roll(LAST - 1, 10) == ([Listed(LAST, at(1), True)], False)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6])
def test_pages_join_up(most: int) -> None:
    store = VersionStore(MemoryRows(), GENESIS)
    for obj in range(10, 20):
        make(store, obj, a=b"1")
        if obj == 15:
            store.checkpoint()
    found, after, more = [], 0, True
    while more:
        page, more = store.roll(after, most)
        assert len(page) <= most
        found += [listed.obj for listed in page]
        after = found[-1]
    assert found == list(range(10, 20))


def test_an_object_without_a_state_that_methods_see_is_not_present() -> None:
    """So are deleted ones: what remembers their last answers stays."""
    store = VersionStore(MemoryRows(), GENESIS)
    make(store, 5, a=b"1", protocol=b"kept")
    make(store, 6, protocol=b"only")
    for _ in range(2):
        assert [listed.present for listed in store.roll(0, 9)[0]] == [True, False]
        store.checkpoint()
    make(store, 5, 2, a=None)
    for _ in range(2):
        assert store.roll(0, 9)[0] == [Listed(5, at(2), False), Listed(6, at(1), False)]
        store.checkpoint()


def test_a_version_that_nothing_was_accepted_on_yet_is_no_version() -> None:
    store = VersionStore(MemoryRows(), GENESIS)
    store.add_version(5, at(1), ZERO_TIMESTAMP, {b"a": b"1"}, b"")
    for _ in range(2):
        assert store.roll(0, 9) == ([Listed(5, ZERO_TIMESTAMP, False)], False)
        store.checkpoint()


def test_listing_takes_nothing_into_memory() -> None:
    rows = MemoryRows()
    store = VersionStore(rows, GENESIS)
    for obj in range(10, 20):
        make(store, obj, a=b"1")
    store.checkpoint()
    fresh = VersionStore(rows, GENESIS)
    assert len(fresh.roll(0, 20)[0]) == 10
    assert not fresh._known


def test_a_damaged_header_stops_the_replica() -> None:
    rows = MemoryRows()
    store = VersionStore(rows, GENESIS)
    make(store, 5, a=b"1")
    store.checkpoint()
    rows.put(b"o" + (5).to_bytes(8, "big"), b"short")
    with pytest.raises(StorageError, match="is damaged"):
        store.roll(0, 9)
