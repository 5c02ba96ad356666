"""Writes that the attribute object was not told of when the mount's process ended: the next mount finds them all."""

import contextlib
import os
import subprocess
import threading
import time

import pytest

from fuse_client.contents import is_marked
from tests.fuse.conftest import Mount

SET_NS = 2
"""The mtime of each file before it is written again."""


def append(fd):
    os.pwrite(fd, b"56789", 5)


def append_after_a_gap(fd):
    os.pwrite(fd, b"9", 9)


def append_and_overwrite_what_was_appended(fd):
    os.pwrite(fd, b"xxxxx", 5)
    os.pwrite(fd, b"56789", 5)


def append_and_overwrite(fd):
    os.pwrite(fd, b"56789", 5)
    os.pwrite(fd, b"X", 0)


def overwrite(fd):
    os.pwrite(fd, b"X", 0)


def overwrite_and_append(fd):
    os.pwrite(fd, b"X", 0)
    os.pwrite(fd, b"56789", 5)


def overwrite_beyond_the_end(fd):
    os.pwrite(fd, b"XXXXXX", 4)


def append_and_cut_back_and_overwrite(fd):
    os.pwrite(fd, b"56789", 5)
    os.ftruncate(fd, 5)
    os.utime(fd, ns=(1, SET_NS))
    os.pwrite(fd, b"X", 0)


def cut_and_append(fd):
    os.ftruncate(fd, 2)
    os.utime(fd, ns=(1, SET_NS))
    os.pwrite(fd, b"XXX", 2)


def report_and_overwrite(fd):
    os.pwrite(fd, b"56789", 5)
    os.fsync(fd)
    os.utime(fd, ns=(1, SET_NS))
    os.pwrite(fd, b"X", 7)


WRITES = {
    append: b"0123456789",
    append_after_a_gap: b"01234\0\0\0\x009",
    append_and_overwrite_what_was_appended: b"0123456789",
    append_and_overwrite: b"X123456789",
    overwrite: b"X1234",
    overwrite_and_append: b"X123456789",
    overwrite_beyond_the_end: b"0123XXXXXX",
    append_and_cut_back_and_overwrite: b"X1234",
    cut_and_append: b"01XXX",
    report_and_overwrite: b"0123456X89",
}


def close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


def crash(mount: Mount, *fds: int, closing: threading.Thread | None = None) -> None:
    """The mount's process is killed."""
    mount.process.kill()
    mount.wait()
    if closing is not None:
        closing.join()
    for fd in fds:
        close(fd)
    subprocess.run(["fusermount3", "-u", mount.path], check=True)


def content_file(mount: Mount):
    (path,) = mount.content_files()
    return path


def test_every_write_is_recorded_by_the_next_mount(mounter, namespace):
    mount = mounter(namespace)
    fds = []
    for write in WRITES:
        path = mount.path / write.__name__
        path.write_bytes(b"01234")
        os.utime(path, ns=(1, SET_NS))
        fds.append(os.open(path, os.O_RDWR))
        write(fds[-1])
    fds.append(os.open(mount.path / "new", os.O_CREAT | os.O_WRONLY))
    os.write(fds[-1], b"first")
    os.write(fds[-1], b" second")
    crash(mount, *fds)
    again = mounter(namespace)
    for write, expected in WRITES.items():
        path = again.path / write.__name__
        assert path.read_bytes() == expected, write
        assert (path.stat().st_size, path.stat().st_mtime_ns > SET_NS) == (len(expected), True), write
    assert (again.path / "new").read_bytes() == b"first second"
    assert again.text().count("recording it") == len(WRITES) + 1
    assert again.unmount() == 0
    last = mounter(namespace)
    assert all((last.path / write.__name__).read_bytes() == expected for write, expected in WRITES.items())
    assert last.text().count("recording it") == len(WRITES) + 1, "the log is the same file"
    assert last.unmount() == 0


def test_what_was_undone_needs_no_record(mounter, namespace):
    mount = mounter(namespace)
    (mount.path / "f").write_bytes(b"01234")
    fd = os.open(mount.path / "f", os.O_RDWR)
    append(fd)
    os.ftruncate(fd, 5)
    cut = os.fstat(fd).st_mtime_ns
    crash(mount, fd)
    again = mounter(namespace)
    assert (again.path / "f").read_bytes() == b"01234"
    assert (again.path / "f").stat().st_mtime_ns == cut
    assert "recording it" not in again.text()
    assert again.unmount() == 0


@pytest.mark.parametrize("offset", [0, 7])
def test_a_write_while_the_size_is_on_its_way_is_recorded(mounter, namespace, offset):
    """The SETATTR has taken effect, and the sizes agree, but no mount knows."""
    mount = mounter(namespace)
    (mount.path / "f").write_bytes(b"01234")
    fds = [os.open(mount.path / "f", os.O_RDWR) for _ in range(2)]
    append(fds[0])
    namespace.hold(answers_only=True)
    before = namespace.answered()
    closing = threading.Thread(target=close, args=(fds[0],))
    closing.start()
    while namespace.answered() == before:
        time.sleep(0.01)
    between = time.time_ns()
    time.sleep(0.02)  # the mend takes the time of the contents, which the kernel's clock ticks give
    os.pwrite(fds[1], b"X", offset)
    crash(mount, fds[1], closing=closing)
    namespace.go_on()
    again = mounter(namespace)
    expected = bytearray(b"0123456789")
    expected[offset : offset + 1] = b"X"
    assert (again.path / "f").stat().st_size == 10, "the SETATTR took effect"
    assert (again.path / "f").read_bytes() == expected
    assert (again.path / "f").stat().st_mtime_ns > between
    assert again.text().count("recording it") == 1
    assert again.unmount() == 0


def test_only_changes_that_the_size_does_not_show_are_marked(m, mount):
    def marked():
        return is_marked(content_file(mount).stat())

    fd = os.open(m / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"01234")
    assert not marked()
    os.write(fd, b"56789")
    assert not marked()
    os.fsync(fd)
    os.pwrite(fd, b"x", 10)
    assert not marked()
    os.pwrite(fd, b"x", 9)
    assert marked()
    os.pwrite(fd, b"x", 20)
    assert marked()
    os.fsync(fd)
    assert not marked()
    os.pwrite(fd, b"x", 0)
    assert marked()
    os.close(fd)
    assert not marked()


def test_a_mark_goes_with_the_bytes_that_it_stands_for(mounter, namespace):
    """Truncation to nothing needs no look at the contents before; what a crash left there is void."""
    mount = mounter(namespace)
    (mount.path / "f").write_bytes(b"01234")
    fd = os.open(mount.path / "f", os.O_RDWR)
    overwrite(fd)
    crash(mount, fd)
    assert is_marked(content_file(mount).stat())
    again = mounter(namespace)
    (again.path / "f").write_bytes(b"new")
    assert not is_marked(content_file(again).stat())
    assert "recording it" not in again.text()
    assert again.unmount() == 0
