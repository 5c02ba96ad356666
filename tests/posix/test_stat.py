"""stat(2), lstat(2), fstat(2)"""

import errno
import os
import socket
import stat
import time

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import (
    bad_paths,
    directory,
    follows_links,
    good_paths,
    missing_file,
    needs_search,
    opened,
    touch,
    write,
)
from tests.posix.times import TICK_S, moves_nothing

test_bad_paths = bad_paths(os.stat)
test_lstat_bad_paths = bad_paths(os.lstat)
test_good_paths = good_paths(os.stat, touch)
test_follows_links = follows_links(os.stat)
test_missing = missing_file(os.stat)
test_lstat_missing = missing_file(os.lstat)
test_search = needs_search(os.stat, touch)
test_lstat_search = needs_search(os.lstat, lambda path: os.symlink("x", path))


def bind(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (touch, stat.S_IFREG),
        (os.mkdir, stat.S_IFDIR),
        (os.mkfifo, stat.S_IFIFO),
        (bind, stat.S_IFSOCK),
        (lambda path: os.symlink("x", path), stat.S_IFLNK),
    ],
    ids=["file", "directory", "fifo", "socket", "link"],
)
def test_kinds(make, kind):
    make("x")
    seen = os.lstat("x")
    assert stat.S_IFMT(seen.st_mode) == kind
    assert seen.st_dev == os.stat(".").st_dev
    assert seen.st_blksize > 0
    assert seen.st_rdev == 0


def test_inodes_are_unlike_and_stay():
    for i in range(20):
        touch(str(i))
    inodes = [os.stat(str(i)).st_ino for i in range(20)]
    assert len(set(inodes)) == 20
    os.rename("3", "moved")
    os.chmod("moved", 0o600)
    assert os.stat("moved").st_ino == inodes[3]


def test_all_three_agree():
    write("f", b"data")
    os.symlink("f", "link")
    with opened("f") as fd:
        assert os.stat("f") == os.lstat("f") == os.fstat(fd) == os.stat("link")
    assert os.lstat("link").st_ino != os.stat("f").st_ino
    assert os.lstat("link").st_size == 1


def test_sizes():
    write("f", bytes(1000))
    os.mkdir("d")
    os.mkfifo("fifo")
    assert os.stat("f").st_size == 1000
    assert os.stat("d").st_size > 0
    assert os.stat("fifo").st_size == 0
    with opened("f", os.O_RDWR) as fd:
        os.pwrite(fd, b"x", 4999)
        assert os.stat("f").st_size == os.fstat(fd).st_size == 5000
    assert os.stat("f").st_blocks * 512 >= 1000


def test_moves_no_time():
    touch("f")
    with moves_nothing("f", "."):
        os.stat("f")


def test_trailing_slash():
    touch("f")
    os.mkdir("d")
    os.symlink("d", "link")
    for call in (os.stat, os.lstat):
        with refused(errno.ENOTDIR):
            call("f/")
        assert call("d/").st_ino == call("link/").st_ino == os.stat("d").st_ino


def test_needs_no_permission_on_the_file():
    touch("f", 0)
    directory("d", 0)
    with acting(ALICE):
        assert os.stat("f").st_size == 0
        assert os.stat("d").st_nlink == 2


def test_bad_descriptor():
    with opened(".") as fd:
        pass
    with refused(errno.EBADF):
        os.fstat(fd)


def test_link_counts_of_directories():
    os.makedirs("d/a/x")
    os.mkdir("d/b")
    touch("d/f")
    assert [os.stat(path).st_nlink for path in ("d", "d/a", "d/a/x", "d/b")] == [4, 3, 2, 2]
    os.rmdir("d/b")
    assert os.stat("d").st_nlink == 3


def test_dots_lead_to_the_directory_and_its_parent():
    os.makedirs("d/e")
    assert os.stat("d/e/..").st_ino == os.stat("d/.").st_ino == os.stat("d").st_ino
    os.rename("d/e", "e")
    assert os.stat("e/..").st_ino == os.stat(".").st_ino


CHANGES = {
    "chmod": lambda fd, i: os.chmod("f", 0o644),
    "chown": lambda fd, i: os.chown("f", i, i),
    "utime": lambda fd, i: os.utime("f", ns=(1, 1)),
    "link": lambda fd, i: os.link("f", f"g{i}"),
    "unlink": lambda fd, i: os.unlink(f"g{i}"),
    "truncate": lambda fd, i: os.truncate("f", i),
    "write": lambda fd, i: os.write(fd, b"x"),
    "setxattr": lambda fd, i: os.setxattr("f", "user.a", b"%d" % i),
}


def test_ctime_always_moves_forward():
    touch("f")
    with opened("f", os.O_RDWR) as fd:
        for i in range(3):
            for name, change in CHANGES.items():
                before = os.stat("f").st_ctime_ns
                time.sleep(TICK_S)
                change(fd, i)
                assert os.stat("f").st_ctime_ns > before, name


def test_owners():
    for person in (ALICE, BOB):
        with acting(person):
            touch(person.name)
        seen = os.stat(person.name)
        assert (seen.st_uid, seen.st_gid) == (person.uid, person.gid)
