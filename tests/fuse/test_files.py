"""Files through a mount: contents, sizes, times, and what outlives a name."""

import errno
import mmap
import os
import stat
import time

from tests.fuse.conftest import in_child, refused


def test_what_is_written_is_read_back(m):
    (m / "f").write_bytes(b"hello")
    assert (m / "f").read_bytes() == b"hello"
    assert (m / "f").stat().st_size == 5
    assert (m / "f").stat().st_blocks == 1


def test_large_contents(m):
    data = os.urandom(3_000_001)
    (m / "f").write_bytes(data)
    assert (m / "f").read_bytes() == data


def test_create_modes(m):
    fd = os.open(m / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444)
    assert os.write(fd, b"x") == 1
    os.close(fd)
    assert stat.S_IMODE((m / "f").stat().st_mode) == 0o444
    with refused(errno.EEXIST):
        os.open(m / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR)


def test_append(m):
    for word in (b"one ", b"two ", b"three"):
        with (m / "f").open("ab") as file:
            file.write(word)
    assert (m / "f").read_bytes() == b"one two three"
    a, b = (os.open(m / "f", os.O_WRONLY | os.O_APPEND) for _ in range(2))
    os.write(a, b" a")
    os.write(b, b" b")
    os.close(a)
    os.close(b)
    assert (m / "f").read_bytes() == b"one two three a b"


def test_holes_and_offsets(m):
    fd = os.open(m / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 10_000)
    assert os.fstat(fd).st_size == 10_003
    assert os.pread(fd, 20_000, 0) == bytes(10_000) + b"end"
    assert os.pread(fd, 10, 10_003) == b""
    os.close(fd)


def test_truncation(m):
    (m / "f").write_bytes(b"0123456789")
    os.truncate(m / "f", 4)
    assert (m / "f").read_bytes() == b"0123"
    os.truncate(m / "f", 8)
    assert (m / "f").read_bytes() == b"0123\0\0\0\0"
    with (m / "f").open("r+b") as file:
        file.truncate(2)
        assert os.fstat(file.fileno()).st_size == 2
    assert (m / "f").read_bytes() == b"01"
    with (m / "f").open("wb"):
        pass
    assert (m / "f").read_bytes() == b""
    os.truncate(m / "f", 3)
    assert (m / "f").read_bytes() == bytes(3)


def test_truncation_of_a_file_being_written(m):
    with (m / "f").open("wb", buffering=0) as file:
        file.write(b"0123456789")
        os.ftruncate(file.fileno(), 5)
        assert (m / "f").stat().st_size == 5
        file.write(b"x")
    assert (m / "f").read_bytes() == b"01234" + bytes(5) + b"x"


def test_too_large_a_size_is_refused_and_changes_nothing(m):
    (m / "f").write_bytes(b"kept")
    with refused(errno.EFBIG):
        os.truncate(m / "f", (1 << 63) - 1)
    assert (m / "f").stat().st_size == 4
    assert (m / "f").read_bytes() == b"kept"


def test_size_and_mtime_show_at_once(m):
    with (m / "f").open("wb", buffering=0) as file:
        before = (m / "f").stat()
        for size in range(1, 5):
            file.write(b"x")
            seen = (m / "f").stat()
            assert seen.st_size == size
            assert seen.st_mtime_ns > before.st_mtime_ns
            assert seen.st_ctime_ns > before.st_ctime_ns
            before = seen
    after = (m / "f").stat()
    assert (after.st_size, after.st_mtime_ns) == (4, before.st_mtime_ns)
    assert after.st_ctime_ns >= before.st_ctime_ns


def test_ctime_is_mtime_after_a_write(m):
    (m / "f").touch()
    for text in ("one", "two"):
        (m / "f").write_text(text)
        seen = (m / "f").stat()
        assert seen.st_ctime_ns == seen.st_mtime_ns
        assert [entry.stat().st_ctime_ns for entry in os.scandir(m)] == [seen.st_mtime_ns]


def test_ctime_stays_once_the_file_is_closed(m, mount, namespace):
    with (m / "f").open("wb", buffering=0) as file:
        file.write(b"x")
        seen = os.fstat(file.fileno())
    assert (m / "f").stat() == seen
    (m / "f").read_bytes()  # asks the service
    assert (m / "f").stat().st_ctime_ns == seen.st_ctime_ns
    os.chmod(m / "f", 0o600)
    assert (m / "f").stat().st_ctime_ns > seen.st_ctime_ns


def test_times_that_were_set_stay(m):
    with (m / "f").open("wb", buffering=0) as file:
        file.write(b"data")
        os.utime(file.fileno(), ns=(1_000_000_001, 2_000_000_002))
    os.chmod(m / "f", 0o600)
    seen = (m / "f").stat()
    assert (seen.st_atime_ns, seen.st_mtime_ns, seen.st_size) == (1_000_000_001, 2_000_000_002, 4)
    os.utime(m / "f", ns=(-1_500_000_000, 3))
    assert ((m / "f").stat().st_atime_ns, (m / "f").stat().st_mtime_ns) == (-1_500_000_000, 3)
    before = time.time_ns()
    os.utime(m / "f")
    assert (m / "f").stat().st_mtime_ns >= before - 100_000_000


def test_reading_moves_the_access_time(m):
    (m / "f").write_bytes(b"data")
    os.utime(m / "f", ns=(1, 2))
    (m / "f").read_bytes()
    first = (m / "f").stat().st_atime_ns
    assert first > 2
    (m / "f").read_bytes()
    assert (m / "f").stat().st_atime_ns == first, "relatime: nothing changed since"
    with open(m / "f", opener=lambda path, flags: os.open(path, flags | os.O_NOATIME)) as file:
        os.utime(m / "f", ns=(1, 2))
        file.read()
    assert (m / "f").stat().st_atime_ns == 1


def test_mapped_writes_reach_the_attributes(m):
    def write_mapped():  # not here: a page fault keeps the interpreter, which must answer for the replicas
        with (m / "f").open("r+b") as file, mmap.mmap(file.fileno(), 8192) as mapped:
            mapped[5000:5004] = b"page"
            mapped.flush()

    (m / "f").write_bytes(bytes(8192))
    before = (m / "f").stat().st_mtime_ns
    in_child(write_mapped)
    assert (m / "f").read_bytes()[5000:5004] == b"page"
    assert (m / "f").stat().st_mtime_ns > before


def test_a_mapping_that_outlives_its_descriptor(m):
    def write_mapped():
        fd = os.open(m / "f", os.O_RDWR)
        mapped = mmap.mmap(fd, 4096)
        os.close(fd)
        mapped[:3] = b"map"
        mapped.close()

    (m / "f").write_bytes(bytes(4096))
    before = (m / "f").stat().st_mtime_ns
    in_child(write_mapped)
    assert (m / "f").read_bytes()[:3] == b"map"
    assert (m / "f").stat().st_mtime_ns > before


def test_removed_while_open(m, mount):
    fd = os.open(m / "f", os.O_CREAT | os.O_RDWR, 0o640)
    os.write(fd, b"before")
    os.unlink(m / "f")
    assert not (m / "f").exists()
    assert os.fstat(fd).st_nlink == 0
    os.write(fd, b" after")
    assert os.fstat(fd).st_size == 12
    assert os.pread(fd, 100, 0) == b"before after"
    os.fchmod(fd, 0o600)
    os.ftruncate(fd, 3)
    os.fsync(fd)
    os.utime(fd, ns=(5, 6))
    seen = os.fstat(fd)
    assert (seen.st_size, stat.S_IMODE(seen.st_mode), seen.st_atime_ns, seen.st_mtime_ns) == (3, 0o600, 5, 6)
    os.close(fd)
    assert mount.content_files() == []


def test_removed_before_anything_was_written(m, mount):
    fd = os.open(m / "f", os.O_CREAT | os.O_RDWR)
    os.unlink(m / "f")
    os.write(fd, b"late")
    assert os.pread(fd, 10, 0) == b"late"
    assert mount.content_files() == []
    os.close(fd)


def test_removed_by_a_rename_over_it_while_open(m, mount):
    (m / "old").write_bytes(b"old")
    (m / "new").write_bytes(b"new")
    with (m / "old").open("rb") as file:
        os.rename(m / "new", m / "old")
        assert file.read() == b"old"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert (m / "old").read_bytes() == b"new"
    assert len(mount.content_files()) == 1


def test_files_of_removed_objects_serve_new_ones_unless_they_are_open(m, mount):
    (m / "open").write_bytes(b"still here")
    (m / "closed").write_bytes(b"secret" * 1000)
    with (m / "open").open("r+b", buffering=0) as file:
        os.unlink(m / "open")
        os.unlink(m / "closed")
        assert [path.stat().st_size for path in (mount.contents / "spare").iterdir()] == [0]
        for name in ("a", "b"):
            with (m / name).open("wb", buffering=0) as new:
                new.truncate(20)
                new.write(name.encode())
        assert list((mount.contents / "spare").iterdir()) == []
        assert file.read() == b"still here"
        file.write(b", and changed")
        assert os.pread(file.fileno(), 100, 0) == b"still here, and changed"
        assert [(m / name).read_bytes() for name in ("a", "b")] == [b"a" + bytes(19), b"b" + bytes(19)]
    assert list((mount.contents / "spare").iterdir()) == []


def test_removed_and_opened_again_through_proc(m):
    with (m / "f").open("w+b") as file:
        file.write(b"still here")
        file.flush()
        os.unlink(m / "f")
        with open(f"/proc/self/fd/{file.fileno()}", "rb") as again:
            assert again.read() == b"still here"


def test_content_files_go_with_the_last_link(m, mount):
    (m / "a").write_bytes(b"x")
    os.link(m / "a", m / "b")
    os.unlink(m / "a")
    assert len(mount.content_files()) == 1
    assert (m / "b").read_bytes() == b"x"
    os.unlink(m / "b")
    assert mount.content_files() == []


def test_umask(m):
    def make():
        os.umask(0o027)
        (m / "f").touch()
        (m / "d").mkdir()
        os.mkfifo(m / "p")

    in_child(make)
    assert [stat.S_IMODE((m / name).stat().st_mode) for name in "fdp"] == [0o640, 0o750, 0o640]


def test_set_id_bits(m):
    with (m / "f").open("wb", buffering=0) as file:
        file.write(b"program")
        os.fchmod(file.fileno(), 0o4755)
    assert stat.S_IMODE((m / "f").stat().st_mode) == 0o4755, "the write came before"


def test_no_calls_that_need_not_be(m, namespace):
    def counted(body):
        before = namespace.calls()
        body()
        after = namespace.calls()
        return {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}

    def copy_with_attributes():
        fd = os.open(m / "g", os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, b"data")
        os.utime(fd, ns=(1, 2))
        os.close(fd)

    lookup = {"dir.lookup": 1}
    m.stat()
    assert counted(lambda: (m / "f").write_bytes(b"x" * 5000)) == lookup | {"dir.create": 1, "attr.setattr": 1}
    assert counted(lambda: (m / "f").stat()) == {}
    assert counted(lambda: (m / "f").read_bytes()) == {"attr.getattr": 1}
    assert counted(lambda: os.unlink(m / "f")) == {"dir.remove": 1}
    assert counted(copy_with_attributes) == lookup | {"dir.create": 1, "attr.setattr": 1}
    fd = os.open(m / "g", os.O_RDWR)
    assert counted(lambda: os.close(fd)) == {}
