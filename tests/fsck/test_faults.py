"""Every kind of fault, found and repaired."""

import pytest

from qunfs.fsck.book import Book
from qunfs.fsck.checks import suspicions
from qunfs.fsck.findings import Kind
from qunfs.nfs.types import nfsstat3, sattr3
from qunfs.objects.checking import lost_name
from qunfs.objects.ids import ROOT, TOPOLOGY
from tests.fsck.conftest import Bench, N
from tests.nfs.conftest import ALICE, ROOT_USER
from tests.nfs.tree import check_tree

FILE, DIRECTORY, SYMLINK = 1, 2, 5


async def test_a_sound_tree_has_no_faults(bench: Bench, tree: dict[str, int]) -> None:
    report = await bench.check()
    assert (report.faults, report.left) == ([], 0)
    assert (report.directories, report.files, report.entries) == (4, 2, 6)
    assert await bench.check(repair=True) == report


async def test_a_name_of_nothing(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.absent(tree["g"])
    assert await bench.found() == [("dangling-entry", "/a/g")]
    await bench.mended()
    assert await bench.names(tree["a"]) == [b"b", b"h"]
    check_tree(bench.state)


async def test_a_name_of_a_directory_that_is_gone(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.absent(tree["c"])
    assert await bench.found() == [("dangling-entry", "/a/b/c")]
    await bench.mended()
    check_tree(bench.state)


@pytest.mark.parametrize("obj", [0, 7, TOPOLOGY, 1 << 63, (1 << 64) - 1])
async def test_a_name_of_what_cannot_be(bench: Bench, tree: dict[str, int], obj: int) -> None:
    bench.spoil.enter(tree["a"], b"odd", obj, FILE)
    assert await bench.found() == [("dangling-entry", "/a/odd")]
    await bench.mended()
    check_tree(bench.state)


@pytest.mark.parametrize(("name", "said"), [(b"g", SYMLINK), (b"g", DIRECTORY), (b"b", FILE)])
async def test_an_entry_of_another_type(bench: Bench, tree: dict[str, int], name: bytes, said: int) -> None:
    row = bench.state.get(tree["a"], b"e" + name)
    bench.spoil.row(tree["a"], b"e" + name, row[:8] + bytes((said,)) + row[9:])
    kinds = {kind for kind, _ in await bench.found()}
    assert "wrong-type" in kinds
    assert kinds <= {"wrong-type", "directory-index"}
    await bench.mended()
    check_tree(bench.state)


async def test_a_directory_with_two_names_keeps_the_one_in_its_parent(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.enter(ROOT, b"again", tree["c"], DIRECTORY)
    assert await bench.found() == [("directory-named-twice", "/again")]
    await bench.mended()
    assert await bench.names(tree["b"]) == [b"c"]
    check_tree(bench.state)


async def test_a_directory_with_two_names_in_one_directory(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.enter(tree["b"], b"twin", tree["c"], DIRECTORY)
    assert await bench.found() == [("directory-named-twice", "/a/b/twin")]
    await bench.mended()
    check_tree(bench.state)


async def test_a_second_name_below_itself_never_cuts_a_directory_off(bench: Bench, tree: dict[str, int]) -> None:
    """The directory even says that this is its parent: the way from the root counts for more."""
    bench.spoil.enter(tree["c"], b"loop", tree["a"], DIRECTORY)
    bench.spoil.header(tree["a"], parent=tree["c"])
    assert await bench.found() == [("directory-named-twice", "/a/b/c/loop"), ("wrong-parent", "/a")]
    await bench.mended()
    check_tree(bench.state)


async def test_a_directory_that_says_another_parent(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.header(tree["c"], parent=tree["a"])
    assert await bench.found() == [("wrong-parent", "/a/b/c")]
    await bench.mended()
    check_tree(bench.state)


@pytest.mark.parametrize("links", [1, 3, 60_000])
async def test_a_wrong_link_count(bench: Bench, tree: dict[str, int], links: int) -> None:
    bench.spoil.attribute(tree["f"], "nlink", links)
    (found,) = await bench.found()
    assert found[0] == "wrong-link-count"
    await bench.mended()
    assert (await bench.stat(tree["f"])).nlink == 2
    check_tree(bench.state)


@pytest.mark.parametrize("links", [1, 2, 4])
async def test_a_wrong_link_count_of_a_directory(bench: Bench, tree: dict[str, int], links: int) -> None:
    bench.spoil.attribute(tree["a"], "nlink", links)
    assert await bench.found() == [("directory-index", "/a")]
    await bench.mended()
    check_tree(bench.state)


def _cookie(number: int) -> bytes:
    return b"k" + number.to_bytes(8, "big")


async def _spoil_index(bench: Bench, where: int, how: str) -> None:
    spoil = bench.spoil
    if how == "no cookie":
        spoil.row(where, _cookie(4), None)
    elif how == "cookie of nothing":
        spoil.row(where, _cookie(40), b"nobody")
        spoil.header(where, next_cookie=41)
    elif how == "cookie of another":
        spoil.row(where, _cookie(4), b"b")
    elif how == "same cookie twice":
        row = bench.state.get(where, b"eg")
        spoil.row(where, b"eg", row[:9] + (3).to_bytes(8, "big"))
    elif how == "above the counter":
        spoil.header(where, next_cookie=4)
    elif how == "out of bounds":
        row = bench.state.get(where, b"eg")
        spoil.row(where, b"eg", row[:9] + b"\xff" * 8)
        spoil.row(where, _cookie(4), None)
        spoil.row(where, b"k" + b"\xff" * 8, b"g")
    elif how == "below the first":
        row = bench.state.get(where, b"eg")
        spoil.row(where, b"eg", row[:9] + (1).to_bytes(8, "big"))
        spoil.row(where, _cookie(4), None)
        spoil.row(where, _cookie(1), b"g")
    elif how == "no index":
        for number in (3, 4, 5):
            spoil.row(where, _cookie(number), None)
    else:
        spoil.header(where, entries=77)


@pytest.mark.parametrize(
    "how",
    [
        "no cookie",
        "cookie of nothing",
        "cookie of another",
        "same cookie twice",
        "above the counter",
        "out of bounds",
        "below the first",
        "no index",
        "entries",
    ],
)
async def test_a_broken_index(bench: Bench, tree: dict[str, int], how: str) -> None:
    await _spoil_index(bench, tree["a"], how)
    assert await bench.found() == [("directory-index", "/a")]
    await bench.mended()
    assert sorted(await bench.names(tree["a"])) == [b"b", b"g", b"h"]
    check_tree(bench.state)


async def test_an_entry_keeps_its_place_where_it_can(bench: Bench, tree: dict[str, int]) -> None:
    """A listing that is under way goes on."""
    before = await bench.service.readdir(ROOT_USER, tree["a"], 0, b"", 1 << 16)
    bench.spoil.row(tree["a"], _cookie(4), None)
    await bench.mended()
    after = await bench.service.readdir(ROOT_USER, tree["a"], 0, b"", 1 << 16)
    assert after.entries == before.entries


async def test_an_orphaned_file(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.drop(tree["a"], b"g")
    assert await bench.found() == [("orphan", f"#{tree['g']:x}")]
    await bench.mended()
    lost = await bench.find(ROOT, b"lost+found")
    assert await bench.names(lost) == [lost_name(tree["g"])]
    assert (await bench.stat(lost)).mode == 0o700
    check_tree(bench.state)


async def test_an_orphan_that_remembers_two_names_has_one_then(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.drop(tree["a"], b"h")
    bench.spoil.drop(ROOT, b"f")
    await bench.mended()
    assert (await bench.stat(tree["f"])).nlink == 1
    check_tree(bench.state)


async def test_an_orphaned_tree_comes_back_whole(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.drop(ROOT, b"a")
    report = await bench.check()
    assert [(fault.kind.value, fault.obj) for fault in report.faults] == [("orphan", tree["a"])]
    assert "4 objects below it" in report.faults[0].text  # b, c, g, and f, which has a name besides
    await bench.mended()
    lost = await bench.find(ROOT, b"lost+found")
    assert await bench.find(lost, lost_name(tree["a"])) == tree["a"]
    assert await bench.find(tree["b"], b"c") == tree["c"]
    check_tree(bench.state)


async def test_a_cycle_that_a_malevolent_client_made(bench: Bench, tree: dict[str, int]) -> None:
    """It says that no ancestor of the new parent is the directory that moves, and the methods believe it."""
    rogue = bench.other()
    climbs = type(rogue.service)._climb

    async def blind(self, *words):
        reply = await climbs(self, *words)
        reply.result = False
        return reply

    rogue.service._climb = blind.__get__(rogue.service)
    got = await rogue.service.rename(ROOT_USER, ROOT, b"a", tree["c"], b"a")
    assert got.status is nfsstat3.NFS3_OK
    report = await bench.check()
    (fault,) = report.faults
    assert (fault.kind.value, fault.obj) == ("directory-cycle", min(tree[name] for name in "abc"))
    assert "3 directories" in fault.text
    await bench.mended()
    check_tree(bench.state)
    assert await bench.names(ROOT) == [b"f", b"lost+found"]


async def test_a_directory_that_is_its_own_parent(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.drop(tree["b"], b"c")
    bench.spoil.enter(tree["c"], b"me", tree["c"], DIRECTORY)
    bench.spoil.header(tree["c"], parent=tree["c"])
    (found,) = await bench.found()
    assert found[0] == "directory-cycle"
    await bench.mended()
    check_tree(bench.state)


async def test_two_cycles_and_what_hangs_below(bench: Bench, tree: dict[str, int]) -> None:
    ids = []
    for name in (b"x", b"y"):
        outer = await bench.make_dir(ROOT, name)
        inner = await bench.make_dir(outer, b"in")
        await bench.make(await bench.make_dir(inner, b"below"), b"file")
        bench.spoil.drop(ROOT, name)
        bench.spoil.enter(inner, b"out", outer, DIRECTORY)
        bench.spoil.header(outer, parent=inner)
        ids.append(min(outer, inner))
    report = await bench.check()
    assert sorted(fault.obj for fault in report.faults) == sorted(ids)
    await bench.mended()
    check_tree(bench.state)


async def test_rows_that_make_no_sense_are_told_of_and_left(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.row(tree["g"], b"a", b"\xc1")
    bench.spoil.row(tree["c"], b"d", b"\x01")
    assert await bench.found() == [("unreadable", "/a/b/c"), ("unreadable", "/a/g")]
    assert (await bench.check(repair=True)).left == 2


async def test_a_root_directory_with_a_parent(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.header(ROOT, parent=tree["a"])
    assert await bench.found() == [("unreadable", "/")]


async def test_no_root_directory(bench: Bench, tree: dict[str, int]) -> None:
    """Whatever it named looks as if it had no name: nothing of that is a fault to repair."""
    bench.spoil.absent(ROOT)
    before = bench.state.dump()
    report = await bench.check(repair=True)
    assert [(fault.kind.value, fault.fate.value) for fault in report.faults] == [("unreadable", "left")]
    assert UNJUDGED in report.notes
    assert bench.state.dump() == before


@pytest.mark.parametrize("name", ["a", "b", "c", ""])
async def test_a_directory_that_lacks_its_attributes(bench: Bench, tree: dict[str, int], name: str) -> None:
    """To readers it is not there; but its rows are, and what they name would lose its place with it."""
    obj = tree.get(name, ROOT)
    bench.spoil.row(obj, b"a", None)
    assert (await bench.service.getattr(ROOT_USER, obj)).status is nfsstat3.NFS3ERR_STALE
    before = bench.state.dump()
    report = await bench.check(repair=True)
    assert [(fault.kind.value, fault.obj, fault.fate.value) for fault in report.faults] == [("unreadable", obj, "left")]
    assert bench.state.dump() == before


UNJUDGED = "1 directory cannot be read: what it names cannot be judged"


@pytest.mark.parametrize(
    ("where", "key"),
    [("a", b"a"), ("a", b"d"), ("a", b"eg"), ("a", b"eh"), ("b", b"ec"), ("b", b"k\x01"), ("", b"ea"), ("", b"d")],
)
async def test_what_an_unreadable_directory_names_gets_no_second_name(
    bench: Bench, tree: dict[str, int], where: str, key: bytes
) -> None:
    """One row that makes no sense hides all names beside it, and they are still there."""
    bench.spoil.row(tree.get(where, ROOT), key, b"\xc1")
    before = bench.state.dump()
    report = await bench.check(repair=True)
    assert [(fault.kind.value, fault.fate.value) for fault in report.faults] == [("unreadable", "left")]
    assert UNJUDGED in report.notes
    assert bench.state.dump() == before


async def test_an_unreadable_directory_without_a_name_still_names_what_is_in_it(
    bench: Bench, tree: dict[str, int]
) -> None:
    bench.spoil.drop(ROOT, b"a")
    bench.spoil.row(tree["a"], b"eg", b"\xc1")
    before = bench.state.dump()
    report = await bench.check(repair=True)
    assert [(fault.kind.value, fault.fate.value) for fault in report.faults] == [("unreadable", "left")]
    assert UNJUDGED in report.notes
    assert bench.state.dump() == before


@pytest.mark.parametrize("names", [[b"again"], [b"again", b"twice"]])
async def test_a_parent_that_cannot_be_read_stays_the_parent(
    bench: Bench, tree: dict[str, int], names: list[bytes]
) -> None:
    """It may well have a name there: with another parent, that would be the one to go."""
    for name in names:
        bench.spoil.enter(ROOT, name, tree["c"], DIRECTORY)
    row = bench.state.get(tree["b"], b"a")
    bench.spoil.row(tree["b"], b"a", b"\xc1")
    report = await bench.check(repair=True)
    assert "wrong-parent" not in [fault.kind.value for fault in report.faults]
    bench.spoil.row(tree["b"], b"a", row)
    await bench.mended()
    assert await bench.names(tree["b"]) == [b"c"]
    check_tree(bench.state)


async def test_a_directory_without_a_name_that_lacks_its_header(bench: Bench, tree: dict[str, int]) -> None:
    """What it names has that name, and is below no cycle."""
    bench.spoil.drop(tree["a"], b"b")
    bench.spoil.row(tree["b"], b"d", None)
    assert await bench.found() == [("unreadable", f"#{tree['b']:x}")]


async def test_a_directory_that_no_loose_one_names_is_in_no_cycle(bench: Bench) -> None:
    """The walk leaves no such book, as far as is known."""
    obj = bench.spoil.fresh(directory=True)
    with Book(N) as book:
        book.add([ROOT], ROOT)
        book.add([obj], 0)
        book.rows("UPDATE object SET state = 1, parent = 1")
        book.rows("INSERT INTO entry VALUES (?, ?, ?, ?, 3)", ROOT, b"x", obj, DIRECTORY)
        assert Kind.CYCLE not in [fault.kind for fault in suspicions(book)]


async def test_a_malformed_file_hides_no_names(bench: Bench, tree: dict[str, int]) -> None:
    bench.spoil.row(tree["g"], b"a", b"\xc1")
    bench.spoil.attribute(tree["f"], "nlink", 9)
    report = await bench.check(repair=True)
    assert [(fault.kind.value, fault.fate.value) for fault in report.faults] == [
        ("unreadable", "left"),
        ("wrong-link-count", "repaired"),
    ]


async def test_everything_at_once(bench: Bench, tree: dict[str, int]) -> None:
    for number in range(40):
        await bench.make(tree["b"], b"n%d" % number)
    bench.spoil.absent(await bench.find(tree["b"], b"n3"))
    bench.spoil.enter(ROOT, b"again", tree["c"], DIRECTORY)
    bench.spoil.attribute(tree["f"], "nlink", 9)
    bench.spoil.drop(tree["b"], b"n4")
    bench.spoil.header(tree["b"], entries=1)
    bench.spoil.row(tree["a"], _cookie(4), None)
    kinds = [kind for kind, _ in await bench.found()]
    assert kinds == sorted(
        [
            "dangling-entry",
            "directory-named-twice",
            "wrong-link-count",
            "orphan",
            "directory-index",
            "directory-index",
        ]
    )
    await bench.mended()
    check_tree(bench.state)


async def test_without_a_place_for_them_orphans_are_left(bench: Bench, tree: dict[str, int]) -> None:
    await bench.make(ROOT, b"lost+found")
    bench.spoil.drop(tree["a"], b"g")
    report = await bench.check(repair=True)
    assert [fault.why for fault in report.faults] == ["/lost+found cannot be used: it is no directory of root's"]
    assert report.left == 1


async def test_nobody_gets_orphans_by_making_a_place_for_them(bench: Bench, tree: dict[str, int]) -> None:
    """Whose directory it is could remove them; that may be whoever may do so anyhow."""
    mine = await bench.make_dir(ROOT, b"lost+found", ALICE)
    bench.spoil.drop(tree["a"], b"g")
    report = await bench.check(repair=True)
    assert [fault.why for fault in report.faults] == ["/lost+found cannot be used: it is no directory of root's"]
    assert await bench.names(mine) == []
    await bench.service.setattr(ROOT_USER, ROOT, sattr3(uid=ALICE.uid))
    await bench.mended()
    assert await bench.names(mine) == [lost_name(tree["g"])]


async def test_a_deleted_file_is_no_orphan(bench: Bench, tree: dict[str, int]) -> None:
    await bench.service.remove(ROOT_USER, tree["a"], b"g")
    assert (await bench.check()).faults == []


async def test_names_are_shown_without_what_they_do_to_terminals(bench: Bench, tree: dict[str, int]) -> None:
    name = b"\x1b[2J\xff\n\\"
    bench.spoil.absent(await bench.make(ROOT, name))
    assert await bench.found() == [("dangling-entry", "/\\x1b[2J\\udcff\\n\\\\")]
