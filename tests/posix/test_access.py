"""access(2), faccessat(2)"""

import errno
import os
from contextlib import nullcontext
from itertools import product

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
    needs_search,
    touch,
)
from tests.posix.system import bound

AT_EACCESS = 0x200


def access(path, mode=os.F_OK):
    system.faccessat(path, mode)


test_bad_paths = bad_paths(access)
test_good_paths = good_paths(access, touch)
test_follows_links = follows_links(access)
test_missing = missing_file(access)
test_search = needs_search(access, touch)


@pytest.mark.parametrize("person", [ALICE, CAROL, BOB], ids=show)
@pytest.mark.parametrize("make", [touch, directory], ids=["file", "directory"])
def test_permission(person, make):
    shift = {ALICE: 6, CAROL: 3, BOB: 0}[person]
    make("x", 0, ALICE, STAFF)
    for bits in range(8):
        os.chmod("x", (0o777 & ~(7 << shift)) | bits << shift)
        with acting(person):
            access("x")
            for wanted, flags in product(range(1, 8), (0, AT_EACCESS)):
                with nullcontext() if bits & wanted == wanted else refused(errno.EACCES):
                    system.faccessat("x", wanted, flags)


def test_superuser():
    touch("f", 0, ALICE)
    directory("d", 0, ALICE)
    access("f", os.R_OK | os.W_OK)
    access("d", os.R_OK | os.W_OK | os.X_OK)
    with refused(errno.EACCES):
        access("f", os.X_OK)
    os.chmod("f", 0o001)
    access("f", os.X_OK)


def test_real_ids_count():
    """Unless the effective ones are asked for."""
    touch("f", 0o600)
    os.setresuid(ALICE.uid, 0, 0)
    try:
        with refused(errno.EACCES):
            access("f", os.R_OK)
        system.faccessat("f", os.R_OK, AT_EACCESS)
    finally:
        os.setresuid(0, 0, 0)


def test_bad_mode():
    touch("f")
    with refused(errno.EINVAL):
        access("f", 8)


def test_read_only():
    os.mkdir("real")
    os.mkdir("view")
    touch("real/f")
    os.mkfifo("real/fifo")
    with bound("real", "view", read_only=True):
        with refused(errno.EROFS):
            access("view/f", os.W_OK)
        access("view/f", os.R_OK)
        access("view/fifo", os.W_OK)
