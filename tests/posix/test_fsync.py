"""fsync(2), fdatasync(2)"""

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, acting
from tests.posix.shared import opened, read, touch
from tests.posix.times import moves_nothing

both = pytest.mark.parametrize("sync", [os.fsync, os.fdatasync])


@both
def test_files(sync):
    with opened("f", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, b"data")
        with moves_nothing("f"):
            sync(fd)
        assert os.fstat(fd).st_size == 4
        assert read("f") == b"data"
        os.unlink("f")
        sync(fd)


@both
def test_needs_no_right_to_write(sync):
    touch("f", 0o644)
    with acting(ALICE), opened("f") as fd:
        sync(fd)


@both
def test_directories(sync):
    os.mkdir("d")
    with opened("d") as fd:
        touch("d/f")
        sync(fd)


@both
def test_things_that_cannot(sync):
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR) as fd, refused(errno.EINVAL):
        sync(fd)
    with refused(errno.EBADF):
        sync(fd)
