import pytest

from qunfs.nfs.types import (
    ACCESS3_DELETE,
    ACCESS3_EXECUTE,
    ACCESS3_EXTEND,
    ACCESS3_LOOKUP,
    ACCESS3_MODIFY,
    ACCESS3_READ,
    SET_TO_CLIENT_TIME,
    createmode3,
    ftype3,
    nfsstat3,
    sattr3,
)
from qunfs.protocol.operation import Credentials
from tests.nfs.conftest import ALICE, BOB, CAROL, ROOT_USER
from tests.support.local_qu import START_NS

OK, PERM, ACCES = nfsstat3.NFS3_OK, nfsstat3.NFS3ERR_PERM, nfsstat3.NFS3ERR_ACCES
ALL = 0x3F
STORE, OTHER_STORE = b"A" * 16, b"B" * 16


async def set_(house, cred, obj, **attributes):
    return (await house.service.setattr(cred, obj, sattr3(**attributes))).status


async def test_genesis(house, root):
    got = await house.stat(root)
    assert (got.type, got.mode, got.nlink, got.uid, got.gid, got.fileid) == (ftype3.NF3DIR, 0o777, 2, 0, 0, root)
    assert got.atime == got.mtime == got.ctime == START_NS


async def test_what_is_not_there_is_stale(house):
    assert (await house.service.getattr(ROOT_USER, 1 << 61)).status is nfsstat3.NFS3ERR_STALE
    assert (await house.service.setattr(ROOT_USER, 1 << 61, sattr3(mode=0))).status is nfsstat3.NFS3ERR_STALE
    for bad in (0, 2, 1 << 63, 1 << 70):
        assert (await house.service.getattr(ROOT_USER, bad)).status is nfsstat3.NFS3ERR_BADHANDLE


async def test_setattr_answers_wcc_data(house, root):
    file = await house.make(root, b"f")
    before = await house.stat(file)
    got = await house.service.setattr(ROOT_USER, file, sattr3(mode=0o600, size=7))
    assert got.obj_wcc.before.ctime == before.ctime
    assert got.obj_wcc.before.size == 0
    assert got.obj_wcc.after == await house.stat(file)
    assert (got.obj_wcc.after.mode, got.obj_wcc.after.size) == (0o600, 7)
    refused = await house.service.setattr(BOB, file, sattr3(mode=0o777))
    assert refused.status is PERM
    assert refused.obj_wcc.after == got.obj_wcc.after


async def test_guard(house, root):
    file = await house.make(root, b"f")
    ctime = (await house.stat(file)).ctime
    assert (await house.service.setattr(ROOT_USER, file, sattr3(mode=1), ctime)).status is OK
    got = await house.service.setattr(ROOT_USER, file, sattr3(mode=2), ctime)
    assert got.status is nfsstat3.NFS3ERR_NOT_SYNC
    assert (await house.stat(file)).mode == 1


async def test_ctime_grows_strictly_even_when_the_clock_does_not(house, root):
    file = await house.make(root, b"f")
    seen = [(await house.stat(file)).ctime]
    for mode in range(5):
        house.core.state.now -= 1_000_000_000
        await set_(house, ROOT_USER, file, mode=mode)
        seen.append((await house.stat(file)).ctime)
    assert seen == sorted(set(seen))


async def test_chmod_is_the_owners(house, root):
    file = await house.make(root, b"f", ALICE)
    assert await set_(house, BOB, file, mode=0o777) is PERM
    assert await set_(house, ALICE, file, mode=0o4750) is OK
    assert await set_(house, ROOT_USER, file, mode=0o7777) is OK
    assert (await house.stat(file)).mode == 0o7777


async def test_chmod_outside_the_group_clears_set_gid(house, root):
    file = await house.make(root, b"f", ALICE)
    await set_(house, ROOT_USER, file, gid=77)
    assert await set_(house, ALICE, file, mode=0o2755) is OK
    assert (await house.stat(file)).mode == 0o755
    await set_(house, ROOT_USER, file, gid=50)
    assert await set_(house, ALICE, file, mode=0o2755) is OK
    assert (await house.stat(file)).mode == 0o2755


async def test_chown(house, root):
    file = await house.make(root, b"f", ALICE)
    assert await set_(house, ALICE, file, uid=BOB.uid) is PERM
    assert await set_(house, ALICE, file, gid=77) is PERM
    assert await set_(house, ALICE, file, uid=ALICE.uid, gid=50) is OK
    assert await set_(house, BOB, file, uid=ALICE.uid) is PERM
    assert await set_(house, BOB, file, gid=50) is PERM
    assert await set_(house, ROOT_USER, file, uid=BOB.uid, gid=77) is OK
    got = await house.stat(file)
    assert (got.uid, got.gid) == (BOB.uid, 77)
    assert await set_(house, ROOT_USER, file, uid=(1 << 32) - 1) is nfsstat3.NFS3ERR_INVAL


@pytest.mark.parametrize("cred", [ALICE, ROOT_USER])
async def test_chown_clears_set_id_of_files_only(house, root, cred):
    file = await house.make(root, b"f", ALICE)
    directory = await house.make_dir(root, b"d", ALICE)
    for obj in (file, directory):
        await set_(house, ROOT_USER, obj, mode=0o6755)
        assert await set_(house, cred, obj, gid=50) is OK
    assert (await house.stat(file)).mode == 0o755
    assert (await house.stat(directory)).mode == 0o6755
    await set_(house, ROOT_USER, file, mode=0o2745)  # mandatory locking, not set-id
    await set_(house, cred, file, gid=50)
    assert (await house.stat(file)).mode == 0o2745


async def test_a_mode_that_comes_with_a_group_is_set(house, root):
    file = await house.make(root, b"f", ALICE, mode=0o600)
    assert await set_(house, ALICE, file, mode=0o6754, gid=50) is OK
    got = await house.stat(file)
    assert (got.mode, got.gid) == (0o754, 50)


async def test_writing_clears_set_id_unless_root_writes(house, root):
    file = await house.make(root, b"f", ALICE)
    for attributes in ({"wrote": True, "size": 1, "mtime": START_NS}, {"size": 3}):
        await set_(house, ROOT_USER, file, mode=0o6777)
        await set_(house, ROOT_USER, file, **attributes)
        assert (await house.stat(file)).mode == 0o6777
        assert await set_(house, CAROL, file, **attributes) is OK
        assert (await house.stat(file)).mode == 0o777


async def test_writing_clears_set_gid_without_execution_outside_the_group(house, root):
    file = await house.make(root, b"f", ALICE)
    await set_(house, ROOT_USER, file, mode=0o2767)
    for cred, mode in ((ROOT_USER, 0o2767), (Credentials(8000, ALICE.gid), 0o2767), (Credentials(8000, 8000), 0o767)):
        assert await set_(house, cred, file, wrote=True, size=1) is OK
        assert (await house.stat(file)).mode == mode


async def test_times(house, root):
    file = await house.make(root, b"f", ALICE, mode=0o644)
    assert await set_(house, ALICE, file, atime=-5, mtime=123_456_789) is OK
    got = await house.stat(file)
    assert (got.atime, got.mtime) == (-5, 123_456_789)
    assert await set_(house, BOB, file, atime=1) is PERM
    assert await set_(house, BOB, file, atime=SET_TO_CLIENT_TIME, mtime=SET_TO_CLIENT_TIME) is ACCES
    await set_(house, ALICE, file, mode=0o646)
    assert await set_(house, BOB, file, mtime=5) is PERM
    assert await set_(house, BOB, file, mtime=5, size=0) is PERM
    assert await set_(house, BOB, file, atime=SET_TO_CLIENT_TIME, mtime=SET_TO_CLIENT_TIME) is OK
    got = await house.stat(file)
    assert got.atime == got.mtime == house.core.state.now
    assert await set_(house, ALICE, file, mtime=1 << 63) is nfsstat3.NFS3ERR_INVAL


async def test_who_writes_to_anothers_file_cannot_choose_the_time(house, root):
    file = await house.make(root, b"f", ALICE, mode=0o666)
    old = (await house.stat(file)).mtime
    house.core.state.now += 1_000_000
    written = old + 500_000
    assert await set_(house, BOB, file, wrote=True, size=1, mtime=written) is OK
    assert (await house.stat(file)).mtime == written
    assert await set_(house, BOB, file, wrote=True, size=1, mtime=1) is OK
    assert (await house.stat(file)).mtime == house.core.state.now
    assert await set_(house, ALICE, file, wrote=True, size=1, mtime=1) is OK
    assert (await house.stat(file)).mtime == 1


async def test_size(house, root):
    file = await house.make(root, b"f", ALICE, mode=0o444)
    assert await set_(house, BOB, file, size=10) is ACCES
    mtime = (await house.stat(file)).mtime
    assert await set_(house, ALICE, file, size=10) is OK  # the owner may have it open for writing
    got = await house.stat(file)
    assert (got.size, got.used) == (10, 512)
    assert got.mtime > mtime
    assert got.mtime == got.ctime
    assert await set_(house, ALICE, file, size=1 << 63) is nfsstat3.NFS3ERR_FBIG
    assert await set_(house, ALICE, file, size=-1) is nfsstat3.NFS3ERR_INVAL
    assert await set_(house, ROOT_USER, root, size=0) is nfsstat3.NFS3ERR_ISDIR
    fifo = (await house.service.mknod(ALICE, root, b"p", ftype3.NF3FIFO, sattr3(mode=0o600))).obj
    assert await set_(house, ALICE, fifo, size=0) is nfsstat3.NFS3ERR_INVAL


async def test_contents_belong_to_the_first_store_that_writes(house, root):
    file = await house.make(root, b"f")
    assert await set_(house, ROOT_USER, file, size=5, wrote=True, store=STORE) is OK
    assert (await house.stat(file)).store == STORE
    remote = nfsstat3.NFS3ERR_REMOTE
    for attributes in (
        {"size": 4, "store": OTHER_STORE},
        {"size": 5, "store": OTHER_STORE},
        {"size": 4},
        {"size": 0, "wrote": True, "store": OTHER_STORE},
        {"wrote": True},
    ):
        assert await set_(house, ROOT_USER, file, **attributes) is remote
    assert await set_(house, ROOT_USER, file, size=5) is OK  # nothing changes
    assert await set_(house, ROOT_USER, file, size=6, store=STORE) is OK
    assert await set_(house, ROOT_USER, file, size=0, store=STORE) is OK
    assert (await house.stat(file)).generation == 0


async def test_truncation_to_nothing_takes_the_contents_over(house, root):
    file = await house.make(root, b"f")
    await set_(house, ROOT_USER, file, size=5, wrote=True, store=STORE)
    assert await set_(house, ROOT_USER, file, size=0, store=OTHER_STORE) is OK
    got = await house.stat(file)
    assert (got.store, got.generation, got.size) == (OTHER_STORE, 1, 0)
    late = {"size": 9, "wrote": True, "store": STORE, "generation": 0}
    assert await set_(house, ROOT_USER, file, **late) is nfsstat3.NFS3ERR_REMOTE
    assert await set_(house, ROOT_USER, file, size=0, store=STORE) is OK
    assert await set_(house, ROOT_USER, file, **late) is nfsstat3.NFS3ERR_REMOTE  # its old contents are void
    assert await set_(house, ROOT_USER, file, **{**late, "generation": 2}) is OK


async def test_a_change_of_nothing_is_the_owners(house, root):
    """chown(-1, -1) is refused to nobody, but a stranger must not move ctime, which guards and fsck go by."""
    file = (await house.service.create(ALICE, root, b"f", createmode3.EXCLUSIVE, verf=b"verifier")).obj
    before, rows = await house.stat(file), house.core.state.dump()
    for attributes in ({}, {"generation": 7}):
        got = await house.service.setattr(BOB, file, sattr3(**attributes))
        assert (got.status, got.obj_wcc.after) == (OK, before)
        assert house.core.state.dump() == rows
    assert await set_(house, ALICE, file) is OK
    assert (await house.stat(file)).ctime > before.ctime


async def test_access(house, root):
    file = await house.make(root, b"f", ALICE, mode=0o640)
    await set_(house, ROOT_USER, file, gid=50)
    directory = await house.make_dir(root, b"d", ALICE, mode=0o750)

    async def granted(cred, obj, wanted=ALL):
        return (await house.service.access(cred, obj, wanted)).access

    write = ACCESS3_MODIFY | ACCESS3_EXTEND
    assert await granted(ALICE, file) == ACCESS3_READ | write
    assert await granted(BOB, file) == ACCESS3_READ
    assert await granted(CAROL, file) == 0
    assert await granted(ROOT_USER, file) == ACCESS3_READ | write
    await set_(house, ALICE, file, mode=0o100)
    assert await granted(ROOT_USER, file) == ACCESS3_READ | write | ACCESS3_EXECUTE
    assert await granted(ALICE, directory) == ACCESS3_READ | write | ACCESS3_LOOKUP | ACCESS3_DELETE
    assert await granted(ALICE, directory, ACCESS3_READ) == ACCESS3_READ
    assert await granted(CAROL, directory) == 0


async def test_owner_bits_come_first(house, root):
    file = await house.make(root, b"f", ALICE, mode=0o077)
    assert (await house.service.access(ALICE, file, ALL)).access == 0
    assert (await house.service.access(CAROL, file, ALL)).access != 0


async def test_readlink(house, root):
    got = await house.service.symlink(ALICE, root, b"l", sattr3(mode=0o600), b"../some/where")
    assert (got.obj_attributes.type, got.obj_attributes.mode, got.obj_attributes.size) == (ftype3.NF3LNK, 0o777, 13)
    assert (await house.service.readlink(CAROL, got.obj)).data == b"../some/where"
    assert (await house.service.readlink(CAROL, root)).status is nfsstat3.NFS3ERR_INVAL


async def test_file_system_procedures(house, root):
    assert (await house.service.fsinfo(ALICE, root)).time_delta == 1
    assert (await house.service.fsstat(ALICE, root)).ffiles > 1 << 40
    got = await house.service.pathconf(ALICE, root)
    assert (got.name_max, got.linkmax, got.no_trunc, got.case_insensitive) == (255, 65_000, True, False)
    assert (await house.service.pathconf(ALICE, 1 << 61)).status is nfsstat3.NFS3ERR_STALE


@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_extended_attributes(house, root, kind):
    obj = await (house.make if kind == "file" else house.make_dir)(root, b"o", ALICE, 0o640)
    service = house.service
    assert (await service.getxattr(ALICE, obj, b"user.a")).status is nfsstat3.NFS4ERR_NOXATTR
    ctime = (await house.stat(obj)).ctime
    assert (await service.setxattr(ALICE, obj, b"user.b", b"2")).status is OK
    assert (await service.setxattr(ALICE, obj, b"user.a", b"")).status is OK
    assert (await house.stat(obj)).ctime > ctime
    assert (await service.getxattr(ALICE, obj, b"user.b")).value == b"2"
    assert (await service.listxattr(ALICE, obj)).names == (b"user.a", b"user.b")
    assert (await service.setxattr(ALICE, obj, b"user.a", b"x", 1)).status is nfsstat3.NFS3ERR_EXIST
    assert (await service.setxattr(ALICE, obj, b"user.c", b"x", 2)).status is nfsstat3.NFS4ERR_NOXATTR
    assert (await service.setxattr(ALICE, obj, b"user.a", b"x", 2)).status is OK
    assert (await service.getxattr(CAROL, obj, b"user.a")).status is ACCES
    assert (await service.setxattr(BOB, obj, b"user.a", b"y")).status is ACCES
    assert (await service.setxattr(ALICE, obj, b"trusted.t", b"y")).status is PERM
    assert (await service.setxattr(ROOT_USER, obj, b"trusted.t", b"y")).status is OK
    assert b"trusted.t" not in (await service.listxattr(ALICE, obj)).names
    assert (await service.setxattr(ROOT_USER, obj, b"system.posix_acl_access", b"")).status is nfsstat3.NFS3ERR_NOTSUPP
    for name in (b"", b"user.", b"trusted.", b"security.", b"user.a\0"):
        assert (await service.setxattr(ROOT_USER, obj, name, b"")).status is nfsstat3.NFS3ERR_INVAL
    assert (await service.removexattr(ALICE, obj, b"user.a")).status is OK
    assert (await service.removexattr(ALICE, obj, b"user.a")).status is nfsstat3.NFS4ERR_NOXATTR
    assert (await service.setxattr(ALICE, obj, b"user.big", bytes(60_000))).status is OK
    assert (await service.setxattr(ALICE, obj, b"user.big2", bytes(60_000))).status is nfsstat3.NFS3ERR_NOSPC
    assert (await service.setxattr(ALICE, obj, b"user." + b"n" * 251, b"")).status is nfsstat3.NFS4ERR_XATTR2BIG
