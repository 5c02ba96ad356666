"""chdir(2), fchdir(2), getcwd(3), and search permission"""

# ruff: noqa: S103 - modes are what is tested

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, CAROL, STAFF, acting, show
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

test_bad_paths = bad_paths(os.chdir)
test_good_paths = good_paths(os.chdir, os.mkdir)
test_follows_links = follows_links(lambda path: (os.chdir(path), os.chdir("..")), os.mkdir)
test_missing = missing_file(os.chdir)
test_search = needs_search(os.chdir, os.mkdir)


def test_goes_there(here):
    os.makedirs("a/b")
    os.chdir("a/b")
    assert os.getcwd() == f"{here}/a/b"
    os.chdir("..")
    assert os.getcwd() == f"{here}/a"
    os.rename("../a", "../c")
    assert os.getcwd() == f"{here}/c"


def test_only_directories():
    touch("f", 0o777)
    os.mkfifo("fifo")
    for path in ("f", "fifo"):
        with refused(errno.ENOTDIR):
            os.chdir(path)
    with opened("f") as fd, refused(errno.ENOTDIR):
        os.fchdir(fd)


@pytest.mark.parametrize("person", [ALICE, CAROL, BOB], ids=show)
def test_permission(person):
    shift = {ALICE: 6, CAROL: 3, BOB: 0}[person]
    directory("shut", 0o777 & ~(1 << shift), ALICE, STAFF)
    directory("open", 1 << shift, ALICE, STAFF)
    with acting(person):
        with refused(errno.EACCES):
            os.chdir("shut")
        with opened("shut") as fd, refused(errno.EACCES):
            os.fchdir(fd)
        os.chdir("open")


def test_descriptor(here):
    os.mkdir("d")
    with opened("d") as fd:
        os.fchdir(fd)
    assert os.getcwd() == f"{here}/d"
    with refused(errno.EBADF):
        os.fchdir(fd)


def test_search_permission_is_needed_at_each_use():
    """Where one is does not matter then."""
    directory("d", 0o700, ALICE)
    directory("d/e", 0o755, ALICE)
    touch("d/e/f", 0o644)
    os.chdir("d/e")
    with acting(BOB):
        assert os.stat("f").st_size == 0
        assert os.listdir(".") == ["f"]
        with refused(errno.EACCES):
            os.stat("../e")
    os.chmod("../../d", 0o711)
    with acting(BOB):
        assert os.stat("../e/f").st_size == 0
    os.chmod("../../d", 0o700)
    with acting(BOB), refused(errno.EACCES):
        os.stat("../e/f")


def test_removed(here):
    os.mkdir("d")
    os.chdir("d")
    os.rmdir(here / "d")
    with refused(errno.ENOENT):
        os.getcwd()
    with refused(errno.ENOENT):
        os.open("f", os.O_CREAT | os.O_WRONLY)
    os.chdir("..")
    assert os.getcwd() == str(here)


def test_deep_below_any_path(here):
    """The C library finds out by itself where it is when the kernel has no room to say so."""
    name = "x" * 200
    for _ in range(25):
        os.mkdir(name)
        os.chdir(name)
    touch("f")
    assert os.getcwd() == str(here) + f"/{name}" * 25
    with refused(errno.ENAMETOOLONG):
        os.stat(os.getcwd())
    with refused(errno.ENAMETOOLONG):
        os.stat(f"{name}/" * 21)
