"""unlink(2)"""

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, acting
from tests.posix.shared import (
    bad_paths,
    directory,
    good_paths,
    missing_file,
    needs_search,
    needs_write_in_parent,
    read,
    read_only,
    sticky_parent,
    touch,
    write,
)
from tests.posix.system import bound
from tests.posix.times import moves, moves_nothing

test_bad_paths = bad_paths(os.unlink)
test_good_paths = good_paths(os.unlink, touch)
test_missing = missing_file(os.unlink)
test_search = needs_search(os.unlink, touch)
test_write_in_parent = needs_write_in_parent(os.unlink, touch)
test_sticky_parent = sticky_parent(os.unlink)
test_sticky_parent_of_a_link = sticky_parent(os.unlink, lambda path: os.symlink("/", path))
test_read_only = read_only(os.unlink, touch)


@pytest.mark.parametrize(
    "make",
    [touch, os.mkfifo, lambda path: os.symlink(".", path), lambda path: os.symlink("missing", path)],
    ids=["file", "fifo", "link to a directory", "link to nothing"],
)
def test_removes(make):
    make("x")
    with moves({".": "mc"}):
        os.unlink("x")
    with refused(errno.ENOENT):
        os.lstat("x")
    assert os.listdir(".") == []


def test_directory():
    os.mkdir("d")
    for path in ("d", "d/", ".", "..", "d/.."):
        with moves_nothing(".", "d"), refused(errno.EISDIR):
            os.unlink(path)
    with acting(ALICE), refused(errno.EISDIR):
        os.unlink("d")


def test_trailing_slash():
    touch("f")
    os.symlink("f", "link")
    for path in ("f/", "link/"):
        with refused(errno.ENOTDIR):
            os.unlink(path)


def test_other_links_stay():
    write("a", b"data")
    os.link("a", "b")
    with moves({"b": "c", ".": "mc"}):
        os.unlink("a")
    assert os.stat("b").st_nlink == 1
    assert read("b") == b"data"


def test_own_file_in_anothers_directory():
    directory("parent", 0o755)
    touch("parent/f", 0o777, ALICE)
    with acting(ALICE), refused(errno.EACCES):
        os.unlink("parent/f")


def test_anothers_file_in_own_directory():
    directory("parent", 0o755, ALICE)
    touch("parent/f", 0o000)
    with acting(ALICE):
        os.unlink("parent/f")
    assert os.listdir("parent") == []


def test_mount_point():
    touch("real")
    touch("view")
    with bound("real", "view"), refused(errno.EBUSY):
        os.unlink("view")
    os.unlink("view")


def test_the_name_may_be_used_again_at_once():
    for kind in (touch, os.mkdir, os.mkfifo):
        kind("x")
        first = os.lstat("x").st_ino
        (os.rmdir if kind is os.mkdir else os.unlink)("x")
        touch("x")
        assert os.lstat("x").st_nlink == 1
        assert kind is touch or os.lstat("x").st_size == 0, first
        os.unlink("x")
