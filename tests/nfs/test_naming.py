import pytest

from qunfs.nfs.types import createmode3, ftype3, nfsstat3, sattr3
from qunfs.objects.codes import LINK_MAX
from qunfs.objects.state import ATTRIBUTES_ROW, pack_entry, unpack_attributes
from tests.nfs.conftest import ALICE, BOB, CAROL, ROOT_USER, N
from tests.nfs.tree import check_tree

OK, PERM, ACCES = nfsstat3.NFS3_OK, nfsstat3.NFS3ERR_PERM, nfsstat3.NFS3ERR_ACCES
IO, NOENT, EXIST, STALE, INVAL = (
    nfsstat3.NFS3ERR_IO,
    nfsstat3.NFS3ERR_NOENT,
    nfsstat3.NFS3ERR_EXIST,
    nfsstat3.NFS3ERR_STALE,
    nfsstat3.NFS3ERR_INVAL,
)
GUARDED, UNCHECKED, EXCLUSIVE = createmode3.GUARDED, createmode3.UNCHECKED, createmode3.EXCLUSIVE


async def test_create_and_lookup_are_one_trip_each(house, root):
    made = await house.service.create(ALICE, root, b"f", GUARDED, sattr3(mode=0o640))
    assert house.core.trips == 1
    found = await house.service.lookup(ALICE, root, b"f")
    assert house.core.trips == 2
    assert (found.status, found.object, found.obj_attributes) == (OK, made.obj, made.obj_attributes)
    assert found.dir_attributes == made.dir_wcc.after
    got = made.obj_attributes
    assert (got.type, got.mode, got.nlink, got.uid, got.gid, got.size) == (ftype3.NF3REG, 0o640, 1, 1000, 1000, 0)
    assert got.fileid == made.obj
    assert made.obj % N == root % N


async def test_create_changes_the_directory(house, root):
    before = await house.stat(root)
    made = await house.service.create(ALICE, root, b"f", GUARDED)
    after = await house.stat(root)
    assert (made.dir_wcc.before.mtime, made.dir_wcc.before.ctime) == (before.mtime, before.ctime)
    assert made.dir_wcc.after == after
    assert after.mtime == after.ctime > before.ctime
    assert after.nlink == before.nlink


async def test_create_of_an_existing_name(house, root):
    file = await house.make(root, b"f", ALICE, size=10)
    create = house.service.create
    assert (await create(BOB, root, b"f", GUARDED)).status is EXIST
    got = await create(BOB, root, b"f", UNCHECKED, sattr3(mode=0o777))
    assert (got.status, got.obj, got.obj_attributes.size) == (OK, file, 10)
    assert got.obj_attributes.mode == 0o644
    assert (await create(BOB, root, b"f", UNCHECKED, sattr3(size=0))).status is ACCES
    got = await create(ALICE, root, b"f", UNCHECKED, sattr3(size=0))
    assert (got.status, got.obj, got.obj_attributes.size) == (OK, file, 0)
    await house.make_dir(root, b"d")
    assert (await create(ALICE, root, b"d", UNCHECKED)).status is nfsstat3.NFS3ERR_ISDIR
    assert (await create(ALICE, root, b"d", GUARDED)).status is EXIST
    await house.service.symlink(ALICE, root, b"l", sattr3(), b"f")
    assert (await create(ALICE, root, b"l", UNCHECKED)).status is EXIST


async def test_exclusive_create(house, root):
    create = house.service.create
    made = await create(ALICE, root, b"f", EXCLUSIVE, sattr3(mode=0o600), b"verifier")
    assert made.status is OK
    again = await create(ALICE, root, b"f", EXCLUSIVE, sattr3(mode=0o600), b"verifier")
    assert (again.status, again.obj, again.obj_attributes) == (OK, made.obj, made.obj_attributes)
    assert (await create(ALICE, root, b"f", EXCLUSIVE, sattr3(), b"other..!")).status is EXIST
    await house.service.setattr(ALICE, made.obj, sattr3(mode=0o640))
    assert (await create(ALICE, root, b"f", EXCLUSIVE, sattr3(), b"verifier")).status is EXIST
    assert (await create(ALICE, root, b"g", EXCLUSIVE, sattr3(), b"short")).status is INVAL
    assert await house.find(root, b"g") == 0


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (b"", INVAL),
        (b"a/b", INVAL),
        (b"a\0b", INVAL),
        (b"x" * 256, nfsstat3.NFS3ERR_NAMETOOLONG),
        (b".", EXIST),
        (b"..", EXIST),
        (b"x" * 255, OK),
        (b"\xff\xfe \n\x01", OK),
        ("größe".encode(), OK),
    ],
)
async def test_names(house, root, name, status):
    service = house.service
    assert (await service.create(ALICE, root, name, GUARDED)).status is status
    if status is OK:
        assert (await service.lookup(ALICE, root, name)).status is OK
        assert await house.names(root) == [name]
        assert (await service.remove(ALICE, root, name)).status is OK
    assert (await service.mkdir(ALICE, root, name)).status is status


async def test_methods_of_directories_on_files(house, root):
    file = await house.make(root, b"f", ALICE)
    service, notdir = house.service, nfsstat3.NFS3ERR_NOTDIR
    assert (await service.lookup(ALICE, file, b"x")).status is notdir
    assert (await service.create(ALICE, file, b"x", GUARDED)).status is notdir
    assert (await service.mkdir(ALICE, file, b"x")).status is notdir
    assert (await service.remove(ALICE, file, b"x")).status is notdir
    assert (await service.link(ALICE, file, file, b"x")).status is notdir
    assert (await service.readdir(ALICE, file, 0, b"", 4096)).status is notdir
    assert (await service.rename(ALICE, file, b"x", root, b"y")).status is notdir
    assert (await service.rmdir(ALICE, root, b"f")).status is notdir


async def test_search_and_write_permission(house, root):
    directory = await house.make_dir(root, b"d", ALICE, 0o710)
    await house.service.setattr(ROOT_USER, directory, sattr3(gid=50))
    await house.make(directory, b"f", ALICE)
    service = house.service
    assert (await service.lookup(BOB, directory, b"f")).status is OK
    assert (await service.readdir(BOB, directory, 0, b"", 4096)).status is ACCES
    assert (await service.create(BOB, directory, b"g", GUARDED)).status is ACCES
    assert (await service.create(BOB, directory, b"f", GUARDED)).status is EXIST
    assert (await service.remove(BOB, directory, b"f")).status is ACCES
    assert (await service.lookup(CAROL, directory, b"f")).status is ACCES
    assert (await service.remove(CAROL, directory, b"f")).status is ACCES
    assert (await service.lookup(CAROL, directory, b"nothing")).status is ACCES
    assert (await service.mkdir(CAROL, directory, b"s")).status is ACCES
    assert (await service.remove(ROOT_USER, directory, b"f")).status is OK


async def test_sticky_directories(house, root):
    directory = await house.make_dir(root, b"tmp", ALICE, 0o1777)
    mine, theirs = await house.make(directory, b"b", BOB), await house.make(directory, b"c", CAROL)
    sub = await house.make_dir(directory, b"sub", CAROL)
    service = house.service
    assert (await service.remove(BOB, directory, b"c")).status is PERM
    assert (await service.rmdir(BOB, directory, b"sub")).status is PERM
    assert (await service.rename(BOB, directory, b"c", root, b"c")).status is PERM
    assert (await service.rename(BOB, directory, b"b", directory, b"c")).status is PERM
    assert (await service.rename(BOB, directory, b"b", directory, b"b2")).status is OK
    assert (await service.remove(BOB, directory, b"b2")).object == mine
    assert (await service.remove(ALICE, directory, b"c")).object == theirs
    assert (await service.rmdir(CAROL, directory, b"sub")).object == sub


async def test_set_gid_directories(house, root):
    directory = await house.make_dir(root, b"d", ALICE, 0o777)
    await house.service.setattr(ROOT_USER, directory, sattr3(gid=77, mode=0o2777))
    file, sub = await house.make(directory, b"f", ALICE, mode=0o2755), await house.make_dir(directory, b"s", ALICE)
    assert ((await house.stat(file)).gid, (await house.stat(file)).mode) == (77, 0o755)
    assert ((await house.stat(sub)).gid, (await house.stat(sub)).mode) == (77, 0o2755)


async def test_create_with_an_owner(house, root):
    create = house.service.create
    assert (await create(ALICE, root, b"a", GUARDED, sattr3(uid=BOB.uid))).status is PERM
    assert (await create(ALICE, root, b"a", GUARDED, sattr3(gid=77))).status is PERM
    assert (await create(ALICE, root, b"a", GUARDED, sattr3(uid=ALICE.uid, gid=50))).obj_attributes.gid == 50
    got = (await create(ROOT_USER, root, b"b", GUARDED, sattr3(uid=5, gid=6, atime=7, mtime=8))).obj_attributes
    assert (got.uid, got.gid, got.atime, got.mtime) == (5, 6, 7, 8)


async def test_mkdir_and_rmdir(house, root):
    made = await house.service.mkdir(ALICE, root, b"d", sattr3(mode=0o750))
    got = made.obj_attributes
    assert (got.type, got.mode, got.nlink, got.uid) == (ftype3.NF3DIR, 0o750, 2, 1000)
    assert made.dir_wcc.after.nlink == 3
    dot, up = [await house.service.lookup(ALICE, made.obj, name) for name in (b".", b"..")]
    assert (dot.object, dot.obj_attributes) == (made.obj, got)
    assert (up.object, up.obj_attributes) == (root, made.dir_wcc.after)
    assert (await house.service.lookup(ALICE, root, b"..")).object == root
    await house.make(made.obj, b"f", ALICE)
    assert (await house.service.rmdir(ALICE, root, b"d")).status is nfsstat3.NFS3ERR_NOTEMPTY
    assert (await house.service.remove(ALICE, root, b"d")).status is nfsstat3.NFS3ERR_ISDIR
    await house.service.remove(ALICE, made.obj, b"f")
    gone = await house.service.rmdir(ALICE, root, b"d")
    assert (gone.status, gone.object, gone.dir_wcc.after.nlink) == (OK, made.obj, 2)
    assert (await house.service.rmdir(ALICE, root, b"d")).status is NOENT
    assert set(house.core.state.dump()) == {1, 2}


async def test_a_removed_directory_takes_nothing_more(house, root):
    gone = await house.make_dir(root, b"d")
    file = await house.make(root, b"f")
    await house.service.rmdir(ROOT_USER, root, b"d")
    service = house.service
    for got in (
        await service.create(ROOT_USER, gone, b"x", UNCHECKED),
        await service.mkdir(ROOT_USER, gone, b"x"),
        await service.link(ROOT_USER, file, gone, b"x"),
        await service.lookup(ROOT_USER, gone, b"x"),
        await service.lookup(ROOT_USER, gone, b".."),
        await service.readdir(ROOT_USER, gone, 0, b"", 4096),
        await service.rename(ROOT_USER, root, b"f", gone, b"x"),
        await service.remove(ROOT_USER, gone, b"x"),
    ):
        assert got.status is STALE
    check_tree(house.core.state)


async def test_rmdir_of_dots(house, root):
    assert (await house.service.rmdir(ROOT_USER, root, b".")).status is INVAL
    assert (await house.service.rmdir(ROOT_USER, root, b"..")).status is nfsstat3.NFS3ERR_NOTEMPTY


async def test_link_and_remove(house, root):
    file = await house.make(root, b"f", ALICE)
    directory = await house.make_dir(root, b"d", ALICE)
    before = await house.stat(file)
    linked = await house.service.link(ALICE, file, directory, b"g")
    assert (linked.status, linked.file_attributes.nlink) == (OK, 2)
    assert linked.file_attributes.ctime > before.ctime
    assert linked.file_attributes.mtime == before.mtime
    assert (await house.service.link(ALICE, file, directory, b"g")).status is EXIST
    assert (await house.service.link(ALICE, directory, root, b"h")).status is PERM
    check_tree(house.core.state)
    first = await house.service.remove(ALICE, root, b"f")
    assert (first.object, first.obj_attributes.nlink) == (file, 1)
    assert first.obj_attributes.ctime > linked.file_attributes.ctime
    last = await house.service.remove(ALICE, directory, b"g")
    assert (last.object, last.obj_attributes.nlink) == (file, 0)
    assert (await house.service.getattr(ALICE, file)).status is STALE
    assert (await house.service.link(ALICE, file, root, b"again")).status is STALE
    check_tree(house.core.state)


async def test_removal_takes_every_row(house, root):
    file = await house.make(root, b"f", ALICE)
    await house.service.setxattr(ALICE, file, b"user.x", b"1")
    link = (await house.service.symlink(ALICE, root, b"l", sattr3(), b"t")).obj
    await house.service.remove(ALICE, root, b"f")
    await house.service.remove(ALICE, root, b"l")
    assert not {file, link} & set(house.core.state.dump())


async def test_link_count_limit(house, root):
    file = await house.make(root, b"f")
    attributes = unpack_attributes(house.core.state.get(file, ATTRIBUTES_ROW))
    attributes.nlink = LINK_MAX
    house.core.state.put(file, ATTRIBUTES_ROW, attributes.pack())
    assert (await house.service.link(ROOT_USER, file, root, b"g")).status is nfsstat3.NFS3ERR_MLINK


async def test_remove_takes_two_trips_or_one_with_the_id(house, root):
    file = await house.make(root, b"f")
    other = await house.make(root, b"g")
    trips = house.core.trips
    assert (await house.service.remove(ROOT_USER, root, b"f", hint=file)).object == file
    assert house.core.trips == trips + 1
    assert (await house.service.remove(ROOT_USER, root, b"g")).object == other
    assert house.core.trips == trips + 3


async def test_a_wrong_hint_costs_a_trip_and_no_more(house, root):
    file, other = await house.make(root, b"f"), await house.make(root, b"g")
    trips = house.core.trips
    assert (await house.service.remove(ROOT_USER, root, b"f", hint=other)).object == file
    assert house.core.trips == trips + 2
    assert await house.names(root) == [b"g"]


async def test_symlinks(house, root):
    symlink = house.service.symlink
    assert (await symlink(ALICE, root, b"a", sattr3(), b"x" * 4095)).status is OK
    assert (await symlink(ALICE, root, b"b", sattr3(), b"x" * 4096)).status is nfsstat3.NFS3ERR_NAMETOOLONG
    assert (await symlink(ALICE, root, b"c", sattr3(), b"")).status is NOENT
    assert (await symlink(ALICE, root, b"a", sattr3(), b"y")).status is EXIST


async def test_nodes(house, root):
    mknod = house.service.mknod
    for kind in (ftype3.NF3FIFO, ftype3.NF3SOCK):
        got = await mknod(ALICE, root, kind.name.encode(), kind, sattr3(mode=0o600), (1, 2))
        assert (got.status, got.obj_attributes.type, got.obj_attributes.rdev) == (OK, kind, (0, 0))
    assert (await mknod(ALICE, root, b"c", ftype3.NF3CHR, sattr3(), (1, 3))).status is PERM
    got = await mknod(ROOT_USER, root, b"c", ftype3.NF3CHR, sattr3(mode=0o666), (1, 3))
    assert (got.obj_attributes.type, got.obj_attributes.rdev) == (ftype3.NF3CHR, (1, 3))
    assert (await mknod(ROOT_USER, root, b"r", ftype3.NF3REG, sattr3())).status is nfsstat3.NFS3ERR_BADTYPE


async def test_the_id_of_what_is_gone_is_never_taken(house, root):
    """Somebody may have it open, and its bytes lie in a contents folder: they are not the new owner's to read."""
    file = await house.make(root, b"f", ALICE, mode=0o600)
    directory = await house.make_dir(root, b"d", ALICE)
    assert (await house.service.remove(ALICE, root, b"f")).status is OK
    assert (await house.service.rmdir(ALICE, root, b"d")).status is OK
    other = house.other()
    other.service._new_file, other.service._new_directory = lambda _parent: file, lambda _parent: directory
    assert (await other.service.create(BOB, root, b"g", GUARDED)).status is not OK
    assert (await other.service.symlink(BOB, root, b"g", sattr3(), b"t")).status is not OK
    assert (await other.service.mkdir(BOB, root, b"g")).status is not OK
    assert await house.names(root) == []


async def test_an_id_in_use_is_never_taken(house, root):
    """A broken or malevolent source of ids cannot take another's file over."""
    file = await house.make(root, b"f", ALICE)
    other = house.other()
    other.service._new_file = lambda _directory: file
    assert (await other.service.create(BOB, root, b"g", GUARDED)).status is not OK
    assert (await house.stat(file)).uid == ALICE.uid
    assert await house.names(root) == [b"f"]


def vanish(house, obj):
    """Take an object away and leave its names, as no method does."""
    for key in list(house.core.state.dump()[obj]):
        house.core.state.put(obj, key, None)


async def test_a_name_of_nothing_is_a_fault_and_soon_said_to_be_one(house, root):
    for name, make in ((b"f", house.make), (b"d", house.make_dir)):
        vanish(house, await make(root, name))
        before = house.core.trips
        got = await house.service.lookup(ROOT_USER, root, name)
        assert (got.status, got.object, got.dir_attributes) == (IO, 0, await house.stat(root))
        assert house.core.trips - before <= 7
    for how, attributes in ((UNCHECKED, sattr3()), (UNCHECKED, sattr3(size=0)), (EXCLUSIVE, sattr3())):
        before = house.core.trips
        got = await house.service.create(ROOT_USER, root, b"f", how, attributes, b"verifier")
        assert (got.status, got.obj) == (IO, 0)
        assert house.core.trips - before <= 6
    assert (await house.service.create(ROOT_USER, root, b"f", GUARDED)).status is EXIST


async def test_a_name_of_what_cannot_be_is_a_fault(house, root):
    await house.make(root, b"f")
    house.core.state.put(root, b"ef", pack_entry(7, int(ftype3.NF3REG), 3))
    assert (await house.service.lookup(ROOT_USER, root, b"f")).status is IO
    assert (await house.service.create(ROOT_USER, root, b"f", UNCHECKED)).status is IO
