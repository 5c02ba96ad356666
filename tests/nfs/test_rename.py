import pytest

from qunfs.nfs.types import RENAME_EXCHANGE, RENAME_NOREPLACE, nfsstat3, sattr3
from tests.nfs.conftest import ALICE, BOB, ROOT_USER
from tests.nfs.tree import check_tree

OK, PERM, ACCES = nfsstat3.NFS3_OK, nfsstat3.NFS3ERR_PERM, nfsstat3.NFS3ERR_ACCES
NOENT, EXIST, INVAL = nfsstat3.NFS3ERR_NOENT, nfsstat3.NFS3ERR_EXIST, nfsstat3.NFS3ERR_INVAL
ISDIR, NOTDIR, NOTEMPTY = nfsstat3.NFS3ERR_ISDIR, nfsstat3.NFS3ERR_NOTDIR, nfsstat3.NFS3ERR_NOTEMPTY


async def rename(house, *where, cred=ROOT_USER, **options):
    got = await house.service.rename(cred, *where, **options)
    check_tree(house.core.state)
    return got


async def test_within_a_directory(house, root):
    file = await house.make(root, b"f")
    before = await house.stat(file)
    got = await rename(house, root, b"f", root, b"g")
    assert (got.status, got.moved, got.replaced) == (OK, file, 0)
    assert got.moved_attributes.ctime > before.ctime
    assert got.moved_attributes.mtime == before.mtime
    assert got.fromdir_wcc == got.todir_wcc
    assert got.fromdir_wcc.after.mtime == got.fromdir_wcc.after.ctime > got.fromdir_wcc.before.ctime
    assert await house.names(root) == [b"g"]


async def test_between_directories(house, root):
    a, b = await house.make_dir(root, b"a"), await house.make_dir(root, b"b")
    file = await house.make(a, b"f")
    got = await rename(house, a, b"f", b, b"g")
    assert got.status is OK
    assert (await house.names(a), await house.names(b)) == ([], [b"g"])
    assert await house.find(b, b"g") == file
    assert got.fromdir_wcc.after == await house.stat(a)
    assert got.todir_wcc.after == await house.stat(b)


async def test_over_a_file(house, root):
    file, other = await house.make(root, b"f"), await house.make(root, b"g")
    got = await rename(house, root, b"f", root, b"g")
    assert (got.status, got.moved, got.replaced, got.replaced_attributes.nlink) == (OK, file, other, 0)
    assert await house.find(root, b"g") == file
    assert (await house.service.getattr(ROOT_USER, other)).status is nfsstat3.NFS3ERR_STALE


async def test_over_one_of_several_links(house, root):
    await house.make(root, b"f")
    other = await house.make(root, b"g")
    await house.service.link(ROOT_USER, other, root, b"h")
    before = await house.stat(other)
    got = await rename(house, root, b"f", root, b"g")
    assert got.replaced_attributes.nlink == 1
    assert (await house.stat(other)).ctime > before.ctime


async def test_onto_itself_and_onto_another_link_of_the_same_file(house, root):
    file = await house.make(root, b"f")
    await house.service.link(ROOT_USER, file, root, b"g")
    before = house.core.state.dump()
    for names in ((b"f", b"f"), (b"f", b"g")):
        got = await house.service.rename(ROOT_USER, root, names[0], root, names[1])
        assert (got.status, got.replaced) == (OK, 0)
        assert house.core.state.dump() == before


async def test_directories_keep_link_counts_and_parents(house, root):
    a, b = await house.make_dir(root, b"a"), await house.make_dir(root, b"b")
    sub = await house.make_dir(a, b"s")
    got = await rename(house, a, b"s", b, b"t")
    assert (got.fromdir_wcc.after.nlink, got.todir_wcc.after.nlink) == (2, 3)
    assert (await house.service.lookup(ROOT_USER, sub, b"..")).object == b


async def test_over_directories(house, root):
    a, b = await house.make_dir(root, b"a"), await house.make_dir(root, b"b")
    file = await house.make(b, b"f")
    await house.make(root, b"g")
    assert (await rename(house, root, b"a", root, b"b")).status is NOTEMPTY
    assert (await rename(house, root, b"a", root, b"g")).status is NOTDIR
    assert (await rename(house, root, b"g", root, b"a")).status is ISDIR
    got = await rename(house, root, b"b", root, b"a")
    assert (got.status, got.replaced, got.replaced_attributes.nlink) == (OK, a, 0)
    assert await house.find(b, b"f") == file
    assert (await house.stat(root)).nlink == 3


async def test_into_itself(house, root):
    a = await house.make_dir(root, b"a")
    b = await house.make_dir(a, b"b")
    c = await house.make_dir(b, b"c")
    for target in (a, b, c):
        assert (await rename(house, root, b"a", target, b"x")).status is INVAL
    assert (await rename(house, b, b"c", root, b"a")).status is NOTEMPTY
    assert (await rename(house, a, b"b", root, b"a")).status is NOTEMPTY


@pytest.mark.parametrize(("name", "to"), [(b".", b"x"), (b"..", b"x"), (b"a", b"."), (b"a", b".."), (b"a", b"x/y")])
async def test_bad_names(house, root, name, to):
    await house.make_dir(root, b"a")
    assert (await rename(house, root, name, root, to)).status is INVAL


async def test_missing_names(house, root):
    await house.make(root, b"f")
    assert (await rename(house, root, b"no", root, b"x")).status is NOENT
    assert (await rename(house, root, b"no", root, b"f")).status is NOENT
    assert (await rename(house, root, b"f", root, b"n" * 256)).status is nfsstat3.NFS3ERR_NAMETOOLONG
    assert (await rename(house, root, b"f", root, b"x", flags=RENAME_EXCHANGE)).status is NOENT
    assert (await rename(house, root, b"f", root, b"x", flags=4)).status is INVAL


async def test_noreplace(house, root):
    file = await house.make(root, b"f")
    await house.make(root, b"g")
    assert (await rename(house, root, b"f", root, b"g", flags=RENAME_NOREPLACE)).status is EXIST
    assert (await rename(house, root, b"f", root, b"f", flags=RENAME_NOREPLACE)).status is EXIST
    assert (await rename(house, root, b"f", root, b"h", flags=RENAME_NOREPLACE)).moved == file


async def test_exchange(house, root):
    a, b = await house.make_dir(root, b"a"), await house.make_dir(root, b"b")
    file, sub = await house.make(a, b"f"), await house.make_dir(b, b"s")
    got = await rename(house, a, b"f", b, b"s", flags=RENAME_EXCHANGE)
    assert (got.status, got.moved, got.replaced) == (OK, file, sub)
    assert (await house.find(a, b"f"), await house.find(b, b"s")) == (sub, file)
    assert (await house.service.lookup(ROOT_USER, sub, b"..")).object == a
    assert ((await house.stat(a)).nlink, (await house.stat(b)).nlink) == (3, 2)
    assert (await rename(house, root, b"a", a, b"f", flags=RENAME_EXCHANGE)).status is INVAL
    assert (await rename(house, a, b"f", root, b"a", flags=RENAME_EXCHANGE)).status is INVAL
    assert (await rename(house, root, b"a", root, b"b", flags=RENAME_EXCHANGE)).status is OK
    assert await house.find(root, b"a") == b


async def test_permissions(house, root):
    a, b = await house.make_dir(root, b"a", ALICE, 0o755), await house.make_dir(root, b"b", BOB, 0o755)
    open_ = await house.make_dir(root, b"open", ROOT_USER, 0o777)
    await house.make(a, b"f", ALICE)
    await house.make_dir(open_, b"s", ALICE, 0o755)
    assert (await rename(house, a, b"f", b, b"f", cred=ALICE)).status is ACCES
    assert (await rename(house, a, b"f", b, b"f", cred=BOB)).status is ACCES
    assert (await rename(house, open_, b"s", b, b"s", cred=BOB)).status is ACCES  # may not change its ".."
    assert (await rename(house, open_, b"s", open_, b"t", cred=BOB)).status is OK
    await house.service.setattr(ALICE, await house.find(open_, b"t"), sattr3(mode=0o777))
    assert (await rename(house, open_, b"t", b, b"t", cred=BOB)).status is OK


async def test_trips(house, root):
    a = await house.make_dir(root, b"a")
    file, sub = await house.make(root, b"f"), await house.make_dir(root, b"s")

    async def trips(*where, **options):
        before = house.core.trips
        assert (await rename(house, *where, **options)).status is OK
        return house.core.trips - before

    assert await trips(root, b"f", root, b"g") == 2
    assert await trips(root, b"g", root, b"f", hint=file, to_hint=0) == 1
    assert await trips(root, b"s", root, b"t", hint=sub, to_hint=0) == 1
    assert await trips(root, b"t", a, b"t", hint=sub, to_hint=0) == 3  # the topology, one step up, the update
    other = await house.make(root, b"g")
    assert await trips(root, b"f", a, b"f", hint=other, to_hint=other) == 2


async def test_a_wrong_hint_never_refuses_what_is_right(house, root):
    """The kernel may believe that the name is still an ancestor's."""
    a = await house.make_dir(root, b"a")
    b = await house.make_dir(a, b"b")
    file = await house.make(root, b"f")
    got = await rename(house, root, b"f", b, b"f", hint=a, to_hint=0)
    assert (got.status, got.moved) == (OK, file)
