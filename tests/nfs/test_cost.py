"""What an operation does must not depend on how large the directory is: counted, not timed."""

import random
import sys
from collections import Counter

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, ftype3, nfsstat3
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ATTRIBUTES_TYPE, DIRECTORY_TYPE, new_id
from qunfs.objects.state import (
    ATTRIBUTES_ROW,
    DIRECTORY_ROW,
    FIRST_COOKIE,
    Attributes,
    DirectoryHeader,
    cookie_key,
    entry_key,
    pack_entry,
)
from qunfs.protocol.execution import TYPE_KEY
from tests.nfs.conftest import ROOT_USER, N
from tests.support.local_qu import START_NS
from tests.support.replicated_qu import Replicas, ReplicatedQu

SMALL, LARGE = 100, 100_000
FACTOR_MAX = 1.5


async def fill(house, directory, entries):
    """Many entries that are links to one file, straight into the rows."""
    file = await house.make(directory, b"first")
    state = house.core.state
    cookies = range(FIRST_COOKIE + 1, FIRST_COOKIE + entries)
    for cookie in cookies:
        state.put(directory, entry_key(b"n%06d" % cookie), pack_entry(file, 1, cookie))
    for cookie in cookies:  # in the order of the rows, for a list that grows in its middle is slow
        state.put(directory, cookie_key(cookie), b"n%06d" % cookie)
    state.put(directory, DIRECTORY_ROW, DirectoryHeader(1, FIRST_COOKIE + entries, entries).pack())


class Calls:
    """Counts calls of functions, Python's and others, while it is entered."""

    def __init__(self):
        self.number = 0

    def _count(self, _frame, event, _argument):
        self.number += event in ("call", "c_call")

    def __enter__(self):
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)


async def cost(house, entries):
    """What each procedure costs in a directory of so many entries: rows touched, bytes moved, functions called."""
    directory = await house.make_dir(1, b"d%d" % entries)
    await fill(house, directory, entries)
    return await costs_in(house.service, directory, entries, house.core.state.row_operations)


async def costs_in(service, directory, entries, count):
    """What each procedure costs in a directory, by a counter and in function calls."""
    costs = {}
    middle = FIRST_COOKIE + entries // 2
    place = (directory, middle - 20, COOKIE_VERIFIER)

    async def measure(name, awaitable):
        before = count()
        with Calls() as calls:
            got = await awaitable
        assert got.status is nfsstat3.NFS3_OK
        costs[name] = count() - before + Counter(calls=calls.number)

    await measure("create", service.create(ROOT_USER, directory, b"new", createmode3.GUARDED))
    await measure("mkdir", service.mkdir(ROOT_USER, directory, b"sub"))
    await measure("lookup", service.lookup(ROOT_USER, directory, b"n%06d" % middle))
    await measure("readdir", service.readdir(ROOT_USER, *place, 1024))
    await measure("readdirplus", service.readdirplus(ROOT_USER, *place, 4096, 4096))
    await measure("rename", service.rename(ROOT_USER, directory, b"new", directory, b"newer"))
    await measure("remove", service.remove(ROOT_USER, directory, b"newer"))
    await measure("remove of an old entry", service.remove(ROOT_USER, directory, b"n%06d" % middle))
    await measure("rmdir", service.rmdir(ROOT_USER, directory, b"sub"))
    return costs


@pytest.mark.pure
async def test_costs_do_not_grow(house, monkeypatch):
    monkeypatch.setattr(house.core.state, "dump", dict)  # a full comparison would be counted as well
    await cost(house, SMALL + 1)  # what is done once only
    small, large = await cost(house, SMALL), await cost(house, LARGE)
    assert small.keys() == large.keys()
    for name, few in small.items():
        assert few["calls"] > 100
        for what in few.keys() | large[name].keys():
            assert large[name][what] <= FACTOR_MAX * few[what], f"{name}: {what}"
        rows = ("get", "put", "delete", "scan")
        assert [large[name][row] for row in rows] == [few[row] for row in rows]
        assert sum(few[row] for row in rows) < 400


@pytest.mark.pure
async def test_costs_do_not_grow_in_the_client_the_replica_and_its_store():
    """Function calls of everything between the service and the rows of a store, for one replica."""
    genesis = genesis_rows(0, 0, 0o777, START_NS)
    sizes = {entries: (1 << 62) + entries for entries in (SMALL, LARGE)}
    file = (1 << 61) + 1
    genesis[file] = {ATTRIBUTES_ROW: attributes(ftype3.NF3REG), TYPE_KEY: ATTRIBUTES_TYPE.encode()}
    for entries, directory in sizes.items():
        cookies = range(FIRST_COOKIE, FIRST_COOKIE + entries)
        genesis[directory] = {
            ATTRIBUTES_ROW: attributes(ftype3.NF3DIR),
            DIRECTORY_ROW: DirectoryHeader(1, FIRST_COOKIE + entries, entries).pack(),
            TYPE_KEY: DIRECTORY_TYPE.encode(),
            **{entry_key(b"n%06d" % cookie): pack_entry(file, 1, cookie) for cookie in cookies},
            **{cookie_key(cookie): b"n%06d" % cookie for cookie in cookies},
        }
    core = ReplicatedQu(Replicas(genesis, b=0))
    service = MetadataService(core, 1, random.Random(1).getrandbits)

    def round_trips():
        return Counter({"round trips": core.round_trips})

    await costs_in(service, sizes[SMALL], SMALL, round_trips)  # what is done the first time only
    await costs_in(service, sizes[LARGE], LARGE, round_trips)
    small = await costs_in(service, sizes[SMALL], SMALL + 2, round_trips)
    large = await costs_in(service, sizes[LARGE], LARGE + 2, round_trips)
    for name, few in small.items():
        assert large[name]["round trips"] == few["round trips"]
        assert 300 < few["calls"] < 10_000
        assert large[name]["calls"] <= FACTOR_MAX * few["calls"], name


def attributes(kind):
    times = (START_NS, START_NS, START_NS)
    links = 2 if kind is ftype3.NF3DIR else 9
    return Attributes(kind, 0o777, links, 0, 0, 0, (0, 0), *times, b"", 0).pack()


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
