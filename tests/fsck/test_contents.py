"""The local contents folder, held against the namespace."""

from pathlib import Path

import pytest

from fuse_client.contents import ContentStore
from qunfs.nfs.types import nfsstat3, sattr3
from qunfs.objects.ids import ROOT
from tests.fsck.conftest import Bench
from tests.nfs.conftest import ROOT_USER

OTHER_STORE = bytes(range(16))


class Folder:
    """A contents folder that no mount has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        store = ContentStore(path)
        self.identity = store.identity
        store.close()

    def put(self, obj: int, data: bytes) -> Path:
        path = self.path / "data" / f"{obj & 0xFF:02x}" / f"{obj:016x}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "contents")


async def written(bench: Bench, obj: int, size: int, store: bytes) -> None:
    got = await bench.service.setattr(ROOT_USER, obj, sattr3(size=size, wrote=True, store=store))
    assert got.status is nfsstat3.NFS3_OK


async def test_contents_that_belong_together_are_no_faults(bench: Bench, tree: dict[str, int], folder: Folder) -> None:
    await written(bench, tree["f"], 5, folder.identity)
    folder.put(tree["f"], b"hello")
    folder.put(tree["g"], b"written, and the mount was killed before it could say so")
    empty = await bench.make(ROOT, b"empty")
    await written(bench, empty, 0, folder.identity)
    foreign = await bench.make(ROOT, b"foreign")
    await written(bench, foreign, 9, OTHER_STORE)
    report = await bench.check(contents=folder.path)
    assert (report.faults, report.notes, report.contents) == ([], [], 2)


@pytest.mark.parametrize("why", ["removed", "never", "taken over", "symlink"])
async def test_contents_of_no_file_are_moved_aside(
    bench: Bench, tree: dict[str, int], folder: Folder, why: str
) -> None:
    obj = tree["g"]
    if why == "removed":
        await bench.service.remove(ROOT_USER, tree["a"], b"g")
    elif why == "never":
        obj = bench.spoil.fresh()
    elif why == "taken over":
        await written(bench, obj, 3, OTHER_STORE)
    else:
        obj = (await bench.service.symlink(ROOT_USER, ROOT, b"l", sattr3(), b"to")).obj
    path = folder.put(obj, b"bytes")
    report = await bench.check(contents=folder.path)
    assert [(fault.kind.value, fault.path, fault.fate.value) for fault in report.faults] == [
        ("contents-without-file", str(path), "left")
    ]
    assert path.exists()
    report = await bench.check(contents=folder.path, repair=True)
    assert (len(report.faults), report.left) == (1, 0)
    assert not path.exists()
    assert (folder.path / "lost+found" / path.name).read_bytes() == b"bytes"
    assert (await bench.check(contents=folder.path)).faults == []


async def test_missing_contents_are_told_of_and_nothing_is_truncated(
    bench: Bench, tree: dict[str, int], folder: Folder
) -> None:
    await written(bench, tree["g"], 5, folder.identity)
    report = await bench.check(contents=folder.path, repair=True)
    assert [(fault.kind.value, fault.path, fault.fate.value) for fault in report.faults] == [
        ("file-without-contents", "/a/g", "left")
    ]
    assert (await bench.stat(tree["g"])).size == 5


async def test_what_is_not_named_like_contents_is_nobodys(bench: Bench, tree: dict[str, int], folder: Folder) -> None:
    for name in ("00/x", "00/" + "0" * 16, "ab/" + "f" * 16, "01/" + f"{ROOT:016x}"):
        path = folder.path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"?")
    report = await bench.check(contents=folder.path, repair=True)
    assert (report.faults, report.contents) == ([], 0)


async def test_a_stray_file_among_the_folders_ends_nothing(bench: Bench, tree: dict[str, int], folder: Folder) -> None:
    path = folder.put(bench.spoil.fresh(), b"bytes")
    (folder.path / "data" / "00stray").write_bytes(b"?")
    report = await bench.check(contents=folder.path, repair=True)
    assert [fault.path for fault in report.faults] == [str(path)]
    assert (report.contents, report.left) == (1, 0)


async def test_what_lies_aside_already_is_not_overwritten(bench: Bench, tree: dict[str, int], folder: Folder) -> None:
    obj = bench.spoil.fresh()
    texts = [b"first", b"second", b"third"]
    for text in texts:
        folder.put(obj, text)
        (fault,) = (await bench.check(contents=folder.path, repair=True)).faults
        assert fault.fate.value == "repaired"
    aside = folder.path / "lost+found"
    assert [path.read_bytes() for path in sorted(aside.iterdir())] == texts
    assert (aside / f"{obj:016x}").read_bytes() == b"first"


async def test_a_name_that_leads_nowhere_is_not_free(bench: Bench, tree: dict[str, int], folder: Folder) -> None:
    obj = bench.spoil.fresh()
    aside = folder.path / "lost+found"
    aside.mkdir()
    (aside / f"{obj:016x}").symlink_to("nowhere")
    folder.put(obj, b"bytes")
    (fault,) = (await bench.check(contents=folder.path, repair=True)).faults
    assert fault.why == f"moved to {aside}"
    assert (aside / f"{obj:016x}").is_symlink()


async def test_a_folder_in_use_is_left_alone_with_a_word(bench: Bench, tree: dict[str, int], folder: Folder) -> None:
    path = folder.put(bench.spoil.fresh(), b"bytes")
    mounted = ContentStore(folder.path)
    try:
        report = await bench.check(contents=folder.path, repair=True)
    finally:
        mounted.close()
    assert report.faults == []
    assert "in use by another mount" in report.notes[0]
    assert path.exists()


async def test_no_folder_is_made_where_there_is_none(bench: Bench, tree: dict[str, int], tmp_path: Path) -> None:
    report = await bench.check(contents=tmp_path / "none")
    assert report.notes == ["no contents folder to look at"]
    assert not (tmp_path / "none").exists()
