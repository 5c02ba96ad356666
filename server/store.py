"""A replica's data directory: who may open it, and whether what lies in it can be trusted.

Beside database and log lie ``owner.lock``, held while a process has the store open, and ``unclean``, which names the
durability and the boot of a run that has not been closed properly.  When an ``async`` run was cut off by the machine
and not only by the process, what it had answered may be gone, and a replica that forgets is a malevolent one.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from qunfs.protocol.errors import StorageError
from qunfs.protocol.versions import Genesis, VersionStore
from server.disk_rows import DiskRows
from server.lmdb_rows import Durability

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class ReplicaStore(VersionStore):
    """The versions a replica holds, on disk; made by :func:`open_store`."""

    def __init__(self, directory: Path, rows: DiskRows, lock: int, genesis: Genesis) -> None:
        super().__init__(rows, genesis)
        self._directory = directory
        self._disk = rows
        self._lock = lock

    @property
    def fsyncs(self) -> int:
        """How often something was brought to the disk since the store was opened."""
        return self._disk.fsyncs

    def close(self, clean: bool = True) -> None:
        """Commit everything and note that nothing is lost; unless ``clean``, stop as a killed process would.

        Raises StorageError; a second call does nothing.
        """
        if self._lock < 0:
            return
        try:
            if clean:
                self.checkpoint()
                self._disk.sync()
            self._disk.close()
            if clean:
                _remove_mark(self._directory)
        finally:
            self._disk.close()
            os.close(self._lock)
            self._lock = -1


def open_store(
    directory: Path,
    genesis: Genesis,
    durability: Durability = "sync",
    accept_loss: bool = False,
    boot_id: Path = BOOT_ID,
) -> ReplicaStore:
    """Open the data directory of a replica, made when missing.

    Raises StorageError when another process has it open, when it was made for another cluster, when it may have lost
    what an ``async`` run answered before the machine went down (unless ``accept_loss``), and when the disk fails.
    """
    lock = _lock(directory)
    rows: DiskRows | None = None
    try:
        boot = _boot(boot_id)
        if not accept_loss:
            _refuse_loss(directory, boot)
        rows = DiskRows(directory, durability, accept_loss)
        store = ReplicaStore(directory, rows, lock, genesis)
        rows.sync()  # what a killed async run left to the kernel, before its mark goes
        _write_mark(directory, durability, boot)
    except BaseException:
        if rows is not None:
            rows.close()
        os.close(lock)
        raise
    return store


def _lock(directory: Path) -> int:
    lock = -1
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_directory(directory.parent)  # or a power cut may take the new directory with all that is to be in it
        lock = os.open(directory / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        if isinstance(error, BlockingIOError):
            raise StorageError(f"{directory} is in use by another server process: stop that one first") from error
        raise StorageError(f"cannot use {directory} ({error.strerror}): check its owner and the disk") from error
    return lock


def _boot(path: Path) -> str:
    """What tells one boot of this machine from the next; empty where the system does not say."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _refuse_loss(directory: Path, boot: str) -> None:
    mark = directory / "unclean"
    try:
        durability, _, marked_boot = mark.read_text().strip().partition(" ")
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        durability, marked_boot = "", ""
    if durability == "sync" or (durability == "async" and boot and marked_boot == boot):
        return
    what = "the machine went down while this server ran with --durability async"
    if durability != "async":
        what = f"{mark} cannot be read"
    raise StorageError(
        f"{what}, so {directory} may have lost answered updates: rebuild the server (move {directory} away and start "
        "it; it fetches its objects from the others), or start it once with --accept-loss to go on with what is there"
    )


def _write_mark(directory: Path, durability: Durability, boot: str) -> None:
    fresh = directory / "unclean.new"
    try:
        with fresh.open("w") as file:
            file.write(f"{durability} {boot}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(directory / "unclean")
        _sync_directory(directory)
    except OSError as error:
        raise StorageError(f"cannot write to {directory} ({error}): free space or repair the disk") from error


def _remove_mark(directory: Path) -> None:
    try:
        (directory / "unclean").unlink(missing_ok=True)
        _sync_directory(directory)
    except OSError as error:
        raise StorageError(f"cannot write to {directory} ({error}): free space or repair the disk") from error


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
