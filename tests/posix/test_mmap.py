"""mmap(2), msync(2)"""

# ruff: noqa: S103 - modes are what is tested

import errno
import faulthandler
import mmap
import os
import signal

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, acting
from tests.posix.shared import mode_of, opened, read, touch, write
from tests.posix.times import moves, settle

PAGE = mmap.PAGESIZE


def test_reading():
    write("f", b"data" * 5000)
    with opened("f") as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == b"data" * 5000


def test_writing():
    write("f", bytes(3 * PAGE))
    settle("f")
    with opened("f", os.O_RDWR) as fd, moves({"f": "mc"}), mmap.mmap(fd, 3 * PAGE) as mapped:
        mapped[PAGE : PAGE + 4] = b"data"
        mapped.flush()
        assert os.pread(fd, 4, PAGE) == b"data"
    assert read("f") == bytes(PAGE) + b"data" + bytes(2 * PAGE - 4)


def test_writing_without_msync_arrives_when_unmapped_and_closed():
    write("f", bytes(PAGE))
    with opened("f", os.O_RDWR) as fd:
        mapped = mmap.mmap(fd, PAGE)
    mapped[0:4] = b"data"
    mapped.close()
    assert read("f")[:4] == b"data"


def test_private_writes_stay_private():
    write("f", b"data")
    with opened("f") as fd, mmap.mmap(fd, 4, flags=mmap.MAP_PRIVATE) as mapped:
        mapped[0:2] = b"xx"
        assert mapped[:] == b"xxta"
    assert read("f") == b"data"


def test_two_mappings_are_one():
    write("f", bytes(PAGE))
    with opened("f", os.O_RDWR) as a, opened("f", os.O_RDWR) as b, mmap.mmap(a, PAGE) as one, mmap.mmap(b, PAGE) as two:
        one[0:4] = b"data"
        assert two[0:4] == b"data"


def test_writes_show_in_mappings():
    write("f", bytes(PAGE))
    with opened("f", os.O_RDWR) as fd, mmap.mmap(fd, PAGE) as mapped:
        assert mapped[0:4] == bytes(4)
        os.pwrite(fd, b"data", 0)
        assert mapped[0:4] == b"data"


def test_end_of_the_last_page():
    write("f", b"data")
    with opened("f", os.O_RDWR) as fd:
        with mmap.mmap(fd, 4) as mapped:
            mapped[0:4] = b"DATA"
        os.ftruncate(fd, 8)
    assert read("f") == b"DATA\0\0\0\0"


def test_permission():
    write("f", b"data")
    with opened("f") as fd:
        with refused(errno.EACCES):
            mmap.mmap(fd, 4, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        mmap.mmap(fd, 4, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE).close()
    with opened("f", os.O_WRONLY) as fd, refused(errno.EACCES):
        mmap.mmap(fd, 4, prot=mmap.PROT_READ)


def test_things_that_cannot():
    os.mkfifo("fifo")
    for path, flags in ((".", os.O_RDONLY), ("fifo", os.O_RDWR)):
        with opened(path, flags) as fd, refused(errno.ENODEV):
            mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ)


def test_bad_offset():
    write("f", bytes(2 * PAGE))
    with opened("f") as fd:
        with mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE) as mapped:
            assert len(mapped) == PAGE
        with refused(errno.EINVAL):
            mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ, offset=1)


def test_set_id_bits_stay():
    write("f", bytes(PAGE))
    os.chmod("f", 0o6777)
    with acting(ALICE), opened("f", os.O_RDWR) as fd, mmap.mmap(fd, PAGE) as mapped:
        mapped[0] = 1
        mapped.flush()
    assert mode_of("f") == 0o6777


def test_file_that_is_removed():
    write("f", b"data")
    with opened("f") as fd:
        mapped = mmap.mmap(fd, 4, prot=mmap.PROT_READ)
    os.unlink("f")
    touch("f")
    assert mapped[:] == b"data"
    mapped.close()


def test_beyond_the_end():
    """Whoever touches a page behind the last one of the file gets SIGBUS."""
    write("f", bytes(2 * PAGE))
    with opened("f", os.O_RDWR) as fd, mmap.mmap(fd, 2 * PAGE) as mapped:
        os.ftruncate(fd, 10)
        assert mapped[PAGE - 1] == 0
        child = os.fork()
        if child == 0:
            faulthandler.disable()
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            mapped[PAGE]
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGBUS
