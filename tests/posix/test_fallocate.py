"""posix_fallocate(3), fallocate(2)"""

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.shared import opened, read
from tests.posix.system import fallocate
from tests.posix.times import moves

KEEP_SIZE, PUNCH_HOLE = 1, 2


@pytest.fixture
def fd():
    """A descriptor of a file of four bytes."""
    with opened("f", os.O_CREAT | os.O_RDWR) as made:
        os.write(made, b"data")
        yield made


def test_posix_fallocate(fd):
    with moves({"f": "mc"}):
        os.posix_fallocate(fd, 2, 10_000)
    assert os.fstat(fd).st_size == 10_002
    assert read("f") == b"data" + bytes(9998)
    os.posix_fallocate(fd, 0, 100)
    assert os.fstat(fd).st_size == 10_002


def test_posix_fallocate_refuses(fd):
    for offset, length in ((-1, 1), (0, 0), (0, -1)):
        with refused(errno.EINVAL):
            os.posix_fallocate(fd, offset, length)
    with refused(errno.EFBIG):
        os.posix_fallocate(fd, (1 << 63) - 10, 10)
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR) as pipe, refused(errno.ESPIPE):
        os.posix_fallocate(pipe, 0, 1)
    with opened("f") as reading, refused(errno.EBADF):
        os.posix_fallocate(reading, 0, 1)
    assert os.fstat(fd).st_size == 4


def test_fallocate(fd):
    fallocate(fd, 0, 0, 10_000)
    assert os.fstat(fd).st_size == 10_000


def test_keeping_the_size(fd):
    fallocate(fd, KEEP_SIZE, 0, 10_000)
    assert os.fstat(fd).st_size == 4


def test_punching_holes(fd):
    fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 1, 2)
    assert read("f") == b"d\0\0a"
