"""Truncations during which the mount's process is killed: they have happened or not, as the attribute object says."""

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pyfuse3
import pytest

from fuse_client import file_io
from fuse_client.contents import ContentStore, is_cut
from fuse_client.operations import QunfsOperations
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials
from tests.fuse.conftest import Mount, Mounter
from tests.fuse.namespace import Namespace, new_core
from tests.fuse.test_unreported import content_file, crash

OLD = b"0123456789"
PATIENCE_S = 60.0
USER = SimpleNamespace(uid=0, gid=0, pid=1)


def by_path(path, size: int) -> tuple[Callable[[], object], list[int]]:
    return lambda: os.truncate(path, size), []


def by_descriptor(path, size: int) -> tuple[Callable[[], object], list[int]]:
    fd = os.open(path, os.O_RDWR)
    return lambda: os.ftruncate(fd, size), [fd]


def by_opening(path, size: int) -> tuple[Callable[[], object], list[int]]:
    assert size == 0
    return lambda: os.open(path, os.O_WRONLY | os.O_TRUNC), []


def killed_meanwhile(mounter: Mounter, namespace: Namespace, how, size: int) -> Mount:
    """A mount that was killed while it truncated, when the attribute object knew already."""
    mount = mounter(namespace, "m", "attr_timeout=60", "entry_timeout=60", "revalidate=0")
    (mount.path / "f").write_bytes(OLD)
    (mount.path / "f").stat()
    truncate, fds = how(mount.path / "f", size)

    def in_vain() -> None:
        with contextlib.suppress(OSError):
            truncate()

    namespace.hold(answers_only=True)
    before, end = namespace.answered(), time.monotonic() + PATIENCE_S
    body = threading.Thread(target=in_vain)
    body.start()
    while namespace.answered() == before and time.monotonic() < end:
        time.sleep(0.01)
    assert namespace.answered() == before + 1
    crash(mount, *fds, closing=body)
    namespace.go_on()
    return mount


@pytest.mark.parametrize(("how", "size"), [(by_path, 0), (by_path, 4), (by_descriptor, 4), (by_opening, 0)])
def test_one_of_which_the_attribute_object_has_heard_has_happened(mounter, namespace, how, size):
    killed = killed_meanwhile(mounter, namespace, how, size)
    assert content_file(killed).stat().st_size == len(OLD)
    again = mounter(namespace)
    seen = (again.path / "f").stat()
    assert seen.st_size == size
    assert (again.path / "f").read_bytes() == OLD[:size]
    now = (again.path / "f").stat()
    assert (now.st_size, now.st_mtime_ns) == (size, seen.st_mtime_ns)
    os.truncate(again.path / "f", 12)
    assert (again.path / "f").read_bytes() == OLD[:size] + bytes(12 - size), "nothing of the old bytes comes back"
    assert "recording it" not in again.text()
    assert not is_cut(content_file(again).stat())
    assert again.unmount() == 0


class Killed(BaseException):
    """The process ends here."""


class DyingService(MetadataService):
    """A service whose next SETATTR with a size is the last thing that happens."""

    dies: str = ""

    async def setattr(self, cred, object, new_attributes, guard=None):
        if self.dies == "before" and new_attributes.size is not None:
            raise Killed
        result = await super().setattr(cred, object, new_attributes, guard)
        if self.dies == "after" and new_attributes.size is not None:
            raise Killed
        return result


class Machine:
    """Mounts that follow each other in one process, on one namespace and one contents folder."""

    def __init__(self, folder) -> None:
        self.core, self.folder, self.store = new_core(), folder, None

    def mount(self) -> None:
        if self.store is not None:
            self.store.close()
        self.store = ContentStore(self.folder)
        self.service = DyingService(self.core, 6, random.getrandbits)
        self.handlers = QunfsOperations(self.service, self.store, attr_timeout=0.0, entry_timeout=0.0)

    async def make(self) -> int:
        made, entry = await self.handlers.create(ROOT, b"f", 0o644, os.O_RDWR, USER)
        await self.handlers.write(made.fh, 0, OLD)
        await self.handlers.release(made.fh)
        return entry.st_ino

    async def open(self, obj: int) -> int:
        return (await self.handlers.open(obj, os.O_RDWR, USER)).fh

    async def truncate(self, obj: int, size: int, fh: int | None = None) -> None:
        wanted, fields = pyfuse3.EntryAttributes(), SimpleNamespace(**dict.fromkeys(FIELDS, False))
        wanted.st_size, fields.update_size = size, True
        await self.handlers.setattr(obj, wanted, fields, fh, USER)

    async def seen(self, obj: int) -> tuple[int, bytes]:
        """Size and contents after an open."""
        fh = await self.open(obj)
        data = await self.handlers.read(fh, 0, 100)
        size = (await self.handlers.getattr(obj, USER)).st_size
        await self.handlers.release(fh)
        assert size == (await self.service.getattr(Credentials(0, 0), obj)).obj_attributes.size
        return size, data

    def cut(self) -> bool:
        (path,) = (path for path in (self.folder / "data").rglob("*") if path.is_file())
        return is_cut(path.stat())


FIELDS = ("update_atime", "update_mtime", "update_ctime", "update_mode", "update_uid", "update_gid", "update_size")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(pyfuse3, "invalidate_inode", lambda *_, **__: None)  # there is no kernel
    made = Machine(tmp_path)
    made.mount()
    yield made
    made.store.close()


@pytest.mark.parametrize(("dies", "size"), [("before", len(OLD)), ("after", 4)])
async def test_the_attribute_object_s_word_counts(machine, dies, size):
    obj = await machine.make()
    machine.service.dies = dies
    with pytest.raises(Killed):
        await machine.truncate(obj, 4)
    assert machine.cut()
    machine.mount()
    assert await machine.seen(obj) == (size, OLD[:size])
    assert not machine.cut()


async def test_killed_when_it_was_all_but_over(machine, monkeypatch):
    def die(_fd):
        raise Killed

    obj = await machine.make()
    with monkeypatch.context() as patched:
        patched.setattr(file_io, "unmark", die)
        with pytest.raises(Killed):
            await machine.truncate(obj, 4)
    assert machine.cut()
    machine.mount()
    assert await machine.seen(obj) == (4, OLD[:4])
    assert not machine.cut()


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_unreported_writes_are_not_taken_for_an_end_to_cut_off(machine, dies):
    """All of it is recorded then: the truncation did not return."""
    obj = await machine.make()
    fh = await machine.open(obj)
    await machine.handlers.write(fh, 10, b"abcdefghij")
    machine.service.dies = dies
    with pytest.raises(Killed):
        await machine.truncate(obj, 15, fh)
    assert not machine.cut()
    machine.mount()
    assert await machine.seen(obj) == (20, OLD + b"abcdefghij")


async def test_a_write_in_the_meantime_is_recorded(machine):
    obj = await machine.make()
    fh = await machine.open(obj)
    machine.service.dies = "after"
    with pytest.raises(Killed):
        await machine.truncate(obj, 4, fh)
    assert machine.cut()
    await machine.handlers.write(fh, 12, b"x")
    assert not machine.cut()
    machine.mount()
    assert await machine.seen(obj) == (13, OLD + b"\0\0x")


async def test_one_that_is_refused_changes_nothing(machine):
    obj = await machine.make()
    fh = await machine.open(obj)

    async def refuse(*_):
        return SimpleNamespace(status=nfsstat3.NFS3ERR_ACCES, obj_wcc=SimpleNamespace(after=None))

    setattr_ = machine.service.setattr
    machine.service.setattr = refuse
    with pytest.raises(pyfuse3.FUSEError):
        await machine.truncate(obj, 4, fh)
    machine.service.setattr = setattr_
    assert not machine.cut()
    await machine.handlers.write(fh, 10, b"abc")
    await machine.handlers.release(fh)
    assert await machine.seen(obj) == (13, OLD + b"abc")


async def test_an_end_to_cut_off_stays_while_the_disk_is_read_only(machine, monkeypatch):
    obj = await machine.make()
    machine.service.dies = "after"
    with pytest.raises(Killed):
        await machine.truncate(obj, 4)
    machine.mount()
    with monkeypatch.context() as patched:
        patched.setattr(machine.store, "open", lambda obj: os.open(machine.store._path(obj), os.O_RDONLY))
        fh = await machine.open(obj)
        assert (await machine.handlers.getattr(obj, USER)).st_size == 4
        with pytest.raises(pyfuse3.FUSEError):
            await machine.handlers.write(fh, 4, b"x")
        assert machine.cut()
    await machine.handlers.write(fh, 5, b"x")
    await machine.handlers.release(fh)
    assert await machine.seen(obj) == (6, OLD[:4] + b"\0x")


async def test_truncation_to_nothing_needs_no_look_at_what_a_crash_left(machine):
    obj = await machine.make()
    machine.service.dies = "after"
    with pytest.raises(Killed):
        await machine.truncate(obj, 4)
    machine.mount()
    await machine.truncate(obj, 0)
    assert await machine.seen(obj) == (0, b"")
    assert not machine.cut()
