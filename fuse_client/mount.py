"""The life of a mount: checks, the kernel's session, and an end that neither hangs nor leaves a mount behind."""

import errno
import logging
import os
import resource
import select
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pyfuse3
import trio

from fuse_client import interrupts
from fuse_client.contents import ContentStore
from fuse_client.operations import QunfsOperations
from qunfs import mounts
from qunfs.nfs.service import MetadataService
from qunfs.processes import followed
from qunfs.protocol.errors import LocalError

log = logging.getLogger(__name__)

DEVICE: Final = "/dev/fuse"

LOOK_S: Final = 5.0
"""How long a mount point may take to be looked at before it counts as dead."""

DISCONNECT_CHECK_S: Final = 0.5
"""How often a mount looks whether the kernel has let go of it while requests still wait for replicas."""

FINISH_S: Final = 2.0
"""How long requests under way may take to finish once the mount is to end."""

FINAL_REPORT_S: Final = 5.0
"""How long sizes of files that are still open may take to be reported at the end; the next mount reports the rest."""

_one_session: Final = threading.Lock()  # pyfuse3 keeps its session in global variables


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount; time-outs in seconds."""

    attr_timeout: float = 1.0
    """How long attributes may be believed without asking the replicas again; 0: always ask."""
    entry_timeout: float = 1.0
    """The same for what a name is bound to, or that it is bound to nothing."""
    allow_other: bool | None = None
    """Whether other users may use the mount; None: if the superuser mounts."""
    revalidate: bool = True
    """Whether each open asks for attributes (close-to-open).  Without, cached ones serve files whose contents are
    here; what another mount did to them is then seen after ``attr_timeout`` (the ``nocto`` of nfs(5))."""
    fsname: str = "qunfs"
    """What the mount table shows as the device."""

    def fuse_options(self) -> set[str]:
        """The options for libfuse."""
        others = os.geteuid() == 0 if self.allow_other is None else self.allow_other
        options = {"default_permissions", f"fsname={self.fsname}", "subtype=qunfs"}
        return options | {"allow_other"} if others else options


async def serve(
    service: MetadataService,
    mountpoint: Path,
    contents: Path,
    options: MountOptions = MountOptions(),
    on_ready: Callable[[], None] = lambda: None,
    give_up: Callable[[trio.lowlevel.Task], bool] = lambda _: False,
) -> None:
    """Mount, and serve until unmounted from outside or cancelled; unmounted it is in any case when this returns.

    ``on_ready`` is called once the kernel talks to the mount, ``give_up`` with a task that waits for the service on
    behalf of a program that is being killed.  Raises LocalError when it cannot be mounted.
    """
    if not _one_session.acquire(blocking=False):
        raise LocalError("this process serves a mount already; a second one needs a process of its own")
    try:
        await _check(mountpoint, contents)
        _raise_descriptor_limit()
        store = ContentStore(contents)
        try:
            operations = QunfsOperations(
                service,
                store,
                attr_timeout=options.attr_timeout,
                entry_timeout=options.entry_timeout,
                revalidate=options.revalidate,
            )
            await _Session(operations, mountpoint, give_up).run(options, on_ready)
        finally:
            store.close()
    finally:
        _one_session.release()


async def _check(mountpoint: Path, contents: Path) -> None:
    """Refuse what cannot work, also a mount point that a dead mount left behind.  Raises LocalError."""
    if followed(contents).is_relative_to(followed(mountpoint)):
        raise LocalError(f"{contents}: contents below the mount point would be covered by it; choose another folder")
    kind = mounts.filesystem_at(mountpoint)
    status = None
    with trio.move_on_after(LOOK_S):
        try:
            status = await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                raise LocalError(
                    f"{mountpoint}: the process of an earlier mount is gone (transport endpoint is not connected); "
                    f"first: {mounts.ending(mountpoint)}"
                ) from error
            raise LocalError(f"{mountpoint}: {error.strerror}; a mount point is an existing directory") from error
    if status is None:
        raise LocalError(f"{mountpoint}: what is mounted there does not answer; first: {mounts.ending(mountpoint)}")
    if not stat.S_ISDIR(status.st_mode):
        raise LocalError(f"{mountpoint}: not a directory; a mount point is an existing directory")
    if kind is not None and kind.startswith("fuse"):
        raise LocalError(f"{mountpoint}: something is mounted there; first: {mounts.ending(mountpoint)}")


def _raise_descriptor_limit() -> None:
    """Each open file holds a descriptor of its contents."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Session:
    """One mount, from the mount call to the end."""

    def __init__(
        self, operations: QunfsOperations, mountpoint: Path, give_up: Callable[[trio.lowlevel.Task], bool]
    ) -> None:
        self._operations = operations
        self._give_up = give_up
        self._mountpoint = followed(mountpoint)
        self._ended = trio.Event()
        self._detached = False
        self._device: str | None = None

    async def run(self, options: MountOptions, on_ready: Callable[[], None]) -> None:
        """Mount, serve, unmount."""
        device_fd = self._mount(options)
        self._device = mounts.device_at(self._mountpoint)
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=True) as serving:
                    nursery.start_soon(self._finish_when_cancelled, serving)
                    nursery.start_soon(_finish_when_disconnected, device_fd, serving)
                    nursery.start_soon(interrupts.watch, self._give_up)
                    nursery.start_soon(self._announce, on_ready)
                    await pyfuse3.main()
                self._ended.set()
                nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=not self._detached)
            with trio.move_on_after(FINAL_REPORT_S, shield=True):
                await self._operations.close()

    def _mount(self, options: MountOptions) -> int:
        """Mount, and find the descriptor of the kernel's device."""
        before = _device_descriptors()
        with _StderrCapture() as said:
            try:
                pyfuse3.init(self._operations, str(self._mountpoint), options.fuse_options())
                failed = False
            except RuntimeError:  # libfuse has said why, on standard error
                failed = True
        if failed:
            reason = " / ".join(said.text.split("\n")) or "no reason given"
            raise LocalError(f"{self._mountpoint}: cannot be mounted: {reason}")
        fresh = _device_descriptors() - before
        if len(fresh) != 1:
            pyfuse3.close()
            raise LocalError(f"{DEVICE}: {len(fresh)} descriptors after mounting {self._mountpoint}; expected one")
        return fresh.pop()

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        await self._operations.started.wait()
        on_ready()

    async def _finish_when_cancelled(self, serving: trio.CancelScope) -> None:
        """Detach the mount, let requests under way and files that are closed now finish, then end."""
        try:
            await trio.sleep_forever()
        finally:
            if not self._ended.is_set():
                with trio.move_on_after(FINISH_S, shield=True):
                    await self._detach()
                    await self._ended.wait()  # as soon as the last file is closed
                serving.cancel()

    async def _detach(self) -> None:
        if mounts.device_at(self._mountpoint) != self._device:  # detached already; another mount may be there by now
            self._detached = True
            return
        try:
            await trio.to_thread.run_sync(partial(mounts.detach, self._mountpoint, lazy=True))
            self._detached = True
        except LocalError as error:
            log.warning("%s", error)


async def _finish_when_disconnected(device_fd: int, serving: trio.CancelScope) -> None:
    """The kernel has dropped the mount: nobody waits for the answers of requests that still run."""
    poll = select.poll()
    poll.register(device_fd, 0)
    while not any(events & select.POLLERR for _, events in poll.poll(0)):  # noqa: ASYNC110 - it tells nobody
        await trio.sleep(DISCONNECT_CHECK_S)
    await trio.sleep(FINISH_S)
    log.warning("unmounted while requests were waiting for replicas: they are given up")
    serving.cancel()


def _device_descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == DEVICE:
                found.add(int(name))
        except FileNotFoundError:  # the listing's own
            continue
    return found


class _StderrCapture:
    """What is written to descriptor 2 meanwhile: the only place where libfuse says what is wrong."""

    text = ""

    def __enter__(self) -> "_StderrCapture":
        self._file = tempfile.TemporaryFile()
        self._saved = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._file.seek(0)
        self.text = self._file.read().decode(errors="replace").strip()
        self._file.close()
