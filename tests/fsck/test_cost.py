"""How many queries and how much memory a check takes."""

from collections import Counter

import pytest

from qunfs.fsck.book import Book, printable
from qunfs.fsck.walk import Walk
from qunfs.objects.ids import ROOT
from tests.fsck.conftest import Bench, N


async def trips(bench: Bench) -> tuple[int, Counter[str]]:
    core = bench.checker()
    with Book(N) as book:
        await Walk(core, book, N, lambda _: None).from_root()
    return core.trips, core.methods


async def test_many_objects_travel_together(bench: Bench) -> None:
    directories = [await bench.make_dir(ROOT, b"d%d" % number) for number in range(60)]
    for directory in directories[:3]:
        for number in range(100):
            await bench.make(directory, b"f%d" % number)
    count, methods = await trips(bench)
    assert methods == {"fsck.rows": 61, "attr.getattr": 300}
    assert count <= 1 + 6 * (60 // 16 // 6 + 1) + 6 * 2


async def test_a_long_directory_takes_few_pages(bench: Bench) -> None:
    state, where = bench.state, await bench.make_dir(ROOT, b"long")
    file = await bench.make(ROOT, b"f")
    for number in range(8000):
        bench.spoil.row(where, b"ename %08d" % number, file.to_bytes(8, "big") + b"\x01" + number.to_bytes(8, "big"))
        bench.spoil.row(where, b"k" + number.to_bytes(8, "big"), b"name %08d" % number)
    assert state.get(where, b"d") is not None
    _, methods = await trips(bench)
    assert methods["fsck.rows"] <= 5
    assert methods["attr.getattr"] == 1


async def test_what_was_seen_lies_in_a_file_and_not_in_memory() -> None:
    """The database has a cache of bounded size and a temporary file behind it."""
    with Book(N) as book:
        assert book.number("PRAGMA cache_size") < 0
        assert book.rows("PRAGMA database_list") == [(0, "main", "")]


@pytest.mark.parametrize(
    ("name", "shown"), [(b"plain", "plain"), ("ü".encode(), "ü"), (b"\xff\x00", "\\udcff\\x00"), (b"\\", "\\\\")]
)
def test_names_for_people(name: bytes, shown: str) -> None:
    assert printable(name) == shown
