"""mknod(2), mkfifo(3) and sockets bound to a path"""

# ruff: noqa: S103 - modes are what is tested

import errno
import os
import socket
import stat

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, STAFF, acting
from tests.posix.shared import (
    bad_paths,
    directory,
    good_paths,
    needs_search,
    needs_write_in_parent,
    read_only,
    touch,
)
from tests.posix.times import moves, moves_nothing

DEVICE = os.makedev(1, 3)


def bind(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


test_bad_paths = bad_paths(os.mkfifo)
test_good_paths = good_paths(os.mkfifo)
test_search = needs_search(os.mkfifo)
test_write_in_parent = needs_write_in_parent(os.mkfifo)
test_read_only = read_only(os.mkfifo)
test_write_in_parent_of_a_socket = needs_write_in_parent(bind)
test_write_in_parent_of_a_file = needs_write_in_parent(lambda path: os.mknod(path, 0o644))


@pytest.mark.parametrize(
    ("kind", "device"),
    [
        (stat.S_IFIFO, 0),
        (stat.S_IFSOCK, 0),
        (stat.S_IFREG, 0),
        (stat.S_IFCHR, DEVICE),
        (stat.S_IFBLK, os.makedev(259, 0xABCDE)),
    ],
    ids=["fifo", "socket", "file", "character device", "block device"],
)
def test_kinds(kind, device):
    with moves({".": "mc"}):
        os.mknod("x", kind | 0o664, device)
    made = os.lstat("x")
    assert made.st_mode == kind | 0o644
    assert (made.st_nlink, made.st_size, made.st_rdev) == (1, 0, device)
    with moves_nothing("."), refused(errno.EEXIST):
        os.mknod("x", kind | 0o600, device)


def test_no_kind_is_a_file():
    os.mknod("x", 0o600)
    assert stat.S_ISREG(os.lstat("x").st_mode)


def test_kinds_that_cannot_be_made():
    with refused(errno.EPERM):
        os.mknod("x", stat.S_IFDIR | 0o755)
    with refused(errno.EINVAL):
        os.mknod("x", stat.S_IFLNK | 0o755)


def test_users_make_no_devices():
    with acting(ALICE):
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            with refused(errno.EPERM):
                os.mknod("x", kind | 0o644, DEVICE)
        os.mkfifo("fifo")
        bind("socket")
        os.mknod("file", 0o600)
    for name in ("fifo", "socket", "file"):
        assert (os.lstat(name).st_uid, os.lstat(name).st_gid) == (ALICE.uid, ALICE.gid)


def test_set_gid_parent_hands_on_its_group():
    directory("parent", 0o2777, BOB, STAFF)
    with acting(ALICE):
        os.mkfifo("parent/fifo", 0o2770)
    assert os.lstat("parent/fifo").st_gid == STAFF


@pytest.mark.parametrize("make", [os.mkdir, touch, os.mkfifo, lambda path: os.symlink("missing", path)])
def test_taken_name(make):
    make("x")
    with moves_nothing("."), refused(errno.EEXIST):
        os.mkfifo("x")
    with refused(errno.EADDRINUSE):
        bind("x")


def test_fifo_joins_two_ends():
    os.mkfifo("fifo")
    reading = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open("fifo", os.O_WRONLY)
    os.write(writing, b"through")
    assert os.read(reading, 100) == b"through"
    os.close(writing)
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_socket_can_be_connected_to():
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("socket")
        listener.listen()
        client.connect("socket")
        server, _ = listener.accept()
        client.sendall(b"hello")
        assert server.recv(10) == b"hello"
        server.close()
    with socket.socket(socket.AF_UNIX) as client, refused(errno.ECONNREFUSED):
        client.connect("socket")


def test_socket_needs_write_permission():
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("socket")
        os.chmod("socket", 0o755)
        listener.listen()
        with acting(ALICE), refused(errno.EACCES):
            client.connect("socket")


def test_device_works():
    os.mknod("null", stat.S_IFCHR | 0o666, DEVICE)
    fd = os.open("null", os.O_RDWR)
    assert os.write(fd, b"gone") == 4
    assert os.read(fd, 10) == b""
    os.close(fd)
