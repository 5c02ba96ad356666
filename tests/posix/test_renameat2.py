"""renameat2(2): RENAME_NOREPLACE and RENAME_EXCHANGE"""

# ruff: noqa: S103 - modes are what is tested

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import directory, needs_write_in_parent, read, sticky_parent, touch, write
from tests.posix.system import RENAME_EXCHANGE, RENAME_NOREPLACE, bound, renameat2
from tests.posix.times import moves, moves_nothing

KINDS = {
    "file": touch,
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "link": lambda path: os.symlink("missing", path),
}


def exchange(a, b):
    renameat2(a, b, RENAME_EXCHANGE)


def noreplace(a, b):
    renameat2(a, b, RENAME_NOREPLACE)


def with_both(path):
    directory("from", 0o777)
    touch("from/x")
    touch(path)


test_exchange_needs_write_in_parent = needs_write_in_parent(lambda path: exchange(path, "from/x"), with_both)
test_exchange_and_sticky_parents = sticky_parent(lambda path: exchange(path, "from/x"), with_both)
test_noreplace_needs_write_in_parent = needs_write_in_parent(lambda path: noreplace(path, "target"), touch)


@pytest.mark.parametrize("kind", KINDS)
def test_noreplace(kind):
    KINDS[kind]("a")
    os.mkdir("d")
    with moves({".": "mc", "d": "mc"}):
        noreplace("a", "d/b")
    noreplace("d/b", "b")
    assert sorted(os.listdir(".")) == ["b", "d"]


@pytest.mark.parametrize("kind", KINDS)
def test_noreplace_of_a_taken_name(kind):
    touch("a")
    KINDS[kind]("x")
    with moves_nothing(".", "a", "x"), refused(errno.EEXIST):
        noreplace("a", "x")
    with refused(errno.EEXIST):
        noreplace("x", "a")
    with refused(errno.EEXIST):
        noreplace("a", "a")


def test_noreplace_of_another_link():
    touch("a")
    os.link("a", "b")
    with refused(errno.EEXIST):
        noreplace("a", "b")
    assert os.stat("a").st_nlink == 2


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("b", KINDS)
def test_exchange(a, b):
    os.mkdir("d")
    KINDS[a]("a")
    KINDS[b]("d/b")
    first, second = os.lstat("a"), os.lstat("d/b")
    with moves({".": "mc", "d": "mc"}):
        exchange("a", "d/b")
    new_first, new_second = os.lstat("d/b"), os.lstat("a")
    assert (first.st_ino, second.st_ino) == (new_first.st_ino, new_second.st_ino)
    assert first.st_ctime_ns < new_first.st_ctime_ns
    assert second.st_ctime_ns < new_second.st_ctime_ns
    assert (first.st_nlink, second.st_nlink) == (new_first.st_nlink, new_second.st_nlink)
    subdirectories = 2 + (a == "directory")
    assert os.stat("d").st_nlink == subdirectories
    assert os.stat(".").st_nlink == 3 + (b == "directory")
    if a == "directory":
        assert os.stat("d/b/..").st_ino == os.stat("d").st_ino
    if b == "directory":
        assert os.stat("a/..").st_ino == os.stat(".").st_ino


def test_exchange_of_contents_and_trees():
    write("a", b"1")
    write("b", b"2")
    exchange("a", "b")
    assert (read("a"), read("b")) == (b"2", b"1")
    os.makedirs("d/e")
    touch("d/e/f")
    exchange("a", "d/e")
    assert os.listdir("a") == ["f"]
    assert read("d/e") == b"2"


def test_exchange_of_links_of_one_file():
    touch("a")
    os.link("a", "b")
    exchange("a", "b")
    exchange("a", "a")
    assert os.stat("a").st_nlink == 2


def test_exchange_needs_both():
    touch("a")
    for pair in (("a", "missing"), ("missing", "a")):
        with moves_nothing("."), refused(errno.ENOENT):
            exchange(*pair)


def test_exchange_with_an_ancestor():
    os.makedirs("a/b/c")
    for pair in (("a", "a/b"), ("a/b/c", "a"), ("a", "a/b/c")):
        with moves_nothing("a", "a/b"), refused(errno.EINVAL):
            exchange(*pair)


def test_exchanged_directories_must_be_writable():
    """Both get another parent, so both change."""
    directory("from", 0o777)
    directory("to", 0o777)
    directory("from/a", 0o755, ALICE)
    directory("to/b", 0o755, BOB)
    with acting(ALICE), refused(errno.EACCES):
        exchange("from/a", "to/b")
    os.chmod("to/b", 0o777)
    with acting(ALICE):
        exchange("from/a", "to/b")


def test_bad_flags():
    touch("a")
    touch("b")
    for flags in (RENAME_EXCHANGE | RENAME_NOREPLACE, 0x80):
        with refused(errno.EINVAL):
            renameat2("a", "b", flags)


@pytest.mark.parametrize("flags", [RENAME_NOREPLACE, RENAME_EXCHANGE], ids=["noreplace", "exchange"])
def test_other_errors(flags):
    os.mkdir("real")
    os.mkdir("view")
    touch("real/f")
    touch("real/g")
    touch("f")
    with bound("real", "view", read_only=True), refused(errno.EROFS):
        renameat2("view/f", "view/g" if flags == RENAME_EXCHANGE else "view/h", flags)
    with refused(errno.ENOTDIR):
        renameat2("f", "f/x", flags)
    with refused(errno.ENAMETOOLONG):
        renameat2("f", "x" * 256, flags)
    with refused(errno.EXDEV):
        renameat2("f", "/proc/self/status" if flags == RENAME_EXCHANGE else "/dev/shm/qunfs-posix", flags)  # noqa: S108
