"""Other clients act between what a procedure reads and its update."""

import random

import trio

from qunfs.nfs.calls import ATTEMPTS, Reply
from qunfs.nfs.types import createmode3, nfsstat3, sattr3
from qunfs.protocol.operation import Answer
from tests.nfs.conftest import ALICE, ROOT_USER
from tests.nfs.tree import check_tree

OK = nfsstat3.NFS3_OK


async def test_remove_takes_what_the_name_is_bound_to_by_then(house, root):
    await house.make(root, b"f")
    other = house.other()

    async def replace():
        await other.service.remove(ROOT_USER, root, b"f")
        replace.new = await other.make(root, b"f")

    house.core.before_update.append(replace)
    got = await house.service.remove(ROOT_USER, root, b"f")
    assert (got.status, got.object) == (OK, replace.new)
    check_tree(house.core.state)


async def test_remove_of_a_name_that_others_keep_rebinding_ends(house, root):
    await house.make(root, b"f")
    other = house.other()

    async def replace():
        await other.service.remove(ROOT_USER, root, b"f")
        await other.make(root, b"f")

    house.core.before_update += [replace] * (ATTEMPTS + 1)
    assert (await house.service.remove(ROOT_USER, root, b"f")).status is nfsstat3.NFS3ERR_JUKEBOX


async def test_unchecked_create_of_a_file_that_goes_away(house, root):
    await house.make(root, b"f", ALICE, size=3)
    other = house.other()

    async def remove():
        await other.service.remove(ROOT_USER, root, b"f")

    async def nothing():
        pass

    house.core.before_update += [nothing, remove]
    got = await house.service.create(ALICE, root, b"f", createmode3.UNCHECKED, sattr3(size=0))
    assert (got.status, got.obj) == (OK, await house.find(root, b"f"))


async def test_lookup_of_a_file_that_is_replaced_meanwhile(house, root):
    """The driver may fetch the child after the entry; by then it can be gone."""
    await house.make(root, b"f")
    other, core = house.other(), house.core
    query = core._query

    def without_child(call):
        answer = query(call)
        return type(answer)(answer.value)

    core._query = without_child

    async def nothing():
        pass

    async def replace():
        await other.service.remove(ROOT_USER, root, b"f")
        replace.new = await other.make(root, b"f")

    core.before_query = [nothing, replace]
    got = await house.service.lookup(ROOT_USER, root, b"f")
    assert (got.status, got.object) == (OK, replace.new)


async def test_lookup_of_a_file_that_is_being_made(house, root):
    """Entry and file appear at one moment, but two queries under way may be answered as of before and after it."""
    file = await house.make(root, b"f")
    query, ask, answers = house.core._query, house.service._query, ["absent", "absent"]

    async def unless_absent(cred, method, obj):
        if obj == file and answers:
            answers.pop()
            return Reply(nfsstat3.NFS3ERR_STALE)
        return await ask(cred, method, obj)

    house.core._query = lambda call: Answer(query(call).value)
    house.service._query = unless_absent
    got = await house.service.lookup(ROOT_USER, root, b"f")
    assert (got.status, got.object, answers) == (OK, file, [])


async def test_lookup_of_a_name_that_others_keep_rebinding_ends(house, root):
    await house.make(root, b"f")
    other, core = house.other(), house.core
    query = core._query
    core._query = lambda call: Answer(query(call).value)

    async def nothing():
        pass

    async def replace():
        await other.service.remove(ROOT_USER, root, b"f")
        await other.make(root, b"f")

    core.before_query = [nothing, replace] * (ATTEMPTS + 1)
    assert (await house.service.lookup(ROOT_USER, root, b"f")).status is nfsstat3.NFS3ERR_JUKEBOX


async def test_rename_of_names_that_are_rebound(house, root):
    await house.make(root, b"f")
    other = house.other()

    async def rebind():
        await other.service.rename(ROOT_USER, root, b"f", root, b"old")
        rebind.new = await other.make(root, b"f")
        rebind.target = await other.make(root, b"g")

    house.core.before_update.append(rebind)
    got = await house.service.rename(ROOT_USER, root, b"f", root, b"g")
    assert (got.status, got.moved, got.replaced) == (OK, rebind.new, rebind.target)
    check_tree(house.core.state)


async def test_two_moves_that_would_make_a_cycle_together(house, root):
    a, b = await house.make_dir(root, b"a"), await house.make_dir(root, b"b")
    other = house.other()

    async def opposite():
        assert (await other.service.rename(ROOT_USER, root, b"b", a, b"b")).status is OK

    house.core.before_update.append(opposite)
    got = await house.service.rename(ROOT_USER, root, b"a", b, b"a")
    assert got.status is nfsstat3.NFS3ERR_INVAL
    check_tree(house.core.state)


async def test_a_move_that_is_no_cycle_any_more(house, root):
    """What looked like a cycle is settled by the method, at the state that it meets."""
    a = await house.make_dir(root, b"a")
    b = await house.make_dir(a, b"b")
    other = house.other()

    async def out():
        assert (await other.service.rename(ROOT_USER, a, b"b", root, b"b")).status is OK

    house.core.before_update.append(out)
    got = await house.service.rename(ROOT_USER, root, b"a", b, b"a")
    assert got.status is OK
    check_tree(house.core.state)


async def test_a_long_way_up_is_gone_at_once_the_second_time(house, root):
    """A move to a deep place gets on while others make moves near the root."""
    deep = root
    for i in range(20):
        deep = await house.make_dir(deep, b"%d" % i)
    moved, other = await house.make_dir(root, b"m"), house.other()
    a, b = await house.make_dir(root, b"a"), await house.make_dir(root, b"b")
    await house.make_dir(a, b"x")

    async def there():
        assert (await other.service.rename(ROOT_USER, a, b"x", b, b"x")).status is OK

    async def back():
        assert (await other.service.rename(ROOT_USER, b, b"x", a, b"x")).status is OK

    house.core.before_update += [there, back, there]
    trips = house.core.trips
    got = await house.service.rename(ROOT_USER, root, b"m", deep, b"m", hint=moved, to_hint=0)
    assert got.status is OK
    assert house.core.trips - trips == (1 + 20 + 1) + 3 * (1 + 1 + 1)  # topology, way up, update
    check_tree(house.core.state)


async def test_a_way_up_that_has_changed_is_looked_at_again(house, root):
    """What lay above the last time is asked anew: the move in between made it lead elsewhere, into a cycle."""
    a = await house.make_dir(root, b"a")
    b = await house.make_dir(root, b"b")
    c = await house.make_dir(b, b"c")
    other = house.other()

    async def put_below():
        assert (await other.service.rename(ROOT_USER, root, b"b", a, b"b")).status is OK

    house.core.before_update.append(put_below)
    got = await house.service.rename(ROOT_USER, root, b"a", c, b"a")
    assert got.status is nfsstat3.NFS3ERR_INVAL
    check_tree(house.core.state)


async def test_rmdir_against_create(house, root):
    directory = await house.make_dir(root, b"d")
    other = house.other()

    async def fill():
        await other.make(directory, b"f")

    house.core.before_update.append(fill)
    assert (await house.service.rmdir(ROOT_USER, root, b"d")).status is nfsstat3.NFS3ERR_NOTEMPTY

    async def empty():
        await other.service.remove(ROOT_USER, directory, b"f")
        await other.service.rmdir(ROOT_USER, root, b"d")

    house.core.before_update.append(empty)
    got = await house.service.create(ROOT_USER, directory, b"g", createmode3.UNCHECKED)
    assert got.status is nfsstat3.NFS3ERR_STALE


async def test_an_operation_issued_again_answers_what_took_effect(house, root):
    made = await house.service.create(ALICE, root, b"f", createmode3.GUARDED)
    operation = house.core.last
    await house.other().service.remove(ROOT_USER, root, b"f")
    before = house.core.state.dump()
    again = house.core._issue_once(operation)
    assert not again.effective
    assert made.obj.to_bytes(8, "big") in again.answer
    assert house.core.state.dump() == before


async def test_hundreds_of_conflicting_moves_keep_the_tree_whole(house, root):
    """Several clients move directories and files about at once, in every possible and impossible direction."""
    directories = [root]
    for i in range(8):
        directories.append(await house.make_dir(directories[i // 2], b"d%d" % i))
    files = [await house.make(directories[i], b"f%d" % i) for i in range(8)]
    names = [b"d%d" % i for i in range(8)] + [b"f%d" % i for i in range(8)]
    seen = set()

    async def mover(client):
        mine, rng = house.other(client), random.Random(client)
        for _ in range(120):
            where = rng.choice(directories), rng.choice(names), rng.choice(directories), rng.choice(names)
            got = await mine.service.rename(ROOT_USER, *where, flags=rng.choice([0, 0, 1, 2]))
            seen.add(got.status)

    async with trio.open_nursery() as nursery:
        for client in range(2, 7):
            nursery.start_soon(mover, client)
    left = check_tree(house.core.state)
    assert OK in seen
    assert nfsstat3.NFS3ERR_INVAL in seen
    assert set(left) - {root} <= {*directories, *files}
