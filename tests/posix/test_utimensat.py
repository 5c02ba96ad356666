"""utimensat(2), futimens(3)"""

import errno
import os
import time

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import (
    bad_paths,
    follows_links,
    good_paths,
    missing_file,
    needs_search,
    opened,
    read_only,
    touch,
)
from tests.posix.system import AT_SYMLINK_NOFOLLOW, UTIME_NOW, UTIME_OMIT, utimensat
from tests.posix.times import moves, moves_nothing

NOW = (0, UTIME_NOW)
OMIT = (0, UTIME_OMIT)
SOME = (1_500_000_000, 123_456_789)
OTHER = (1_400_000_000, 987_654_321)


def utimes(path):
    os.utime(path, ns=(1, 2))


test_bad_paths = bad_paths(utimes)
test_good_paths = good_paths(utimes, touch)
test_follows_links = follows_links(utimes)
test_missing = missing_file(utimes)
test_search = needs_search(utimes, touch)
test_read_only = read_only(utimes, touch)
test_now_read_only = read_only(os.utime, touch)


def ns(pair):
    return pair[0] * 1_000_000_000 + pair[1]


def times(path):
    seen = os.lstat(path)
    return seen.st_atime_ns, seen.st_mtime_ns


@pytest.mark.parametrize("make", [touch, os.mkdir, os.mkfifo], ids=["file", "directory", "fifo"])
def test_touched_right_after_its_making_it_looks_no_older(make):
    # the kernel's time for "now" is some milliseconds behind the exact clock
    for number in range(20):
        make(f"x{number}")
        made = os.lstat(f"x{number}")
        os.utime(f"x{number}")
        touched = os.lstat(f"x{number}")
        assert touched.st_atime_ns >= made.st_atime_ns
        assert touched.st_mtime_ns >= made.st_mtime_ns
        assert touched.st_ctime_ns >= made.st_ctime_ns


@pytest.mark.parametrize("make", [touch, os.mkdir, os.mkfifo], ids=["file", "directory", "fifo"])
def test_sets_both_to_the_nanosecond(make):
    make("x")
    os.utime("x", ns=(7, 8))
    with moves({"x": "amc", ".": ""}):
        utimensat("x", SOME, OTHER)
    assert times("x") == (ns(SOME), ns(OTHER))


def test_now():
    touch("f")
    os.utime("f", ns=(1, 2))
    before = time.time_ns() - 20_000_000
    with moves({"f": "amc"}):
        utimensat("f", NOW, NOW)
    for seen in times("f"):
        assert before <= seen <= time.time_ns()
    assert len(set(times("f"))) == 1


def test_one_alone():
    touch("f")
    os.utime("f", ns=(1, 2))
    with moves({"f": "ac"}):
        utimensat("f", SOME, OMIT)
    with moves({"f": "mc"}):
        utimensat("f", OMIT, OTHER)
    assert times("f") == (ns(SOME), ns(OTHER))
    with moves({"f": "ac"}):
        utimensat("f", NOW, OMIT)


def test_neither():
    touch("f")
    with moves_nothing("f"):
        utimensat("f", OMIT, OMIT)
    with acting(ALICE):
        utimensat("f", OMIT, OMIT)


def test_bad_nanoseconds():
    touch("f")
    for bad in ((0, 1_000_000_000), (0, -1)):
        with refused(errno.EINVAL):
            utimensat("f", bad, SOME)
        with refused(errno.EINVAL):
            utimensat("f", SOME, bad)


@pytest.mark.parametrize("seconds", [0, 1, 2**31 - 1, 2**31, 2**32 - 1, -1, 1 - 2**31])
def test_range(seconds):
    """From 1901 to 2446 local file systems agree."""
    touch("f")
    utimensat("f", (seconds, 5), (seconds, 6))
    assert times("f") == (seconds * 1_000_000_000 + 5, seconds * 1_000_000_000 + 6)


def test_of_a_link():
    touch("f")
    os.symlink("f", "link")
    with moves_nothing("f"):
        utimensat("link", SOME, OTHER, AT_SYMLINK_NOFOLLOW)
    assert os.lstat("link").st_mtime_ns == ns(OTHER)
    utimensat("link", OTHER, SOME)
    assert os.stat("f").st_mtime_ns == ns(SOME)
    assert os.lstat("link").st_mtime_ns == ns(OTHER)


def test_descriptor():
    touch("f")
    with opened("f") as fd:
        os.utime(fd, ns=(3, 4))
        assert times("f") == (3, 4)
    with refused(errno.EBADF):
        os.utime(fd)


def test_stays_after_a_write_and_close():
    with opened("f", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b"data")
        os.utime(fd, ns=(3, 4))
    assert times("f") == (3, 4)


@pytest.mark.parametrize(("mode", "code"), [(0o666, errno.EPERM), (0o644, errno.EPERM), (0o600, errno.EPERM)])
def test_others_set_no_times(mode, code):
    touch("f", mode, ALICE)
    with acting(BOB):
        for pair in ((SOME, OTHER), (SOME, OMIT), (OMIT, SOME), (NOW, OMIT), (OMIT, NOW), (NOW, SOME)):
            with moves_nothing("f"), refused(code):
                utimensat("f", *pair)


def test_others_need_to_write_for_now():
    touch("f", 0o646, ALICE)
    touch("shut", 0o644, ALICE)
    os.utime("f", ns=(1, 2))
    with acting(BOB):
        with moves({"f": "amc"}):
            utimensat("f", NOW, NOW)
        with moves_nothing("shut"), refused(errno.EACCES):
            utimensat("shut", NOW, NOW)


def test_the_owner_needs_no_permission():
    touch("f", 0, ALICE)
    with acting(ALICE):
        utimensat("f", SOME, OTHER)
        assert times("f") == (ns(SOME), ns(OTHER))
        utimensat("f", NOW, NOW)
