"""openat(2), mkdirat(2) and the others that take a directory's descriptor"""

import errno
import os

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, acting
from tests.posix.shared import directory, opened, touch

CALLS = {
    "openat": lambda fd, path: os.close(os.open(path, os.O_RDONLY, dir_fd=fd)),
    "mkdirat": lambda fd, path: os.mkdir(f"{path}2", dir_fd=fd),
    "mknodat": lambda fd, path: os.mknod(f"{path}2", dir_fd=fd),
    "mkfifoat": lambda fd, path: os.mkfifo(f"{path}2", dir_fd=fd),
    "symlinkat": lambda fd, path: os.symlink("target", f"{path}2", dir_fd=fd),
    "linkat from": lambda fd, path: os.link(path, "new", src_dir_fd=fd),
    "linkat to": lambda fd, path: os.link("old", f"{path}2", dst_dir_fd=fd),
    "renameat from": lambda fd, path: os.rename(path, "new", src_dir_fd=fd),
    "renameat to": lambda fd, path: os.rename("old", f"{path}2", dst_dir_fd=fd),
    "unlinkat": lambda fd, path: os.unlink(path, dir_fd=fd),
    "fstatat": lambda fd, path: os.stat(path, dir_fd=fd),
    "faccessat": lambda fd, path: os.access(path, os.F_OK, dir_fd=fd) or os.stat(path, dir_fd=fd),
    "fchmodat": lambda fd, path: os.chmod(path, 0o600, dir_fd=fd),
    "fchownat": lambda fd, path: os.chown(path, -1, os.getegid(), dir_fd=fd),
    "utimensat": lambda fd, path: os.utime(path, ns=(1, 2), dir_fd=fd),
    "readlinkat": lambda fd, path: os.readlink(f"{path}link", dir_fd=fd),
}

calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture(autouse=True)
def _files(here):
    directory("d", 0o777, ALICE)
    touch("d/x", 0o666, ALICE)
    os.symlink("x", "d/xlink")
    touch("old", 0o666, ALICE)


@calls
def test_relative_to_the_descriptor(call):
    with opened("d") as fd:
        os.rename("d", "moved")
        call(fd, "x")


@calls
def test_absolute_paths_leave_the_descriptor_alone(call, here):
    with opened("old") as fd:
        call(fd, str(here / "d/x"))


@calls
def test_bad_descriptors(call):
    with opened("old") as fd, refused(errno.ENOTDIR):
        call(fd, "x")
    with refused(errno.EBADF):
        call(fd, "x")


@calls
def test_search_permission_is_that_of_the_moment(call):
    with opened("d") as fd:
        os.chmod("d", 0o600)
        with acting(ALICE), refused(errno.EACCES):
            call(fd, "x")


def test_removing_directories():
    os.mkdir("d/e")
    with opened("d") as fd:
        with refused(errno.EISDIR):
            os.unlink("e", dir_fd=fd)
        with refused(errno.ENOTDIR):
            os.rmdir("x", dir_fd=fd)
        os.rmdir("e", dir_fd=fd)
