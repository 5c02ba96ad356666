"""Unprivileged users: the kernel's checks and the service's, supplementary groups."""

# ruff: noqa: S103 - modes are what is tested

import errno
import os
import stat

from fuse_client.credentials import CredentialCache
from tests.fuse.conftest import as_user, refused

ALICE, BOB = 61001, 61002


def test_owners_and_others(m):
    os.chmod(m, 0o777)
    (m / "of root").write_bytes(b"secret")
    os.chmod(m / "of root", 0o600)

    def alice():
        (m / "f").write_bytes(b"mine")
        seen = (m / "f").stat()
        assert (seen.st_uid, seen.st_gid) == (ALICE, ALICE)
        os.chmod(m / "f", 0o644)
        os.utime(m / "f", ns=(1, 2))
        with refused(errno.EACCES):
            (m / "of root").read_bytes()
        with refused(errno.EPERM):
            os.chmod(m / "of root", 0o666)
        with refused(errno.EPERM):
            os.chown(m / "f", BOB, -1)

    def bob():
        assert (m / "f").read_bytes() == b"mine"
        with refused(errno.EACCES):
            (m / "f").write_bytes(b"not mine")
        with refused(errno.EPERM):
            os.chmod(m / "f", 0o666)
        with refused(errno.EACCES):
            os.utime(m / "f")
        with refused(errno.EPERM):
            os.utime(m / "f", ns=(1, 2))

    as_user(ALICE, alice)
    as_user(BOB, bob)
    assert (m / "f").stat().st_mtime_ns == 2


def test_touch_by_a_writer_who_is_not_the_owner(m):
    (m / "f").touch()
    os.chmod(m / "f", 0o666)
    os.utime(m / "f", ns=(1, 2))

    def touch():
        os.utime(m / "f")
        with refused(errno.EPERM):
            os.utime(m / "f", ns=(5, 5))

    as_user(ALICE, touch)
    assert (m / "f").stat().st_mtime_ns > 2


def test_supplementary_groups(m):
    (m / "d").mkdir()
    os.chown(m / "d", 0, 61100)
    os.chmod(m / "d", 0o770)
    as_user(ALICE, lambda: (m / "d/f").touch(), groups=(61099, 61100))

    def outsider():
        with refused(errno.EACCES):
            (m / "d/g").touch()

    as_user(ALICE, outsider, groups=(61099,))


def test_a_file_made_read_only_can_still_be_written_by_whoever_has_it_open(m):
    os.chmod(m, 0o777)

    def alice():
        fd = os.open(m / "f", os.O_CREAT | os.O_WRONLY, 0o400)
        os.write(fd, b"data")
        os.close(fd)
        assert (m / "f").read_bytes() == b"data"

    as_user(ALICE, alice)


def test_writing_clears_set_id_bits_at_once(m):
    (m / "f").write_bytes(b"program")
    os.chmod(m / "f", 0o6777)

    def write():
        fd = os.open(m / "f", os.O_WRONLY)
        os.write(fd, b"P")
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o777
        os.close(fd)

    as_user(ALICE, write)
    assert stat.S_IMODE((m / "f").stat().st_mode) == 0o777


def test_root_who_became_somebody_else_reports_as_root(m):
    """What a descriptor was opened for stays allowed when the process gives up its rights (setfsuid, su)."""
    (m / "f").touch()
    os.chmod(m / "f", 0o600)
    fd = os.open(m / "f", os.O_WRONLY)

    def write():
        os.write(fd, b"x")
        os.ftruncate(fd, 3)
        os.close(fd)

    as_user(ALICE, write)
    os.close(fd)
    assert (m / "f").stat().st_size == 3


def test_groups_are_read_once_in_a_while(tmp_path):
    clock = [0.0]
    cache = CredentialCache(tmp_path, lambda: clock[0], capacity=2)

    def set_groups(pid, text):
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nGroups:\t{text} \nNStgid:\t1\n")

    set_groups(7, "30 10 20")
    assert cache.of_process(7, 1000, 100).groups == (10, 20, 30)
    set_groups(7, "")
    assert cache.of_process(7, 1000, 100).groups == (10, 20, 30)
    assert cache.of_process(7, 1001, 100).groups == ()
    clock[0] = 1.0
    assert cache.of_process(7, 1000, 100).groups == ()
    assert cache.of_process(8, 1000, 100).groups == (), "no such process"
    assert cache.of_process(7, 0, 5).groups == (), "the superuser needs none"
    set_groups(9, " ".join(map(str, range(5000))))
    assert len(cache.of_process(9, 1000, 100).groups) == 1024
    assert len(cache._known) == 2
