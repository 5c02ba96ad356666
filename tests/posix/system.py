"""System calls that Python does not have."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_SYMLINK_FOLLOW: Final = 0x400
AT_EMPTY_PATH: Final = 0x1000

UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2

_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_MNT_DETACH: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.fdopendir.restype = _libc.readdir64.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


def _checked(result: int) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _bytes(path: str | bytes | Path) -> ctypes.c_char_p:
    return ctypes.c_char_p(os.fsencode(path))


def renameat2(source: str | Path, target: str | Path, flags: int) -> None:
    _checked(_libc.renameat2(AT_FDCWD, _bytes(source), AT_FDCWD, _bytes(target), ctypes.c_uint(flags)))


def link_following(source: str, target: str) -> None:
    """linkat(2) with AT_SYMLINK_FOLLOW, which os.link() leaves out."""
    _checked(_libc.linkat(AT_FDCWD, _bytes(source), AT_FDCWD, _bytes(target), AT_SYMLINK_FOLLOW))


def utimensat(path: str, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    """Times as (seconds, nanoseconds); UTIME_NOW and UTIME_OMIT may stand for the latter."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    _checked(_libc.utimensat(AT_FDCWD, _bytes(path), times, flags))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _checked(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def faccessat(path: str, mode: int, flags: int = 0) -> None:
    _checked(_libc.faccessat(AT_FDCWD, _bytes(path), mode, flags))


def fchmod(fd: int, mode: int) -> None:
    """fchmod(2) by number: descriptors of O_PATH are refused by the kernel and not by Python."""
    _checked(_libc.fchmod(fd, mode))


def readlink(path: str, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(max(size, 1))
    length = _checked(_libc.readlink(_bytes(path), buffer, ctypes.c_size_t(size)))
    return buffer.raw[:length]


class Directory:
    """opendir(3) and what belongs to it."""

    def __init__(self, path: str) -> None:
        ctypes.set_errno(0)
        self._stream = _libc.opendir(_bytes(path))
        if not self._stream:
            _checked(-1)

    def read(self) -> tuple[bytes, int, int] | None:
        """The next (name, inode, type), or None at the end."""
        ctypes.set_errno(0)
        found = _libc.readdir64(ctypes.c_void_p(self._stream))
        if not found:
            if ctypes.get_errno():
                _checked(-1)
            return None
        entry = _Dirent.from_address(found)
        name = ctypes.string_at(found + _Dirent.d_name.offset)
        return name, entry.d_ino, entry.d_type

    def tell(self) -> int:
        return int(_libc.telldir(ctypes.c_void_p(self._stream)))

    def seek(self, position: int) -> None:
        _libc.seekdir(ctypes.c_void_p(self._stream), ctypes.c_long(position))

    def rewind(self) -> None:
        _libc.rewinddir(ctypes.c_void_p(self._stream))

    def names(self) -> list[bytes]:
        """All that is left."""
        found = []
        while (entry := self.read()) is not None:
            found.append(entry[0])
        return found

    def close(self) -> None:
        _checked(_libc.closedir(ctypes.c_void_p(self._stream)))

    def __enter__(self) -> "Directory":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def bound(source: str, target: str, *, read_only: bool = False) -> Iterator[None]:
    """One directory shown at another for the length of a block: a mount point, and maybe one that is read-only."""
    _checked(_libc.mount(_bytes(source), _bytes(target), None, ctypes.c_ulong(_MS_BIND), None))
    try:
        if read_only:
            flags = ctypes.c_ulong(_MS_REMOUNT | _MS_BIND | _MS_RDONLY)
            _checked(_libc.mount(None, _bytes(target), None, flags, None))
        yield
    finally:
        _checked(_libc.umount2(_bytes(target), _MNT_DETACH))
