"""Arguments that no message can carry: refused, before they reach a protocol that everybody else needs."""

import random

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, ftype3, nfsstat3, sattr3
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials
from tests.nfs.conftest import ROOT_USER, N
from tests.support.local_qu import START_NS
from tests.support.replicated_qu import Replicas, ReplicatedQu

INVAL, NAMETOOLONG = nfsstat3.NFS3ERR_INVAL, nfsstat3.NFS3ERR_NAMETOOLONG
HUGE = (1 << 64, 1 << 70, -(1 << 63) - 1, -(1 << 70))
LONG = (65_300, 65_537, 1 << 20)


@pytest.fixture
async def there():
    """A service with all of the protocol below it, a file, and the proof that both still work afterwards."""
    core = ReplicatedQu(Replicas(genesis_rows(0, 0, 0o777, START_NS)))
    service = MetadataService(core, N, random.Random(1).getrandbits)
    file = (await service.create(ROOT_USER, ROOT, b"f", createmode3.GUARDED, sattr3(mode=0o644))).obj
    yield service, file
    assert (await service.setattr(ROOT_USER, file, sattr3(mode=0o600))).obj_wcc.after.mode == 0o600
    assert (await service.lookup(ROOT_USER, ROOT, b"f")).object == file
    assert not (await service.readdir(ROOT_USER, ROOT, 0, b"", 8192)).entries[3:]


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("field", ["mode", "uid", "gid", "size", "atime", "mtime", "generation"])
async def test_attributes(there, field, value):
    service, file = there
    new = sattr3(**{field: value})
    assert (await service.setattr(ROOT_USER, file, new)).status is INVAL
    for how in createmode3:
        assert (await service.create(ROOT_USER, ROOT, b"g", how, new, bytes(8))).status is INVAL
    assert (await service.mkdir(ROOT_USER, ROOT, b"g", new)).status is INVAL
    assert (await service.symlink(ROOT_USER, ROOT, b"g", new, b"x")).status is INVAL
    assert (await service.mknod(ROOT_USER, ROOT, b"g", ftype3.NF3FIFO, new)).status is INVAL


@pytest.mark.parametrize("value", HUGE)
async def test_numbers(there, value):
    service, file = there
    assert (await service.setattr(ROOT_USER, file, sattr3(mode=1), value)).status is INVAL
    assert (await service.access(ROOT_USER, file, value)).status is INVAL
    assert (await service.setxattr(ROOT_USER, file, b"user.a", b"", value)).status is INVAL
    assert (await service.rename(ROOT_USER, ROOT, b"f", ROOT, b"g", value)).status is INVAL
    for device in ((value, 0), (0, value)):
        got = await service.mknod(ROOT_USER, ROOT, b"g", ftype3.NF3CHR, sattr3(), device)
        assert got.status is INVAL


@pytest.mark.parametrize("value", HUGE)
async def test_handles(there, value):
    service, file = there
    bad = nfsstat3.NFS3ERR_BADHANDLE
    for got in (
        await service.getattr(ROOT_USER, value),
        await service.lookup(ROOT_USER, value, b"f"),
        await service.link(ROOT_USER, value, ROOT, b"g"),
        await service.link(ROOT_USER, file, value, b"g"),
        await service.remove(ROOT_USER, ROOT, b"f", value),
        await service.rmdir(ROOT_USER, ROOT, b"f", value),
        await service.rename(ROOT_USER, value, b"f", ROOT, b"g"),
        await service.rename(ROOT_USER, ROOT, b"f", ROOT, b"g", hint=value, to_hint=0),
        await service.rename(ROOT_USER, ROOT, b"f", ROOT, b"g", hint=file, to_hint=value),
        await service.readdir(ROOT_USER, value, 0, b"", 8192),
    ):
        assert got.status is bad


@pytest.mark.parametrize("value", HUGE)
async def test_cookies_and_counts(there, value):
    service, _ = there
    got = await service.readdir(ROOT_USER, ROOT, value, COOKIE_VERIFIER, 8192)
    assert got.status is nfsstat3.NFS3ERR_BAD_COOKIE
    readings = (
        await service.readdir(ROOT_USER, ROOT, 0, b"", value),
        await service.readdirplus(ROOT_USER, ROOT, 0, b"", 8192, value),
        await service.readdirplus(ROOT_USER, ROOT, 0, b"", value, 8192),
    )
    for got, by_dircount in zip(readings, (False, False, True), strict=True):
        if value > 0:
            assert [entry.name for entry in got.entries] == [b".", b"..", b"f"]
        elif by_dircount:
            assert [entry.name for entry in got.entries] == [b"."]
        else:
            assert got.status is nfsstat3.NFS3ERR_TOOSMALL


@pytest.mark.parametrize("length", LONG)
async def test_names_and_values(there, length):
    service, file = there
    name = b"n" * length
    for got in (
        await service.lookup(ROOT_USER, ROOT, name),
        await service.create(ROOT_USER, ROOT, name, createmode3.GUARDED),
        await service.mkdir(ROOT_USER, ROOT, name),
        await service.symlink(ROOT_USER, ROOT, b"g", sattr3(), name),
        await service.link(ROOT_USER, file, ROOT, name),
        await service.remove(ROOT_USER, ROOT, name),
        await service.remove(ROOT_USER, ROOT, name, file),
        await service.rename(ROOT_USER, ROOT, name, ROOT, b"g"),
        await service.rename(ROOT_USER, ROOT, b"f", ROOT, name),
        await service.rename(ROOT_USER, ROOT, b"f", ROOT, name, hint=file, to_hint=0),
    ):
        assert got.status is NAMETOOLONG
    for got in (
        await service.setxattr(ROOT_USER, file, b"user.a", name),
        await service.setxattr(ROOT_USER, file, name, b""),
        await service.getxattr(ROOT_USER, file, name),
        await service.removexattr(ROOT_USER, file, name),
    ):
        assert got.status is nfsstat3.NFS4ERR_XATTR2BIG
    got = await service.setattr(ROOT_USER, file, sattr3(store=name))
    assert not got.obj_wcc.after
    verified = await service.create(ROOT_USER, ROOT, b"g", createmode3.EXCLUSIVE, verf=name)
    assert verified.status is not nfsstat3.NFS3_OK


@pytest.mark.parametrize(
    "bad",
    [
        *[Credentials(value, 0) for value in (*HUGE, -1, 1 << 32)],
        *[Credentials(0, value) for value in (*HUGE, -1, 1 << 32)],
        *[Credentials(1, 1, (5, value)) for value in (*HUGE, -1, 1 << 32)],
        Credentials(1, 1, tuple(range(1025))),
    ],
)
async def test_credentials(there, bad):
    service, file = there
    with pytest.raises(ValueError, match="no operation can carry"):
        await service.getattr(bad, file)
    with pytest.raises(ValueError, match="no operation can carry"):
        await service.setattr(bad, file, sattr3(mode=0o644))
    with pytest.raises(ValueError, match="no operation can carry"):
        await service.lookup(bad, ROOT, b"f")
