"""Values at the very end of what system calls take, and beyond what can be kept."""

import errno
import os
import stat

import pytest

from fuse_client.attributes import entry_attributes
from qunfs.nfs.types import fattr3, ftype3
from tests.fuse.conftest import refused

SECOND = 1_000_000_000
FIRST, LAST = -(1 << 63), (1 << 63) - 1


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (-1, -1),
        (-5 * SECOND - 3, -5 * SECOND - 3),
        (FIRST, FIRST),
        (LAST, LAST),
        (FIRST - 1, FIRST),
        (LAST + 1, LAST),
        (400 * 365 * 86_400 * SECOND, LAST),
        (-400 * 365 * 86_400 * SECOND, FIRST),
        ((1 << 33) * SECOND, (1 << 33) * SECOND),
        ((1 << 62) * SECOND, LAST),
    ],
)
def test_times_before_1970_and_after_2262(m, asked, kept):
    (m / "f").touch()
    os.utime(m / "f", ns=(asked, asked))
    seen = (m / "f").stat()
    assert (seen.st_atime_ns, seen.st_mtime_ns) == (kept, kept)


def test_highest_user_and_group(m):
    (m / "f").touch()
    highest = (1 << 32) - 2
    os.chown(m / "f", highest, highest)
    seen = (m / "f").stat()
    assert (seen.st_uid, seen.st_gid) == (highest, highest)
    os.chown(m / "f", -1, 5)
    assert ((m / "f").stat().st_uid, (m / "f").stat().st_gid) == (highest, 5)


@pytest.mark.parametrize("length", [60 * 1024 + 1, 65_300, 65_530, 65_536])
def test_extended_attributes_that_no_message_can_carry(mount, length):
    path = mount.path / "f"
    path.touch()
    with refused(errno.E2BIG):
        os.setxattr(path, "user." + "n" * 250, bytes(length))
    os.setxattr(path, "user.a", b"b")
    assert os.getxattr(path, "user.a") == b"b"
    assert "failed" not in mount.text()


@pytest.mark.parametrize("rdev", [(4095, (1 << 20) - 1), (4096, 1 << 20), ((1 << 32) - 1, (1 << 32) - 1)])
def test_device_numbers_that_fuse_has_no_room_for(rdev):
    major, minor = rdev
    seen = fattr3(ftype3.NF3BLK, 0o600, 1, 0, 0, 0, 0, rdev, 1, 1 << 61, 0, 0, 0)
    shown = entry_attributes(seen, 0.0)
    assert stat.S_ISBLK(shown.st_mode)
    assert (os.major(shown.st_rdev), os.minor(shown.st_rdev)) == (major & 0xFFF, minor & 0xFFFFF)
