"""Files that are open when their last name goes."""

import errno
import mmap
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import mode_of, touch, write
from tests.posix.system import link_following
from tests.posix.times import moves


@pytest.fixture(params=["unlinked", "replaced"])
def fd(request):
    """A descriptor of a file of Alice's that had five bytes and lost its only name."""
    write("f", b"12345")
    os.chown("f", ALICE.uid, ALICE.gid)
    opened = os.open("f", os.O_RDWR)
    if request.param == "unlinked":
        os.unlink("f")
    else:
        touch("g")
        os.rename("g", "f")
    yield opened
    os.close(opened)


def test_attributes(fd):
    seen = os.fstat(fd)
    assert (seen.st_nlink, seen.st_size, seen.st_uid) == (0, 5, ALICE.uid)


def test_contents(fd):
    assert os.pread(fd, 10, 0) == b"12345"
    with moves({fd: "mc"}):
        os.pwrite(fd, b"67", 4)
    assert os.pread(fd, 10, 0) == b"123467"
    assert os.fstat(fd).st_size == 6
    os.fsync(fd)


def test_unlinking_moves_ctime():
    write("f", b"12345")
    fd = os.open("f", os.O_RDWR)
    with moves({fd: "c"}):
        os.unlink("f")
    os.close(fd)


def test_truncation(fd):
    with moves({fd: "mc"}):
        os.ftruncate(fd, 2)
    os.ftruncate(fd, 4)
    assert os.pread(fd, 10, 0) == b"12\0\0"
    assert os.fstat(fd).st_size == 4


def test_mode_and_owner(fd):
    with moves({fd: "c"}):
        os.fchmod(fd, 0o4711)
    assert mode_of(fd) == 0o4711
    os.fchown(fd, BOB.uid, BOB.gid)
    seen = os.fstat(fd)
    assert (seen.st_uid, seen.st_gid, mode_of(fd)) == (BOB.uid, BOB.gid, 0o711)
    with acting(ALICE), refused(errno.EPERM):
        os.fchmod(fd, 0o777)
    with acting(BOB):
        os.fchmod(fd, 0o700)
        with refused(errno.EPERM):
            os.fchown(fd, ALICE.uid, -1)
    assert mode_of(fd) == 0o700


def test_times(fd):
    os.utime(fd, ns=(1_000_000_001, 2_000_000_002))
    seen = os.fstat(fd)
    assert (seen.st_atime_ns, seen.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    with acting(BOB), refused(errno.EPERM):
        os.utime(fd, ns=(1, 1))


def test_mapping(fd):
    with mmap.mmap(fd, 5) as mapped:
        mapped[0:2] = b"ab"
        mapped.flush()
    assert os.pread(fd, 10, 0) == b"ab345"


def test_opening_it_again(fd):
    """By way of /proc: it is the same file, whose attributes are as they were left."""
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.write(again, b"x")
    os.close(again)
    assert os.pread(fd, 10, 0) == b"x2345"
    assert os.fstat(fd).st_nlink == 0


def test_giving_it_a_name_is_refused(fd):
    with refused(errno.ENOENT):
        link_following(f"/proc/self/fd/{fd}", "again")
    assert not os.path.exists("again")


def test_extended_attributes(fd):
    os.setxattr(fd, "user.a", b"1")
    assert os.getxattr(fd, "user.a") == b"1"
    os.removexattr(fd, "user.a")
    assert os.listxattr(fd) == []


def test_temporary_file_with_many_descriptors():
    first = os.open("f", os.O_CREAT | os.O_RDWR)
    second = os.open("f", os.O_RDONLY)
    os.unlink("f")
    os.write(first, b"data")
    os.close(first)
    assert os.fstat(second).st_size == 4
    assert os.read(second, 10) == b"data"
    os.close(second)
