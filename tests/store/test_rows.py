"""What every kind of rows promises."""

import pytest

from qunfs.protocol.errors import LocalError
from qunfs.protocol.store import KEY_BYTES_MAX, NO_ROWS, MemoryRows, Overlay, compare


def test_what_was_applied_is_there(rows):
    rows.apply([(b"k", b"v")])
    assert rows.get(b"k") == b"v"
    rows.apply([(b"k", b"")])
    assert rows.get(b"k") == b""
    assert rows.get(b"other") is None


def test_removing_what_is_not_there_is_fine(rows):
    rows.apply([(b"k", None)])
    rows.apply([(b"k", b"v")])
    for _ in range(2):
        rows.apply([(b"k", None)])
    assert rows.get(b"k") is None
    assert list(rows.scan(b"")) == []


def test_scan_is_ordered_and_half_open(rows):
    rows.apply([(key, key * 2) for key in (b"b", b"a\xff", b"a", b"c", b"\xff\xff", b"\x00")])
    assert [key for key, _ in rows.scan(b"")] == [b"\x00", b"a", b"a\xff", b"b", b"c", b"\xff\xff"]
    assert list(rows.scan(b"a", b"b")) == [(b"a", b"aa"), (b"a\xff", b"a\xffa\xff")]
    assert [key for key, _ in rows.scan(b"a\x00", b"c")] == [b"a\xff", b"b"]
    assert list(rows.scan(b"c", b"c")) == []
    assert list(rows.scan(b"d", b"b")) == []


def test_a_scan_may_be_abandoned(rows):
    rows.apply([(b"%03d" % i, b"") for i in range(100)])
    scan = rows.scan(b"010")
    assert next(scan) == (b"010", b"")
    rows.apply([(b"011", None)])
    del scan
    rows.apply([(b"000", b"x")])
    assert [key for key, _ in rows.scan(b"", b"013")][-2:] == [b"010", b"012"]


def test_values_of_any_size(rows):
    sizes = (0, 1, 4095, 4096, 100_000, 1 << 20)
    rows.apply([(b"%d" % size, bytes(size)) for size in sizes])
    assert all(rows.get(b"%d" % size) == bytes(size) for size in sizes)


def test_the_longest_state_key_fits(rows):
    key = b"r" + bytes(8) + b"\xff" * KEY_BYTES_MAX
    rows.apply([(key, b"v")])
    assert list(rows.scan(key)) == [(key, b"v")]
    assert list(rows.scan(key + b"\x00")) == []


def test_records_outlive_a_crash_until_they_are_applied(medium):
    rows = medium.rows
    assert list(rows.recovered()) == []
    rows.apply([(b"k", b"1")])
    rows = medium.crash()
    assert list(rows.recovered()) == []
    assert rows.append(b"one", 1)
    rows = medium.crash()
    assert rows.append(b"two", 2)  # recovered ones are still there
    rows = medium.crash()
    assert list(rows.recovered()) == [b"one", b"two"]
    assert rows.get(b"k") == b"1"
    rows.apply([(b"k", b"2"), (b"l", b"2")])
    assert list(rows.recovered()) == []
    assert rows.append(b"three", 1)
    rows = medium.crash()
    assert list(rows.recovered()) == [b"three"]
    assert list(rows.scan(b"")) == [(b"k", b"2"), (b"l", b"2")]


def test_when_there_is_no_room_for_a_record_nothing_is_done(medium_of, tmp_path):
    for kind in ("memory", "small"):
        medium = medium_of(kind, tmp_path)
        count = 0
        while medium.rows.append(b"%d" % count * 100, 1):
            count += 1
        assert 2 < count < 60
        assert len(medium.crash().recovered()) == count
        assert not medium.rows.append(bytes(1000), 1)
        medium.rows.apply([(b"k", b"v")])
        assert medium.rows.append(b"fits", 1)
        assert list(medium.crash().recovered()) == [b"fits"]
        medium.close()


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


def test_changes_are_net():
    view = overlay({b"a": b"1", b"b": b"2"})
    view.put(b"z", b"1")
    view.delete(b"z")
    view.put(b"a", b"2")
    view.put(b"a", b"1")
    view.delete(b"absent")
    view.put(b"d", b"")
    view.delete(b"b")
    view.put(b"c", b"3")
    assert view.settle() == [b"d", None, b"", b"b", b"2", None, b"c", None, b"3"]
    assert view.changes() == {b"b": None, b"c": b"3", b"d": b""}


def test_an_overlay_of_an_object_without_rows():
    view = Overlay(NO_ROWS, b"p", {b"a": b"1", b"b": None})
    assert [view.get(key) for key in (b"a", b"b", b"c")] == [b"1", None, None]
    assert list(view.scan()) == [(b"a", b"1")]
    view.put(b"c", b"3")
    view.delete(b"d")
    assert list(view.scan(b"b")) == [(b"c", b"3")]
    assert view.settle() == [b"c", None, b"3"]


def test_overlays_share_the_keys_of_what_lies_under_them():
    under: dict[bytes, bytes | None] = {b"%d" % i: b"" for i in (5, 3, 9)}
    keys: list[bytes] = []
    rows = MemoryRows()
    rows.put(b"p4", b"")
    rows.put(b"p3", b"")
    for more in (b"2", b"31", None, b"0"):
        if more is not None:
            under[more] = b""
            under[b"3"] = None
        view = Overlay(rows, b"p", under, None, keys)
        assert view.get(b"4") == b""
        expected = sorted({b"4", *under} - {b"3"})
        assert [key for key, _ in view.scan(b"3", b"5")] == [key for key in expected if b"3" <= key < b"5"]
        assert [key for key, _ in view.scan()] == expected
        assert keys == sorted(under)


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
