"""The parts that need no mount: the handler's net and the caches."""

import errno
import logging
import os
import stat

import pyfuse3
import pytest
import trio

from fuse_client.attributes import RELATIME_NS, AttributeCache, entry_attributes, relatime_due
from fuse_client.errors import StatusError, errno_of, handler
from fuse_client.names import ABSENT, NameCache
from qunfs.nfs.types import fattr3, ftype3, nfsstat3, wcc_data
from qunfs.protocol.errors import LocalError

FILE = fattr3(ftype3.NF3REG, 0o640, 1, 10, 20, 1000, 1000, (0, 0), 0, 77, 1, 2, 3)


@pytest.mark.parametrize(
    ("raised", "number"),
    [
        (StatusError(nfsstat3.NFS3ERR_NOTEMPTY), errno.ENOTEMPTY),
        (StatusError(nfsstat3.NFS3ERR_REMOTE), errno.EREMOTE),
        (StatusError(nfsstat3.NFS3ERR_SERVERFAULT), errno.EIO),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError("no number"), errno.EIO),
        (pyfuse3.FUSEError(errno.ESTALE), errno.ESTALE),
        (KeyError("a bug"), errno.EIO),
        (LocalError("below"), errno.EIO),
        (ExceptionGroup("several", [ValueError()]), errno.EIO),
    ],
)
async def test_a_handler_raises_nothing_but_errno(raised, number, caplog):
    @handler
    async def body():
        raise raised

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await body()
    assert caught.value.errno == number
    bug = isinstance(raised, (KeyError, LocalError, ExceptionGroup))
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR) == bug


async def test_cancellation_passes_a_handler():
    @handler
    async def body():
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        scope.cancel()
        await body()
    assert scope.cancelled_caught


def test_every_status_has_an_errno():
    assert all(errno_of(status) in errno.errorcode for status in nfsstat3 if status)


def test_attributes_are_believed_for_their_time():
    clock = [100.0]
    cache = AttributeCache(1.0, lambda: clock[0], capacity=2)
    cache.learn(FILE, 100.0)
    assert cache.fresh(77) == (FILE, 100.0)
    clock[0] = 100.75
    assert cache.left(100.0) == 0.25
    cache.learn(FILE._replace(ctime=2), 100.5)
    assert cache.fresh(77) == (FILE, 100.0), "an older state that came later"
    cache.learn(FILE, 100.5)
    clock[0] = 101.25
    assert cache.fresh(77) == (FILE, 100.5)
    clock[0] = 102.0
    assert cache.fresh(77) is None
    assert cache.left(100.5) == 0.0
    for obj in (1, 2, 3):
        cache.learn(FILE._replace(fileid=obj), 102.0)
    assert [cache.fresh(obj) is not None for obj in (1, 2, 3, 77)] == [False, True, True, False]
    cache.learn_wcc(2, wcc_data(after=None), 102.0)
    assert cache.fresh(2) is None
    cache.forget(3)
    assert cache.fresh(3) is None


def test_without_a_time_out_nothing_is_believed():
    cache = AttributeCache(0.0, lambda: 5.0)
    cache.learn(FILE, 5.0)
    assert cache.fresh(77) is None


def test_relatime():
    assert relatime_due(FILE, 10), "read before the last change"
    read = FILE._replace(atime=100)
    assert not relatime_due(read, 200)
    assert relatime_due(read, 100 + RELATIME_NS)


@pytest.mark.parametrize("kind", ftype3)
def test_attributes_for_the_kernel(kind):
    entry = entry_attributes(FILE._replace(type=kind, rdev=(8, 300), atime=-1, mtime=2_000_000_001), 0.5, 0.25)
    assert stat.S_IFMT(entry.st_mode) in (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFBLK,
        stat.S_IFCHR,
        stat.S_IFLNK,
        stat.S_IFSOCK,
        stat.S_IFIFO,
    )
    assert stat.S_IMODE(entry.st_mode) == 0o640
    assert (entry.st_ino, entry.st_size, entry.st_blocks, entry.st_rdev) == (77, 1000, 2, os.makedev(8, 300))
    assert (entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns) == (-1, 2_000_000_001, 3)
    assert (entry.attr_timeout, entry.entry_timeout) == (0.5, 0.25)


def test_names_are_hints():
    names = NameCache(capacity=2)
    names.learn(1, b"a", 10)
    names.learn(1, b"b", ABSENT)
    assert (names.hint(1, b"a"), names.hint(1, b"b"), names.hint(2, b"a")) == (10, ABSENT, None)
    assert (names.object_at(1, b"a"), names.object_at(1, b"b")) == (10, None)
    names.learn(1, b"c", 11)
    assert names.hint(1, b"a") is None
    names.forget(1, b"c")
    assert names.hint(1, b"c") is None
