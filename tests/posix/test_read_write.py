"""read(2), write(2), pread(2), pwrite(2), readv(2), writev(2)"""

import errno
import multiprocessing
import os
import resource
import select
import signal

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, acting
from tests.posix.shared import opened, read, touch, write
from tests.posix.times import moves, moves_nothing, settle


@pytest.fixture
def fd():
    """A descriptor of a new, empty file."""
    with opened("f", os.O_CREAT | os.O_RDWR) as made:
        yield made


def test_positions(fd):
    assert os.write(fd, b"0123456789") == 10
    assert os.read(fd, 5) == b""
    os.lseek(fd, 2, os.SEEK_SET)
    assert os.read(fd, 3) == b"234"
    assert os.write(fd, b"xy") == 2
    assert os.read(fd, 100) == b"789"
    assert read("f") == b"01234xy789"


def test_given_offsets(fd):
    os.write(fd, b"0123456789")
    os.lseek(fd, 4, os.SEEK_SET)
    assert os.pread(fd, 3, 1) == b"123"
    assert os.pwrite(fd, b"ab", 8) == 2
    assert os.lseek(fd, 0, os.SEEK_CUR) == 4
    assert os.pread(fd, 10, 100) == b""
    assert os.pread(fd, 20, 7) == b"7ab"


def test_vectors(fd):
    assert os.writev(fd, [b"one", b"", b"two"]) == 6
    os.lseek(fd, 0, os.SEEK_SET)
    parts = [bytearray(2), bytearray(10)]
    assert os.readv(fd, parts) == 6
    assert bytes(parts[0]) + bytes(parts[1][:4]) == b"onetwo"


def test_holes_read_as_zeros(fd):
    os.pwrite(fd, b"end", 100_000)
    assert os.fstat(fd).st_size == 100_003
    assert os.pread(fd, 200_000, 0) == bytes(100_000) + b"end"


def test_large(fd):
    data = os.urandom(3_000_001)
    assert os.write(fd, data) == len(data)
    assert os.pread(fd, len(data) + 1, 0) == data
    assert os.pread(fd, 10, len(data) - 4) == data[-4:]


def test_other_descriptors_see_it_at_once(fd):
    with opened("f") as other:
        os.write(fd, b"data")
        assert os.read(other, 10) == b"data"
        os.pwrite(fd, b"DA", 0)
        assert os.pread(other, 10, 0) == b"DAta"
        assert os.fstat(other).st_size == os.stat("f").st_size == 4


def test_shared_position():
    write("f", b"0123456789")
    with opened("f") as fd:
        copy = os.dup(fd)
        os.read(fd, 4)
        assert os.read(copy, 2) == b"45"
        os.close(copy)


def test_writing_moves_mtime_and_ctime(fd):
    for call in (
        lambda: os.write(fd, b"data"),
        lambda: os.pwrite(fd, b"d", 0),
        lambda: os.writev(fd, [b"x", b"y"]),
        lambda: os.pwrite(fd, b"x", 10_000),
    ):
        with moves({fd: "mc", "f": "mc", ".": ""}):
            call()


def test_closing_moves_nothing(fd):
    with opened("f", os.O_WRONLY) as writing:
        os.write(writing, b"data")
        before = os.stat("f")
    assert os.stat("f") == before


def test_writing_nothing_moves_nothing(fd):
    with moves_nothing("f"):
        assert os.write(fd, b"") == 0
        assert os.pwrite(fd, b"", 1000) == 0
    assert os.stat("f").st_size == 0


def test_reading_moves_atime(fd):
    os.write(fd, b"data")
    with moves({"f": "a"}):
        os.pread(fd, 4, 0)
    settle("f")
    with moves({"f": ""}):
        os.pread(fd, 4, 0)
    os.utime("f", ns=(1, 2))
    os.write(fd, b"more")
    with moves({"f": "a"}):
        read("f")


def test_descriptors_that_cannot():
    write("f", b"data")
    with opened("f", os.O_WRONLY) as fd:
        for call in (lambda: os.read(fd, 1), lambda: os.pread(fd, 1, 0)):
            with refused(errno.EBADF):
                call()
    with opened("f", os.O_RDONLY) as fd:
        for call in (lambda: os.write(fd, b"x"), lambda: os.pwrite(fd, b"x", 0)):
            with refused(errno.EBADF):
                call()
    for call in (lambda: os.read(fd, 1), lambda: os.write(fd, b"x")):
        with refused(errno.EBADF):
            call()


def test_directory():
    with opened(".") as fd:
        with refused(errno.EISDIR):
            os.read(fd, 1)
        with refused(errno.EISDIR):
            os.pread(fd, 1, 0)


def test_bad_offsets(fd):
    for call in (lambda: os.pread(fd, 1, -1), lambda: os.pwrite(fd, b"x", -1)):
        with refused(errno.EINVAL):
            call()


def test_too_far(fd):
    with refused(errno.EFBIG):
        os.pwrite(fd, b"xy", (1 << 63) - 3)
    assert os.fstat(fd).st_size == 0


def test_size_limit_of_the_process(fd):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert os.pwrite(fd, bytes(600), 600) == 400
        with refused(errno.EFBIG):
            os.pwrite(fd, b"x", 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert os.fstat(fd).st_size == 1000


def test_pipes_have_no_offsets():
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR) as fd:
        for call in (lambda: os.pread(fd, 1, 0), lambda: os.pwrite(fd, b"x", 0)):
            with refused(errno.ESPIPE):
                call()
        os.write(fd, b"data")
        assert os.read(fd, 10) == b"data"
    with opened("fifo", os.O_RDONLY | os.O_NONBLOCK) as fd:
        assert os.read(fd, 1) == b""
        with opened("fifo", os.O_WRONLY | os.O_NONBLOCK), refused(errno.EAGAIN):
            os.read(fd, 1)


def test_broken_pipe():
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDONLY | os.O_NONBLOCK) as reading:
        writing = os.open("fifo", os.O_WRONLY)
        closed = os.dup(reading)
        os.close(closed)
    with refused(errno.EPIPE):
        os.write(writing, b"x")
    os.close(writing)


def test_fifo_times():
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR) as fd:
        with moves({"fifo": "mc"}):
            os.write(fd, b"data")
        with moves({"fifo": "a"}):
            os.read(fd, 10)


def test_appending_ignores_the_position(fd):
    os.write(fd, b"0123456789")
    with opened("f", os.O_WRONLY | os.O_APPEND) as adding:
        os.lseek(adding, 0, os.SEEK_SET)
        os.write(adding, b"x")
        assert os.lseek(adding, 0, os.SEEK_CUR) == 11
        os.pwrite(adding, b"y", 3)
    assert read("f") == b"0123456789xy"


def test_synchronous():
    for flags in (os.O_SYNC, os.O_DSYNC):
        with opened("f", os.O_CREAT | os.O_RDWR | flags) as fd:
            os.write(fd, b"data")
            assert os.pread(fd, 10, 0) == b"data"


def test_copying_within_the_kernel(fd):
    os.write(fd, bytes(range(256)) * 100)
    with opened("g", os.O_CREAT | os.O_RDWR) as target:
        assert os.sendfile(target, fd, 0, 1000) == 1000
        assert os.copy_file_range(fd, target, 5000, 1000, 1000) > 0
        assert os.fstat(target).st_size > 1000
    assert read("g")[:1000] == read("f")[:1000]


def test_many_users_of_one_file():
    touch("f", 0o666)
    with acting(ALICE), opened("f", os.O_WRONLY | os.O_APPEND) as hers:
        os.write(hers, b"hers ")
    with opened("f", os.O_WRONLY | os.O_APPEND) as ours:
        os.write(ours, b"ours")
    assert read("f") == b"hers ours"
    assert os.stat("f").st_uid == 0


def test_polling(fd):
    """Files are always ready."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    assert poll.poll(0) == [(fd, select.POLLIN | select.POLLOUT)]


def test_appending_processes_lose_nothing():
    touch("f")

    def add():
        with opened("f", os.O_WRONLY | os.O_APPEND) as fd:
            for _ in range(50):
                os.write(fd, b"0123456789")

    children = [multiprocessing.get_context("fork").Process(target=add) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert read("f") == b"0123456789" * 150
