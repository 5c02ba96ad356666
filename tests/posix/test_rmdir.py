"""rmdir(2)"""

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
    opened,
    read_only,
    sticky_parent,
    touch,
)
from tests.posix.system import bound
from tests.posix.times import moves, moves_nothing

test_bad_paths = bad_paths(os.rmdir)
test_good_paths = good_paths(os.rmdir, os.mkdir)
test_missing = missing_file(os.rmdir)
test_search = needs_search(os.rmdir, os.mkdir)
test_write_in_parent = needs_write_in_parent(os.rmdir, os.mkdir)
test_sticky_parent = sticky_parent(os.rmdir, os.mkdir)
test_read_only = read_only(os.rmdir, os.mkdir)


def test_removes():
    before = os.stat(".").st_nlink
    os.mkdir("d")
    with moves({".": "mc"}):
        os.rmdir("d")
    assert os.listdir(".") == []
    assert os.stat(".").st_nlink == before
    with refused(errno.ENOENT):
        os.stat("d")
    with refused(errno.ENOENT):
        os.rmdir("d")


def test_trailing_slash():
    os.mkdir("d")
    os.rmdir("d/")
    assert os.listdir(".") == []


@pytest.mark.parametrize("make", [os.mkdir, touch, os.mkfifo, lambda path: os.symlink("missing", path)])
def test_not_empty(make):
    os.mkdir("d")
    make("d/x")
    with moves_nothing(".", "d"), refused(errno.ENOTEMPTY):
        os.rmdir("d")
    assert os.listdir("d") == ["x"]


@pytest.mark.parametrize(
    "make", [touch, os.mkfifo, lambda path: os.symlink("missing", path), lambda path: os.symlink(".", path)]
)
def test_not_a_directory(make):
    make("x")
    with refused(errno.ENOTDIR):
        os.rmdir("x")
    assert os.listdir(".") == ["x"]


def test_a_link_with_a_slash_is_not_followed():
    os.mkdir("d")
    os.symlink("d", "link")
    with refused(errno.ENOTDIR):
        os.rmdir("link/")
    assert os.path.isdir("d")


def test_dots():
    os.makedirs("d/e")
    with refused(errno.EINVAL):
        os.rmdir("d/e/.")
    with refused(errno.ENOTEMPTY):
        os.rmdir("d/e/..")


def test_mount_point():
    os.mkdir("real")
    os.mkdir("view")
    with bound("real", "view"), refused(errno.EBUSY):
        os.rmdir("view")
    os.rmdir("view")


def test_own_directory_in_anothers_is_refused():
    directory("parent", 0o755)
    directory("parent/d", 0o777, ALICE)
    with acting(ALICE), refused(errno.EACCES):
        os.rmdir("parent/d")


def test_open_directory_lives_on_empty():
    os.mkdir("d")
    with opened("d", os.O_DIRECTORY) as fd:
        os.rmdir("d")
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(fd) == []
        for call in (
            lambda: os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd),
            lambda: os.mkdir("f", dir_fd=fd),
            lambda: os.symlink("x", "f", dir_fd=fd),
            lambda: os.stat("f", dir_fd=fd),
        ):
            with refused(errno.ENOENT):
                call()


def test_open_directory_can_still_be_changed():
    os.mkdir("d")
    with opened("d") as fd:
        os.rmdir("d")
        os.fchmod(fd, 0o700)
        assert os.fstat(fd).st_mode & 0o777 == 0o700


def test_working_directory():
    os.mkdir("d")
    os.chdir("d")
    os.rmdir("../d")
    with refused(errno.ENOENT):
        os.getcwd()
    assert os.stat(".").st_nlink == 0
