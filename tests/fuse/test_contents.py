"""The contents folder: files of removed objects serve others, and never show what was in them."""

import errno
import os
import stat
from pathlib import Path

import pytest

from fuse_client import contents
from fuse_client.contents import ContentStore, is_marked, mark, unmark, write_all
from qunfs.protocol.errors import LocalError
from tests.fuse.conftest import refused

OLD, NEW = 0x10AB, 0x20CD


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "c"


@pytest.fixture
def store(folder):
    made = ContentStore(folder)
    yield made
    made.close()


def spares(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "spare"))


def path_of(folder: Path, obj: int) -> Path:
    return folder / "data" / f"{obj & 0xFF:02x}" / f"{obj:016x}"


def write(store: ContentStore, obj: int, data: bytes) -> int:
    """Contents for an object; their inode."""
    fd = store.create(obj)
    os.write(fd, data)
    inode = os.fstat(fd).st_ino
    os.close(fd)
    return inode


def test_the_contents_folder(folder):
    store = ContentStore(folder)
    identity = store.identity
    assert len(identity) == 16
    assert store.open(0xABCD) is None
    fd = store.create(0xABCD)
    assert not is_marked(os.fstat(fd))
    mark(fd)
    assert is_marked(os.fstat(fd))
    unmark(fd)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    os.write(fd, b"x")
    os.close(fd)
    assert (folder / "data/cd/000000000000abcd").read_bytes() == b"x"
    with pytest.raises(LocalError, match="in use by another mount"):
        ContentStore(folder)
    store.close()
    store = ContentStore(folder)
    assert store.identity == identity
    store.discard(0xABCD)
    store.discard(0xABCD)
    assert store.open(0xABCD) is None
    store.close()


def test_a_contents_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="cannot be used"):
        ContentStore(tmp_path / "file")


def test_creation_takes_what_is_there(store, folder):
    write(store, OLD, b"old")
    write(store, NEW, b"kept")
    store.discard(OLD)
    fd = store.create(NEW)
    assert os.read(fd, 10) == b"kept"
    os.close(fd)
    assert spares(folder) == ["0"]


def test_a_discarded_file_serves_another_object_and_shows_no_old_bytes(store, folder):
    inode = write(store, OLD, b"secret" * 10_000)
    store.discard(OLD)
    assert store.open(OLD) is None
    assert spares(folder) == ["0"]
    kept = (folder / "spare/0").stat()
    assert (kept.st_ino, kept.st_size, kept.st_blocks) == (inode, 0, 0), "its room is free at once"
    fd = store.create(NEW)
    assert (os.fstat(fd).st_ino, os.fstat(fd).st_size) == (inode, 0)
    assert not is_marked(os.fstat(fd))
    os.pwrite(fd, b"x", 100)
    os.close(fd)
    assert path_of(folder, NEW).read_bytes() == bytes(100) + b"x"
    assert spares(folder) == []


def test_spares_outlive_the_mount_and_an_older_folder_has_none(folder):
    store = ContentStore(folder)
    inodes = {write(store, obj, b"x") for obj in range(5)}
    for obj in range(5):
        store.discard(obj)
    store.close()
    again = ContentStore(folder)
    assert {write(again, obj, b"y") for obj in range(10, 15)} == inodes
    again.discard(10)
    os.unlink(folder / "spare/0")
    os.rmdir(folder / "spare")
    again.close()
    older = ContentStore(folder)
    assert spares(folder) == []
    assert path_of(folder, 14).read_bytes() == b"y"
    older.close()


def test_there_is_a_bound(folder, monkeypatch):
    monkeypatch.setattr(contents, "SPARES_MAX", 3)
    store = ContentStore(folder)
    for obj in range(5):
        write(store, obj, b"x")
    for obj in range(5):
        store.discard(obj)
        assert store.open(obj) is None
    assert spares(folder) == ["0", "1", "2"]
    store.close()
    monkeypatch.setattr(contents, "SPARES_MAX", 2)
    store = ContentStore(folder)
    assert spares(folder) == ["0", "1"]
    store.close()


def test_what_is_no_spare_is_removed_at_the_start(folder):
    store = ContentStore(folder)
    write(store, OLD, b"x")
    store.discard(OLD)
    store.close()
    for name in ("2", "00", "notes"):
        (folder / "spare" / name).write_text("stray")
    (folder / "spare/folder").mkdir()
    again = ContentStore(folder)
    assert spares(folder) == ["0", "folder"]
    again.close()


def test_a_file_that_is_open_stays_what_it_is(store, folder):
    write(store, OLD, b"still here")
    fd = store.open(OLD)
    store.detach(OLD)
    assert store.open(OLD) is None
    assert spares(folder) == []
    assert write(store, NEW, b"new") != os.fstat(fd).st_ino
    assert os.pread(fd, 100, 0) == b"still here"
    os.close(fd)


@pytest.mark.parametrize("spoil", ["bytes", "mark", "second name", "link", "gone", "folder"])
def test_a_spare_that_is_not_as_it_must_be_is_not_used(store, folder, tmp_path, spoil):
    inode = write(store, OLD, b"old")
    store.discard(OLD)
    spare, elsewhere = folder / "spare/0", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"" if spoil == "link" else b"theirs")
    match spoil:
        case "bytes":
            spare.write_bytes(b"stray")
        case "mark":
            spare.chmod(0o1600)
        case "second name":
            os.link(spare, tmp_path / "name")
        case _:
            spare.unlink()
    if spoil == "link":
        spare.symlink_to(elsewhere)
    elif spoil == "folder":
        spare.mkdir()
    fd = store.create(NEW)
    status = os.fstat(fd)
    assert (status.st_size, status.st_nlink, stat.S_IMODE(status.st_mode)) == (0, 1, 0o600)
    if spoil == "second name":
        assert status.st_ino != inode
    os.write(fd, b"new")
    os.close(fd)
    assert path_of(folder, NEW).read_bytes() == b"new"
    assert elsewhere.read_bytes() == (b"" if spoil == "link" else b"theirs")
    store.discard(NEW)
    assert store.open(NEW) is None


@pytest.mark.parametrize("spoil", ["mark", "second name"])
def test_a_file_that_is_not_like_others_is_unlinked(store, folder, tmp_path, spoil):
    write(store, OLD, b"of a backup too")
    if spoil == "mark":
        path_of(folder, OLD).chmod(0o1600)
    else:
        os.link(path_of(folder, OLD), tmp_path / "backup")
    store.discard(OLD)
    assert store.open(OLD) is None
    assert spares(folder) == []
    assert spoil == "mark" or (tmp_path / "backup").read_bytes() == b"of a backup too"


class Crash(BaseException):
    """The process ends before this call."""


CALLS = ("open", "fstat", "ftruncate", "rename", "close", "access", "mkdir", "unlink")


def crash_before(monkeypatch, number):
    """The process ends before its system call of this number; the list is of those that were made."""
    made = []

    def counting(name, call):
        def counted(*arguments, **options):
            if len(made) >= number:
                raise Crash
            made.append(name)
            return call(*arguments, **options)

        return counted

    for name in CALLS:
        monkeypatch.setattr(contents.os, name, counting(name, getattr(os, name)))
    return made


@pytest.mark.parametrize("number", range(16))
def test_a_crash_while_a_file_changes_hands(folder, monkeypatch, number):
    """Whatever is under an object's name afterwards: its own bytes, or none."""
    store = ContentStore(folder)
    write(store, OLD, b"old")
    with monkeypatch.context() as patches:
        made = crash_before(patches, number)
        try:
            store.discard(OLD)
            fd = store.create(NEW)
            ended = True
        except Crash:
            ended = False
    if ended:
        assert made == ["open", "fstat", "ftruncate", "rename", "close", *CREATION]
        os.close(fd)
    os.close(store._lock_fd)  # as the end of the process does
    again = ContentStore(folder)
    assert not path_of(folder, NEW).exists() or path_of(folder, NEW).read_bytes() == b""
    assert not path_of(folder, OLD).exists() or path_of(folder, OLD).read_bytes() in (b"old", b"")
    assert all((folder / "spare" / name).stat().st_size == 0 for name in spares(folder))
    write(again, NEW, b"new")
    again.discard(OLD)
    assert path_of(folder, NEW).read_bytes() == b"new"
    assert again.open(OLD) is None
    again.close()


CREATION = ["access", "open", "fstat", "rename", "close", "mkdir", "access", "open", "fstat", "rename"]
"""The first in a folder: it is found missing."""


def failing(code):
    def fail(*_arguments, **_options):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EXDEV, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("name", ["rename", "ftruncate"])
def test_a_file_that_cannot_be_kept_is_removed(store, folder, monkeypatch, name, code):
    write(store, OLD, b"old")
    with monkeypatch.context() as patches:
        patches.setattr(contents.os, name, failing(code))
        store.discard(OLD)
    assert store.open(OLD) is None
    assert spares(folder) == []
    write(store, NEW, b"new")
    assert path_of(folder, NEW).read_bytes() == b"new"


def test_without_descriptors_files_can_still_be_removed(store, monkeypatch):
    write(store, OLD, b"old")
    with monkeypatch.context() as patches:
        patches.setattr(contents.os, "open", failing(errno.EMFILE))
        store.discard(OLD)
        with refused(errno.EMFILE):
            store.create(NEW)
    assert store.open(OLD) is None


def test_a_spare_that_cannot_be_moved_is_passed_over(store, folder, monkeypatch):
    write(store, OLD, b"old")
    store.discard(OLD)
    with monkeypatch.context() as patches:
        patches.setattr(contents.os, "rename", failing(errno.ENOSPC))
        write(store, NEW, b"new")
    assert path_of(folder, NEW).read_bytes() == b"new"
    inode = write(store, OLD, b"old again")
    store.discard(OLD)
    assert spares(folder) == ["0"]
    assert (folder / "spare/0").stat().st_ino == inode, "it took the other's place"


def test_a_quota_that_ends_in_the_middle_of_a_write_leaves_the_size_alone(store, monkeypatch):
    fd = store.create(OLD)
    write_all(fd, b"before", 0)
    pwrite = os.pwrite

    def limited(fd, data, offset):
        if offset >= 8:
            raise OSError(errno.EDQUOT, "over quota")
        return pwrite(fd, data[: 8 - offset], offset)

    monkeypatch.setattr(os, "pwrite", limited)
    with pytest.raises(OSError, match="over quota"):
        write_all(fd, b"and more", 6)
    assert os.pread(fd, 100, 0) == b"before"
    with pytest.raises(OSError, match="over quota"):
        write_all(fd, b"behind a hole", 7)
    assert os.pread(fd, 100, 0) == b"before"
    os.close(fd)
