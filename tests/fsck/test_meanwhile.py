"""Others go on working while a check runs: it never reports what was no fault at any moment."""

import random
from collections import Counter

import pytest

from qunfs.fsck import check, walk
from qunfs.fsck.book import Book
from qunfs.fsck.checks import suspicions
from qunfs.fsck.findings import Fault
from qunfs.nfs.types import nfsstat3
from qunfs.objects.ids import ROOT
from tests.fsck.conftest import Bench
from tests.nfs.conftest import ROOT_USER
from tests.nfs.tree import check_tree


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory takes several queries, and no two are read together."""
    monkeypatch.setattr(walk, "_PAGE_BYTES", 100)
    monkeypatch.setattr(walk, "_LONG_PAGE_BYTES", 150)
    monkeypatch.setattr(walk, "_DIRECTORIES_TOGETHER", 1)


@pytest.mark.usefixtures("small_pages")
async def test_no_moment_of_a_busy_namespace_looks_faulty(
    bench: Bench, tree: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before every few queries of the check another client does something, in the next run something else."""
    suspected: Counter[str] = Counter()

    def counting(book: Book) -> list[Fault]:
        found = suspicions(book)
        suspected.update(fault.kind.value for fault in found)
        return found

    monkeypatch.setattr(check, "suspicions", counting)
    for seed in range(16):
        busy = _Busy(bench.other(10 + seed), seed)
        for _ in range(12):
            await busy.act()
        bench.meanwhile[:] = [busy.act if n % (1 + seed % 7) == 0 else _rest for n in range(150)]
        report = await bench.check()
        assert [(fault.kind.value, fault.path, fault.text) for fault in report.faults] == [], seed
        bench.meanwhile.clear()
        check_tree(bench.state)
    assert len(suspected) >= 2  # there was something to clear up


async def _rest() -> None:
    """Do nothing."""


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("seed", range(4))
async def test_repairs_of_a_busy_namespace_break_nothing(bench: Bench, tree: dict[str, int], seed: int) -> None:
    """Faults stay faults while others work beside them, and what is repaired fits what they did meanwhile."""
    busy = _Busy(bench.other(), seed)
    for _ in range(12):
        await busy.act()
    bench.spoil.attribute(await bench.make(ROOT, b"seven"), "nlink", 7)
    bench.spoil.absent(await bench.make(ROOT, b"nothing"))
    await bench.make_dir(ROOT, b"loose")
    bench.spoil.drop(ROOT, b"loose")
    bench.meanwhile[:] = [busy.act] * 150
    await bench.check(repair=True)
    bench.meanwhile.clear()
    await bench.check(repair=True)
    assert (await bench.check()).faults == []
    check_tree(bench.state)


async def test_a_file_renamed_into_a_directory_that_was_read_is_no_orphan(bench: Bench, tree: dict[str, int]) -> None:
    """The walk has read the root when the file goes there, and finds it no more where it was."""
    other = bench.other()

    async def nothing() -> None:
        """The root is read."""

    async def move() -> None:
        got = await other.service.rename(ROOT_USER, tree["a"], b"g", ROOT, b"moved")
        assert got.status is nfsstat3.NFS3_OK

    bench.meanwhile[:] = [nothing, move]
    assert (await bench.check()).faults == []
    assert not bench.meanwhile


async def test_a_repair_of_what_has_changed_is_left_alone(bench: Bench, tree: dict[str, int]) -> None:
    """Somebody links the file after the check has looked twice and before it repairs."""
    bench.spoil.attribute(tree["f"], "nlink", 9)
    other = bench.other()
    checker = bench.checker()

    async def link() -> None:
        await other.service.link(ROOT_USER, tree["f"], ROOT, b"more")

    checker.before_update.append(link)
    bench.checker = lambda: checker  # type: ignore[method-assign]
    (fault,) = (await bench.check(repair=True)).faults
    assert (fault.fate.value, fault.why) == ("left", "it has changed meanwhile: check again")
    del bench.checker
    await bench.mended()
    assert (await bench.stat(tree["f"])).nlink == 3


class _Busy:
    """Somebody who makes, moves, links and removes at random."""

    def __init__(self, house, seed: int) -> None:
        self._house, self._chance = house, random.Random(seed)

    async def act(self) -> None:
        service, chance = self._house.service, self._chance
        where, to = await self._directory(), await self._directory()
        name, new = (b"%d" % chance.randrange(6) for _ in range(2))
        act = chance.randrange(8)
        if act == 0:
            await service.create(ROOT_USER, where, name, 1)
        elif act == 1:
            await service.mkdir(ROOT_USER, where, name)
        elif act == 2:
            await service.remove(ROOT_USER, where, name)
        elif act == 3:
            await service.rmdir(ROOT_USER, where, name)
        elif act == 4:
            got = await service.lookup(ROOT_USER, where, name)
            if got.status is nfsstat3.NFS3_OK:
                await service.link(ROOT_USER, got.object, to, new)
        else:
            flags = chance.choice([0, 0, 2])
            await service.rename(ROOT_USER, where, name, to, new, flags)

    async def _directory(self) -> int:
        at = ROOT
        for _ in range(self._chance.randrange(4)):
            page = await self._house.service.readdir(ROOT_USER, at, 0, b"", 1 << 16)
            below = [e.fileid for e in page.entries[2:] if e.type == 2]
            if not below:
                break
            at = self._chance.choice(below)
        return at
