from qunfs.nfs.types import COOKIE_VERIFIER, ftype3, nfsstat3, sattr3
from qunfs.objects.ids import is_directory
from tests.nfs.conftest import ALICE, BOB, ROOT_USER

OK = nfsstat3.NFS3_OK


async def pages(house, directory, count, between=None):
    """Every entry, page by page."""
    entries, cookie, number = [], 0, 0
    while True:
        got = await house.service.readdir(ROOT_USER, directory, cookie, COOKIE_VERIFIER, count)
        assert got.status is OK
        entries += got.entries
        if got.eof:
            return entries
        assert got.entries
        cookie = got.entries[-1].cookie
        number += 1
        if between:
            await between(number)


async def test_dots_come_first(house, root):
    directory = await house.make_dir(root, b"d")
    got = await house.service.readdir(ROOT_USER, directory, 0, b"", 4096)
    assert [(e.name, e.fileid, e.cookie, e.type) for e in got.entries] == [
        (b".", directory, 1, ftype3.NF3DIR),
        (b"..", root, 2, ftype3.NF3DIR),
    ]
    assert got.eof
    assert got.cookieverf == COOKIE_VERIFIER


async def test_pages(house, root):
    names = [b"name%03d" % i for i in range(100)]
    for name in names:
        await house.make(root, name)
    for count in (160, 500, 4096, 1 << 20):
        entries = await pages(house, root, count)
        assert [e.name for e in entries] == [b".", b"..", *names]
        assert len({e.cookie for e in entries}) == len(entries)


async def test_listing_goes_on_while_others_create_and_remove(house, root):
    stay = [b"stay%03d" % i for i in range(50)]
    for i, name in enumerate(stay):
        await house.make(root, name)
        await house.make(root, b"go%03d" % i)
    other = house.other()

    async def churn(number):
        for i in range(3):
            await other.service.remove(ROOT_USER, root, b"go%03d" % ((number * 7 + i) % 50))
            await other.make(root, b"new%d.%d" % (number, i))
        await other.service.rename(ROOT_USER, root, b"stay%03d" % number, root, b"moved%03d" % number)

    entries = await pages(house, root, 400, churn)
    ids = [e.fileid for e in entries[2:]]
    assert len(ids) == len(set(ids))
    seen = {e.name for e in entries}
    moved = {e.name.replace(b"moved", b"stay") for e in entries if e.name.startswith(b"moved")}
    assert set(stay) <= seen | moved


async def test_a_cookie_of_a_removed_entry_still_works(house, root):
    for i in range(10):
        await house.make(root, b"f%d" % i)
    entries = (await house.service.readdir(ROOT_USER, root, 0, b"", 4096)).entries
    await house.service.remove(ROOT_USER, root, entries[5].name)
    got = await house.service.readdir(ROOT_USER, root, entries[5].cookie, COOKIE_VERIFIER, 4096)
    assert [e.name for e in got.entries] == [e.name for e in entries[6:]]


async def test_cookies_are_never_used_again(house, root):
    await house.make(root, b"a")
    cookie = (await house.service.readdir(ROOT_USER, root, 2, COOKIE_VERIFIER, 4096)).entries[0].cookie
    await house.service.remove(ROOT_USER, root, b"a")
    await house.make(root, b"a")
    assert (await house.service.readdir(ROOT_USER, root, 2, COOKIE_VERIFIER, 4096)).entries[0].cookie > cookie


async def test_bad_arguments(house, root):
    readdir, bad = house.service.readdir, nfsstat3.NFS3ERR_BAD_COOKIE
    assert (await readdir(ROOT_USER, root, 3, b"whatever", 4096)).status is bad
    assert (await readdir(ROOT_USER, root, -1, COOKIE_VERIFIER, 4096)).status is bad
    assert (await readdir(ROOT_USER, root, 1 << 64, COOKIE_VERIFIER, 4096)).status is bad
    assert (await readdir(ROOT_USER, root, 0, b"", 10)).status is nfsstat3.NFS3ERR_TOOSMALL
    got = await readdir(ROOT_USER, root, (1 << 63) - 1, COOKIE_VERIFIER, 4096)
    assert (got.entries, got.eof) == ((), True)


async def test_readdirplus(house, root):
    directory = await house.make_dir(root, b"d", ALICE)
    for i in range(300):
        await house.make(directory, b"f%03d" % i, ALICE)
    trips = house.core.trips
    got = await house.service.readdirplus(ALICE, directory, 0, b"", 1 << 20, 1 << 20)
    assert house.core.trips == trips + 2
    assert len(got.entries) == 256
    assert not got.eof
    for entry in got.entries:
        assert entry.name_attributes == (None if entry.name == b".." else await house.stat(entry.fileid))
        assert entry.name_handle == entry.fileid
    rest = await house.service.readdirplus(ALICE, directory, got.entries[-1].cookie, got.cookieverf, 1 << 20, 1 << 20)
    assert rest.eof
    assert len(rest.entries) == 300 + 2 - 256
    assert len((await house.service.readdirplus(ALICE, directory, 0, b"", 1024, 1024)).entries) == 6
    few = await house.service.readdirplus(ALICE, directory, 0, b"", 100, 1 << 20)
    assert ([e.name for e in few.entries], few.eof) == ([b".", b"..", b"f000"], False)
    rest = await house.service.readdirplus(ALICE, directory, few.entries[-1].cookie, few.cookieverf, 1, 1 << 20)
    assert [e.name for e in rest.entries] == [b"f001"], "dircount is a hint: a listing gets on"


async def test_readdirplus_of_something_that_goes_away_meanwhile(house, root):
    await house.make(root, b"f")
    other = house.other()

    async def remove():
        await other.service.remove(ROOT_USER, root, b"f")

    async def nothing():
        pass

    house.core.before_query = [nothing, remove]
    got = await house.service.readdirplus(ROOT_USER, root, 0, b"", 4096, 4096)
    assert [(e.name, e.name_attributes is None) for e in got.entries] == [(b".", False), (b"..", False), (b"f", True)]


async def test_names_are_for_who_may_read_and_what_they_name_for_who_may_search(house, root):
    """An id is as good as a path to a client with a mount of its own, which no kernel keeps from using it."""
    directory = await house.make_dir(root, b"d", ALICE, mode=0o755)
    file = await house.make(directory, b"f", ALICE, mode=0o666)
    below = await house.make_dir(directory, b"s", ALICE, mode=0o777)
    await house.service.link(ALICE, file, directory, b"g")
    whole = (await house.service.readdirplus(BOB, directory, 0, b"", 1 << 16, 1 << 16)).entries
    await house.service.setattr(ALICE, directory, sattr3(mode=0o744))
    assert (await house.service.readdirplus(ALICE, directory, 0, b"", 1 << 16, 1 << 16)).entries[2:] == whole[2:]
    got = (await house.service.readdirplus(BOB, directory, 0, b"", 1 << 16, 1 << 16)).entries
    plain = (await house.service.readdir(BOB, directory, 0, b"", 1 << 16)).entries
    assert [(e.name, e.cookie, e.type) for e in got] == [(e.name, e.cookie, e.type) for e in whole]
    assert [(e.name, e.cookie, e.type, e.fileid) for e in plain] == [(e.name, e.cookie, e.type, e.fileid) for e in got]
    ids = {e.fileid for e in got[2:]}
    assert len(ids) == 3
    assert not ids & {file, below}
    for entry in got[2:]:
        assert (entry.name_attributes, entry.name_handle) == (None, entry.fileid)
        assert (await house.service.getattr(BOB, entry.fileid)).status is nfsstat3.NFS3ERR_STALE
        assert is_directory(entry.fileid) == (entry.type is ftype3.NF3DIR)
