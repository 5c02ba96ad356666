"""Tests that many calls have in common, made for each: how paths resolve, and what permission their parents need.

All calls work on relative paths in the test's directory, as the superuser unless a test acts as somebody else.
"""

import errno
import os
import pathlib
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, CAROL, STAFF, Person, acting
from tests.posix.system import bound
from tests.posix.times import moves_nothing

Call = Callable[[str], object]

WRITE, SEARCH = 2, 1
NAME_MAX: Final = 255
PATH_MAX: Final = 4096


class Path(NamedTuple):
    """A path, what must be there before, and how calls fail on it."""

    what: str
    path: str
    code: int
    make: Callable[[], object] = lambda: None


def _loop(name: str) -> None:
    os.symlink(name, name)


_BAD: Final = (
    Path("empty", "", errno.ENOENT),
    Path("no such parent", "missing/x", errno.ENOENT),
    Path("parent is a file", "file/x", errno.ENOTDIR, lambda: touch("file")),
    Path("parent is a fifo", "fifo/x", errno.ENOTDIR, lambda: os.mkfifo("fifo")),
    Path("parent is a link to a file", "link/x", errno.ENOTDIR, lambda: (touch("file"), os.symlink("file", "link"))),
    Path("parent is a link to nothing", "link/x", errno.ENOENT, lambda: os.symlink("missing", "link")),
    Path("parent is a link to itself", "loop/x", errno.ELOOP, lambda: _loop("loop")),
    Path("name of 256 bytes", "x" * (NAME_MAX + 1), errno.ENAMETOOLONG),
    Path("parent of 256 bytes", "x" * (NAME_MAX + 1) + "/x", errno.ENAMETOOLONG),
    Path("path of 4096 bytes", "./" * (PATH_MAX // 2 - 1) + "ab", errno.ENAMETOOLONG),
)

_GOOD: Final = (
    Path("name of 255 bytes", "x" * NAME_MAX, 0),
    Path("path of 4095 bytes", "./" * (PATH_MAX // 2 - 1) + "x", 0),
    Path("slashes", "sub///a", 0, lambda: os.mkdir("sub")),
    Path("dots", "sub/../sub/./b", 0),
    Path("parent is a link", "link/c", 0, lambda: os.symlink("sub", "link")),
    Path("any byte", "\udcff \n\udc80*\\", 0),
)


def touch(path: str, mode: int = 0o644, owner: Person | None = None, group: int | None = None) -> None:
    """An empty file with exactly this mode."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
    if owner is not None:
        os.chown(path, owner.uid, owner.gid if group is None else group)
    os.chmod(path, mode)


def directory(path: str, mode: int = 0o755, owner: Person | None = None, group: int | None = None) -> None:
    """A directory with exactly this mode."""
    os.mkdir(path)
    if owner is not None:
        os.chown(path, owner.uid, owner.gid if group is None else group)
    os.chmod(path, mode)


@contextmanager
def opened(path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> Iterator[int]:
    """A descriptor that is closed however the block ends: a busy mount would not end."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def mode_of(path: str | int) -> int:
    return stat.S_IMODE(os.stat(path).st_mode if isinstance(path, int) else os.lstat(path).st_mode)


def _nothing(path: str) -> None:
    pass


@contextmanager
def _about(what: str) -> Iterator[None]:
    """A failure in the block says what it was about."""
    try:
        yield
    except (AssertionError, OSError, pytest.fail.Exception) as error:
        error.add_note(what)
        raise


def bad_paths(call: Call) -> Any:
    """A test that a call fails as it should wherever its path leads nowhere."""

    def test() -> None:
        for number, bad in enumerate(_BAD):
            os.mkdir(str(number))
            os.chdir(str(number))
            bad.make()
            with _about(bad.what), refused(bad.code):
                call(bad.path)
            os.chdir("..")

    return test


def good_paths(call: Call, prepare: Call = _nothing) -> Any:
    """A test that a call works on unusual paths; ``prepare`` makes what it works on."""

    def test(here: pathlib.Path) -> None:
        for good in _GOOD:
            good.make()
            with _about(good.what):
                prepare(good.path)
                call(good.path)
            os.chdir(here)

    return test


def follows_links(call: Call, prepare: Call = touch, missing: int = errno.ENOENT) -> Any:
    """A test that a call works on what a link leads to; ``missing``: how it fails if that is nothing (0: not)."""

    def test() -> None:
        prepare("target")
        os.symlink("target", "one")
        os.symlink("one", "two")
        call("two")
        os.symlink("loop", "loop")
        with refused(errno.ELOOP):
            call("loop")
        os.symlink("missing", "dangling")
        if missing:
            with refused(missing):
                call("dangling")
        else:
            call("dangling")

    return test


def missing_file(call: Call) -> Any:
    """A test that a call needs its file to exist."""

    def test() -> None:
        for path in ("missing", "missing/"):
            with refused(errno.ENOENT):
                call(path)

    return test


def needs_search(call: Call, prepare: Call = _nothing) -> Any:
    """A test that a call needs permission to search the directories on the way, and those alone.

    Of the three classes of bits just the first that fits a person counts.
    """

    def test() -> None:
        os.mkdir("way")
        directory("way/sub", 0o777, BOB)
        prepare("way/sub/x")
        if os.path.lexists("way/sub/x"):
            os.chown("way/sub/x", BOB.uid, BOB.gid, follow_symlinks=False)
        os.chown("way", ALICE.uid, STAFF)
        for person, mode in ((ALICE, 0o677), (CAROL, 0o767), (BOB, 0o776)):
            os.chmod("way", mode)
            with _about(f"{person.name}, {mode:o}"), acting(person), refused(errno.EACCES):
                call("way/sub/x")
        os.chmod("way", 0o001)
        with acting(BOB):
            call("way/sub/x")

    return test


def needs_write_in_parent(call: Call, prepare: Call = _nothing) -> Any:
    """A test that a call needs permission to write and search the parent, by the one class of bits that counts."""

    @pytest.mark.parametrize(
        ("person", "shift"), [(ALICE, 6), (CAROL, 3), (BOB, 0)], ids=lambda value: getattr(value, "name", "")
    )
    def test(person: Person, shift: int) -> None:
        directory("parent", 0o777, ALICE, STAFF)
        prepare("parent/x")
        for missing in (WRITE, SEARCH):
            os.chmod("parent", 0o777 & ~(missing << shift))
            with _about(f"without {missing}"), acting(person), refused(errno.EACCES):
                call("parent/x")
        os.chmod("parent", (WRITE | SEARCH) << shift)
        with acting(person):
            call("parent/x")

    return test


def sticky_parent(call: Call, prepare: Call = touch) -> Any:
    """A test that in a sticky directory only owners take names away: of the directory, or of what has the name."""

    @pytest.mark.parametrize(
        ("of_directory", "of_file", "allowed"),
        [(BOB, ALICE, True), (ALICE, BOB, True), (BOB, BOB, False)],
        ids=["own file", "own directory", "neither"],
    )
    def test(of_directory: Person, of_file: Person, allowed: bool) -> None:
        directory("parent", 0o1777, of_directory)
        prepare("parent/x")
        os.chown("parent/x", of_file.uid, of_file.gid, follow_symlinks=False)
        with acting(ALICE):
            if allowed:
                call("parent/x")
                return
            with refused(errno.EPERM):
                call("parent/x")
        assert os.path.lexists("parent/x")

    return test


def read_only(call: Call, prepare: Call = _nothing) -> Any:
    """A test that a call is refused where the mount is read-only, and changes nothing."""

    def test() -> None:
        os.mkdir("real")
        prepare("real/x")
        before = os.listdir("real")
        os.mkdir("view")
        with bound("real", "view", read_only=True), moves_nothing("real"), refused(errno.EROFS):
            call("view/x")
        assert os.listdir("real") == before

    return test
