"""opendir(3), readdir(3), rewinddir(3), telldir(3), seekdir(3), closedir(3)"""

import errno
import os
import stat

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, acting
from tests.posix.shared import (
    bad_paths,
    directory,
    follows_links,
    good_paths,
    missing_file,
    needs_search,
    opened,
    touch,
)
from tests.posix.system import Directory
from tests.posix.times import moves, settle

DT_FIFO, DT_DIR, DT_REG, DT_LNK = 1, 4, 8, 10


def listing(path):
    with Directory(path) as opened_:
        return opened_.names()


test_bad_paths = bad_paths(listing)
test_good_paths = good_paths(listing, os.mkdir)
test_follows_links = follows_links(listing, os.mkdir)
test_missing = missing_file(listing)
test_search = needs_search(listing, os.mkdir)


def fill(count, path="d"):
    os.mkdir(path)
    for i in range(count):
        os.mknod(f"{path}/{i}")
    return {b"%d" % i for i in range(count)}


def test_empty():
    os.mkdir("d")
    assert sorted(listing("d")) == [b".", b".."]


def test_entries():
    os.mkdir("d")
    touch("d/f")
    os.mkdir("d/d")
    os.mkfifo("d/p")
    os.symlink("x", "d/l")
    with Directory("d") as stream:
        seen = {}
        while (entry := stream.read()) is not None:
            assert entry[0] not in seen
            seen[entry[0]] = entry[1:]
    kinds = {b"f": DT_REG, b"d": DT_DIR, b"p": DT_FIFO, b"l": DT_LNK}
    for name, kind in kinds.items():
        assert seen.pop(name) == (os.lstat(b"d/" + name).st_ino, kind)
    assert seen[b"."] == (os.stat("d").st_ino, DT_DIR)
    assert seen[b".."] == (os.stat(".").st_ino, DT_DIR)


def test_names_are_bytes():
    names = [b"\xff\xfe", b" ", b"x" * 255, b"\n", b"..."]
    os.mkdir("d")
    for name in names:
        os.mkdir(b"d/" + name)
    assert sorted(listing("d")) == sorted([*names, b".", b".."])


def test_many_entries_are_listed_and_removed_meanwhile():
    names = fill(700)
    found = listing("d")
    assert len(found) == 702
    assert set(found) == names | {b".", b".."}
    with os.scandir("d") as entries:
        for entry in entries:
            os.unlink(entry.path)
    os.rmdir("d")


def test_only_directories():
    touch("f")
    os.mkfifo("fifo")
    for path in ("f", "fifo", "f/"):
        with refused(errno.ENOTDIR):
            Directory(path)
    with opened("f") as fd, refused(errno.ENOTDIR):
        os.listdir(fd)


def test_permission():
    directory("shut", 0o733)
    directory("d", 0o744, ALICE)
    touch("d/f")
    os.chmod("d", 0o400)
    with acting(ALICE):
        with refused(errno.EACCES):
            Directory("shut")
        assert b"f" in listing("d")


def test_who_may_only_read_sees_names_and_types():
    """And spoils nothing for those who may search, then or later."""
    directory("d", 0o744, ALICE)
    touch("d/f", 0o644, ALICE)
    directory("d/s", 0o755, ALICE)
    os.symlink("f", "d/l")
    with acting(BOB):
        with os.scandir("d") as entries:
            found = {entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries}
        assert found == {"f": (False, False), "s": (True, False), "l": (False, True)}
        for name in found:
            with refused(errno.EACCES):
                os.lstat(f"d/{name}")
    with acting(ALICE):
        assert os.stat("d/l").st_ino == os.stat("d/f").st_ino
        assert os.listdir("d/s") == []
        with os.scandir("d") as entries:
            assert {entry.name: entry.inode() for entry in entries} == {
                name: os.lstat(f"d/{name}").st_ino for name in found
            }
    searchable = 0o755
    os.chmod("d", searchable)
    with acting(BOB):
        assert os.stat("d/l").st_ino == os.stat("d/f").st_ino
        with refused(errno.ENOENT):
            os.stat("d/other")


def test_permission_counts_at_open():
    directory("d", 0o777)
    touch("d/f")
    with acting(ALICE):
        stream = Directory("d")
    with stream:
        os.chmod("d", 0)
        with acting(ALICE):
            assert b"f" in stream.names()


@pytest.mark.parametrize("count", [5, 300])
def test_positions(count):
    fill(count)
    with Directory("d") as stream:
        positions, names = [], []
        while True:
            positions.append(stream.tell())
            entry = stream.read()
            if entry is None:
                break
            names.append(entry[0])
        for index in (0, count // 2, count, 1, count + 2):
            stream.seek(positions[index])
            assert stream.names() == names[index:]
        stream.rewind()
        assert stream.names() == names


def test_rewinding_shows_what_is_new():
    fill(3)
    with Directory("d") as stream:
        stream.names()
        touch("d/new")
        os.unlink("d/1")
        stream.rewind()
        assert set(stream.names()) == {b".", b"..", b"0", b"2", b"new"}


def test_what_stays_is_listed_once_whatever_comes_and_goes():
    stay = fill(150)
    for i in range(100):
        os.mknod(f"d/gone{i}")
    with Directory("d") as stream:
        found = []
        for i in range(252):
            entry = stream.read()
            if entry is None:
                break
            found.append(entry[0])
            if i % 4 == 0 and i // 4 < 100:
                os.unlink(f"d/gone{i // 4}")
                os.mknod(f"d/come{i}")
        found += stream.names()
    assert len(found) == len(set(found))
    assert stay <= set(found)


def test_moves_atime():
    os.mkdir("d")
    touch("d/f")
    os.utime("d", ns=(1, 2))
    with moves({"d": "a"}):
        listing("d")
    settle("d")
    with moves({"d": ""}):
        listing("d")


def test_descriptor():
    fill(2)
    with opened("d") as fd:
        assert sorted(os.listdir(fd)) == ["0", "1"]
        os.unlink("d/0")
        assert os.listdir(fd) == ["1"]
        with refused(errno.EISDIR):
            os.read(fd, 10)
        with refused(errno.EBADF):
            os.write(fd, b"x")
    with refused(errno.EBADF):
        os.listdir(fd)


def test_listing_after_a_rename():
    fill(2)
    os.rename("d/0", "d/2")
    assert set(listing("d")) == {b".", b"..", b"1", b"2"}
    os.mkdir("e")
    os.rename("d", "e/d")
    assert set(listing("e/d")) == {b".", b"..", b"1", b"2"}
    with Directory("e/d") as stream:
        dots = {name: inode for name, inode, _ in iter(stream.read, None)}
    assert dots[b".."] == os.stat("e").st_ino


def test_attributes_of_entries():
    fill(50)
    for i in range(50):
        os.chmod(f"d/{i}", i)
    with os.scandir("d") as entries:
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in entries}
    assert modes == {str(i): i for i in range(50)}
