"""chmod(2), fchmod(2)"""

# ruff: noqa: S103 - modes are what is tested

import errno
import os
import socket

import pytest

from tests.fuse.conftest import refused
from tests.posix import system
from tests.posix.people import ALICE, BOB, CAROL, STAFF, acting, show
from tests.posix.shared import (
    bad_paths,
    directory,
    follows_links,
    good_paths,
    missing_file,
    mode_of,
    needs_search,
    opened,
    read_only,
    touch,
    write,
)
from tests.posix.times import moves, moves_nothing


def chmod(path):
    os.chmod(path, 0o640)


test_bad_paths = bad_paths(chmod)
test_good_paths = good_paths(chmod, touch)
test_follows_links = follows_links(chmod)
test_missing = missing_file(chmod)
test_search = needs_search(chmod, touch)
test_read_only = read_only(chmod, touch)


def bind(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


@pytest.mark.parametrize("make", [touch, os.mkdir, os.mkfifo, bind], ids=["file", "directory", "fifo", "socket"])
def test_all_modes(make):
    make("x")
    for mode in (0, 0o111, 0o7777, 0o4711, 0o2070, 0o1007, 0o644):
        with moves({"x": "c", ".": ""}):
            os.chmod("x", mode)
        assert mode_of("x") == mode


def test_same_mode_moves_ctime():
    touch("f", 0o644)
    with moves({"f": "c"}):
        os.chmod("f", 0o644)


def test_descriptor():
    touch("f")
    with opened("f") as fd:
        with moves({"f": "c"}):
            os.fchmod(fd, 0o4755)
        assert mode_of(fd) == mode_of("f") == 0o4755
    with opened(".") as fd:
        os.fchmod(fd, 0o755)
    with refused(errno.EBADF):
        os.fchmod(fd, 0o644)
    with opened("f", os.O_PATH) as fd, refused(errno.EBADF):
        system.fchmod(fd, 0o644)


@pytest.mark.parametrize("make", [touch, os.mkdir], ids=["file", "directory"])
def test_only_by_the_owner(make):
    make("x")
    os.chown("x", ALICE.uid, STAFF)
    os.chmod("x", 0o777)
    for person in (BOB, CAROL):
        with acting(person), moves_nothing("x"), refused(errno.EPERM):
            os.chmod("x", 0o700)
    with acting(ALICE):
        os.chmod("x", 0o700)
    assert mode_of("x") == 0o700


def test_descriptor_of_anothers_file():
    touch("f", 0o666)
    with acting(ALICE), opened("f", os.O_RDWR) as fd, refused(errno.EPERM):
        os.fchmod(fd, 0o600)


@pytest.mark.parametrize(
    ("person", "group", "got"),
    [(ALICE, STAFF, 0o755), (ALICE, ALICE.gid, 0o2755), (CAROL, STAFF, 0o2755)],
    ids=show,
)
@pytest.mark.parametrize("make", [touch, os.mkdir], ids=["file", "directory"])
def test_set_gid_needs_the_group(make, person, group, got):
    make("x")
    os.chown("x", person.uid, group)
    with acting(person):
        os.chmod("x", 0o2755)
    assert mode_of("x") == got


def test_sticky_and_set_uid_by_the_owner():
    touch("f", 0o644, ALICE)
    directory("d", 0o755, ALICE)
    with acting(ALICE):
        os.chmod("f", 0o5755)
        os.chmod("d", 0o1777)
    assert (mode_of("f"), mode_of("d")) == (0o5755, 0o1777)


def test_not_of_a_link():
    os.symlink("missing", "link")
    with opened("link", os.O_PATH | os.O_NOFOLLOW) as fd, refused(errno.EOPNOTSUPP):
        os.chmod(f"/proc/self/fd/{fd}", 0o600)


def test_of_a_directory_that_is_in_use():
    directory("d", 0o755, ALICE)
    touch("d/f", 0o644, ALICE)
    with acting(ALICE):
        os.chdir("d")
        os.chmod(".", 0)
        with refused(errno.EACCES):
            os.stat("f")
        with refused(errno.EACCES):
            os.stat(".")
    os.chdir("..")
    os.chmod("d", 0o755)


def test_permission_changes_at_once():
    touch("f", 0o600)
    with acting(ALICE), refused(errno.EACCES):
        os.open("f", os.O_RDONLY)
    os.chmod("f", 0o604)
    with acting(ALICE), opened("f"):
        pass
    os.chmod("f", 0o600)
    with acting(ALICE), refused(errno.EACCES):
        os.open("f", os.O_RDONLY)


# --- set-id bits and writes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [(0o6777, 0o777), (0o4777, 0o777), (0o2777, 0o777), (0o1777, 0o1777)], ids=show
)
def test_writing_clears_set_id_bits(before, after):
    _write_clears(ALICE, before, after)


@pytest.mark.parametrize(("person", "after"), [(ALICE, 0o767), (CAROL, 0o2767)], ids=show)
def test_writing_clears_set_gid_that_does_not_execute(person, after):
    """It once meant mandatory locking; Linux spares it for members of the group."""
    _write_clears(person, 0o2767, after)


def _write_clears(person, before, after):
    write("f", b"data")
    os.chown("f", 0, STAFF)
    os.chmod("f", before)
    with acting(person), opened("f", os.O_WRONLY) as fd:
        assert mode_of("f") == before
        os.write(fd, b"D")
        assert mode_of(fd) == after
    assert mode_of("f") == after


def test_writing_by_the_superuser_keeps_them():
    write("f", b"data")
    os.chmod("f", 0o6777)
    write("f", b"more")
    assert mode_of("f") == 0o6777


def test_writing_nothing_keeps_them():
    touch("f", 0o6777)
    with acting(ALICE), opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"")
    assert mode_of("f") == 0o6777


def test_truncation_clears_set_id_bits():
    for call in (lambda fd: os.truncate("f", 2), lambda fd: os.ftruncate(fd, 1)):
        write("f", b"data")
        os.chmod("f", 0o6777)
        with acting(ALICE), opened("f", os.O_WRONLY) as fd:
            call(fd)
        assert mode_of("f") == 0o777
