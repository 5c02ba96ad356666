"""A plain pyfuse3 file system that passes everything on to a directory: ``python -m bench.passthrough DIR MOUNTPOINT``.

The floor under a mount: what kernel, pyfuse3 and Python take when nobody has to be asked.  It keeps no state but the
path of each inode and does one system call or two per request.
"""
# ruff: noqa: ARG002 - pyfuse3 says what the parameters are

import argparse
import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyfuse3
import trio

READY: Final = "ready"
_TIMES: Final = ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")
_SAME: Final = ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size")


class Passthrough(pyfuse3.Operations):
    """Every request becomes the same call on the directory."""

    enable_writeback_cache = False

    def __init__(self, source: str, timeout_s: float) -> None:
        super().__init__()
        self._paths: dict[int, str] = {pyfuse3.ROOT_INODE: source}
        self._root = os.lstat(source).st_ino
        self._timeout_s = timeout_s

    def init(self) -> None:
        print(READY, flush=True)

    # ---- names

    def _path(self, inode: int, name: bytes = b"") -> str:
        try:
            path = self._paths[inode]
        except KeyError:
            raise pyfuse3.FUSEError(errno.ENOENT) from None
        return f"{path}/{os.fsdecode(name)}" if name else path

    def _entry(self, path: str) -> pyfuse3.EntryAttributes:
        found = _call(os.lstat, path)
        entry = self._attributes(found)
        self._paths[entry.st_ino] = path
        return entry

    def _attributes(self, found: os.stat_result) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        for name in _SAME + _TIMES:
            setattr(entry, name, getattr(found, name))
        if found.st_ino == self._root:
            entry.st_ino = pyfuse3.ROOT_INODE
        entry.generation = 0
        entry.entry_timeout = entry.attr_timeout = self._timeout_s
        entry.st_blksize = 4096
        entry.st_blocks = found.st_blocks
        return entry

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any = None) -> pyfuse3.EntryAttributes:
        return self._entry(self._path(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        pass  # an inode that is gone is overwritten when its number comes again

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        path = self._path(parent_inode, name)
        _call(os.mkdir, path, mode & ~ctx.umask)
        return self._entry(path)

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        _call(os.unlink, self._path(parent_inode, name))

    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        _call(os.rmdir, self._path(parent_inode, name))

    # ---- attributes

    async def getattr(self, inode: int, ctx: Any = None) -> pyfuse3.EntryAttributes:
        return self._attributes(_call(os.lstat, self._path(inode)))

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> pyfuse3.EntryAttributes:
        path = self._path(inode)
        if fields.update_size:
            _call(os.truncate, path, attr.st_size)
        if fields.update_mode:
            _call(os.chmod, path, stat.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            uid = attr.st_uid if fields.update_uid else -1
            _call(os.lchown, path, uid, attr.st_gid if fields.update_gid else -1)
        return self._attributes(_call(os.lstat, path))

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        room = os.statvfs(self._path(pyfuse3.ROOT_INODE))
        data = pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(data, name, getattr(room, name))
        return data

    # ---- contents

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        path = self._path(parent_inode, name)
        fd = _call(os.open, path, flags | os.O_CREAT | os.O_CLOEXEC, mode & ~ctx.umask)
        return pyfuse3.FileInfo(fh=fd), self._entry(path)

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        # the kernel says where to write; a descriptor that appends would not listen
        return pyfuse3.FileInfo(fh=_call(os.open, self._path(inode), flags & ~os.O_APPEND | os.O_CLOEXEC))

    async def read(self, fh: int, off: int, size: int) -> bytes:
        data: bytes = _call(os.pread, fh, size, off)
        return data

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        written: int = _call(os.pwrite, fh, buf, off)
        return written

    async def flush(self, fh: int) -> None:
        pass

    async def release(self, fh: int) -> None:
        _call(os.close, fh)

    # ---- listings

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        path = self._path(fh)
        for place, name in enumerate(sorted(_call(os.listdir, path))[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, os.fsencode(name), self._entry(f"{path}/{name}"), place):
                return


def _call(function: Any, *arguments: Any) -> Any:
    """A system call whose error goes to the kernel."""
    try:
        return function(*arguments)
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno or errno.EIO) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until unmounted; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.passthrough",
        description="Mount a directory through pyfuse3, as it is.",
        epilog="Example: python -m bench.passthrough /tmp/source /tmp/mountpoint",
    )
    parser.add_argument("source", type=Path, metavar="DIR", help="what to show")
    parser.add_argument("mountpoint", type=Path, metavar="MOUNTPOINT", help="where to show it")
    parser.add_argument(
        "--timeout", type=float, default=1.0, metavar="S", help="how long the kernel may believe things"
    )
    given = parser.parse_args(arguments)
    pyfuse3.init(Passthrough(str(given.source), given.timeout), str(given.mountpoint), {"fsname=passthrough"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
