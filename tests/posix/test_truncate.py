"""truncate(2), ftruncate(2)"""

import errno
import os
import resource
import signal

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import (
    bad_paths,
    follows_links,
    good_paths,
    missing_file,
    needs_search,
    opened,
    read,
    read_only,
    touch,
    write,
)
from tests.posix.times import moves, moves_nothing


def truncate(path):
    os.truncate(path, 3)


test_bad_paths = bad_paths(truncate)
test_good_paths = good_paths(truncate, touch)
test_follows_links = follows_links(truncate)
test_missing = missing_file(truncate)
test_search = needs_search(truncate, touch)
test_read_only = read_only(truncate, touch)


def by_path(size):
    os.truncate("f", size)


def by_descriptor(size):
    with opened("f", os.O_WRONLY) as fd:
        os.ftruncate(fd, size)


both = pytest.mark.parametrize("cut", [by_path, by_descriptor], ids=["truncate", "ftruncate"])


@both
def test_sizes(cut):
    write("f", b"0123456789")
    for size, data in ((4, b"0123"), (8, b"0123\0\0\0\0"), (0, b""), (2, b"\0\0")):
        with moves({"f": "mc", ".": ""}):
            cut(size)
        assert os.stat("f").st_size == size
        assert read("f") == data


@both
def test_large_holes(cut):
    touch("f")
    cut(1 << 40)
    assert os.stat("f").st_size == 1 << 40
    assert os.stat("f").st_blocks < 100
    with opened("f") as fd:
        assert os.pread(fd, 4, (1 << 40) - 4) == bytes(4)
        assert os.pread(fd, 4, 1 << 40) == b""


@both
def test_to_the_same_size_moves_the_times(cut):
    write("f", b"data")
    with moves({"f": "mc"}):
        cut(4)


@both
def test_bad_sizes(cut):
    write("f", b"data")
    with moves_nothing("f"):
        with refused(errno.EINVAL):
            cut(-1)
        with refused(errno.EFBIG):
            cut((1 << 63) - 1)
    assert read("f") == b"data"


@both
def test_size_limit_of_the_process(cut):
    write("f", b"data")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        cut(1000)
        with refused(errno.EFBIG):
            cut(1001)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert os.stat("f").st_size == 1000


def test_directory():
    os.mkdir("d")
    with refused(errno.EISDIR):
        os.truncate("d", 0)
    with opened("d") as fd, refused(errno.EINVAL):
        os.ftruncate(fd, 0)


def test_fifo():
    os.mkfifo("fifo")
    with refused(errno.EINVAL):
        os.truncate("fifo", 0)


def test_descriptors_that_cannot():
    touch("f")
    with opened("f") as fd, refused(errno.EINVAL):
        os.ftruncate(fd, 0)
    with refused(errno.EBADF):
        os.ftruncate(fd, 0)


def test_permission():
    touch("f", 0o644, ALICE)
    touch("g", 0o000, ALICE)
    with acting(BOB), moves_nothing("f"), refused(errno.EACCES):
        os.truncate("f", 1)
    with acting(ALICE):
        os.truncate("f", 1)
        with refused(errno.EACCES):
            os.truncate("g", 1)


def test_descriptor_outlives_permission():
    touch("f", 0o666)
    with acting(ALICE):
        fd = os.open("f", os.O_WRONLY)
    os.chmod("f", 0o600)
    with acting(ALICE):
        os.ftruncate(fd, 5)
        os.close(fd)
    assert os.stat("f").st_size == 5


def test_running_program(program):
    with program("f"), refused(errno.ETXTBSY):
        os.truncate("f", 0)


def test_while_written():
    with opened("f", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"0123456789")
        os.ftruncate(fd, 5)
        assert os.fstat(fd).st_size == os.stat("f").st_size == 5
        os.write(fd, b"x")
        assert os.pread(fd, 20, 0) == b"01234" + bytes(5) + b"x"
        os.truncate("f", 1)
        assert os.fstat(fd).st_size == 1
