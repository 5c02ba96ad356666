"""getxattr(2), setxattr(2), listxattr(2), removexattr(2)"""

# ruff: noqa: S103 - modes are what is tested

import errno
import os

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
    read_only,
    touch,
)
from tests.posix.times import moves, moves_nothing


def set_(path):
    os.setxattr(path, "user.a", b"1")


def get(path):
    assert os.getxattr(path, "user.a") == b"1"


def remove(path):
    os.removexattr(path, "user.a")


def with_attribute(path):
    touch(path)
    set_(path)


test_set_bad_paths = bad_paths(set_)
test_get_bad_paths = bad_paths(get)
test_list_bad_paths = bad_paths(os.listxattr)
test_remove_bad_paths = bad_paths(remove)
test_set_good_paths = good_paths(set_, touch)
test_get_good_paths = good_paths(get, with_attribute)
test_follows_links = follows_links(get, with_attribute)
test_missing = missing_file(set_)
test_set_search = needs_search(set_, touch)
test_get_search = needs_search(get, with_attribute)
test_list_search = needs_search(os.listxattr, touch)
test_remove_search = needs_search(remove, with_attribute)
test_set_read_only = read_only(set_, touch)
test_remove_read_only = read_only(remove, with_attribute)


@pytest.mark.parametrize("make", [touch, os.mkdir], ids=["file", "directory"])
def test_life(make):
    make("x")
    assert os.listxattr("x") == []
    with moves({"x": "c"}):
        os.setxattr("x", "user.a", b"1")
    os.setxattr("x", "user.empty", b"")
    os.setxattr("x", "user.bytes", bytes(range(256)))
    os.setxattr("x", "user.a", b"2")
    assert sorted(os.listxattr("x")) == ["user.a", "user.bytes", "user.empty"]
    assert os.getxattr("x", "user.a") == b"2"
    assert os.getxattr("x", "user.empty") == b""
    assert os.getxattr("x", "user.bytes") == bytes(range(256))
    with moves({"x": "c"}):
        os.removexattr("x", "user.a")
    assert sorted(os.listxattr("x")) == ["user.bytes", "user.empty"]


def test_reading_moves_nothing():
    with_attribute("f")
    with moves_nothing("f"):
        get("f")
        os.listxattr("f")


def test_descriptors_and_links():
    touch("f")
    os.symlink("f", "link")
    with opened("f") as fd:
        os.setxattr(fd, "user.a", b"1")
        assert os.listxattr(fd) == ["user.a"]
    os.link("f", "g")
    assert os.getxattr("g", "user.a") == b"1"
    os.rename("f", "h")
    assert os.getxattr("h", "user.a") == b"1"
    assert os.listxattr("link", follow_symlinks=False) == []


def test_creating_and_replacing():
    touch("f")
    with moves_nothing("f"), refused(errno.ENODATA):
        os.setxattr("f", "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr("f", "user.a", b"1", os.XATTR_CREATE)
    with moves_nothing("f"), refused(errno.EEXIST):
        os.setxattr("f", "user.a", b"2", os.XATTR_CREATE)
    os.setxattr("f", "user.a", b"3", os.XATTR_REPLACE)
    assert os.getxattr("f", "user.a") == b"3"
    with refused(errno.EINVAL):
        os.setxattr("f", "user.a", b"1", 4)


def test_creating_in_what_may_only_be_written():
    touch("f")
    os.chmod("f", 0o702)
    with acting(ALICE):
        os.setxattr("f", "user.a", b"1", os.XATTR_CREATE)
        os.setxattr("f", "user.a", b"2", os.XATTR_REPLACE)
    assert os.getxattr("f", "user.a") == b"2"


def test_missing_attribute():
    touch("f")
    with refused(errno.ENODATA):
        os.getxattr("f", "user.a")
    with moves_nothing("f"), refused(errno.ENODATA):
        os.removexattr("f", "user.a")


def test_name_spaces():
    touch("f")
    for name in ("a", "strange.a", "user."):
        for call in (
            lambda n: os.setxattr("f", n, b"1"),
            lambda n: os.getxattr("f", n),
            lambda n: os.removexattr("f", n),
        ):
            with refused(errno.EINVAL if name == "user." else errno.EOPNOTSUPP):
                call(name)


def test_sizes():
    touch("f")
    os.setxattr("f", "user." + "x" * 250, b"1")
    with refused(errno.ERANGE):
        os.setxattr("f", "user." + "x" * 251, b"1")
    with refused(errno.ERANGE):
        os.setxattr("f", "", b"1")
    with refused(errno.E2BIG):
        os.setxattr("f", "user.big", bytes(65537))
    os.setxattr("f", "user.large", bytes(3000))
    assert len(os.getxattr("f", "user.large")) == 3000


def test_too_many():
    touch("f")
    with refused(errno.ENOSPC):
        for i in range(200):
            os.setxattr("f", f"user.{i}", bytes(1000))


@pytest.mark.parametrize("make", [touch, os.mkdir], ids=["file", "directory"])
def test_permission(make):
    make("x")
    os.chmod("x", 0o644 if make is touch else 0o755)
    set_("x")
    with acting(ALICE):
        get("x")
        assert os.listxattr("x") == ["user.a"]
        for call in (set_, remove):
            with moves_nothing("x"), refused(errno.EACCES):
                call("x")
    os.chmod("x", 0o700)
    with acting(ALICE):
        with refused(errno.EACCES):
            get("x")
        assert os.listxattr("x") == ["user.a"]
    os.chmod("x", 0o702)
    with acting(ALICE):
        set_("x")
        with refused(errno.EACCES):
            get("x")


def test_sticky_directories_are_their_owners():
    directory("d", 0o1777, BOB)
    with acting(ALICE), refused(errno.EPERM):
        set_("d")
    with acting(BOB):
        set_("d")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("missing", path)], ids=["fifo", "link"])
def test_only_files_and_directories_have_them(make):
    make("x")
    with refused(errno.EPERM):
        os.setxattr("x", "user.a", b"1", follow_symlinks=False)
    with refused(errno.ENODATA):
        os.getxattr("x", "user.a", follow_symlinks=False)
    with refused(errno.EPERM):
        os.removexattr("x", "user.a", follow_symlinks=False)


def test_trusted_attributes_are_the_superusers():
    touch("f", 0o666)
    os.setxattr("f", "trusted.a", b"1")
    assert os.listxattr("f") == ["trusted.a"]
    with acting(ALICE):
        assert os.listxattr("f") == []
        with refused(errno.ENODATA):
            os.getxattr("f", "trusted.a")
        with refused(errno.EPERM):
            os.setxattr("f", "trusted.a", b"2")
        with refused(errno.EPERM):
            os.removexattr("f", "trusted.a")
    assert os.getxattr("f", "trusted.a") == b"1"


def test_security_attributes():
    touch("f")
    os.setxattr("f", "security.a", b"1")
    assert os.getxattr("f", "security.a") == b"1"
    with acting(ALICE), refused(errno.EPERM):
        os.setxattr("f", "security.a", b"2")


def test_access_control_lists():
    """The empty one means: none but the mode."""
    touch("f")
    os.setxattr("f", "system.posix_acl_access", b"\2\0\0\0")
    with refused(errno.ENODATA):
        os.getxattr("f", "system.posix_acl_access")
