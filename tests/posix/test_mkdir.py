"""mkdir(2)"""

import errno
import os
import stat

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, CAROL, STAFF, acting, show
from tests.posix.shared import (
    bad_paths,
    directory,
    good_paths,
    mode_of,
    needs_search,
    needs_write_in_parent,
    read_only,
    touch,
)
from tests.posix.times import moves, moves_nothing

test_bad_paths = bad_paths(os.mkdir)
test_good_paths = good_paths(os.mkdir)
test_search = needs_search(os.mkdir)
test_write_in_parent = needs_write_in_parent(os.mkdir)
test_read_only = read_only(os.mkdir)


@pytest.mark.parametrize(
    ("asked", "umask", "got"),
    [
        (0o777, 0o022, 0o755),
        (0o777, 0, 0o777),
        (0o700, 0o077, 0o700),
        (0o151, 0o070, 0o101),
        (0, 0, 0),
        (0o1777, 0, 0o1777),
    ],
    ids="{:o}".format,
)
def test_mode(asked, umask, got):
    os.umask(umask)
    os.mkdir("d", asked)
    assert os.lstat("d").st_mode == stat.S_IFDIR | got


def test_new_directory():
    with acting(ALICE), moves({".": "mc"}):
        os.mkdir("d")
    made, parent = os.stat("d"), os.stat(".")
    assert (made.st_uid, made.st_gid) == (ALICE.uid, ALICE.gid)
    assert made.st_nlink == 2
    assert os.listdir("d") == []
    assert made.st_atime_ns == made.st_mtime_ns == made.st_ctime_ns
    assert made.st_ctime_ns <= parent.st_ctime_ns


def test_parent_gains_a_link():
    before = os.stat(".").st_nlink
    os.mkdir("d")
    os.mkdir("e")
    assert os.stat(".").st_nlink == before + 2


@pytest.mark.parametrize("person", [ALICE, CAROL], ids=show)
def test_set_gid_parent_hands_on_group_and_bit(person):
    directory("parent", 0o2777, BOB, STAFF)
    with acting(person):
        os.mkdir("parent/d", 0o750)
    made = os.stat("parent/d")
    assert (made.st_uid, made.st_gid, mode_of("parent/d")) == (person.uid, STAFF, 0o2750)


@pytest.mark.parametrize("make", [os.mkdir, touch, os.mkfifo, lambda path: os.symlink("missing", path)])
def test_taken_name(make):
    make("x")
    with moves_nothing("."), refused(errno.EEXIST):
        os.mkdir("x")


def test_taken_name_comes_before_permission():
    directory("parent", 0o555, ALICE)
    os.mkdir("parent/x")
    with acting(ALICE), refused(errno.EEXIST):
        os.mkdir("parent/x")


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_dots(path):
    with refused(errno.EEXIST):
        os.mkdir(path)


def test_trailing_slash():
    os.mkdir("d/")
    assert os.path.isdir("d")
    os.symlink("missing", "link")
    with refused(errno.EEXIST):
        os.mkdir("link/")


def test_in_a_removed_directory():
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    with refused(errno.ENOENT):
        os.mkdir("d")
