"""File contents on the client's own disk: one file per object below one folder that a UUID names.

::

    FOLDER/store           the UUID; also the lock that keeps a second mount out
    FOLDER/data/XX/ID      the contents of object ID (16 hexadecimal digits), XX being its last two

A content file's sticky bit says that it holds changes which the attribute object has not been told about.  The bit is
set before the first such write and cleared after the SETATTR, so that a crash in between shows at the next open.
"""

import contextlib
import fcntl
import os
import stat
import uuid
from pathlib import Path
from typing import Final

from qunfs.protocol.errors import LocalError

_PLAIN_MODE: Final = stat.S_IRUSR | stat.S_IWUSR
_MARKED_MODE: Final = _PLAIN_MODE | stat.S_ISVTX
_OPEN_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class ContentStore:
    """The contents folder of one mount.  File system errors come out as OSError."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, making it at first use.  LocalError when it cannot serve or another mount uses it."""
        try:
            (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(folder / "store", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PLAIN_MODE)
        except OSError as error:
            raise LocalError(f"contents folder {folder} cannot be used: {error.strerror}") from error
        try:
            self._take_lock(folder)
            self.identity: Final = self._read_identity(folder)
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._data = os.fspath(folder / "data")

    def _take_lock(self, folder: Path) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalError(
                f"contents folder {folder} is in use by another mount: unmount that, or be another "
                "client (--client), or give this one a folder of its own (--contents)"
            ) from error

    def _read_identity(self, folder: Path) -> bytes:
        text = os.pread(self._lock_fd, 64, 0).strip()
        if not text:
            fresh = uuid.uuid4()
            os.pwrite(self._lock_fd, f"{fresh}\n".encode("ascii"), 0)
            os.fsync(self._lock_fd)
            return fresh.bytes
        try:
            return uuid.UUID(text.decode("ascii")).bytes
        except ValueError as error:
            raise LocalError(f"{folder / 'store'} does not hold a UUID: restore it, or use another folder") from error

    def _path(self, obj: int) -> str:
        return f"{self._data}/{obj & 0xFF:02x}/{obj:016x}"

    def open(self, obj: int) -> int | None:
        """A descriptor of an object's contents, or None when there are none here."""
        try:
            return os.open(self._path(obj), _OPEN_FLAGS)
        except FileNotFoundError:
            return None

    def create(self, obj: int) -> int:
        """A descriptor of an object's contents, made empty and marked when there are none yet."""
        path = self._path(obj)
        try:
            return os.open(path, _OPEN_FLAGS | os.O_CREAT, _MARKED_MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return os.open(path, _OPEN_FLAGS | os.O_CREAT, _MARKED_MODE)

    def discard(self, obj: int) -> None:
        """Remove an object's contents; descriptors of them stay good."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(obj))

    def statvfs(self) -> os.statvfs_result:
        """The room on the file system that holds the folder."""
        return os.statvfs(self._data)

    def close(self) -> None:
        """Let another mount have the folder."""
        os.close(self._lock_fd)


def mark(fd: int) -> None:
    """Note that contents are about to change."""
    os.fchmod(fd, _MARKED_MODE)


def unmark(fd: int) -> None:
    """Note that the attribute object knows the contents as they are."""
    os.fchmod(fd, _PLAIN_MODE)


def is_marked(status: os.stat_result) -> bool:
    """Whether contents changed since the attribute object was last told."""
    return bool(status.st_mode & stat.S_ISVTX)


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of the data, as the kernel expects of a FUSE write."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest = rest[written:]
        offset += written
