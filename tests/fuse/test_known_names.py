"""What a mount knows of names without asking: when it counts, and when it ends."""

import pytest

from fuse_client import names as names_module
from fuse_client.names import ABSENT, PATIENCE_MIN, NameCache
from qunfs.nfs.types import fattr3, ftype3, wcc_attr, wcc_data

D = 77


def state(ctime: int, mode: int = 0o755, obj: int = D) -> fattr3:
    return fattr3(ftype3.NF3DIR, mode, 2, 0, 0, 4096, 4096, (0, 0), 0, obj, 1, ctime, ctime)


def wcc(before: int, after: int) -> wcc_data:
    return wcc_data(wcc_attr(4096, before, before), state(after))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def names(clock):
    return NameCache(lifetime_s=1.0, now=clock)


def bound(names, name, directory=D):
    known = names.known(directory, name)
    return None if known is None else known.object


def test_a_binding_is_known_for_the_time_out_since_it_was_asked_for(names, clock):
    names.found(state(1), [(b"a", 10), (b"b", ABSENT)], 100.0)
    clock.now = 100.9
    assert (bound(names, b"a"), bound(names, b"b"), bound(names, b"c")) == (10, ABSENT, None)
    clock.now = 101.0
    assert bound(names, b"a") is None
    names.saw(state(1), 100.5)
    assert names.known(D, b"a") == (10, 100.5, False)
    clock.now = 101.5
    assert bound(names, b"a") is None
    assert names.hint(D, b"a") == 10


def test_a_change_by_somebody_else_ends_it_all(names):
    names.found(state(1), [(b"a", 10)], 100.0)
    names.saw(state(2), 100.0)
    assert bound(names, b"a") is None
    names.saw(state(1), 100.0)
    assert bound(names, b"a") is None, "an answer that was overtaken"
    names.found(state(1), [(b"b", 11)], 100.0)
    assert bound(names, b"b") is None
    assert names.hint(D, b"b") == 11


def test_changes_by_this_mount_carry_it_on(names):
    names.found(state(1), [(b"a", 10)], 100.0)
    names.changed(D, wcc(1, 5), {b"b": 11}, 100.0)
    names.changed(D, wcc(5, 6), {b"b": ABSENT, b"c": 11}, 100.0)
    assert [bound(names, name) for name in (b"a", b"b", b"c")] == [10, ABSENT, 11]
    names.changed(D, wcc(7, 8), {b"d": 12}, 100.0)
    assert [bound(names, name) for name in (b"a", b"b", b"c", b"d")] == [None, None, None, 12]


def test_a_directory_that_this_mount_made_is_known_whole(names, clock):
    names.made(state(1), 100.0)
    assert bound(names, b"a") == ABSENT
    names.changed(D, wcc(1, 2), {b"a": 10}, 100.0)
    assert (bound(names, b"a"), bound(names, b"b")) == (10, ABSENT)
    names.learn(D, b"a", 99)
    assert bound(names, b"a") == 10, "a hint is no knowledge"
    clock.now = 102.0
    assert bound(names, b"b") is None
    names.saw(state(2), 102.0)
    assert bound(names, b"b") == ABSENT
    names.forget(D, b"c")
    assert bound(names, b"b") is None


def test_answers_that_overtake_each_other(names):
    names.made(state(1), 100.0)
    for _ in range(3):
        names.updating(D)
    names.saw(state(4), 100.0)
    assert bound(names, b"z") == ABSENT, "it most likely is our own doing"
    names.changed(D, wcc(2, 3), {b"b": 11}, 100.0)
    assert bound(names, b"z") is None, "what b is bound to must show, and cannot yet"
    names.updated(D)
    names.changed(D, wcc(3, 4), {b"c": 12}, 100.0)
    names.updated(D)
    names.changed(D, wcc(1, 2), {b"a": 10}, 100.0)
    names.updated(D)
    assert [bound(names, name) for name in (b"a", b"b", b"c", b"z")] == [10, 11, 12, ABSENT]


def test_a_gap_that_nobody_here_fills(names):
    names.made(state(1), 100.0)
    names.updating(D)
    names.changed(D, wcc(2, 3), {b"b": 11}, 100.0)
    names.updated(D)
    assert (bound(names, b"b"), bound(names, b"z")) == (11, None)


def test_updates_that_wait_for_another_are_bounded(names, monkeypatch):
    monkeypatch.setattr(names_module, "EARLY_MAX", 3)
    names.made(state(1), 100.0)
    names.updating(D)
    names.updating(D)
    for ctime in range(2, 6):
        names.changed(D, wcc(ctime, ctime + 1), {b"%d" % ctime: ctime}, 100.0)
    assert (bound(names, b"5"), bound(names, b"2"), bound(names, b"z")) == (5, None, None)


def test_a_listing_makes_a_directory_known_whole_unless_something_was_lost(names):
    first = names.found(state(1), [(b"a", 10)], 100.0)
    names.changed(D, wcc(1, 2), {b"c": 12}, 100.0)
    assert names.found(state(2), [(b"b", 11)], 100.0) == first
    assert bound(names, b"z") is None
    names.listed(D, first)
    assert [bound(names, name) for name in (b"a", b"b", b"c", b"z")] == [10, 11, 12, ABSENT]
    names.saw(state(3), 100.0)
    names.listed(D, first)
    assert bound(names, b"z") is None


def test_what_does_not_fit_is_not_taken_for_absent(clock):
    names = NameCache(capacity=2, lifetime_s=1.0, now=clock)
    names.made(state(1), 100.0)
    for ctime, name in enumerate((b"a", b"b", b"c"), 1):
        names.changed(D, wcc(ctime, ctime + 1), {name: ctime}, 100.0)
    assert [bound(names, name) for name in (b"a", b"b", b"c")] == [None, 2, 3]
    mark = names.found(state(4), [(b"a", 1)], 100.0)
    names.listed(D, mark)
    assert bound(names, b"b") is None


def test_directories_are_bounded(names, monkeypatch):
    monkeypatch.setattr(names_module, "DIRECTORIES_MAX", 2)
    for obj in (1, 2, 3):
        names.made(state(1, obj=obj), 100.0)
    assert [bound(names, b"a", obj) for obj in (1, 2, 3)] == [None, ABSENT, ABSENT]


def test_listings_pay_after_some_lookups_in_vain_and_less_often_then(names):
    names.found(state(1), [(b"a", 10)], 100.0)
    asked = [number for number in range(1, 40) if names.wants_listing(D)]
    assert asked == [PATIENCE_MIN, 3 * PATIENCE_MIN, 7 * PATIENCE_MIN]
    assert not names.wants_listing(D + 1)


def test_the_sticky_bit_is_that_of_the_state_known(names):
    names.found(state(1, mode=0o1777), [(b"a", 10)], 100.0)
    assert names.known(D, b"a").sticky
    names.changed(D, wcc(1, 2)._replace(after=state(2)), {}, 100.0)
    assert not names.known(D, b"a").sticky


def test_without_a_time_out_there_are_only_hints():
    names = NameCache(lifetime_s=0.0, now=lambda: 100.0)
    names.made(state(1), 100.0)
    names.found(state(1), [(b"a", 10)], 100.0)
    names.changed(D, wcc(1, 2), {b"b": 11}, 100.0)
    assert bound(names, b"a") is None
    assert (names.hint(D, b"a"), names.hint(D, b"b")) == (10, 11)
