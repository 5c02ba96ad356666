"""Contents that go from one mount's store to another's while files are open."""

import errno
import os
import uuid

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3, sattr3
from qunfs.protocol.operation import Credentials
from tests.fuse.conftest import refused

STRICT = ("attr_timeout=0", "entry_timeout=0")


@pytest.fixture
def two(mounter, namespace):
    a, b = mounter(namespace, "a", *STRICT), mounter(namespace, "b", *STRICT)
    yield a, b
    for mount in (a, b):
        assert mount.unmount() == 0
        assert "Traceback" not in mount.text()


def test_what_was_written_elsewhere_since_an_open_has_looked_is_not_truncated(two, namespace):
    a, b = two
    (b.path / "f").write_bytes(b"x")
    os.truncate(b.path / "f", 0)
    obj = (b.path / "f").stat().st_ino
    statuses = []

    async def write_in_b():
        service = MetadataService(namespace.core, 6, lambda bits: 1 << bits - 1)
        store = uuid.UUID((b.contents / "store").read_text().strip()).bytes
        new = sattr3(size=100, wrote=True, store=store)
        statuses.append((await service.setattr(Credentials(0, 0), obj, new)).status)

    namespace.clients[0].before_update.append(write_in_b)
    with refused(errno.EREMOTE):
        os.open(a.path / "f", os.O_WRONLY | os.O_APPEND)
    assert statuses == [nfsstat3.NFS3_OK]
    assert (b.path / "f").stat().st_size == 100


def test_an_empty_file_that_changes_while_it_is_opened_is_taken_over_all_the_same(two, namespace):
    a, b = two
    (b.path / "f").write_bytes(b"x")
    os.truncate(b.path / "f", 0)
    obj = (b.path / "f").stat().st_ino

    async def change_mode():
        service = MetadataService(namespace.core, 6, lambda bits: 1 << bits - 1)
        await service.setattr(Credentials(0, 0), obj, sattr3(mode=0o604))

    namespace.clients[0].before_update.append(change_mode)
    with (a.path / "f").open("ab") as file:
        file.write(b"of a")
    assert (a.path / "f").read_bytes() == b"of a"
    assert (a.path / "f").stat().st_mode & 0o777 == 0o604


def test_removal_does_not_bring_back_contents_that_another_store_took_over(two):
    a, b = two
    (a.path / "f").write_bytes(b"x" * 100)
    fd = os.open(a.path / "f", os.O_RDWR)
    try:
        (b.path / "f").write_bytes(b"y" * 50)
        os.unlink(a.path / "f")
        assert (os.fstat(fd).st_nlink, os.fstat(fd).st_size) == (0, 50)
        with refused(errno.EREMOTE):
            os.pread(fd, 100, 0)
        with refused(errno.EREMOTE):
            os.pwrite(fd, b"z", 0)
    finally:
        os.close(fd)


def test_an_empty_removed_file_of_another_store_can_be_opened_again_for_writing(two):
    a, b = two
    (b.path / "f").write_bytes(b"x")
    os.truncate(b.path / "f", 0)
    fd = os.open(a.path / "f", os.O_RDONLY)
    try:
        os.unlink(a.path / "f")
        again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
        try:
            with refused(errno.EREMOTE):
                os.write(again, b"y")
        finally:
            os.close(again)
        assert os.read(fd, 1) == b""
    finally:
        os.close(fd)


def test_unreported_writes_do_not_show_once_another_store_took_the_file_over(two):
    a, b = two
    (a.path / "f").write_bytes(b"x" * 100)
    fd = os.open(a.path / "f", os.O_RDWR)
    try:
        os.pwrite(fd, b"x" * 100, 100)
        (b.path / "f").write_bytes(b"y" * 50)
        assert os.stat(a.path / "f").st_size == 50
        with refused(errno.EREMOTE):
            os.fsync(fd)
        assert os.fstat(fd).st_size == 50
        with refused(errno.EREMOTE):
            os.pread(fd, 100, 0)
    finally:
        with refused(errno.EREMOTE):
            os.close(fd)


def test_an_open_file_that_was_removed_elsewhere_can_be_truncated(two):
    a, b = two
    fd = os.open(a.path / "f", os.O_CREAT | os.O_RDWR)
    try:
        os.write(fd, b"0123456789")
        os.fsync(fd)
        os.unlink(b.path / "f")
        os.ftruncate(fd, 3)
        assert os.pread(fd, 100, 0) == b"012"
        assert (os.fstat(fd).st_nlink, os.fstat(fd).st_size) == (0, 3)
    finally:
        os.close(fd)
