"""What every kind of rows promises."""

import pytest

from qunfs.protocol.errors import LocalError
from qunfs.protocol.store import KEY_BYTES_MAX, MemoryRows, Overlay, compare


def test_a_put_is_seen_before_it_is_committed(rows):
    rows.put(b"k", b"v")
    assert rows.get(b"k") == b"v"
    rows.put(b"k", b"")
    assert rows.get(b"k") == b""
    assert rows.get(b"other") is None


def test_deleting_what_is_not_there_is_fine(rows):
    rows.delete(b"k")
    rows.put(b"k", b"v")
    rows.delete(b"k")
    rows.delete(b"k")
    assert rows.get(b"k") is None
    assert list(rows.scan(b"")) == []


def test_scan_is_ordered_and_half_open(rows):
    for key in (b"b", b"a\xff", b"a", b"c", b"\xff\xff", b"\x00"):
        rows.put(key, key * 2)
    assert [key for key, _ in rows.scan(b"")] == [b"\x00", b"a", b"a\xff", b"b", b"c", b"\xff\xff"]
    assert list(rows.scan(b"a", b"b")) == [(b"a", b"aa"), (b"a\xff", b"a\xffa\xff")]
    assert [key for key, _ in rows.scan(b"a\x00", b"c")] == [b"a\xff", b"b"]
    assert list(rows.scan(b"c", b"c")) == []
    assert list(rows.scan(b"d", b"b")) == []


def test_a_scan_may_be_abandoned(rows):
    for i in range(100):
        rows.put(b"%03d" % i, b"")
    scan = rows.scan(b"010")
    assert next(scan) == (b"010", b"")
    rows.delete(b"011")
    rows.commit()
    del scan
    rows.put(b"000", b"x")
    rows.commit()
    assert [key for key, _ in rows.scan(b"", b"013")][-2:] == [b"010", b"012"]


def test_values_of_any_size(rows):
    sizes = (0, 1, 4095, 4096, 100_000, 1 << 20)
    for size in sizes:
        rows.put(b"%d" % size, bytes(size))
    rows.commit()
    assert all(rows.get(b"%d" % size) == bytes(size) for size in sizes)


def test_the_longest_state_key_fits(rows):
    key = b"r" + bytes(8) + b"\xff" * KEY_BYTES_MAX
    rows.put(key, b"v")
    assert list(rows.scan(key)) == [(key, b"v")]
    assert list(rows.scan(key + b"\x00")) == []


def test_a_crash_takes_back_what_was_not_committed(medium):
    rows = medium.rows
    rows.put(b"kept", b"1")
    rows.put(b"changed", b"1")
    rows.put(b"removed", b"1")
    rows.commit()
    rows.put(b"changed", b"2")
    rows.put(b"changed", b"3")
    rows.delete(b"removed")
    rows.put(b"added", b"2")
    rows.put(b"passing", b"2")
    rows.delete(b"passing")
    rows = medium.crash()
    assert list(rows.scan(b"")) == [(b"changed", b"1"), (b"kept", b"1"), (b"removed", b"1")]
    rows.delete(b"removed")
    rows.put(b"removed", b"2")
    rows.delete(b"kept")
    rows.commit()
    assert list(medium.crash().scan(b"")) == [(b"changed", b"1"), (b"removed", b"2")]


def test_committing_nothing_is_fine(medium):
    medium.rows.commit()
    medium.rows.get(b"k")
    medium.rows.commit()
    assert list(medium.crash().scan(b"")) == []


def overlay(state: dict[bytes, bytes], under: dict[bytes, bytes | None] | None = None, prefix: bytes = b"p") -> Overlay:
    rows = MemoryRows()
    rows.put(b"o", b"below")
    rows.put(b"q", b"above")
    for key, value in state.items():
        rows.put(prefix + key, value)
    return Overlay(rows, prefix, under or {})


def test_an_overlay_keeps_its_writes_to_itself():
    rows = MemoryRows()
    rows.put(b"pa", b"1")
    one, other = Overlay(rows, b"p", {}), Overlay(rows, b"p", {})
    one.put(b"a", b"2")
    one.delete(b"b")
    one.put(b"c", b"3")
    assert list(one.scan()) == [(b"a", b"2"), (b"c", b"3")]
    assert list(other.scan()) == [(b"a", b"1")]
    assert rows.get(b"pa") == b"1"


def test_an_overlay_scans_only_its_own_prefix():
    view = overlay({b"a": b"1", b"b": b"2"})
    assert list(view.scan(b"")) == [(b"a", b"1"), (b"b", b"2")]
    view = overlay({b"a": b"1", b"\xff": b"2"}, prefix=b"p\xff\xff")
    assert list(view.scan(b"")) == [(b"a", b"1"), (b"\xff", b"2")]


def test_an_overlay_reads_through_what_lies_under_it():
    view = overlay({b"a": b"1", b"b": b"2", b"d": b"4"}, {b"a": None, b"b": b"B", b"c": b"C"})
    assert [view.get(key) for key in (b"a", b"b", b"c", b"d")] == [None, b"B", b"C", b"4"]
    assert list(view.scan(b"")) == [(b"b", b"B"), (b"c", b"C"), (b"d", b"4")]
    view.put(b"a", b"A")
    view.delete(b"c")
    assert list(view.scan(b"", b"d")) == [(b"a", b"A"), (b"b", b"B")]
    assert view.changes() == {b"a": b"A", b"c": None}


def test_changes_are_net_and_sorted():
    view = overlay({b"a": b"1", b"b": b"2"})
    view.put(b"z", b"1")
    view.delete(b"z")
    view.put(b"a", b"2")
    view.put(b"a", b"1")
    view.delete(b"absent")
    view.put(b"d", b"")
    view.delete(b"b")
    view.put(b"c", b"3")
    assert list(view.changes().items()) == [(b"b", None), (b"c", b"3"), (b"d", b"")]


def test_a_method_may_write_while_it_scans():
    view = overlay({b"%d" % i: b"" for i in range(10)})
    for key, _ in view.scan(b"", b"5"):
        view.delete(key)
        view.put(key + b"x", b"")
    assert [key for key, _ in view.scan(b"", b"5")] == [b"%dx" % i for i in range(5)]


def test_keys_no_state_can_hold():
    view = overlay({b"a": b"1"})
    long = b"a" * (KEY_BYTES_MAX + 1)
    for key in (b"", long):
        with pytest.raises(LocalError, match="1 to 480"):
            view.put(key, b"")
        assert view.get(key) is None
        view.delete(key)
    assert view.changes() == {}
    assert list(view.scan(long)) == []
    assert list(view.scan(b"A" * 1000)) == [(b"a", b"1")]


def test_compare_walks_two_states_side_by_side():
    old = {b"a": b"1", b"b": b"2", b"d": b"4", b"e": b"5"}
    new = {b"b": b"2", b"c": b"3", b"d": b"D", b"f": b"6"}
    assert list(compare(old.items(), new.items())) == [
        (b"a", b"1", None),
        (b"c", None, b"3"),
        (b"d", b"4", b"D"),
        (b"e", b"5", None),
        (b"f", None, b"6"),
    ]
    assert list(compare({}.items(), {}.items())) == []
