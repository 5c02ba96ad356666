"""What an operation does to rows must not depend on how large the directory is."""

import random

import pytest

from qunfs.nfs.types import COOKIE_VERIFIER, nfsstat3
from qunfs.objects.ids import new_id
from qunfs.objects.state import (
    ATTRIBUTES_ROW,
    DIRECTORY_ROW,
    FIRST_COOKIE,
    DirectoryHeader,
    cookie_key,
    entry_key,
    pack_entry,
)
from tests.nfs.conftest import ROOT_USER, N

LARGE = 20_000


async def fill(house, directory, entries):
    """Many entries that are links to one file, straight into the rows."""
    file = await house.make(directory, b"first")
    state = house.core.state
    for cookie in range(FIRST_COOKIE + 1, FIRST_COOKIE + entries):
        name = b"n%06d" % cookie
        state.put(directory, entry_key(name), pack_entry(file, 1, cookie))
        state.put(directory, cookie_key(cookie), name)
    state.put(directory, DIRECTORY_ROW, DirectoryHeader(1, FIRST_COOKIE + entries, entries).pack())
    return file


async def cost(house, entries):
    directory = await house.make_dir(1, b"d%d" % entries)
    await fill(house, directory, entries)
    service, costs = house.service, {}
    middle = FIRST_COOKIE + entries // 2

    async def measure(name, awaitable):
        before = house.core.state.row_operations()
        assert (await awaitable).status is nfsstat3.NFS3_OK
        costs[name] = house.core.state.row_operations() - before

    await measure("create", service.create(ROOT_USER, directory, b"new", 1))
    await measure("mkdir", service.mkdir(ROOT_USER, directory, b"sub"))
    await measure("lookup", service.lookup(ROOT_USER, directory, b"n%06d" % middle))
    await measure("readdir", service.readdir(ROOT_USER, directory, middle - 20, COOKIE_VERIFIER, 1024))
    await measure("rename", service.rename(ROOT_USER, directory, b"new", directory, b"newer"))
    await measure("remove", service.remove(ROOT_USER, directory, b"newer"))
    await measure("rmdir", service.rmdir(ROOT_USER, directory, b"sub"))
    return costs


async def test_costs_do_not_grow(house, monkeypatch):
    dump = house.core.state.dump
    monkeypatch.setattr(house.core.state, "dump", dict)  # a full comparison would be counted as well
    small, large = await cost(house, 100), await cost(house, LARGE)
    assert small == large
    assert max(sum(counts.values()) for counts in small.values()) < 250
    monkeypatch.setattr(house.core.state, "dump", dump)


@pytest.mark.parametrize("directory", [False, True])
def test_files_go_where_their_directory_is(directory):
    rng = random.Random(3)
    residues = {new_id(r, N, directory, rng.getrandbits) % N for r in range(N)}
    assert residues == set(range(N))


async def test_rows_stay_small(house, root):
    await house.make(root, b"n" * 255)
    rows = house.core.state.dump()[root]
    assert len(rows[ATTRIBUTES_ROW]) < 120
    assert max(len(value) for value in rows.values()) <= 255
