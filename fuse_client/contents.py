"""File contents on the client's own disk: one file per object below one folder that a UUID names.

::

    FOLDER/store           the UUID; also the lock that keeps a second mount out
    FOLDER/data/XX/ID      the contents of object ID (16 hexadecimal digits), XX being its last two
    FOLDER/spare/N         an empty file that lay below data and may do so again, N being 0, 1, 2 ...

A content file's sticky bit, its *mark*, says that it holds changes which the attribute object has not been told about
and which its size does not betray.  The bit is set before the first such write and cleared after the SETATTR, so that
a crash in between shows at the next open.

Its executable bit, the *cut*, says that it is about to be as long as the attribute object says, which is told first,
and was that long before: whatever is found behind that end after a crash is what was cut off, and no unreported write.

Files of removed objects are emptied and kept for new ones: ext4 gives out no inode again that was freed in the last
seconds, and where files come and go its search among those costs more than all the rest of a creation.  A file is
emptied before it becomes a spare and looked at before it becomes contents, so that no object ever shows the bytes of
another, wherever a crash comes in between.
"""

import contextlib
import errno
import fcntl
import os
import stat
import uuid
from pathlib import Path
from typing import Final

from qunfs.protocol.errors import LocalError

_PLAIN_MODE: Final = stat.S_IRUSR | stat.S_IWUSR
_MARKED_MODE: Final = _PLAIN_MODE | stat.S_ISVTX
_CUT_MODE: Final = _PLAIN_MODE | stat.S_IXUSR
_OPEN_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

SPARES_MAX: Final = 1024
"""Spare files kept: an inode each, and no blocks.  Creations and removals that alternate need a few hundred at most;
after the removal of a whole tree the rest would lie about for good."""


class ContentStore:
    """The contents folder of one mount.  File system errors come out as OSError."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, making it at first use.  LocalError when it cannot serve or another mount uses it."""
        try:
            for name in ("data", "spare"):
                (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_fd = os.open(folder / "store", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PLAIN_MODE)
        except OSError as error:
            raise LocalError(f"contents folder {folder} cannot be used: {error.strerror}") from error
        try:
            self._take_lock(folder)
            self.identity: Final = self._read_identity(folder)
            self._data = os.fspath(folder / "data")
            self._spare = os.fspath(folder / "spare")
            self._spares = self._count_spares()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def _take_lock(self, folder: Path) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalError(
                f"contents folder {folder} is in use by another mount, or by a detached one that programs still use: "
                "unmount that, end those programs, or be another client (--client), or give this one a folder of its "
                "own (--contents)"
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
        """A descriptor of an object's contents, or None when there are none here.

        It is good for reading only when the disk is (:func:`is_writable`).
        """
        path = self._path(obj)
        try:
            return os.open(path, _OPEN_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return os.open(path, _READ_FLAGS)

    def create(self, obj: int) -> int:
        """A descriptor of an object's contents, made empty when there are none yet."""
        path = self._path(obj)
        try:
            return self._create(path)
        except OSError as error:
            if error.errno not in _NO_ROOM or not self._spares:
                raise
            self._drop_spares()  # the disk may be out of inodes, and these have one each
            return self._create(path)

    def _create(self, path: str) -> int:
        try:
            return self._create_in_folder(path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), mode=0o700)
            return self._create_in_folder(path)

    def _create_in_folder(self, path: str) -> int:
        fd = self._reuse(path) if self._spares and not os.access(path, os.F_OK) else None
        return os.open(path, _OPEN_FLAGS | os.O_CREAT, _PLAIN_MODE) if fd is None else fd

    def discard(self, obj: int) -> None:
        """Remove an object's contents, on which no descriptor may be open: what they were in may serve another."""
        path = self._path(obj)
        if self._spares >= SPARES_MAX or not self._retire(path):
            _unlink(path)

    def detach(self, obj: int) -> None:
        """Remove an object's contents; descriptors of them stay good."""
        _unlink(self._path(obj))

    # --- spare files ------------------------------------------------------------------------------------------------

    def _count_spares(self) -> int:
        """How many spare files an earlier mount has left; others, after a gap or too many, are removed."""
        found = set(os.listdir(self._spare))
        count = 0
        while count < SPARES_MAX and str(count) in found:
            count += 1
        for name in found.difference(map(str, range(count))):
            with contextlib.suppress(OSError):  # it counts for nothing, and a later spare may replace it
                os.unlink(f"{self._spare}/{name}")
        return count

    def _drop_spares(self) -> None:
        while self._spares:
            self._spares -= 1
            _unlink(f"{self._spare}/{self._spares}")

    def _retire(self, path: str) -> bool:
        """Make a content file the last spare one, if it can be."""
        fd = None
        try:
            fd = os.open(path, _OPEN_FLAGS)
            status = os.fstat(fd)
            if not _is_plain(status):
                return False
            if status.st_size:
                os.ftruncate(fd, 0)
            os.rename(path, f"{self._spare}/{self._spares}")
        except OSError:  # gone, or no more descriptors, or no room for a name; removal may still succeed
            return False
        finally:
            if fd is not None:
                os.close(fd)
        self._spares += 1
        return True

    def _reuse(self, path: str) -> int | None:
        """A descriptor of the last spare file, which now is at ``path``, where nothing was; None if it is unfit."""
        spare = f"{self._spare}/{self._spares - 1}"
        fd = _open_empty(spare)
        if fd is not None:
            try:
                os.rename(spare, path)
            except OSError as error:
                os.close(fd)
                if error.errno == errno.ENOENT:  # it is the folder that is missing
                    raise
                fd = None
        self._spares -= 1
        return fd

    def statvfs(self) -> os.statvfs_result:
        """The room on the file system that holds the folder."""
        return os.statvfs(self._data)

    def close(self) -> None:
        """Let another mount have the folder."""
        os.close(self._lock_fd)


def _is_plain(status: os.stat_result) -> bool:
    """Whether a file is a content file without a mark, and has no other name that somebody may count on."""
    return status.st_mode == stat.S_IFREG | _PLAIN_MODE and status.st_nlink == 1


def _open_empty(spare: str) -> int | None:
    """A descriptor of a spare file.

    One that is not as it must be is removed.  It is not emptied here: what is truncated and then written ext4 takes for
    a file that is being replaced, and sends it to the disk when it is closed.
    """
    try:
        fd = os.open(spare, _OPEN_FLAGS)
        status = os.fstat(fd)
        if status.st_size == 0 and _is_plain(status):
            return fd
        os.close(fd)
        os.unlink(spare)
    except OSError:  # gone, or no more descriptors: then a new file cannot be opened either
        pass
    return None


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def mark(fd: int) -> None:
    """Note that contents are about to change in a way that their size may not show; a cut is void."""
    os.fchmod(fd, _MARKED_MODE)


def mark_cut(fd: int) -> None:
    """Note that contents, of which the attribute object knows all, are about to lose their end."""
    os.fchmod(fd, _CUT_MODE)


def unmark(fd: int) -> None:
    """Note that the attribute object knows the contents as they are."""
    os.fchmod(fd, _PLAIN_MODE)


def is_marked(status: os.stat_result) -> bool:
    """Whether contents may have changed since the attribute object was last told, whatever their size."""
    return bool(status.st_mode & stat.S_ISVTX)


def is_cut(status: os.stat_result) -> bool:
    """Whether contents that are longer than the attribute object says have an end that was to be cut off."""
    return bool(status.st_mode & stat.S_IXUSR)


def is_writable(fd: int) -> bool:
    """Whether contents were opened on a disk that took writes then."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of the data, as the kernel expects of a FUSE write.

    If that fails, for lack of room most likely, nothing is left behind the old end: whoever appends is told that it has
    failed, and goes on from there.
    """
    end = os.lseek(fd, 0, os.SEEK_END)
    try:
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)
    except OSError:
        if os.lseek(fd, 0, os.SEEK_END) > end:
            os.ftruncate(fd, end)
        raise
