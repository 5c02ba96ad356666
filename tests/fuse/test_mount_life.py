"""Mounting and unmounting: nothing is left behind, nothing hangs, and errors say what to do."""

import errno
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pyfuse3
import pytest
import trio

from fuse_client.mount import MountOptions, _device_descriptors, serve
from qunfs.nfs.service import MetadataService
from qunfs.protocol.errors import LocalError
from tests.fuse.conftest import is_mounted, refused
from tests.fuse.namespace import new_core


def test_unmounted_from_outside(mounter, namespace):
    mount = mounter(namespace)
    assert is_mounted(mount.path)
    assert mount.unmount() == 0
    assert not is_mounted(mount.path)
    assert os.listdir(mount.path) == []


def test_shows_in_the_mount_table_as_qunfs(mount):
    table = Path("/proc/self/mounts").read_text(errors="replace")
    rows = [line.split() for line in table.splitlines() if f" {mount.path} " in line]
    assert [row[0] for row in rows] == ["qunfs"]
    assert rows[0][2] == "fuse.qunfs"
    assert {"default_permissions", "allow_other"} <= set(rows[0][3].split(","))


def test_cancelled(mounter, namespace):
    mount = mounter(namespace)
    (mount.path / "f").write_bytes(b"x")
    mount.process.terminate()
    assert mount.wait() == 0
    assert not is_mounted(mount.path)


def test_cancelled_while_a_file_is_open(mounter, namespace):
    mount = mounter(namespace)
    fd = os.open(mount.path / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"written")
    mount.process.terminate()
    assert mount.wait() == 0
    assert not is_mounted(mount.path)
    with refused(errno.ENOTCONN):
        os.write(fd, b"too late")
    with refused(errno.ENOTCONN):
        os.close(fd)
    again = mounter(namespace, contents="m.contents")
    assert (again.path / "f").stat().st_size == 7, "reported when the mount ended"
    assert (again.path / "f").read_bytes() == b"written"
    assert "recording it" not in again.text()
    assert again.unmount() == 0


def test_cancelled_without_a_quorum(mounter, namespace):
    mount = mounter(namespace)
    namespace.hold()
    waiting = subprocess.Popen(["ls", mount.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mount.process.terminate()
    assert mount.wait() == 0
    assert not is_mounted(mount.path)
    waiting.wait(timeout=120)


def test_unmounted_without_a_quorum(mounter, namespace):
    mount = mounter(namespace)
    namespace.hold()
    before = namespace.asked()
    waiting = subprocess.Popen(["touch", mount.path / "f"], stderr=subprocess.DEVNULL)
    while namespace.asked() == before:  # with no request in it the file system would end by the unmount alone
        time.sleep(0.01)
    subprocess.run(["fusermount3", "-uz", mount.path], check=True)
    waiting.kill()  # it waits in the kernel all the same, until its request is given up
    mount.process.terminate()
    assert mount.wait() == 0
    waiting.wait(timeout=120)


def test_operations_wait_for_a_quorum_and_go_on(mount, namespace):
    (mount.path / "f").write_bytes(b"x")
    namespace.hold()
    done = threading.Event()

    def write():
        (mount.path / "g").write_bytes(b"y")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not done.wait(0.3)
    namespace.go_on()
    writer.join()
    assert (mount.path / "g").read_bytes() == b"y"


def test_a_killed_mount_is_told_from_a_live_one(mounter, namespace):
    mount = mounter(namespace)
    (mount.path / "f").write_bytes(b"kept")
    mount.process.kill()
    mount.wait()
    refusal = mounter(namespace)
    assert not refusal.ready
    assert "transport endpoint is not connected" in refusal.text().lower()
    assert "qunfs umount" in refusal.text()
    subprocess.run(["fusermount3", "-u", mount.path], check=True)
    again = mounter(namespace)
    assert (again.path / "f").read_bytes() == b"kept"
    refusal = mounter(namespace, contents="other")
    assert not refusal.ready
    assert "something is mounted there" in refusal.text()
    assert again.unmount() == 0


def test_a_crash_between_write_and_report_is_mended_at_the_next_open(mounter, namespace):
    mount = mounter(namespace)
    (mount.path / "grown").write_bytes(b"12345")
    (mount.path / "same size").write_bytes(b"12345")
    os.utime(mount.path / "same size", ns=(1, 2))
    fds = [os.open(mount.path / name, os.O_WRONLY) for name in ("grown", "same size")]
    os.pwrite(fds[0], b"0123456789", 0)
    os.pwrite(fds[1], b"54321", 0)
    mount.process.kill()
    mount.wait()
    for fd in fds:
        with refused(errno.ENOTCONN):
            os.close(fd)
    subprocess.run(["fusermount3", "-u", mount.path], check=True)
    again = mounter(namespace)
    assert (again.path / "grown").read_bytes() == b"0123456789"
    assert (again.path / "grown").stat().st_size == 10
    assert (again.path / "same size").read_bytes() == b"54321"
    assert (again.path / "same size").stat().st_mtime_ns > 2
    assert again.text().count("recording it") == 2
    assert again.unmount() == 0


def test_refusals(mounter, namespace, tmp_path):
    def reason(name, contents=None):
        mount = mounter(namespace, name, contents=contents)
        assert not mount.ready
        assert mount.ended == 1
        (line,) = mount.text().splitlines()
        return line

    first = mounter(namespace)
    assert "in use by another mount" in reason("second", contents="m.contents")
    assert "covered" in reason("third", contents="third/contents")
    (tmp_path / "link").symlink_to(tmp_path / "linked/contents")
    assert "covered" in reason("linked", contents="link")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/store").write_text("no uuid\n")
    assert "does not hold a UUID" in reason("fourth", contents="damaged")
    assert first.unmount() == 0


def test_no_such_mount_point(mounter, namespace, tmp_path):
    mount = mounter(namespace)
    assert mount.unmount() == 0
    mount.path.rmdir()
    mount.path.write_text("a file")
    done = subprocess.run(
        [*mount.process.args[:3], mount.path, tmp_path / "c", namespace.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not a directory" in done.stderr
    mount.path.unlink()
    done = subprocess.run(done.args, capture_output=True, text=True, check=False)
    assert "a mount point is an existing directory" in done.stderr


async def test_twice_in_one_process(tmp_path):
    async def use_and_cancel(scope):
        await ready.wait()
        await trio.to_thread.run_sync((tmp_path / "m/f").write_bytes, b"x")
        with pytest.raises(LocalError, match="serves a mount already"):
            await serve(service, tmp_path / "m", tmp_path / "other")
        scope.cancel()

    (tmp_path / "m").mkdir()
    service = MetadataService(new_core(), 6, random.getrandbits)
    for _ in range(2):
        ready = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use_and_cancel, nursery.cancel_scope)
            await serve(service, tmp_path / "m", tmp_path / "c", on_ready=ready.set)
        assert not is_mounted(tmp_path / "m")
        assert not _device_descriptors()


async def test_serves_until_unmounted(tmp_path):
    (tmp_path / "m").mkdir()
    service = MetadataService(new_core(), 6, random.getrandbits)
    async with trio.open_nursery() as nursery:
        await serve(
            service,
            tmp_path / "m",
            tmp_path / "c",
            on_ready=lambda: nursery.start_soon(trio.run_process, ["fusermount3", "-u", tmp_path / "m"]),
        )
    assert not is_mounted(tmp_path / "m")


def test_what_the_library_says_is_in_the_error(tmp_path, monkeypatch):
    def init(*_):
        os.write(2, b"fuse: no luck today\n")
        raise RuntimeError("fuse_session_mount failed")

    monkeypatch.setattr(pyfuse3, "init", init)
    (tmp_path / "m").mkdir()
    with pytest.raises(LocalError, match="fuse: no luck today"):
        trio.run(serve, None, tmp_path / "m", tmp_path / "c")


def test_options(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "allow_other" not in MountOptions().fuse_options()
    assert "allow_other" in MountOptions(allow_other=True).fuse_options()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "allow_other" in MountOptions().fuse_options()
    assert "allow_other" not in MountOptions(allow_other=False).fuse_options()
    assert all("default_permissions" in MountOptions(allow_other=x).fuse_options() for x in (True, False, None))


def test_stopped_by_a_signal_while_idle(mounter, namespace):
    mount = mounter(namespace)
    mount.process.send_signal(signal.SIGTERM)
    assert mount.wait() == 0
