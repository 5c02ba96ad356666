"""chown(2), lchown(2), fchown(2)"""

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
    mode_of,
    needs_search,
    opened,
    read_only,
    touch,
)
from tests.posix.times import moves, moves_nothing


def chown(path):
    os.chown(path, 1, 2)


def lchown(path):
    os.lchown(path, 1, 2)


def to_own_group(path):
    os.chown(path, -1, os.getegid())


test_bad_paths = bad_paths(chown)
test_lchown_bad_paths = bad_paths(lchown)
test_good_paths = good_paths(chown, touch)
test_lchown_good_paths = good_paths(lchown, touch)
test_follows_links = follows_links(chown)
test_missing = missing_file(chown)
test_search = needs_search(to_own_group, touch)
test_read_only = read_only(chown, touch)


def owner(path):
    seen = os.lstat(path) if isinstance(path, str) else os.fstat(path)
    return seen.st_uid, seen.st_gid


@pytest.mark.parametrize("make", [touch, os.mkdir, os.mkfifo], ids=["file", "directory", "fifo"])
def test_changes(make):
    make("x")
    with moves({"x": "c", ".": ""}):
        os.chown("x", 65535, 2**32 - 2)
    assert owner("x") == (65535, 2**32 - 2)
    os.chown("x", 7, -1)
    assert owner("x") == (7, 2**32 - 2)
    os.chown("x", -1, 8)
    assert owner("x") == (7, 8)


def test_to_the_same_moves_ctime():
    touch("f")
    with moves({"f": "c"}):
        os.chown("f", 0, 0)


def test_of_a_link():
    touch("f")
    os.symlink("f", "link")
    with moves({"link": "c", "f": ""}):
        os.lchown("link", 5, 6)
    assert (owner("link"), owner("f")) == ((5, 6), (0, 0))
    os.chown("link", 7, 8)
    assert (owner("link"), owner("f")) == ((5, 6), (7, 8))


def test_descriptor():
    touch("f")
    with opened("f") as fd:
        with moves({"f": "c"}):
            os.fchown(fd, 5, 6)
        assert owner(fd) == owner("f") == (5, 6)
    with refused(errno.EBADF):
        os.fchown(fd, 1, 1)
    with opened("f", os.O_PATH) as fd, refused(errno.EBADF):
        os.fchown(fd, 1, 1)


@pytest.mark.parametrize(
    ("person", "to", "allowed"),
    [
        (ALICE, (ALICE.uid, ALICE.gid), True),
        (ALICE, (-1, -1), True),
        (ALICE, (-1, STAFF), False),
        (ALICE, (BOB.uid, -1), False),
        (ALICE, (ALICE.uid, BOB.gid), False),
        (CAROL, (-1, STAFF), True),
        (CAROL, (CAROL.uid, 61099), True),
        (CAROL, (-1, ALICE.gid), False),
        (CAROL, (0, STAFF), False),
    ],
    ids=lambda value: getattr(value, "name", None) or str(value).replace(" ", ""),
)
def test_by_the_owner(person, to, allowed):
    touch("f", 0o777, person)
    with acting(person), moves({"f": "c" if allowed else ""}):
        if allowed:
            os.chown("f", *to)
        else:
            with refused(errno.EPERM):
                os.chown("f", *to)
    kept = (person.uid, person.gid)
    assert owner("f") == (
        tuple(new if new != -1 else old for new, old in zip(to, kept, strict=True)) if allowed else kept
    )


@pytest.mark.parametrize("to", [(BOB.uid, -1), (-1, BOB.gid), (ALICE.uid, ALICE.gid)], ids=str)
def test_not_by_others(to):
    touch("f", 0o777, ALICE)
    with acting(BOB), moves_nothing("f"), refused(errno.EPERM):
        os.chown("f", *to)


def test_nothing_by_others():
    """Nothing is asked for, and nothing refused."""
    touch("f", 0o777, ALICE)
    with acting(BOB):
        os.chown("f", -1, -1)
    touch("set-id", 0o6777, ALICE)
    with acting(BOB), refused(errno.EPERM):
        os.chown("set-id", -1, -1)
    assert owner("f") == owner("set-id") == (ALICE.uid, ALICE.gid)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o6777, 0o777), (0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o6745, 0o2745), (0o1777, 0o1777)],
    ids=show,
)
@pytest.mark.parametrize("by", ["root", "owner"])
def test_clears_set_id_bits(before, after, by):
    touch("f", 0, CAROL)
    os.chmod("f", before)
    if by == "root":
        os.chown("f", ALICE.uid, ALICE.gid)
    else:
        with acting(CAROL):
            os.chown("f", -1, STAFF)
    assert mode_of("f") == after


def test_keeps_the_bits_of_directories():
    directory("d", 0o6777, CAROL)
    with acting(CAROL):
        os.chown("d", -1, STAFF)
    assert mode_of("d") == 0o6777
    os.chown("d", 0, 0)
    assert mode_of("d") == 0o6777


def test_permission_changes_at_once():
    touch("f", 0o600, ALICE)
    with acting(ALICE), opened("f"):
        pass
    os.chown("f", BOB.uid, -1)
    with acting(ALICE), refused(errno.EACCES):
        os.open("f", os.O_RDONLY)
    with acting(BOB), opened("f"):
        pass
