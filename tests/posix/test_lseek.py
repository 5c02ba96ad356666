"""lseek(2)"""

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.shared import opened


@pytest.fixture
def fd():
    """A descriptor of a file of ten bytes."""
    with opened("f", os.O_CREAT | os.O_RDWR) as made:
        os.write(made, b"0123456789")
        yield made


def test_moves_the_position(fd):
    assert os.lseek(fd, 3, os.SEEK_SET) == 3
    assert os.lseek(fd, 2, os.SEEK_CUR) == 5
    assert os.lseek(fd, -1, os.SEEK_CUR) == 4
    assert os.read(fd, 1) == b"4"
    assert os.lseek(fd, -3, os.SEEK_END) == 7
    assert os.lseek(fd, 0, os.SEEK_END) == 10


def test_beyond_the_end(fd):
    assert os.lseek(fd, 1 << 40, os.SEEK_SET) == 1 << 40
    assert os.read(fd, 1) == b""
    assert os.fstat(fd).st_size == 10


def test_end_is_where_others_have_moved_it(fd):
    with opened("f", os.O_WRONLY | os.O_APPEND) as other:
        os.write(other, b"more")
        assert os.lseek(fd, 0, os.SEEK_END) == 14
    os.truncate("f", 3)
    assert os.lseek(fd, 0, os.SEEK_END) == 3


def test_bad_positions(fd):
    os.lseek(fd, 4, os.SEEK_SET)
    for offset, whence in ((-1, os.SEEK_SET), (-5, os.SEEK_CUR), (-11, os.SEEK_END), (0, 99)):
        with refused(errno.EINVAL):
            os.lseek(fd, offset, whence)
    assert os.lseek(fd, 0, os.SEEK_CUR) == 4


def test_overflow(fd):
    os.lseek(fd, 1, os.SEEK_SET)
    with refused(errno.EINVAL):  # POSIX: EOVERFLOW; Linux sees a negative number
        os.lseek(fd, (1 << 63) - 1, os.SEEK_CUR)


def test_data_and_holes(fd):
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 5, os.SEEK_DATA) == 5
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 10
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        for offset in (10, 11):
            with refused(errno.ENXIO):
                os.lseek(fd, offset, whence)


def test_hole_is_found(fd):
    os.ftruncate(fd, 1 << 20)
    assert os.lseek(fd, 0, os.SEEK_HOLE) < 1 << 20


def test_bad_descriptors(fd):
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR) as pipe, refused(errno.ESPIPE):
        os.lseek(pipe, 0, os.SEEK_SET)
    with refused(errno.EBADF):
        os.lseek(pipe, 0, os.SEEK_SET)
