"""Lookups that a mount answers by itself: they save calls, and show nothing older than the time-outs."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from tests.fuse.conftest import as_user, refused

TIMEOUT_S = 1.0
OPTIONS = (f"attr_timeout={TIMEOUT_S}", f"entry_timeout={TIMEOUT_S}")
USER = 1234


@pytest.fixture
def two(mounter, namespace):
    """Two mounts; the first makes directory ``d`` and knows it whole."""
    b, a = mounter(namespace, "b", *OPTIONS), mounter(namespace, "a", *OPTIONS)
    (a.path / "d").mkdir()
    (a.path / "d").chmod(0o777)
    yield a.path / "d", b.path / "d"
    for mount in (a, b):
        assert mount.unmount() == 0
        assert "Traceback" not in mount.text()


def keep_busy(directory, seconds=1.5 * TIMEOUT_S):
    """Have all that is known of a directory confirmed over and over, while the kernel forgets names and attributes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (directory / "busy").touch()
        (directory / "busy").unlink()
        time.sleep(TIMEOUT_S / 20)


def counted(namespace, body):
    before = namespace.calls()
    body()
    return {name: n - before.get(name, 0) for name, n in namespace.calls().items() if n != before.get(name, 0)}


@pytest.fixture
def opened(two):
    """The directory by way of a descriptor: nobody has to look it up itself."""
    fd = os.open(two[0], os.O_RDONLY)
    yield Path(f"/proc/self/fd/{fd}")
    os.close(fd)


def test_a_busy_directory_needs_no_lookups(opened, namespace):
    a = opened
    for name in "fgh":
        (a / name).write_bytes(b"text")
    assert "dir.lookup" not in counted(namespace, lambda: keep_busy(a))
    assert counted(namespace, lambda: (a / "f").exists()) == {"attr.getattr": 1}
    # once if the open comes at once after the kernel's question, which it need not where others are at work
    assert counted(namespace, lambda: (a / "g").read_bytes()) in ({"attr.getattr": 1}, {"attr.getattr": 2})
    assert counted(namespace, lambda: (a / "h").unlink()) == {"dir.remove": 1}
    assert counted(namespace, lambda: (a / "none").exists()) == {}


def test_a_directory_that_was_listed_needs_none(two, namespace):
    _, b = two
    (b / "f").touch()
    os.listdir(b)
    keep_busy(b)
    assert not (b / "none").exists()
    assert namespace.clients[0].methods.get("dir.lookup", 0) <= 2  # of d and of f


def test_a_new_name_is_seen_within_the_time_out(two):
    a, b = two
    assert not (a / "f").exists()
    (b / "f").touch()
    time.sleep(TIMEOUT_S)
    assert (a / "f").exists()
    (b / "g").touch()
    (a / "h").touch()  # finds out that somebody else was here
    assert (a / "g").exists()


def test_creating_what_somebody_else_made_opens_it(two):
    a, b = two
    assert not (a / "f").exists()
    (b / "f").touch()
    (a / "f").write_bytes(b"text")
    assert (a / "f").stat().st_ino == (b / "f").stat().st_ino
    (b / "g").touch()
    with refused(errno.EEXIST):
        os.open(a / "g", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_a_file_replaced_elsewhere_is_seen_within_the_time_out(two):
    a, b = two
    (a / "f").write_bytes(b"old")
    (b / "g").touch()
    keep_busy(a)
    new = (b / "g").stat().st_ino
    os.replace(b / "g", b / "f")
    time.sleep(TIMEOUT_S)
    assert (a / "f").stat().st_ino == new
    assert (a / "f").read_bytes() == b""


def test_a_file_removed_elsewhere_is_gone(two):
    a, b = two
    for name in "fg":
        (a / name).write_bytes(b"text")
    keep_busy(a)
    for name in "fg":
        (b / name).unlink()
    with refused(errno.ENOENT):
        (a / "f").open()
    with refused(errno.ENOENT):
        (a / "g").unlink()


def test_symlinks_and_directories_removed_elsewhere_are_gone(two):
    a, b = two
    os.symlink("target", a / "link")
    (a / "sub").mkdir()
    keep_busy(a)
    (b / "link").unlink()
    (b / "sub").rmdir()
    with refused(errno.ENOENT):
        os.readlink(a / "link")
    with refused(errno.ENOENT):
        (a / "sub" / "f").touch()


def test_attributes_are_never_older_than_their_time_out(two):
    a, b = two
    (a / "f").write_bytes(b"text")
    (a / "g").write_bytes(b"text")
    os.link(a / "g", a / "h")
    keep_busy(a)
    (b / "f").chmod(0o600)
    (b / "h").unlink()
    os.truncate(b / "g", 0)
    keep_busy(a)
    assert stat.S_IMODE((a / "f").stat().st_mode) == 0o600
    assert ((a / "g").stat().st_nlink, (a / "g").stat().st_size) == (1, 0)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_who_owns_a_file_by_now_may_do_what_owners_may(two, mode):
    a, b = two
    a.chmod(mode)
    for name in "fg":
        (a / name).touch()
    keep_busy(a)
    for name in "fg":
        os.chown(b / name, USER, USER)
    keep_busy(a)

    def use():
        (a / "f").chmod(0o640)
        (a / "g").unlink()

    as_user(USER, use)
    assert stat.S_IMODE((b / "f").stat().st_mode) == 0o640


def test_who_does_not_own_a_file_any_more_may_not(two):
    a, b = two
    a.chmod(0o1777)
    as_user(USER, (a / "f").touch)
    keep_busy(a)
    os.chown(b / "f", 0, 0)
    keep_busy(a)

    def use():
        with refused(errno.EPERM):
            (a / "f").chmod(0o640)
        with refused(errno.EPERM):
            (a / "f").unlink()

    as_user(USER, use)


def test_a_search_permission_that_was_taken_away_counts(two):
    a, b = two
    (a / "f").touch()
    as_user(USER, (a / "f").stat)
    keep_busy(a)
    b.chmod(0o700)
    time.sleep(TIMEOUT_S)
    keep_busy(a)

    def use():
        for name in ("f", "none"):
            with refused(errno.EACCES):
                (a / name).stat()

    as_user(USER, use)


def test_renames_here_are_seen_at_once(two, namespace):
    a, _ = two
    (a / "sub").mkdir()
    for name in ("f", "g", "sub/h"):
        (a / name).write_bytes(name.encode())
    os.rename(a / "f", a / "f2")
    os.rename(a / "sub/h", a / "h2")
    os.replace(a / "h2", a / "g")
    os.link(a / "g", a / "g2")
    assert sorted(os.listdir(a)) == ["f2", "g", "g2", "sub"]
    keep_busy(a)
    assert ((a / "f2").read_bytes(), (a / "g").read_bytes(), (a / "g2").stat().st_nlink) == (b"f", b"sub/h", 2)
    for name in ("f", "h2", "busy"):
        assert not (a / name).exists()
    (a / "sub").rmdir()
    assert not (a / "sub").exists()
