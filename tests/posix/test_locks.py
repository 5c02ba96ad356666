"""flock(2), and fcntl(2)'s record locks"""

import errno
import fcntl
import os

import pytest

from tests.fuse.conftest import in_child, refused
from tests.posix.shared import opened, touch

EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB
SHARED = fcntl.LOCK_SH | fcntl.LOCK_NB


def test_flock_excludes():
    touch("f")
    with opened("f") as a, opened("f") as b:
        fcntl.flock(a, EXCLUSIVE)
        for kind in (EXCLUSIVE, SHARED):
            with refused(errno.EWOULDBLOCK):
                fcntl.flock(b, kind)
        fcntl.flock(a, SHARED)
        fcntl.flock(b, SHARED)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(a, EXCLUSIVE)
    with opened("f") as c:
        fcntl.flock(c, EXCLUSIVE)


def test_flock_belongs_to_the_open():
    touch("f")
    with opened("f") as a:
        fcntl.flock(a, EXCLUSIVE)
        copy = os.dup(a)
        fcntl.flock(copy, EXCLUSIVE)
        with opened("f") as b:
            os.close(copy)
            with refused(errno.EWOULDBLOCK):
                fcntl.flock(b, EXCLUSIVE)
            fcntl.flock(a, fcntl.LOCK_UN)
            fcntl.flock(b, EXCLUSIVE)


def test_flock_of_a_directory():
    with opened(".") as a, opened(".") as b:
        fcntl.flock(a, EXCLUSIVE)
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(b, EXCLUSIVE)


def test_flock_refuses():
    touch("f")
    with opened("f") as fd, refused(errno.EINVAL):
        fcntl.flock(fd, 0)
    with refused(errno.EBADF):
        fcntl.flock(fd, EXCLUSIVE)


def test_records_exclude_other_processes():
    touch("f")

    def other():
        with opened("f", os.O_RDWR) as fd:
            with refused(errno.EAGAIN):
                fcntl.lockf(fd, EXCLUSIVE, 10, 5)
            fcntl.lockf(fd, EXCLUSIVE, 10, 15)
            with refused(errno.EAGAIN):
                fcntl.lockf(fd, SHARED)

    with opened("f", os.O_RDWR) as fd:
        fcntl.lockf(fd, EXCLUSIVE, 10, 0)
        fcntl.lockf(fd, EXCLUSIVE, 10, 5)
        in_child(other)


def test_any_close_releases_records():
    touch("f")

    def other():
        with opened("f", os.O_RDWR) as fd:
            fcntl.lockf(fd, EXCLUSIVE)

    with opened("f", os.O_RDWR) as fd:
        fcntl.lockf(fd, EXCLUSIVE)
        with opened("f"):
            pass
        in_child(other)


def test_records_need_the_access():
    touch("f")
    with opened("f") as fd, refused(errno.EBADF):
        fcntl.lockf(fd, EXCLUSIVE)
    with opened("f", os.O_WRONLY) as fd, refused(errno.EBADF):
        fcntl.lockf(fd, SHARED)


@pytest.mark.parametrize("whence", [os.SEEK_SET, os.SEEK_END])
def test_bad_records(whence):
    touch("f")
    with opened("f", os.O_RDWR) as fd, refused(errno.EINVAL):
        fcntl.lockf(fd, EXCLUSIVE, 1, -10, whence)
