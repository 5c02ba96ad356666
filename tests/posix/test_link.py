"""link(2)"""

import errno
import os
from pathlib import Path

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import (
    bad_paths,
    directory,
    good_paths,
    needs_search,
    needs_write_in_parent,
    read,
    touch,
    write,
)
from tests.posix.system import bound, link_following
from tests.posix.times import moves, moves_nothing


def link_from(path):
    os.link(path, f"{len(os.listdir())}", follow_symlinks=False)


def link_to(path):
    if not os.path.exists("old"):
        touch("old", 0o666)
    os.link("old", path)


test_bad_source = bad_paths(link_from)
test_bad_target = bad_paths(link_to)
test_good_source = good_paths(link_from, touch)
test_good_target = good_paths(link_to)
test_search_of_source = needs_search(link_from, touch)
test_search_of_target = needs_search(link_to, lambda path: os.path.exists("old") or touch("old", 0o666))
test_write_in_parent_of_target = needs_write_in_parent(
    link_to, lambda path: os.path.exists("old") or touch("old", 0o666)
)


def test_links():
    write("a", b"data")
    os.chmod("a", 0o640)
    before = os.stat("a")
    os.mkdir("d")
    with moves({"a": "c", "d": "mc", ".": ""}):
        os.link("a", "d/b")
    after = os.stat("d/b")
    assert after == os.stat("a")
    assert (after.st_ino, after.st_nlink, after.st_mode) == (before.st_ino, 2, before.st_mode)
    write("d/b", b"more")
    assert read("a") == b"more"
    os.chmod("a", 0o600)
    assert os.stat("d/b").st_mode & 0o777 == 0o600
    os.unlink("a")
    assert os.stat("d/b").st_nlink == 1


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: os.symlink("missing", path), lambda path: os.symlink(".", path)]
)
def test_of_other_things(make):
    make("a")
    os.link("a", "b", follow_symlinks=False)
    assert os.lstat("a") == os.lstat("b")
    assert os.lstat("a").st_nlink == 2


def test_following():
    touch("f")
    os.symlink("f", "link")
    link_following("link", "b")
    assert os.lstat("b").st_ino == os.stat("f").st_ino


@pytest.mark.parametrize("make", [os.mkdir, touch, os.mkfifo, lambda path: os.symlink("missing", path)])
def test_taken_name(make):
    touch("a")
    make("x")
    with moves_nothing("a", "."), refused(errno.EEXIST):
        os.link("a", "x")
    with refused(errno.EEXIST):
        os.link("a", "a")
    assert os.stat("a").st_nlink == 1


def test_missing():
    with refused(errno.ENOENT):
        os.link("missing", "b")


def test_directory():
    os.mkdir("d")
    with moves_nothing("d", "."), refused(errno.EPERM):
        os.link("d", "e")
    with acting(ALICE), refused(errno.EPERM):
        os.link("d", "e")


def test_trailing_slashes():
    touch("f")
    with refused(errno.ENOTDIR):
        os.link("f/", "b")
    with refused(errno.ENOENT):
        os.link("f", "b/")


def test_to_another_file_system():
    touch("f")
    with refused(errno.EXDEV):
        os.link("f", "/dev/shm/qunfs-posix")  # noqa: S108 - it is not made
    with refused(errno.EXDEV):
        os.link("/proc/self/status", "b")


def test_to_another_mount_of_the_same_file_system():
    os.mkdir("real")
    os.mkdir("view")
    touch("real/f")
    with bound("real", "view"), refused(errno.EXDEV):
        os.link("real/f", "view/g")


def test_read_only():
    os.mkdir("real")
    touch("real/f")
    os.mkdir("view")
    with bound("real", "view", read_only=True), refused(errno.EROFS):
        os.link("view/f", "view/g")


def test_protected_links():
    """proc(5), fs.protected_hardlinks: others' files must be readable, writable and harmless to be linked to."""
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is off on this machine")
    touch("shut", 0o644, BOB)
    touch("open", 0o666, BOB)
    touch("set-id", 0o4777, BOB)
    touch("own", 0o000, ALICE)
    with acting(ALICE):
        for name in ("shut", "set-id"):
            with refused(errno.EPERM):
                os.link(name, "x")
        os.link("open", "x")
        os.link("own", "y")
    assert os.stat("open").st_nlink == os.stat("own").st_nlink == 2


def test_into_a_removed_directory():
    touch("f")
    directory("gone")
    fd = os.open("gone", os.O_RDONLY)
    os.rmdir("gone")
    with refused(errno.ENOENT):
        os.link("f", "g", dst_dir_fd=fd)
    os.close(fd)
