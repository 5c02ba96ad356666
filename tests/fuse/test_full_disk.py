"""A contents folder on a disk that is full, has no inodes left, or became read-only: system calls say so, nothing else
happens, and what needs no contents goes on."""

import errno
import os
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fuse.conftest import refused

KIB = 1024
BLOCK = 64 * KIB


@contextmanager
def disk(path, *options):
    """A small disk of its own."""
    path.mkdir()
    subprocess.run(["mount", *options, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def small(tmp_path):
    with disk(tmp_path / "small", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as path:
        yield path


@pytest.fixture
def m(mounter, namespace, small):
    """A mount with its contents there, which is asked anew for every attribute."""
    made = mounter(namespace, "m", "attr_timeout=0", "entry_timeout=0", contents="small/contents")
    assert made.ready, made.text()
    yield made.path
    assert made.unmount() == 0
    assert "Traceback" not in made.text()


def fill(path, size=BLOCK):
    """Write until nothing goes any more; what was written."""
    written = 0
    with path.open("wb", buffering=0) as file, refused(errno.ENOSPC):
        while True:
            done = file.write(bytes([written // size % 251 + 1]) * size)
            assert path.stat().st_size == written + done
            written += done
    return written


def expected(written, size=BLOCK):
    return b"".join(bytes([at // size % 251 + 1]) * min(size, written - at) for at in range(0, written, size))


@pytest.mark.parametrize("size", [BLOCK, 1000, 100_001, 700_000])
def test_written_until_full(m, small, size):
    (m / "before").write_bytes(b"kept")
    written = fill(m / "f", size)
    assert written >= KIB * KIB
    assert (m / "f").stat().st_size == written
    assert (m / "f").read_bytes() == expected(written, size)
    assert (m / "before").read_bytes() == b"kept"
    os.unlink(m / "f")
    (m / "later").write_bytes(b"l" * KIB * KIB)
    assert (m / "later").read_bytes() == b"l" * KIB * KIB
    assert (m / "before").read_bytes() == b"kept"


def test_what_was_not_written_leaves_no_trace(m, small):
    """Whoever appends goes on where he was told that he had got to."""
    record, written = b"r" * 90_000, 0
    with (m / "log").open("ab", buffering=0) as log:
        with refused(errno.ENOSPC):
            while True:
                written += log.write(record)
        assert written >= KIB * KIB
        assert os.fstat(log.fileno()).st_size == written
        fill(m / "the rest", 1000)
        with refused(errno.ENOSPC):
            log.write(record)
        os.unlink(m / "the rest")
        os.truncate(m / "log", 10 * len(record))
        assert log.write(b"s" * 5000) == 5000
    assert (m / "log").read_bytes() == 10 * record + b"s" * 5000


def test_names_and_attributes_go_on(m, small):
    (m / "d").mkdir()
    (m / "kept").write_bytes(b"kept")
    fill(m / "d" / "f")
    (m / "new").touch()
    os.rename(m / "new", m / "d" / "renamed")
    os.symlink("x" * 100, m / "link")
    os.link(m / "kept", m / "kept too")
    os.chmod(m / "kept", 0o600)
    os.utime(m / "kept", ns=(1, 2))
    (m / "e").mkdir()
    (m / "e").rmdir()
    with refused(errno.ENOSPC):
        (m / "d" / "renamed").write_bytes(b"y" * 100_000)
    assert (m / "d" / "renamed").stat().st_size in (0, 100_000 // 4096 * 4096)
    os.truncate(m / "d" / "f", 1000)
    assert (m / "d" / "f").read_bytes() == expected(1000)
    (m / "d" / "renamed").write_bytes(b"y" * 100_000)
    assert (m / "d" / "renamed").read_bytes() == b"y" * 100_000
    assert sorted(os.listdir(m)) == ["d", "kept", "kept too", "link"]
    assert ((m / "kept").read_bytes(), (m / "kept").stat().st_mtime_ns) == (b"kept", 2)


def test_found_again_by_the_next_mount(mounter, namespace, small):
    first = mounter(namespace, contents="small/contents")
    written = fill(first.path / "f")
    assert first.unmount() == 0
    second = mounter(namespace, contents="small/contents")
    assert (second.path / "f").stat().st_size == written
    assert (second.path / "f").read_bytes() == expected(written)
    assert "recording it" not in second.text()
    assert second.unmount() == 0


def test_mount_on_a_full_disk(mounter, namespace, small):
    first = mounter(namespace, contents="small/contents")
    (first.path / "f").write_bytes(b"here")
    assert first.unmount() == 0
    with suppress(OSError), (small / "other").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    second = mounter(namespace, contents="small/contents")
    assert second.ready, second.text()
    assert (second.path / "f").read_bytes() == b"here"
    assert second.unmount() == 0


def test_no_inodes_left(mounter, namespace, tmp_path):
    with disk(tmp_path / "few", "-t", "tmpfs", "-o", "size=8m,nr_inodes=50", "tmpfs"):
        mount = mounter(namespace, "m", "attr_timeout=0", "entry_timeout=0", contents="few/contents")
        m = mount.path
        written = 0
        with refused(errno.ENOSPC):
            for written in range(100):
                (m / f"{written}").write_bytes(b"%d" % written)
        assert 10 <= written < 50
        assert (m / f"{written}").stat().st_size == 0, "there is a name, and nothing was written"
        (m / "0").write_bytes(b"others can be written")
        for i in range(1, written):
            assert (m / f"{i}").read_bytes() == b"%d" % i
        for i in range(1, written, 2):
            os.unlink(m / f"{i}")
        (m / f"{written}").write_bytes(b"now")
        assert (m / f"{written}").read_bytes() == b"now"
        assert (m / "0").read_bytes() == b"others can be written"
        assert mount.unmount() == 0
        assert "Traceback" not in mount.text()


def switch_of(image: Path) -> Path:
    """Where to write to have an ext4 file system find itself damaged, and by errors=remount-ro become read-only."""
    loop = subprocess.run(["losetup", "-j", image], capture_output=True, text=True, check=True).stdout.split(":")[0]
    return Path("/sys/fs/ext4", loop.removeprefix("/dev/"), "trigger_fs_error")


def append(path, data):
    with path.open("ab", buffering=0) as file:
        file.write(data)


def test_became_read_only(mounter, namespace, tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * KIB * KIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    with disk(tmp_path / "ext4", "-o", "loop,errors=remount-ro", image):
        mount = mounter(namespace, "m", "attr_timeout=0", "entry_timeout=0", contents="ext4/contents")
        m, switch = mount.path, switch_of(image)
        for name in ("closed", "open", "removed", "cut", "emptied"):
            (m / name).write_bytes(b"as it was")
        with (m / "open").open("r+b", buffering=0) as opened:
            opened.write(b"AS")
            switch.write_text("a test\n")  # not by a child: it closes the file, and would wait for this process
            assert (m / "closed").read_bytes() == b"as it was"
            assert os.pread(opened.fileno(), 100, 0) == b"AS it was"
            for change in (
                lambda: opened.write(b"x"),
                lambda: opened.truncate(3),
                lambda: (m / "closed").write_bytes(b"y"),
                lambda: append(m / "closed", b"x"),
                lambda: os.truncate(m / "cut", 3),
                lambda: os.truncate(m / "cut", 30),
                lambda: (m / "emptied").open("wb"),
                lambda: (m / "new").write_bytes(b"x"),
            ):
                with refused(errno.EROFS):
                    change()
            os.unlink(m / "removed")
            os.rename(m / "closed", m / "renamed")
        assert sorted(os.listdir(m)) == ["cut", "emptied", "new", "open", "renamed"]
        for name, contents in (("renamed", b"as it was"), ("open", b"AS it was"), ("cut", b"as it was")):
            assert ((m / name).read_bytes(), (m / name).stat().st_size) == (contents, len(contents))
        assert ((m / "emptied").read_bytes(), (m / "emptied").stat().st_size) == (b"as it was", 9)
        assert mount.unmount() == 0
        assert "Traceback" not in mount.text()
