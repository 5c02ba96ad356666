"""Whom updates are sent to: where nothing fails, replicas hardly ever lack what they are asked to change.

A version that a replica lacks it fetches from its peers first (object sync), which costs about half an update more.
Clients and replicas have all of the protocol here, and messages arrive at once: what there is to fetch follows from
whom clients ask, and from the preferred quorums of directories.
"""

import random
from collections import Counter

import pytest

from qunfs.nfs.calls import NEAR_MAX
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import createmode3, nfsstat3, sattr3
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT
from tests.nfs.conftest import ROOT_USER as U
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.support.replicated_qu import Replicas, ReplicatedQu


class Asked(ReplicatedQu):
    """Counts the requests that each replica gets from clients."""

    requests: Counter[int]

    def _deliver(self, server, origin, payload):
        self.requests[server] += not origin.is_server
        super()._deliver(server, origin, payload)


class House:
    """Two clients of one group of replicas."""

    def __init__(self, seed, b=1):
        self.replicas = Replicas(genesis_rows(0, 0, 0o777, WALL_ORIGIN_NS), b)
        self.n, self.q = self.replicas.quorums.n, self.replicas.quorums.q
        self.requests = Counter()
        self.cores = [Asked(self.replicas, number) for number in (1, 2)]
        for core in self.cores:
            core.requests = self.requests
        self.first, self.second = (
            MetadataService(core, self.n, random.Random(100 * seed + core.number).getrandbits) for core in self.cores
        )
        self.chance = random.Random(seed)
        self.ops = 0

    @property
    def syncs(self):
        return sum(server.status()["syncs"] for server in self.replicas.servers)

    async def did(self, awaitable):
        got = await awaitable
        assert got.status is nfsstat3.NFS3_OK
        self.ops += 1
        return getattr(got, "obj", None)

    async def mkdir(self, parent, name, service=None):
        return await self.did((service or self.first).mkdir(U, parent, name))

    async def create(self, directory, name):
        return await self.did(self.first.create(U, directory, name, createmode3.GUARDED))

    async def rename(self, file, from_dir, to_dir, name, service=None, over=0):
        service = service or self.first
        await self.did(service.rename(U, from_dir, name, to_dir, name, hint=file, to_hint=over))

    async def apart(self, count):
        """Directories of different preferred quorums."""
        found = {}
        for i in range(1000):
            made = await self.mkdir(ROOT, b"apart%d" % i)
            found.setdefault(made % self.n, made)
            if len(found) == count:
                return list(found.values())
        raise AssertionError("directories in the root share their preferred quorum")

    async def mail(self, users, mails, reader):
        """Maildirs: mail is written, delivered to another directory, read into a third, and half of it deleted."""
        top = await self.mkdir(ROOT, b"mail%d" % self.ops)
        homes = [await self.mkdir(top, b"user%d" % user) for user in range(users)]
        boxes = [[await self.mkdir(home, name) for name in (b"tmp", b"new", b"cur")] for home in homes]
        for mail in range(mails):
            for tmp, new, cur in boxes:
                name = b"%d" % mail
                file = await self.create(tmp, name)
                await self.did(self.first.setattr(U, file, sattr3(size=10)))
                await self.rename(file, tmp, new, name)
                await self.rename(file, new, cur, name, reader)
                if mail % 2:
                    await self.did(reader.remove(U, cur, name, file))

    async def tree(self, directories, width, files):
        """Directories, so many in each, with files in them; for each of all these its directory and name."""
        top = await self.mkdir(ROOT, b"tree%d" % self.ops)
        parents, found = {}, {}
        for i in range(directories):
            parent = [top, *parents][i // width]
            directory = await self.mkdir(parent, b"d%d" % i)
            parents[directory] = parent, b"d%d" % i
            for k in range(files):
                file = await self.create(directory, b"f%d-%d" % (i, k))
                await self.did(self.first.setattr(U, file, sattr3(size=10)))
                found[file] = directory, b"f%d-%d" % (i, k)
        return parents, found

    async def move_and_link(self, parents, files, count):
        for i in range(count):
            file = self.chance.choice(list(files))
            directory, name = files[file]
            to = self.chance.choice(list(parents))
            if i % 3 == 0:
                await self.did(self.first.link(U, file, to, b"link%d" % i))
                await self.did(self.first.remove(U, to, b"link%d" % i, file))
            elif to != directory:
                await self.rename(file, directory, to, name)
                files[file] = to, name

    async def remove_all(self, parents, files):
        for file, (directory, name) in files.items():
            await self.did(self.first.remove(U, directory, name, file))
        for directory, (parent, name) in reversed(parents.items()):
            await self.did(self.first.rmdir(U, parent, name, directory))


@pytest.mark.parametrize("b", [1, 2])
async def test_trees_are_worked_on_without_fetching(b):
    """But what has happened to their tops in the root, when something is first made in them or they go."""
    house = House(1, b)
    trees = [await house.tree(20, NEAR_MAX, 3) for _ in range(4)]
    for parents, files in trees:
        await house.move_and_link(parents, files, 30)
        await house.remove_all(parents, files)
    assert house.ops > 900
    assert house.syncs <= 4 * (house.n - house.q)
    assert house.cores[0].client.counters["retries"] == 0
    assert house.cores[0].round_trips == house.ops + 1  # the root's histories are read once


async def test_directories_with_many_others_in_them_cost_little_more():
    """Files move between any two of a tree, every third of which has its parent's preferred quorum."""
    house = House(2)
    parents, files = await house.tree(40, 12, 3)
    await house.move_and_link(parents, files, 60)
    await house.remove_all(parents, files)
    assert house.ops > 500
    assert house.syncs <= 0.4 * house.ops


async def test_mail_moves_on_without_fetching():
    """But once for each directory whose preferred quorum is not its parent's, which that parent's MKDIR went to."""
    house = House(2)
    await house.mail(12, 6, house.first)
    assert house.ops > 300
    assert house.syncs <= 12


async def test_clients_in_turn_have_nobody_fetch_anything():
    """A client that finds that others have been there goes on with those who know."""
    house = House(3)
    await house.mail(12, 6, house.second)
    assert house.cores[0].client.counters["retries"] > 50
    assert house.syncs <= 12


async def test_files_pass_from_tree_to_tree_and_little_is_fetched():
    """Three directories of three preferred quorums: what comes through them ends up at one that has all of it."""
    house = House(4)
    first, second, third = await house.apart(3)
    files = {b"%d" % i: await house.create(first, b"%d" % i) for i in range(20)}
    before = house.syncs
    for name, file in files.items():
        await house.rename(file, first, second, name)
        await house.rename(file, second, third, name)
    assert house.syncs - before <= 3, "each directory once at most, and no file"


async def test_whoever_replaces_files_of_another_tree_has_each_fetched_once():
    """No quorum has both files: each is where its own directory was."""
    house = House(5)
    first, second = await house.apart(2)
    pairs = [(await house.create(first, b"%d" % i), await house.create(second, b"%d" % i)) for i in range(10)]
    before = house.syncs
    for i, (file, over) in enumerate(pairs):
        await house.rename(file, first, second, b"%d" % i, over=over)
    assert 10 <= house.syncs - before <= 11


@pytest.mark.parametrize("seed", range(3))
async def test_the_work_on_one_large_tree_is_everybody_s(seed):
    """Nobody has much more to do than the average, which is q/n of the requests, though all is in one tree."""
    house = House(seed)
    await house.tree(156, 12, 1)
    shares = [house.requests[server] / house.requests.total() for server in range(house.n)]
    assert max(shares) <= 1.15 / house.n
    assert min(shares) >= 0.6 / house.n


async def test_the_first_directories_in_a_directory_share_its_quorum_and_further_ones_do_not():
    house = House(7)
    top = await house.mkdir(ROOT, b"top")
    made = [await house.mkdir(top, b"%d" % i) for i in range(40)]
    assert {directory % house.n for directory in made[:NEAR_MAX]} == {top % house.n}
    assert {directory % house.n for directory in made[NEAR_MAX:]} == set(range(house.n))


async def test_directories_in_the_root_have_all_quorums():
    house = House(8)
    made = [await house.mkdir(ROOT, b"%d" % i) for i in range(40)]
    assert {directory % house.n for directory in made} == set(range(house.n))


async def test_who_comes_later_sees_how_many_directories_there_are():
    """By looking the name up first, as a mount does."""
    house = House(9)
    top = await house.mkdir(ROOT, b"top")
    for i in range(NEAR_MAX):
        await house.mkdir(top, b"%d" % i)
    residues = set()
    for i in range(20):
        later = MetadataService(house.cores[1], house.n, house.chance.getrandbits)
        assert (await later.lookup(U, top, b"later%d" % i)).status is nfsstat3.NFS3ERR_NOENT
        residues.add(await house.mkdir(top, b"later%d" % i, later) % house.n)
    assert len(residues) > 3


async def test_where_directories_have_gone_new_ones_share_the_quorum_again():
    house = House(10)
    top = await house.mkdir(ROOT, b"top")
    made = [await house.mkdir(top, b"%d" % i) for i in range(NEAR_MAX + 2)]
    for i, directory in enumerate(made):
        await house.did(house.first.rmdir(U, top, b"%d" % i, directory))
    assert (await house.first.lookup(U, top, b"again")).status is nfsstat3.NFS3ERR_NOENT
    assert await house.mkdir(top, b"again") % house.n == top % house.n


async def test_no_more_directories_are_remembered_than_are_allowed(monkeypatch):
    monkeypatch.setattr("qunfs.nfs.calls._FULL_KEPT", 3)
    house = House(11)
    for i in range(5):
        top = await house.mkdir(ROOT, b"top%d" % i)
        for k in range(NEAR_MAX):
            await house.mkdir(top, b"%d" % k)
    assert len(house.first._full) == 3
    assert top in house.first._full
