"""symlink(2) and readlink(2)"""

import errno
import os
import stat

import pytest

from tests.fuse.conftest import refused
from tests.posix import system
from tests.posix.people import ALICE, BOB, STAFF, acting
from tests.posix.shared import (
    PATH_MAX,
    bad_paths,
    directory,
    good_paths,
    missing_file,
    needs_search,
    needs_write_in_parent,
    read,
    read_only,
    touch,
    write,
)
from tests.posix.times import moves, moves_nothing, settle


def link_at(path):
    os.symlink("target", path)


test_bad_paths = bad_paths(link_at)
test_good_paths = good_paths(link_at)
test_search = needs_search(link_at)
test_write_in_parent = needs_write_in_parent(link_at)
test_read_only = read_only(link_at)

test_readlink_bad_paths = bad_paths(os.readlink)
test_readlink_good_paths = good_paths(os.readlink, link_at)
test_readlink_search = needs_search(os.readlink, link_at)
test_readlink_missing = missing_file(os.readlink)


@pytest.mark.parametrize(
    "target",
    ["missing", ".", "/", "a/../b//", "\udcff\n*", "x" * (PATH_MAX - 1), " "],
    ids=["missing", "dot", "root", "odd", "bytes", "longest", "space"],
)
def test_target(target):
    with acting(ALICE), moves({".": "mc"}):
        os.symlink(target, "link")
    assert os.readlink("link") == target
    made = os.lstat("link")
    assert stat.S_ISLNK(made.st_mode)
    assert stat.S_IMODE(made.st_mode) == 0o777
    assert made.st_size == len(os.fsencode(target))
    assert (made.st_uid, made.st_gid, made.st_nlink) == (ALICE.uid, ALICE.gid, 1)


def test_bad_targets():
    with refused(errno.ENOENT):
        os.symlink("", "link")
    with refused(errno.ENAMETOOLONG):
        os.symlink("x" * PATH_MAX, "link")
    assert os.listdir(".") == []


@pytest.mark.parametrize("make", [os.mkdir, touch, os.mkfifo, link_at])
def test_taken_name(make):
    make("x")
    with moves_nothing("."), refused(errno.EEXIST):
        os.symlink("target", "x")


@pytest.mark.parametrize("path", [".", "..", "/"])
def test_dots(path):
    with refused(errno.EEXIST):
        os.symlink("target", path)


def test_trailing_slash():
    with refused(errno.ENOENT):
        os.symlink("target", "link/")


def test_mode_ignores_umask():
    os.umask(0o777)
    link_at("link")
    assert stat.S_IMODE(os.lstat("link").st_mode) == 0o777


def test_set_gid_parent_hands_on_its_group():
    directory("parent", 0o2777, BOB, STAFF)
    with acting(ALICE):
        link_at("parent/link")
    assert os.lstat("parent/link").st_gid == STAFF


def test_following():
    write("f", b"data")
    os.mkdir("d")
    os.symlink("../f", "d/up")
    os.symlink("d", "e")
    os.symlink(os.path.abspath("e/up"), "absolute")
    assert read("absolute") == b"data"
    for i in range(40):
        os.symlink(str(i - 1) if i else "f", str(i))
    assert read("39") == b"data"
    os.symlink("39", "40")
    with refused(errno.ELOOP):
        read("40")


def test_protected_links_are_followed_by_their_owner():
    directory("shared", 0o777)
    write("f", b"data")
    with acting(ALICE):
        os.symlink(os.path.abspath("f"), "shared/link")
        assert read("shared/link") == b"data"


def test_readlink_of_other_things():
    touch("f")
    os.mkfifo("fifo")
    for path in ("f", ".", "fifo"):
        with refused(errno.EINVAL):
            os.readlink(path)
    with refused(errno.ENOTDIR):
        os.readlink("f/")


def test_readlink_through_a_slash():
    os.mkdir("d")
    os.symlink("d", "link")
    with refused(errno.EINVAL):
        os.readlink("link/")


def test_readlink_needs_no_permission_on_the_link():
    link_at("link")
    with acting(ALICE):
        assert os.readlink("link") == "target"


def test_readlink_into_a_small_buffer():
    link_at("link")
    assert system.readlink("link", 3) == b"tar"
    with refused(errno.EINVAL):
        system.readlink("link", 0)


def test_readlink_moves_atime():
    link_at("link")
    os.utime("link", ns=(1, 2), follow_symlinks=False)
    with moves({"link": "a", ".": ""}):
        os.readlink("link")
    settle("link")
    with moves({"link": ""}):
        os.readlink("link")


def test_following_moves_atime():
    touch("target")
    link_at("link")
    os.utime("link", ns=(1, 2), follow_symlinks=False)
    with moves({"link": "a", "target": ""}):
        os.stat("link")
