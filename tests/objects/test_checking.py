"""The methods of the check: only the superuser, only what is so, and only while it is."""

import random

import pytest

from qunfs.nfs.calls import parse_answer
from qunfs.nfs.types import nfsstat3
from qunfs.objects import REGISTRY
from qunfs.objects.checking import MENDS_MAX
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT, TOPOLOGY, new_id, type_of
from qunfs.objects.state import cookie_key, cookie_of, pack_entry, unpack_entry, unpack_header
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.packing import pack
from tests.nfs.conftest import House, house_on
from tests.nfs.tree import check_tree
from tests.support.local_qu import START_NS, LocalQu

SUPERUSER, OWNER = Credentials(0, 0), Credentials(1000, 1000)
RETRY, PERM, INVAL = nfsstat3.RETRY, nfsstat3.NFS3ERR_PERM, nfsstat3.NFS3ERR_INVAL
METHODS = sorted(name for name, _ in REGISTRY._methods if name.startswith("fsck."))


@pytest.fixture
def house() -> House:
    return house_on(LocalQu(REGISTRY, genesis_rows(1000, 1000, 0o777, START_NS)))


async def update(house: House, method: str, argument: object, *objects: int, cred: Credentials = SUPERUSER):
    named = tuple((obj, type_of(obj)) for obj in set(objects))
    return parse_answer(await house.core.update(Call(method, named, pack(argument), cred, home=objects[0])))


async def query(house: House, method: str, argument: object, *objects: int, cred: Credentials = SUPERUSER):
    named = tuple((obj, type_of(obj)) for obj in objects)
    (answer,) = await house.core.query(Call(method, named, pack(argument), cred))
    return parse_answer(answer.value)


def generation(house: House) -> int:
    return int.from_bytes(house.core.state.get(TOPOLOGY, b"g"), "big")


async def ctime(house: House, obj: int) -> int:
    return (await house.stat(obj)).ctime


async def test_an_owner_is_not_enough(house: House) -> None:
    directory = await house.make_dir(ROOT, b"d", cred=OWNER)
    file = await house.make(directory, b"f", cred=OWNER)
    at = await ctime(house, file)
    calls = [
        ("fsck.unbind", (directory, b"f", file, 0, b""), (directory, file)),
        ("fsck.retype", (directory, b"f", file), (directory, file)),
        ("fsck.reparent", (ROOT, b"d", directory, 9, 0), (ROOT, directory, TOPOLOGY)),
        ("fsck.relink", (at, 7), (file,)),
        ("fsck.attach", (directory, file, at, None), (directory, file)),
        ("fsck.index", None, (directory,)),
        ("fsck.refresh", None, (file,)),
    ]
    before = house.core.state.dump()
    for method, argument, objects in calls:
        assert (await update(house, method, argument, *objects, cred=OWNER)).status is PERM, method
    for method, argument in (("fsck.rows", (b"", 9)), ("fsck.names", (directory, ()))):
        assert (await query(house, method, argument, directory, cred=OWNER)).status is PERM, method
    assert {name for name, *_ in calls} | {"fsck.rows", "fsck.names"} == set(METHODS)
    assert house.core.state.dump() == before


async def test_a_sound_namespace_cannot_be_mended(house: House) -> None:
    directory = await house.make_dir(ROOT, b"d")
    file = await house.make(directory, b"f")
    inner = await house.make_dir(directory, b"in")
    now = generation(house)
    for method, argument, objects in [
        ("fsck.unbind", (directory, b"f", file, 0, b""), (directory, file)),
        ("fsck.unbind", (directory, b"in", inner, directory, b"in"), (directory, inner)),
        ("fsck.unbind", (directory, b"in", inner, ROOT, b"d"), (directory, inner, ROOT)),
        ("fsck.unbind", (directory, b"none", file, 0, b""), (directory, file)),
        ("fsck.retype", (directory, b"f", file), (directory, file)),
        ("fsck.reparent", (directory, b"in", inner, directory, now), (directory, inner, TOPOLOGY)),
        ("fsck.reparent", (directory, b"in", inner, ROOT, now), (directory, inner, TOPOLOGY)),
        ("fsck.relink", (await ctime(house, file), 1), (file,)),
        ("fsck.relink", (await ctime(house, file) - 1, 2), (file,)),
        ("fsck.attach", (directory, file, await ctime(house, file) - 1, None), (directory, file)),
    ]:
        assert (await update(house, method, argument, *objects)).status is RETRY, (method, argument)
    rows = house.core.state.dump()[directory]
    assert (await update(house, "fsck.index", None, directory)).result is True
    after = house.core.state.dump()[directory]
    assert {key for key in rows if rows[key] != after[key]} <= {b"a"}  # its ctime
    check_tree(house.core.state)


async def test_link_counts_are_those_of_files_and_within_bounds(house: House) -> None:
    directory, file = await house.make_dir(ROOT, b"d"), await house.make(ROOT, b"f")
    for obj, links in ((directory, 3), (file, 0), (file, 65_001)):
        assert (await update(house, "fsck.relink", (await ctime(house, obj), links), obj)).status is INVAL


async def test_what_is_attached_goes_right_below_the_root_only(house: House) -> None:
    """So that no directory can become its own ancestor, whoever asks for it."""
    outer = await house.make_dir(ROOT, b"outer")
    inner = await house.make_dir(outer, b"inner")
    now, at = generation(house), await ctime(house, outer)
    reply = await update(house, "fsck.attach", (inner, outer, at, now), inner, outer, TOPOLOGY)
    assert reply.status is INVAL
    reply = await update(house, "fsck.attach", (outer, inner, await ctime(house, inner), 9), outer, inner, TOPOLOGY)
    assert reply.status is RETRY
    for argument, objects in [
        ((outer, outer, at, now), (outer, TOPOLOGY)),
        ((outer, ROOT, await ctime(house, ROOT), now), (outer, ROOT, TOPOLOGY)),
        ((outer, inner, await ctime(house, inner), None), (outer, inner)),
    ]:
        with pytest.raises(ValueError, match="topology generation"):
            await update(house, "fsck.attach", argument, *objects)


async def test_a_moved_parent_moves_the_topology(house: House) -> None:
    outer, inner = await house.make_dir(ROOT, b"outer"), await house.make_dir(ROOT, b"inner")
    header = unpack_header(house.core.state.get(inner, b"d"))
    header.parent = outer
    house.core.state.put(inner, b"d", header.pack())
    now = generation(house)
    argument = (ROOT, b"inner", inner, outer, now)
    assert (await update(house, "fsck.reparent", argument, ROOT, inner, TOPOLOGY)).ok
    assert generation(house) == now + 1
    check_tree(house.core.state)


async def test_an_index_that_is_wrong_in_many_places_is_mended_bit_by_bit(house: House) -> None:
    directory = await house.make_dir(ROOT, b"d")
    state, count = house.core.state, MENDS_MAX + 10
    for number in range(count):
        state.put(directory, b"e%d" % number, pack_entry(1 << 61, 1, 0))
        if number % 100 == 0:
            state.put(directory, cookie_key(number + 3), b"nobody")
    whole = [(await update(house, "fsck.index", None, directory)).result for _ in range(3)]
    assert whole == [False, True, True]
    rows = state.dump()[directory]
    names = {key[1:]: unpack_entry(row).cookie for key, row in rows.items() if key[:1] == b"e"}
    assert {cookie_of(key): row for key, row in rows.items() if key[:1] == b"k"} == {
        cookie: name for name, cookie in names.items()
    }
    header = unpack_header(rows[b"d"])
    assert (len(set(names.values())), header.entries, header.parent) == (count, count, ROOT)
    assert header.next_cookie == max(names.values()) + 1


async def test_rows_come_in_pages_and_only_those_of_a_directory(house: House) -> None:
    directory = await house.make_dir(ROOT, b"d")
    for number in range(20):
        await house.make(directory, b"%d" % number)
    await house.service.setxattr(SUPERUSER, directory, b"user.x", b"hidden")
    rows, after, more = [], b"", True
    while more:
        page, more = (await query(house, "fsck.rows", (after, 100), directory)).result
        assert len(page) < 12
        rows += page
        after = rows[-1][0]
    everything = sorted(house.core.state.dump()[directory].items())
    assert rows == [row for row in everything if row[0] < b"l"]
    assert (await query(house, "fsck.rows", (b"x", 100), directory)).result == ((), False)
    file = await house.find(directory, b"3")
    assert [key for key, _ in (await query(house, "fsck.rows", (b"", 100), file)).result[0]] == [b"a"]


async def test_names_and_what_they_name_at_one_moment(house: House) -> None:
    directory = await house.make_dir(ROOT, b"d")
    file = await house.make(directory, b"f")
    pairs = ((directory, b"f"), (ROOT, b"d"), (ROOT, b"none"))
    reply = await query(house, "fsck.names", (file, pairs), file, directory, ROOT)
    assert reply.result == (((file, 1, 3), (directory, 2, 3), None), True, None)
    assert reply.attributes(file).nlink == 1
    reply = await query(house, "fsck.names", (directory, ()), directory)
    assert reply.result == ((), True, ROOT)
    absent = new_id(1, 6, False, random.Random(3).getrandbits)
    assert (await query(house, "fsck.names", (absent, ()), absent)).result == ((), False, None)


async def test_a_refresh_changes_nothing_and_makes_no_objects(house: House) -> None:
    file, gone = await house.make(ROOT, b"f"), await house.make(ROOT, b"g")
    await house.service.remove(SUPERUSER, ROOT, b"g")
    before = house.core.state.dump()
    for obj in (file, gone, ROOT, TOPOLOGY):
        assert (await update(house, "fsck.refresh", None, obj)).ok
    absent = new_id(1, 6, False, random.Random(3).getrandbits)
    assert (await update(house, "fsck.refresh", None, absent)).status is nfsstat3.NFS3ERR_STALE
    assert house.core.state.dump() == before
