"""XATTR_CREATE and XATTR_REPLACE are decided by the replicas, although pyfuse3 does not hand them on."""

import errno
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pyfuse3
import pytest

from fuse_client.contents import ContentStore
from fuse_client.operations import QunfsOperations
from qunfs.nfs.service import MetadataService
from qunfs.objects.ids import ROOT
from tests.fuse.namespace import new_core

ROUNDS = 40
NAME = b"user.a"


def request() -> SimpleNamespace:
    return SimpleNamespace(uid=0, gid=0, pid=1)


@pytest.fixture
def two(tmp_path):
    """Two mounts' handlers on one namespace."""
    core = new_core()
    stores = [ContentStore(tmp_path / name) for name in ("one", "other")]
    services = [MetadataService(core, 6, random.getrandbits) for _ in stores]
    yield [QunfsOperations(service, store) for service, store in zip(services, stores, strict=True)]
    for store in stores:
        store.close()


async def code_of(awaitable) -> int:
    """The errno that a handler fails with; 0 if it does not."""
    try:
        await awaitable
    except pyfuse3.FUSEError as error:
        return error.errno
    return 0


async def test_an_attribute_that_came_meanwhile_is_not_created(two):
    one, other = two
    setting = request()
    assert await code_of(one.getxattr(ROOT, NAME, setting)) == errno.ENODATA  # as pyfuse3 does for XATTR_CREATE
    await other.setxattr(ROOT, NAME, b"other", request())
    assert await code_of(one.setxattr(ROOT, NAME, b"one", setting)) == errno.EEXIST
    assert await other.getxattr(ROOT, NAME, request()) == b"other"


async def test_an_attribute_that_went_meanwhile_is_not_replaced(two):
    one, other = two
    await one.setxattr(ROOT, NAME, b"old", request())
    setting = request()
    assert await one.getxattr(ROOT, NAME, setting) == b"old"  # as pyfuse3 does for XATTR_REPLACE
    await other.removexattr(ROOT, NAME, request())
    assert await code_of(one.setxattr(ROOT, NAME, b"new", setting)) == errno.ENODATA
    assert await code_of(other.getxattr(ROOT, NAME, request())) == errno.ENODATA


async def test_without_a_flag_what_was_asked_before_does_not_matter(two):
    one, other = two
    assert await code_of(one.getxattr(ROOT, NAME, request())) == errno.ENODATA
    await other.setxattr(ROOT, NAME, b"other", request())
    await one.setxattr(ROOT, NAME, b"one", request())
    await other.removexattr(ROOT, NAME, request())
    await one.setxattr(ROOT, NAME, b"one", request())
    assert await other.getxattr(ROOT, NAME, request()) == b"one"


def test_creation_on_two_mounts_has_one_winner(mounter, namespace):
    mounts = [mounter(namespace, name) for name in ("one", "other")]
    (mounts[0].path / "f").touch()
    for number in range(ROUNDS):
        start = threading.Barrier(len(mounts))

        def create(mount, number=number, start=start) -> int:
            start.wait()
            try:
                os.setxattr(mount.path / "f", f"user.{number}", mount.path.name.encode(), os.XATTR_CREATE)
            except OSError as error:
                return error.errno
            return 0

        with ThreadPoolExecutor(len(mounts)) as pool:
            codes = list(pool.map(create, mounts))
        assert sorted(codes) == [0, errno.EEXIST], f"round {number}"
        winner = mounts[codes.index(0)].path.name.encode()
        assert [os.getxattr(mount.path / "f", f"user.{number}") for mount in mounts] == [winner] * len(mounts)
