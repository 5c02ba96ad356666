"""rename(2)"""

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting, show
from tests.posix.shared import (
    bad_paths,
    directory,
    good_paths,
    missing_file,
    needs_search,
    needs_write_in_parent,
    read,
    sticky_parent,
    touch,
    write,
)
from tests.posix.system import bound
from tests.posix.times import moves, moves_nothing


def away(path):
    os.rename(path, "target")


def onto(path):
    if not os.path.exists("source"):
        touch("source", 0o666)
    os.rename("source", path)


def within(path):
    os.rename(path, f"{path}2")


def to_here(path):
    """A rename onto a path from a sibling directory that everybody may write in."""
    os.rename("from/x", path)


def with_source(path):
    directory("from", 0o777)
    touch("from/x")


def with_both(path):
    with_source(path)
    touch(path)


test_bad_source = bad_paths(away)
test_bad_target = bad_paths(onto)
test_good_source = good_paths(away, touch)
test_good_target = good_paths(onto)
test_missing = missing_file(away)
test_search_of_source = needs_search(within, touch)
test_write_in_parent_of_source = needs_write_in_parent(away, touch)
test_write_in_parent_of_target = needs_write_in_parent(to_here, with_source)
test_write_in_parent_of_a_replaced_target = needs_write_in_parent(to_here, with_both)
test_sticky_parent_of_source = sticky_parent(away)
test_sticky_parent_of_target = sticky_parent(to_here, with_both)
test_sticky_parent_of_a_directory = sticky_parent(away, lambda path: directory(path, 0o777))

KINDS = {
    "file": touch,
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "link": lambda path: os.symlink("missing", path),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parent", ["", "d/"], ids=["same directory", "other directory"])
def test_moves(kind, parent):
    os.mkdir("d")
    KINDS[kind]("a")
    before = os.lstat("a")
    both = {".": "mc", "d": "mc"} if parent else {".": "mc", "d": ""}
    with moves(both):
        os.rename("a", parent + "b")
    after = os.lstat(parent + "b")
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, before.st_nlink)
    with refused(errno.ENOENT):
        os.lstat("a")


@pytest.mark.parametrize("kind", KINDS)
def test_moves_ctime_of_the_moved(kind):
    KINDS[kind]("a")
    before = os.lstat("a")
    with moves({}):
        os.rename("a", "b")
    after = os.lstat("b")
    assert after.st_ctime_ns > before.st_ctime_ns
    assert (after.st_mtime_ns, after.st_atime_ns) == (before.st_mtime_ns, before.st_atime_ns)


@pytest.mark.parametrize("moved", ["file", "fifo", "link"])
@pytest.mark.parametrize("replaced", ["file", "fifo", "link"])
def test_replaces(moved, replaced):
    os.mkdir("d")
    KINDS[moved]("a")
    KINDS[replaced]("d/b")
    os.link("d/b", "kept", follow_symlinks=False)
    inode = os.lstat("a").st_ino
    with moves({".": "mc", "d": "mc", "kept": "c"}):
        os.rename("a", "d/b")
    assert os.lstat("d/b").st_ino == inode
    assert os.lstat("kept").st_nlink == 1
    assert os.listdir("d") == ["b"]


def test_replaces_contents():
    write("a", b"new")
    write("b", b"old")
    os.rename("a", "b")
    assert read("b") == b"new"
    assert os.listdir(".") == ["b"]


def test_directory_replaces_an_empty_one():
    os.makedirs("a/sub")
    os.makedirs("d/b")
    inode = os.stat("a").st_ino
    os.rename("a", "d/b")
    assert os.stat("d/b").st_ino == inode
    assert os.listdir("d/b") == ["sub"]
    assert os.stat(".").st_nlink == os.stat("d").st_nlink == os.stat("d/b").st_nlink == 3


def test_directory_over_one_with_entries():
    os.mkdir("a")
    for kind in KINDS:
        os.mkdir(f"of {kind}")
        KINDS[kind](f"of {kind}/x")
        with moves_nothing(".", "a", f"of {kind}"), refused(errno.ENOTEMPTY):
            os.rename("a", f"of {kind}")


@pytest.mark.parametrize("other", ["file", "fifo", "link"])
def test_directories_and_others_do_not_replace_each_other(other):
    os.mkdir("d")
    KINDS[other]("x")
    with moves_nothing(".", "d"), refused(errno.ENOTDIR):
        os.rename("d", "x")
    with moves_nothing(".", "d"), refused(errno.EISDIR):
        os.rename("x", "d")
    assert sorted(os.listdir(".")) == ["d", "x"]


def test_links_of_one_file():
    """POSIX: nothing happens, and both names stay."""
    touch("a")
    os.link("a", "b")
    os.mkdir("d")
    os.link("a", "d/c")
    with moves_nothing(".", "a", "d"):
        os.rename("a", "b")
        os.rename("a", "d/c")
        os.rename("a", "a")
    assert sorted(os.listdir(".")) == ["a", "b", "d"]
    assert os.stat("a").st_nlink == 3


def test_directory_onto_itself():
    os.mkdir("d")
    with moves_nothing(".", "d"):
        os.rename("d", "d")


def test_parents_links_follow_directories():
    os.makedirs("a/x")
    os.mkdir("b")
    os.rename("a/x", "b/y")
    assert (os.stat("a").st_nlink, os.stat("b").st_nlink) == (2, 3)
    assert os.stat("b/y/..").st_ino == os.stat("b").st_ino
    os.rename("b/y", "y")
    assert os.stat("b").st_nlink == 2
    assert os.stat("y/..").st_ino == os.stat(".").st_ino


def test_into_itself():
    os.makedirs("a/b/c")
    for target in ("a/x", "a/b/x", "a/b/c/x"):
        with moves_nothing(".", "a", "a/b"), refused(errno.EINVAL):
            os.rename("a", target)
    with refused(errno.ENOTEMPTY):
        os.rename("a/b/c", "a")
    with refused(errno.ENOTEMPTY):
        os.rename("a/b/c", "a/b")


@pytest.mark.parametrize("dot", [".", "..", "d/.", "d/.."])
def test_dots(dot):
    os.mkdir("d")
    with refused(errno.EBUSY):
        os.rename(dot, "x")
    with refused(errno.EBUSY):
        os.rename("d", dot)


def test_trailing_slashes():
    os.mkdir("d")
    touch("f")
    os.rename("d/", "e/")
    os.rename("e", "d/")
    for source, target in (("f/", "g"), ("f", "g/"), ("f", "f/")):
        with refused(errno.ENOTDIR):
            os.rename(source, target)
    os.symlink("d", "link")
    with refused(errno.ENOTDIR):
        os.rename("link/", "x")


def test_links_are_not_followed():
    touch("f")
    os.symlink("f", "link")
    os.symlink("link", "link2")
    os.rename("link", "moved")
    assert os.readlink("moved") == "f"
    os.rename("f", "link2")
    assert not os.path.islink("link2")
    assert os.lstat("moved").st_size == 1


def test_to_another_file_system():
    touch("f")
    with refused(errno.EXDEV):
        os.rename("f", "/dev/shm/qunfs-posix")  # noqa: S108 - it is not made
    with refused(errno.EXDEV):
        os.rename("/proc/self/status", "f")


def test_to_another_mount_of_the_same_file_system():
    os.mkdir("real")
    os.mkdir("view")
    touch("real/f")
    with bound("real", "view"), refused(errno.EXDEV):
        os.rename("real/f", "view/g")


def test_mount_point():
    os.mkdir("real")
    os.mkdir("view")
    os.mkdir("d")
    with bound("real", "view"):
        with refused(errno.EBUSY):
            os.rename("view", "x")
        with refused(errno.EBUSY):
            os.rename("d", "view")


def test_read_only():
    os.mkdir("real")
    touch("real/f")
    os.mkdir("view")
    with bound("real", "view", read_only=True), refused(errno.EROFS):
        os.rename("view/f", "view/g")


@pytest.mark.parametrize(("person", "allowed"), [(ALICE, True), (BOB, False)], ids=show)
def test_directory_that_gets_another_parent_must_be_writable(person, allowed):
    """Its ``..`` changes; within one directory it does not."""
    directory("from", 0o777)
    directory("to", 0o777)
    directory("from/d", 0o755, ALICE)
    with acting(person):
        os.rename("from/d", "from/e")
        if allowed:
            os.rename("from/e", "to/d")
        else:
            with refused(errno.EACCES):
                os.rename("from/e", "to/d")


def test_sticky_source_and_others_directory():
    directory("from", 0o1777, BOB)
    directory("from/d", 0o777, BOB)
    with acting(ALICE), refused(errno.EPERM):
        os.rename("from/d", "d")


def test_mode_and_set_id_bits_stay():
    touch("f", 0o6755, ALICE)
    directory("d", 0o3777, ALICE)
    with acting(ALICE):
        os.rename("f", "g")
        os.rename("d", "e")
    assert (os.stat("g").st_mode & 0o7777, os.stat("e").st_mode & 0o7777) == (0o6755, 0o3777)


def test_open_file_and_working_directory_move_along():
    os.makedirs("a/b")
    fd = os.open("a/b/f", os.O_CREAT | os.O_RDWR)
    os.chdir("a/b")
    os.rename("../../a", "../../c")
    os.write(fd, b"x")
    assert read("f") == b"x"
    assert os.getcwd().endswith("/c/b")
    os.close(fd)


def test_in_a_removed_directory():
    touch("f")
    os.mkdir("gone")
    fd = os.open("gone", os.O_RDONLY)
    os.rmdir("gone")
    with refused(errno.ENOENT):
        os.rename("f", "g", dst_dir_fd=fd)
    os.close(fd)
