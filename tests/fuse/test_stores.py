"""Two mounts, each with its own contents: who may see and write what, and when."""

import errno
import os
import time
from contextlib import suppress

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import createmode3, sattr3
from qunfs.protocol.operation import Credentials
from tests.fuse.conftest import refused

STRICT = ("attr_timeout=0", "entry_timeout=0")


@pytest.fixture
def two(mounter, namespace):
    a, b = mounter(namespace, "a", *STRICT), mounter(namespace, "b", *STRICT)
    yield a.path, b.path
    for mount in (a, b):
        assert mount.unmount() == 0
        assert "Traceback" not in mount.text()


def test_names_and_sizes_are_shared_and_contents_are_not(two, mounter):
    a, b = two
    (a / "f").write_bytes(b"of a")
    assert (b / "f").stat().st_size == 4
    with refused(errno.EREMOTE):
        (b / "f").read_bytes()
    with refused(errno.EREMOTE):
        os.truncate(b / "f", 2)
    with refused(errno.EREMOTE):
        (b / "f").open("ab")
    assert (a / "f").read_bytes() == b"of a"
    assert "use it there, or truncate it to zero here" in mounter.mounts[1].text()
    os.rename(b / "f", b / "g")
    assert (a / "g").read_bytes() == b"of a"
    os.unlink(b / "g")
    assert not (a / "g").exists()


def test_truncation_to_zero_takes_contents_over(two, mounter):
    a, b = two
    (a / "f").write_bytes(b"old contents")
    (b / "f").write_bytes(b"new")
    assert (a / "f").stat().st_size == 3
    with refused(errno.EREMOTE):
        (a / "f").read_bytes()
    assert (b / "f").read_bytes() == b"new"
    os.truncate(a / "f", 0)
    assert (a / "f").read_bytes() == b""
    os.truncate(a / "f", 5)
    assert (a / "f").read_bytes() == bytes(5), "nothing of the old contents comes back"
    with refused(errno.EREMOTE):
        (b / "f").read_bytes()


def test_an_empty_file_can_be_read_everywhere_and_goes_to_whoever_writes(two):
    a, b = two
    (a / "never written").touch()
    assert (b / "never written").read_bytes() == b""
    (b / "never written").write_bytes(b"b")
    (a / "emptied").write_bytes(b"x")
    os.truncate(a / "emptied", 0)
    assert (b / "emptied").read_bytes() == b""
    with (b / "emptied").open("ab") as file:
        file.write(b"of b")
    assert (b / "emptied").read_bytes() == b"of b"
    with refused(errno.EREMOTE):
        (a / "emptied").read_bytes()


def test_taken_over_under_an_open_descriptor(two, mounter):
    a, b = two
    fd = os.open(a / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"of a")
    os.fsync(fd)
    (b / "f").write_bytes(b"of b, longer")
    os.fstat(fd)
    with refused(errno.EREMOTE):
        os.pread(fd, 100, 0)
    with refused(errno.EREMOTE):
        os.write(fd, b"more")
    os.close(fd)
    assert (b / "f").read_bytes() == b"of b, longer"


def test_a_late_report_does_not_undo_a_takeover(two, mounter):
    a, b = two
    (a / "f").write_bytes(b"of a")
    fd = os.open(a / "f", os.O_WRONLY)
    os.write(fd, b"later")
    (b / "f").write_bytes(b"of b!!")
    with refused(errno.EREMOTE):
        os.close(fd)
    assert (b / "f").read_bytes() == b"of b!!"
    assert (a / "f").stat().st_size == 6
    assert "what was written here is lost" in mounter.mounts[0].text()


def test_removed_elsewhere_while_open(two):
    a, b = two
    fd = os.open(a / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"before")
    os.unlink(b / "f")
    os.write(fd, b" after")
    os.fsync(fd)
    assert os.pread(fd, 100, 0) == b"before after"
    assert (os.fstat(fd).st_nlink, os.fstat(fd).st_size) == (0, 12)
    os.fchmod(fd, 0o600)
    os.close(fd)


def test_created_elsewhere_meanwhile(mounter, namespace):
    """A name that the kernel believes free is found taken by CREATE: it must be opened, or refused with O_EXCL."""
    a, b = mounter(namespace, "a"), mounter(namespace, "b")
    for name, flags in (("open", os.O_CREAT), ("exclusive", os.O_CREAT | os.O_EXCL)):
        core = namespace.clients[0]

        async def meddle(name=name):
            service = MetadataService(namespace.core, 6, lambda bits: hash(name) % (1 << bits))
            made = await service.create(Credentials(0, 0), 1, name.encode(), createmode3.GUARDED, sattr3(mode=0o640))
            assert made.obj

        core.before_update.append(meddle)
        if name == "open":
            os.close(os.open(a.path / name, flags | os.O_WRONLY, 0o600))
            assert (a.path / name).stat().st_mode & 0o777 == 0o640
        else:
            with refused(errno.EEXIST):
                os.open(a.path / name, flags | os.O_WRONLY)
    assert a.unmount() == b.unmount() == 0


def test_changes_elsewhere_show_after_the_time_out_at_the_latest(mounter, namespace):
    a, b = mounter(namespace, "a"), mounter(namespace, "b", *STRICT)
    (a.path / "f").write_bytes(b"x")
    os.chmod(b.path / "f", 0o604)
    os.rename(b.path / "f", b.path / "g")

    def seen():
        return (a.path / "g").stat().st_mode & 0o777 == 0o604 and not (a.path / "f").exists()

    assert any(seen() or time.sleep(0.05) for _ in range(2400))
    assert a.unmount() == b.unmount() == 0


def test_an_open_sees_what_was_closed_elsewhere(mounter, namespace):
    a, b = mounter(namespace, "a"), mounter(namespace, "b")
    (a.path / "f").write_bytes(b"of a")
    (a.path / "g").write_bytes(b"")
    assert [(m.path / "g").stat().st_size for m in (a, b)] == [0, 0]
    (b.path / "f").write_bytes(b"")
    os.chmod(b.path / "g", 0o604)
    with (a.path / "f").open("rb") as file:
        assert os.fstat(file.fileno()).st_size == 0
        assert file.read() == b""
    with (a.path / "g").open("rb") as file:
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o604
    (b.path / "f").write_bytes(b"of b")
    with refused(errno.EREMOTE):
        (a.path / "f").read_bytes()
    assert a.unmount() == b.unmount() == 0


def test_missing_contents_are_an_error_and_not_an_empty_file(mount):
    (mount.path / "f").write_bytes(b"precious")
    (path,) = mount.content_files()
    path.unlink()
    with refused(errno.EIO):
        (mount.path / "f").read_bytes()
    with refused(errno.EIO):
        os.truncate(mount.path / "f", 3)
    assert "missing from the contents folder" in mount.text()
    (mount.path / "f").write_bytes(b"new")
    assert (mount.path / "f").read_bytes() == b"new"


@pytest.fixture
def believing(mounter, namespace):
    """Two mounts, the first of which asks for attributes always and for names hardly ever."""
    a, b = mounter(namespace, "a", "attr_timeout=0", "entry_timeout=600"), mounter(namespace, "b", *STRICT)
    yield a, b.path
    for mount in mounter.mounts:
        assert mount.unmount() == 0
        assert "Traceback" not in mount.text()


def contents_of(mount, name):
    return mount.contents / "data" / f"{name & 0xFF:02x}" / f"{name:016x}"


@pytest.mark.parametrize("ask", [lambda path: path.stat(), lambda path: path.open(), lambda path: os.truncate(path, 0)])
def test_contents_go_when_the_file_turns_out_to_be_no_more(believing, ask):
    a, b = believing
    (a.path / "f").write_bytes(b"of a")
    (a.path / "kept").write_bytes(b"of a")
    here = contents_of(a, (a.path / "f").stat().st_ino)
    assert here.read_bytes() == b"of a"
    os.unlink(b / "f")
    with pytest.raises(OSError, match=r"Stale|No such file"):
        ask(a.path / "f")
    assert not here.exists()
    assert (a.path / "kept").read_bytes() == b"of a"


def test_contents_of_a_removed_file_stay_while_it_is_open(believing):
    a, b = believing
    with (a.path / "f").open("w+b", buffering=0) as file:
        file.write(b"of a")
        os.unlink(b / "f")
        with suppress(OSError):
            (a.path / "f").stat()
        with suppress(OSError):
            (a.path / "f").open()
        assert os.pread(file.fileno(), 100, 0) == b"of a"
        file.write(b" still")
        assert os.pread(file.fileno(), 100, 0) == b"of a still"


def test_contents_stay_when_a_directory_turns_out_to_be_no_more(believing):
    a, b = believing
    (a.path / "f").write_bytes(b"of a")
    (a.path / "d").mkdir()
    (b / "d").rmdir()
    with pytest.raises(OSError, match=r"Stale|No such file"):
        os.link(a.path / "f", a.path / "d" / "g")
    with pytest.raises(OSError, match=r"Stale|No such file"):
        os.rename(a.path / "f", a.path / "d" / "g")
    assert (a.path / "f").read_bytes() == b"of a"


def test_contents_stay_while_a_file_has_another_name(believing):
    a, b = believing
    (a.path / "f").write_bytes(b"of a")
    os.link(b / "f", b / "other")
    os.unlink(b / "f")
    with suppress(OSError):
        (a.path / "f").open().close()
    assert (a.path / "other").read_bytes() == b"of a"
