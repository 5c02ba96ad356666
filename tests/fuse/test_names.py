"""Names through a mount: directories, links, renames, special files, extended attributes."""

import errno
import os
import socket
import stat

from tests.fuse.conftest import refused

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def renameat2(source, target, flags):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def test_directories(m):
    (m / "a/b/c").mkdir(parents=True)
    assert m.stat().st_nlink == 3
    assert (m / "a").stat().st_nlink == 3
    with refused(errno.ENOTEMPTY):
        (m / "a").rmdir()
    with refused(errno.EEXIST):
        (m / "a").mkdir()
    with refused(errno.ENOENT):
        os.mkdir(m / "no/where")
    (m / "a/b/c").rmdir()
    (m / "a/b").rmdir()
    assert (m / "a").stat().st_nlink == 2
    with refused(errno.EISDIR):
        os.unlink(m / "a")
    with refused(errno.ENOTDIR):
        (m / "f").touch()
        os.rmdir(m / "f")


def test_a_listing_has_dots_and_types(m):
    import ctypes

    (m / "d").mkdir()
    (m / "f").touch()
    os.symlink("f", m / "s")
    kinds = {entry.name: (entry.is_dir(), entry.is_symlink(), entry.inode()) for entry in os.scandir(m)}
    assert {name: kind[:2] for name, kind in kinds.items()} == {
        "d": (True, False),
        "f": (False, False),
        "s": (False, True),
    }
    assert kinds["d"][2] == (m / "d").stat().st_ino
    libc = ctypes.CDLL(None)  # os.scandir hides the dots
    libc.opendir.restype = libc.readdir64.restype = ctypes.c_void_p
    libc.readdir64.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
    stream = libc.opendir(os.fsencode(m / "d"))
    names = {}
    while entry := libc.readdir64(stream):
        names[ctypes.string_at(entry + 19)] = ctypes.c_uint64.from_address(entry).value
    libc.closedir(stream)
    assert names == {b".": (m / "d").stat().st_ino, b"..": m.stat().st_ino}


def make(directory, count):
    """Files with names so long that getdents(2) must be called several times."""
    names = [f"{'n' * 200}{i:05}" for i in range(count)]
    for name in names:
        os.mknod(directory / name)
    return names


def test_a_long_listing(m):
    names = make(m, 400)
    assert sorted(os.listdir(m)) == names


def test_removal_during_a_listing_skips_and_repeats_nothing(m):
    names = make(m, 400)
    seen = []
    with os.scandir(m) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert sorted(seen) == names
    assert os.listdir(m) == []


def test_what_was_removed_after_a_listing_began_is_gone(m):
    names = make(m, 400)
    with os.scandir(m) as entries:
        next(entries)
        for name in names:
            os.unlink(m / name)
        list(entries)
    assert not any((m / name).exists() for name in names)


def test_hard_links(m):
    (m / "a").write_bytes(b"one")
    os.link(m / "a", m / "b")
    assert (m / "a").stat().st_nlink == (m / "b").stat().st_nlink == 2
    assert (m / "a").samefile(m / "b")
    with (m / "b").open("ab") as file:
        file.write(b" two")
    assert (m / "a").read_bytes() == b"one two"
    os.unlink(m / "a")
    assert (m / "b").stat().st_nlink == 1
    with refused(errno.EPERM):
        (m / "d").mkdir()
        os.link(m / "d", m / "e")


def test_symlinks(m):
    os.symlink("target/that is/not there", m / "s")
    assert os.readlink(m / "s") == "target/that is/not there"
    assert (m / "s").lstat().st_size == len("target/that is/not there")
    assert stat.S_ISLNK((m / "s").lstat().st_mode)
    with refused(errno.ENOENT):
        (m / "s").stat()
    os.symlink("loop", m / "loop")
    with refused(errno.ELOOP):
        (m / "loop").stat()
    with refused(errno.EINVAL):
        (m / "f").touch()
        os.readlink(m / "f")


def test_renames(m):
    (m / "a").write_bytes(b"a")
    (m / "d").mkdir()
    os.rename(m / "a", m / "d/b")
    assert not (m / "a").exists()
    assert (m / "d/b").read_bytes() == b"a"
    (m / "c").write_bytes(b"c")
    os.rename(m / "c", m / "d/b")
    assert (m / "d/b").read_bytes() == b"c"
    assert os.listdir(m / "d") == ["b"]
    os.rename(m / "d", m / "e")
    assert (m / "e/b").read_bytes() == b"c"
    with refused(errno.EINVAL):
        os.rename(m / "e", m / "e/inside")
    with refused(errno.ENOTEMPTY):
        (m / "full").mkdir()
        os.rename(m / "full", m / "e")
    with refused(errno.ENOENT):
        os.rename(m / "nothing", m / "x")


def test_a_renamed_file_shows_its_new_ctime(m):
    (m / "a").touch()
    before = (m / "a").stat().st_ctime_ns
    os.rename(m / "a", m / "b")
    assert (m / "b").stat().st_ctime_ns > before


def test_a_moved_directory_finds_its_new_parent(m):
    (m / "from/moved").mkdir(parents=True)
    (m / "to").mkdir()
    os.rename(m / "from/moved", m / "to/moved")
    assert ((m / "from").stat().st_nlink, (m / "to").stat().st_nlink) == (2, 3)
    assert os.stat(m / "to/moved/..").st_ino == (m / "to").stat().st_ino


def test_rename_flags(m):
    (m / "a").write_bytes(b"a")
    (m / "b").write_bytes(b"b")
    with refused(errno.EEXIST):
        renameat2(m / "a", m / "b", RENAME_NOREPLACE)
    renameat2(m / "a", m / "b", RENAME_EXCHANGE)
    assert ((m / "a").read_bytes(), (m / "b").read_bytes()) == (b"b", b"a")
    renameat2(m / "a", m / "c", RENAME_NOREPLACE)
    assert (m / "c").read_bytes() == b"b"
    with refused(errno.ENOENT):
        renameat2(m / "a", m / "c", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(m / "b", m / "c", RENAME_EXCHANGE | RENAME_NOREPLACE)


def test_special_files(m):
    os.mkfifo(m / "fifo", 0o640)
    os.mknod(m / "disk", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
    os.mknod(m / "plain", stat.S_IFREG | 0o600)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(m / "socket"))
    assert stat.S_ISFIFO((m / "fifo").stat().st_mode)
    assert stat.S_ISSOCK((m / "socket").stat().st_mode)
    assert stat.S_ISREG((m / "plain").stat().st_mode)
    seen = (m / "disk").stat()
    assert (stat.S_ISBLK(seen.st_mode), seen.st_rdev) == (True, os.makedev(259, 70000))


def test_a_fifo_works(m):
    os.mkfifo(m / "fifo")
    fd = os.open(m / "fifo", os.O_RDWR)
    os.write(fd, b"through")
    assert os.read(fd, 10) == b"through"
    os.close(fd)


def test_names(m):
    (m / ("x" * 255)).touch()
    with refused(errno.ENAMETOOLONG):
        (m / ("x" * 256)).touch()
    odd = os.fsencode(m) + b"/\xff \n\x01*"
    os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
    assert b"\xff \n\x01*" in os.listdir(os.fsencode(m))


def test_modes_and_owners(m):
    (m / "f").touch()
    os.chmod(m / "f", 0o1640)
    os.chown(m / "f", 1000, 2000)
    seen = (m / "f").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o1640, 1000, 2000)
    os.chown(m / "f", -1, 3000)
    seen = (m / "f").stat()
    assert (seen.st_uid, seen.st_gid) == (1000, 3000)


def test_file_system_numbers(m, mount):
    here, there = os.statvfs(m), os.statvfs(mount.contents)
    assert (here.f_blocks, here.f_frsize, here.f_namemax) == (there.f_blocks, there.f_frsize, 255)


def test_extended_attributes(m):
    (m / "f").touch()
    (m / "d").mkdir()
    for path in (m / "f", m / "d"):
        os.setxattr(path, "user.one", b"1")
        os.setxattr(path, "user.two", b"")
        assert sorted(os.listxattr(path)) == ["user.one", "user.two"]
        assert os.getxattr(path, "user.one") == b"1"
        with refused(errno.EEXIST):
            os.setxattr(path, "user.one", b"2", os.XATTR_CREATE)
        with refused(errno.ENODATA):
            os.setxattr(path, "user.three", b"2", os.XATTR_REPLACE)
        os.setxattr(path, "user.one", b"2", os.XATTR_REPLACE)
        assert os.getxattr(path, "user.one") == b"2"
        os.removexattr(path, "user.one")
        with refused(errno.ENODATA):
            os.getxattr(path, "user.one")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(m / "f", "security.other", b"x")


def test_a_removed_working_directory(m):
    (m / "d").mkdir()
    fd = os.open(m / "d", os.O_DIRECTORY)
    (m / "d").rmdir()
    with refused(errno.ENOENT):
        os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)
