"""open(2), and creat(2) as O_CREAT | O_WRONLY | O_TRUNC"""

import errno
import os
import socket
import stat
from contextlib import nullcontext

import pytest

from tests.fuse.conftest import refused
from tests.posix.people import ALICE, BOB, CAROL, STAFF, acting, show
from tests.posix.shared import (
    bad_paths,
    directory,
    follows_links,
    good_paths,
    missing_file,
    mode_of,
    needs_search,
    needs_write_in_parent,
    opened,
    read,
    read_only,
    touch,
    write,
)
from tests.posix.system import bound
from tests.posix.times import moves, moves_nothing

CREATE = os.O_CREAT | os.O_WRONLY


def open_(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags))


def create(path):
    open_(path, CREATE)


test_bad_paths = bad_paths(open_)
test_create_bad_paths = bad_paths(create)
test_good_paths = good_paths(open_, touch)
test_create_good_paths = good_paths(create)
test_follows_links = follows_links(open_)
test_create_follows_links = follows_links(create, missing=0)
test_missing = missing_file(open_)
test_search = needs_search(open_, touch)
test_create_search = needs_search(create)
test_create_write_in_parent = needs_write_in_parent(create)
test_exclusive_write_in_parent = needs_write_in_parent(lambda path: open_(path, CREATE | os.O_EXCL))
test_create_read_only = read_only(create)
test_write_read_only = read_only(lambda path: open_(path, os.O_WRONLY), touch)
test_truncate_read_only = read_only(lambda path: open_(path, os.O_TRUNC), touch)

# --- creation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "umask", "got"),
    [
        (0o777, 0o022, 0o755),
        (0o666, 0o077, 0o600),
        (0, 0, 0),
        (0o4711, 0, 0o4711),
        (0o2751, 0o070, 0o2701),
        (0o1644, 0, 0o1644),
    ],
    ids=show,
)
def test_mode(asked, umask, got):
    os.umask(umask)
    with opened("f", CREATE, asked) as fd:
        assert os.fstat(fd).st_mode == stat.S_IFREG | got
    assert mode_of("f") == got


def test_new_file():
    with acting(ALICE), moves({".": "mc"}):
        create("f")
    made = os.stat("f")
    assert (made.st_uid, made.st_gid, made.st_nlink, made.st_size) == (ALICE.uid, ALICE.gid, 1, 0)
    assert made.st_atime_ns == made.st_mtime_ns == made.st_ctime_ns


@pytest.mark.parametrize("person", [ALICE, CAROL], ids=show)
def test_set_gid_parent_hands_on_its_group(person):
    """And a program keeps its set-gid bit only if the group is one of the creator's."""
    directory("parent", 0o2777, BOB, STAFF)
    with acting(person):
        open_("parent/plain", CREATE | os.O_EXCL)
        os.close(os.open("parent/program", CREATE, 0o2755))
    made = os.stat("parent/plain")
    assert (made.st_uid, made.st_gid) == (person.uid, STAFF)
    assert mode_of("parent/program") == (0o2755 if person is CAROL else 0o755)


def test_mode_says_nothing_about_the_creating_open():
    with acting(ALICE):
        with opened("f", os.O_CREAT | os.O_RDWR, 0) as fd:
            os.write(fd, b"data")
            assert os.pread(fd, 10, 0) == b"data"
        with refused(errno.EACCES):
            open_("f")


def test_existing_file_is_opened_as_it_is():
    write("f", b"data")
    os.chmod("f", 0o600)
    with moves_nothing("f", "."), opened("f", os.O_CREAT | os.O_RDWR, 0o777):
        pass
    assert (read("f"), mode_of("f")) == (b"data", 0o600)


@pytest.mark.parametrize(
    "make",
    [
        touch,
        os.mkdir,
        os.mkfifo,
        lambda path: os.symlink("missing", path),
        lambda path: os.symlink(".", path),
        lambda path: os.symlink(path, path),
    ],
    ids=["file", "directory", "fifo", "link to nothing", "link to a directory", "link to itself"],
)
def test_exclusive(make):
    make("x")
    with moves_nothing(".", "x"), refused(errno.EEXIST):
        open_("x", CREATE | os.O_EXCL)
    assert os.listdir(".") == ["x"]


def test_creation_through_a_link_to_nothing():
    os.mkdir("d")
    os.symlink("d/f", "link")
    create("link")
    assert os.listdir("d") == ["f"]
    os.symlink("missing/f", "link2")
    with refused(errno.ENOENT):
        create("link2")


def test_unnamed_file():
    with opened(".", os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b"data")
        assert os.fstat(fd).st_nlink == 0
    assert os.listdir(".") == []


# --- what an open does --------------------------------------------------------------------------------------------


def test_truncation():
    write("f", b"data")
    inode = os.stat("f").st_ino
    with moves({"f": "mc", ".": ""}):
        open_("f", os.O_WRONLY | os.O_TRUNC)
    after = os.stat("f")
    assert (after.st_size, after.st_ino) == (0, inode)


def test_truncation_of_an_empty_file_moves_its_times():
    touch("f")
    with moves({"f": "mc"}):
        open_("f", os.O_WRONLY | os.O_TRUNC)


def test_truncation_clears_set_id_bits():
    touch("f", 0o6777)
    with acting(ALICE):
        open_("f", os.O_WRONLY | os.O_TRUNC)
    assert mode_of("f") == 0o777


def test_truncation_of_special_files_is_nothing():
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR | os.O_TRUNC | os.O_NONBLOCK):
        pass
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)


def test_appending():
    write("f", b"one")
    with opened("f", os.O_WRONLY | os.O_APPEND) as a, opened("f", os.O_RDWR | os.O_APPEND) as b:
        os.write(a, b" two")
        os.lseek(b, 0, os.SEEK_SET)
        os.write(b, b" three")
        assert os.lseek(b, 0, os.SEEK_CUR) == 13
    assert read("f") == b"one two three"


def test_lowest_descriptor_is_taken():
    touch("f")
    with opened("f") as a, opened("f") as b:
        assert b > a
    with opened("f") as c:
        assert c == a


# --- what cannot be opened, or not so --------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, CREATE, os.O_TRUNC, os.O_WRONLY | os.O_TRUNC], ids=show)
def test_directory_is_not_written(flags):
    os.mkdir("d")
    os.symlink("d", "link")
    for path in ("d", "link", "d/.", "."):
        with refused(errno.EISDIR):
            open_(path, flags)


@pytest.mark.parametrize(
    "make",
    [touch, os.mkfifo, lambda path: os.symlink("/proc/self/status", path)],
    ids=["file", "fifo", "link"],
)
def test_only_directories(make):
    make("x")
    with refused(errno.ENOTDIR):
        open_("x", os.O_DIRECTORY)
    with refused(errno.ENOTDIR):
        open_("x/")


def test_directory_flag():
    os.mkdir("d")
    os.symlink("d", "link")
    for path in ("d", "d/", "link", "link/"):
        open_(path, os.O_DIRECTORY)
    with refused(errno.ENOENT):
        open_("missing", os.O_DIRECTORY)
    with refused(errno.EINVAL):
        open_("new", os.O_DIRECTORY | os.O_CREAT)


def test_creation_with_a_slash():
    with refused(errno.EISDIR):
        create("new/")
    assert os.listdir(".") == []


def test_no_following():
    touch("f")
    os.mkdir("d")
    os.symlink("f", "link")
    os.symlink("d", "way")
    touch("d/f")
    for flags in (os.O_RDONLY, CREATE):
        with refused(errno.ELOOP):
            open_("link", os.O_NOFOLLOW | flags)
    with refused(errno.ENOTDIR):
        open_("way", os.O_NOFOLLOW | os.O_DIRECTORY)
    open_("f", os.O_NOFOLLOW)
    open_("way/f", os.O_NOFOLLOW)


def test_path_descriptors():
    write("f", b"data")
    os.symlink("f", "link")
    with opened("f", os.O_PATH) as fd:
        assert os.fstat(fd).st_size == 4
        with refused(errno.EBADF):
            os.read(fd, 1)
    with opened("link", os.O_PATH | os.O_NOFOLLOW) as fd:
        assert stat.S_ISLNK(os.fstat(fd).st_mode)


def test_fifo_without_a_reader():
    os.mkfifo("fifo")
    with refused(errno.ENXIO):
        open_("fifo", os.O_WRONLY | os.O_NONBLOCK)
    open_("fifo", os.O_RDONLY | os.O_NONBLOCK)


def test_socket():
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    for flags in (os.O_RDONLY, os.O_WRONLY):
        with refused(errno.ENXIO):
            open_("socket", flags)


def test_device_that_does_not_exist():
    os.mknod("device", stat.S_IFCHR | 0o666, os.makedev(4095, 1048575))
    with refused(errno.ENXIO):
        open_("device")


def test_mount_point_can_be_opened():
    os.mkdir("real")
    os.mkdir("view")
    touch("real/f")
    with bound("real", "view"), opened("view") as fd:
        assert os.listdir(fd) == ["f"]


READ, WRITE, BOTH = os.O_RDONLY, os.O_WRONLY, os.O_RDWR


@pytest.mark.parametrize("person", [ALICE, CAROL, BOB], ids=show)
def test_permission(person):
    """By the first of the three classes that fits, and no other."""
    shift = {ALICE: 6, CAROL: 3, BOB: 0}[person]
    touch("f", 0, ALICE, STAFF)
    for bits in range(8):
        os.chmod("f", (0o777 & ~(7 << shift)) | bits << shift)
        for flags, needed in ((READ, 4), (WRITE, 2), (BOTH, 6), (READ | os.O_TRUNC, 6), (WRITE | os.O_APPEND, 2)):
            with acting(person), nullcontext() if bits & needed == needed else refused(errno.EACCES):
                open_("f", flags)


def test_refused_truncation_moves_nothing():
    write("f", b"data")
    with acting(ALICE), moves_nothing("f"), refused(errno.EACCES):
        open_("f", os.O_WRONLY | os.O_TRUNC)
    assert read("f") == b"data"


@pytest.mark.parametrize("person", [ALICE, CAROL, BOB], ids=show)
def test_permission_on_directories(person):
    shift = {ALICE: 6, CAROL: 3, BOB: 0}[person]
    directory("d", 0o777 & ~(4 << shift), ALICE, STAFF)
    with acting(person), refused(errno.EACCES):
        open_("d", os.O_DIRECTORY)
    os.chmod("d", 4 << shift)
    with acting(person):
        open_("d", os.O_DIRECTORY)


def test_superuser_needs_no_permission():
    touch("f", 0, ALICE)
    directory("d", 0, ALICE)
    open_("f", os.O_RDWR)
    create("d/f")
    assert os.listdir("d") == ["f"]


def test_what_was_opened_stays_open():
    write("f", b"data")
    os.chown("f", ALICE.uid, ALICE.gid)
    with acting(ALICE), opened("f", os.O_RDWR) as fd:
        os.chmod("f", 0)
        assert os.read(fd, 10) == b"data"
        os.write(fd, b"more")
        os.ftruncate(fd, 6)
    assert read("f") == b"datamo"


def test_what_was_opened_for_writing_stays_writable():
    touch("f", 0o666, BOB)
    touch("of root", 0o666)
    for name, mode in (("f", 0o600), ("of root", 0o6700)):
        with acting(ALICE):
            fd = os.open(name, os.O_WRONLY)
        os.chmod(name, mode)
        with acting(ALICE):
            os.write(fd, b"data")
            os.fsync(fd)
            os.write(fd, b"more")
            os.close(fd)
        assert read(name) == b"datamore"
        assert mode_of(name) == mode & 0o777


def test_only_the_owner_reads_without_moving_atime():
    write("f", b"data")
    with acting(ALICE), refused(errno.EPERM):
        open_("f", os.O_NOATIME)
    os.utime("f", ns=(1, 2))
    with moves_nothing("f"), opened("f", os.O_NOATIME) as fd:
        os.read(fd, 10)


def test_running_program_is_not_written(program):
    with program("f"):
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with refused(errno.ETXTBSY):
                open_("f", flags)
        open_("f")
    open_("f", os.O_WRONLY)


def test_program_that_is_written_does_not_run(program):
    with program("f"):
        pass
    with opened("f", os.O_WRONLY), refused(errno.ETXTBSY):
        os.posix_spawn("f", ["f", "0"], {})
