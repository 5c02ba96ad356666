"""The file system that pyfuse3 serves.

Every handler may wait for the replicas, and many run at once.  Permissions are checked twice: by the kernel from cached
attributes (``default_permissions``) and by the replicas from the credentials.
"""

import errno
import os
import stat
from collections.abc import Sequence
from itertools import count
from typing import Final

import pyfuse3
import trio

from fuse_client import xattr_flags
from fuse_client.attributes import unknown_entry
from fuse_client.contents import ContentStore
from fuse_client.directories import OpenDirectory
from fuse_client.errors import handler, prompt_handler
from fuse_client.files import Handle
from fuse_client.interrupts import interruptible
from fuse_client.namespace import NamespaceOperations
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import createmode3, fattr3, nfsstat3, sattr3
from qunfs.objects.codes import NAME_MAX

_XATTR_SPACES: Final = (b"user.", b"trusted.")
"""Namespaces that reach the service.  The kernel asks for security.capability at every write(2)."""


class QunfsOperations(NamespaceOperations):
    """All request handlers: names and attributes, and here contents, listings and extended attributes."""

    supports_dot_lookup = True
    enable_writeback_cache = False  # sizes and times must be known here at every write

    def __init__(
        self,
        service: MetadataService,
        contents: ContentStore,
        *,
        attr_timeout: float = 1.0,
        entry_timeout: float = 1.0,
        revalidate: bool = True,
    ) -> None:
        """Time-outs in seconds; ``revalidate``: whether every open asks the service for attributes."""
        super().__init__(
            service, contents, attr_timeout=attr_timeout, entry_timeout=entry_timeout, revalidate=revalidate
        )
        self._contents = contents
        self._listings: dict[int, OpenDirectory] = {}
        self._numbers = count(1)
        self.started: Final = trio.Event()
        """Set when the kernel has begun to talk to the file system."""

    def init(self) -> None:
        self.started.set()

    async def close(self) -> None:
        """Report what handles have written that are still open."""
        await self._io.close()

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, _ in inode_list:
            self._files.forget_directory(inode)

    @prompt_handler
    def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:  # noqa: ARG002 - pyfuse3's
        room = self._contents.statvfs()
        data = pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(data, name, getattr(room, name))
        data.f_namemax = NAME_MAX
        return data

    # --- contents -----------------------------------------------------------------------------------------------------

    def _number(self, handle: Handle, thread: int) -> int:
        number = next(self._numbers)
        handle.thread = thread
        self._handles[number] = handle
        return number

    @handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        credentials = self._credentials.of(ctx)
        asked = self._cache.now()
        attributes = sattr3(mode=stat.S_IMODE(mode))
        with self._changing((parent_inode, name)):
            result = await self._service.create(credentials, parent_inode, name, createmode3.GUARDED, attributes)
            if result.status == nfsstat3.NFS3ERR_EXIST and not flags & os.O_EXCL:
                # Another mount was faster than the kernel's lookup: ESTALE makes the kernel look again and open.
                raise pyfuse3.FUSEError(errno.ESTALE)
            made = self._created(parent_inode, name, result, asked)
        handle = self._io.opened_new(made, credentials)
        return pyfuse3.FileInfo(fh=self._number(handle, ctx.pid)), self._entry(made, asked)

    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        handle = await self._io.open(inode, flags, self._credentials.of(ctx), self._just_looked_up(inode, ctx.pid))
        return pyfuse3.FileInfo(fh=self._number(handle, ctx.pid))

    @prompt_handler
    def read(self, fh: int, off: int, size: int) -> bytes:
        return self._io.read(self._handles[fh], off, size)

    @prompt_handler
    def write(self, fh: int, off: int, buf: bytes) -> int:
        return self._io.write(self._handles[fh], off, buf)

    @handler
    async def flush(self, fh: int) -> None:
        handle = self._handles[fh]
        if handle.file.dirty:
            with interruptible(handle.thread):
                await self._io.flush(handle.file)

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:  # noqa: ARG002 - the size travels either way
        handle = self._handles[fh]
        with interruptible(handle.thread):
            await self._io.fsync(handle)

    @handler
    async def release(self, fh: int) -> None:
        await self._io.release(self._handles.pop(fh))

    # --- directories --------------------------------------------------------------------------------------------------

    @prompt_handler
    def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        number = next(self._numbers)
        self._listings[number] = self._directories.open(inode, self._credentials.of(ctx), ctx.pid)
        return number

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self._listings[fh]
        with interruptible(listing.thread):
            entries, asked = await self._directories.after(listing, start_id)
        for entry in entries:
            if entry.name_attributes is None:
                shown = unknown_entry(entry.fileid, entry.type)
            else:
                shown = self._entry(*self._newest(entry.name_attributes, asked), asked)
            if not pyfuse3.readdir_reply(token, entry.name, shown, entry.cookie):
                return

    def _newest(self, attributes: fattr3, asked: float) -> tuple[fattr3, float]:
        cached = self._cache.fresh(attributes.fileid)
        return (attributes, asked) if cached is None else cached

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        pass  # updates are as durable as they get when they are answered

    @prompt_handler
    def releasedir(self, fh: int) -> None:
        self._directories.release(self._listings.pop(fh))

    # --- extended attributes ------------------------------------------------------------------------------------------

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        _require_served(name)
        with xattr_flags.noticing(ctx):
            return await self._getxattr(inode, name, ctx)

    @handler
    async def _getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        result = await self._service.getxattr(self._credentials.of(ctx), inode, name)
        self._files.check(result.status, inode)
        return result.value

    @handler
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        _require_served(name)
        asked = self._cache.now()
        with self._changing(objects=(inode,)):
            result = await self._service.setxattr(
                self._credentials.of(ctx), inode, name, value, xattr_flags.flag_of(ctx)
            )
        self._files.check(result.status, inode)
        self._changed_itself(inode, result.obj_wcc, asked)

    @handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        result = await self._service.listxattr(self._credentials.of(ctx), inode)
        self._files.check(result.status, inode)
        return result.names

    @handler
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        _require_served(name)
        asked = self._cache.now()
        with self._changing(objects=(inode,)):
            result = await self._service.removexattr(self._credentials.of(ctx), inode, name)
        self._files.check(result.status, inode)
        self._changed_itself(inode, result.obj_wcc, asked)


def _require_served(name: bytes) -> None:
    if not name.startswith(_XATTR_SPACES):
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
