"""The FUSE request handlers for attributes and names: each one NFS procedure."""

import contextlib
import errno
import os
import stat
from dataclasses import replace
from typing import Final

import pyfuse3

from fuse_client.attributes import TYPE_OF_FORMAT, AttributeCache, entry_attributes
from fuse_client.contents import ContentStore
from fuse_client.credentials import CredentialCache
from fuse_client.directories import Directories
from fuse_client.errors import GONE, check, handler
from fuse_client.file_io import FileIO
from fuse_client.files import Files, Handle, OpenFile
from fuse_client.names import ABSENT, NameCache
from fuse_client.setattr import requested, set_removed
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import CREATE3res, createmode3, fattr3, ftype3, nfsstat3, sattr3
from qunfs.objects.ids import is_directory
from qunfs.protocol.operation import Credentials

_RENAME_FLAGS: Final = pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE


def void_in_kernel(inode: int) -> None:
    """Have the kernel ask for attributes again before it uses them."""
    with contextlib.suppress(FileNotFoundError):  # it does not know the inode
        pyfuse3.invalidate_inode(inode, attr_only=True)


JUST_NOW_S: Final = 0.01
"""An open reaches the file system this soon after the lookup of its name, unless the machine is busy."""


class NamespaceOperations(pyfuse3.Operations):
    """Attributes and names, on a metadata service; open files and local changes belong to it too."""

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
        super().__init__()
        self._service = service
        self._entry_timeout = entry_timeout
        self._cache = AttributeCache(attr_timeout)
        self._names = NameCache()
        self._credentials = CredentialCache()
        self._files = Files(contents, self._cache)
        self._last_lookup = (0, 0, 0.0)
        self._io = FileIO(service, contents, self._files, void_in_kernel, revalidate=revalidate)
        self._directories = Directories(service, self._files, self._names)
        self._handles: dict[int, Handle] = {}

    # --- attributes ---------------------------------------------------------------------------------------------------

    def _entry(self, attributes: fattr3, asked: float) -> pyfuse3.EntryAttributes:
        """What the kernel is told of an object, and for how long it may believe it."""
        seen = self._files.seen_here(attributes)
        entry_timeout = max(0.0, asked + self._entry_timeout - self._cache.now())
        return entry_attributes(seen, self._cache.left(asked), entry_timeout)

    async def _attributes(self, inode: int, credentials: Credentials) -> tuple[fattr3, float]:
        """Attributes of an object, not older than the attribute time-out, and when they were asked for."""
        file = self._files.find(inode)
        if file is not None and file.removed:
            return file.known, self._cache.now()
        cached = self._cache.fresh(inode)
        if cached is not None:
            return cached
        asked = self._cache.now()
        result = await self._service.getattr(credentials, inode)
        if file is not None and self._gone(file, result.status):
            return file.known, asked
        check(result.status)
        return self._learned(result.obj_attributes, asked), asked

    def _learned(self, attributes: fattr3 | None, asked: float) -> fattr3:
        if attributes is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        self._files.learn(attributes, asked)
        return attributes

    @handler
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(*await self._attributes(inode, self._credentials.of(ctx)))

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        credentials = self._credentials.of(ctx)
        handle = None if fh is None else self._handles[fh]
        if handle is not None and fields.update_size:
            credentials = handle.credentials  # ftruncate(2) may do what the open was allowed to
        owner = self._known_owner(inode)
        new = requested(attr, fields, as_owner=owner is None or credentials.uid in (0, owner))
        if new == sattr3():
            return await self._without_set_id(inode, stat.S_IMODE(attr.st_mode), credentials)
        if new.atime is not None:
            self._files.forget_atime(inode)
        if new.size is not None:
            with self._files.using(inode) as file:
                await self._io.know(file, credentials)
                await self._io.resize(file, new, credentials)
                if file.removed:
                    set_removed(file, replace(new, size=None), credentials, self._files.now_ns())
                return self._entry(file.known, self._cache.now())
        return await self._set_without_size(inode, new, credentials)

    async def _without_set_id(self, inode: int, mode: int, credentials: Credentials) -> pyfuse3.EntryAttributes:
        """What the kernel takes for granted before a write: set-id bits are gone."""
        attributes, asked = await self._attributes(inode, credentials)
        shown = self._entry(attributes, asked)
        shown.st_mode = stat.S_IFMT(shown.st_mode) | mode
        return shown

    async def _set_without_size(self, inode: int, new: sattr3, credentials: Credentials) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        file = self._files.find(inode)
        if file is not None and file.removed:
            set_removed(file, new, credentials, self._files.now_ns())
            return self._entry(file.known, asked)
        if file is not None and file.dirty and await self._io.set_with_changes(file, new, credentials):
            return self._entry(file.known, asked)
        result = await self._service.setattr(credentials, inode, new)
        if file is not None and self._gone(file, result.status):
            set_removed(file, new, credentials, self._files.now_ns())
            return self._entry(file.known, asked)
        check(result.status)
        return self._entry(self._learned(result.obj_wcc.after, asked), asked)

    def _gone(self, file: OpenFile, status: nfsstat3) -> bool:
        """Whether a file was removed elsewhere that some handle keeps alive here."""
        if status in GONE and file.handles:
            self._files.removed_elsewhere(file)
        return file.removed

    def _known_owner(self, inode: int) -> int | None:
        file = self._files.find(inode)
        if file is not None:
            return file.known.uid
        cached = self._cache.fresh(inode)
        return None if cached is None else cached[0].uid

    # --- names --------------------------------------------------------------------------------------------------------

    @handler
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        credentials = self._credentials.of(ctx)
        if name == b".":
            return self._entry(*await self._attributes(parent_inode, credentials))
        asked = self._cache.now()
        result = await self._service.lookup(credentials, parent_inode, name)
        self._files.learn(result.dir_attributes, asked)
        if result.status == nfsstat3.NFS3ERR_NOENT:
            self._names.learn(parent_inode, name, ABSENT)
        check(result.status)
        if name != b"..":
            self._names.learn(parent_inode, name, result.object)
        self._last_lookup = (result.object, ctx.pid, asked)
        return self._entry(self._learned(result.obj_attributes, asked), asked)

    def _just_looked_up(self, inode: int, pid: int) -> bool:
        """Whether an open that comes now is most likely the one that the last lookup was part of.

        If it is another one of the same process, it sees what was true up to JUST_NOW_S ago.
        """
        last_inode, last_pid, asked = self._last_lookup
        return inode == last_inode and pid == last_pid and self._cache.now() - asked < JUST_NOW_S

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        asked = self._cache.now()
        result = await self._service.readlink(self._credentials.of(ctx), inode)
        check(result.status)
        self._files.learn(result.symlink_attributes, asked)
        return result.data

    def _created(self, parent: int, name: bytes, result: CREATE3res, asked: float) -> fattr3:
        """Take note of what CREATE, MKDIR, SYMLINK or MKNOD did."""
        self._changed(parent)
        self._names.forget(parent, name)
        check(result.status)
        self._cache.learn_wcc(parent, result.dir_wcc, asked)
        self._names.learn(parent, name, result.obj)
        return self._learned(result.obj_attributes, asked)

    def _changed(self, directory: int) -> None:
        self._directories.changed(directory)

    @handler
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        credentials = self._credentials.of(ctx)
        kind = TYPE_OF_FORMAT.get(stat.S_IFMT(mode) or stat.S_IFREG)
        if kind is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        asked = self._cache.now()
        new = sattr3(mode=stat.S_IMODE(mode))
        if kind is ftype3.NF3REG:
            result = await self._service.create(credentials, parent_inode, name, createmode3.GUARDED, new)
        else:
            device = (os.major(rdev), os.minor(rdev)) if kind in (ftype3.NF3BLK, ftype3.NF3CHR) else (0, 0)
            result = await self._service.mknod(credentials, parent_inode, name, kind, new, device)
        return self._entry(self._created(parent_inode, name, result, asked), asked)

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        new = sattr3(mode=stat.S_IMODE(mode))
        result = await self._service.mkdir(self._credentials.of(ctx), parent_inode, name, new)
        return self._entry(self._created(parent_inode, name, result, asked), asked)

    @handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        new = sattr3(mode=0o777)
        result = await self._service.symlink(self._credentials.of(ctx), parent_inode, name, new, target)
        return self._entry(self._created(parent_inode, name, result, asked), asked)

    @handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        result = await self._service.link(self._credentials.of(ctx), inode, new_parent_inode, new_name)
        self._changed(new_parent_inode)
        self._names.forget(new_parent_inode, new_name)
        check(result.status)
        self._cache.learn_wcc(new_parent_inode, result.linkdir_wcc, asked)
        self._names.learn(new_parent_inode, new_name, inode)
        return self._entry(self._learned(result.file_attributes, asked), asked)

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        asked = self._cache.now()
        hint = self._names.object_at(parent_inode, name)
        result = await self._service.remove(self._credentials.of(ctx), parent_inode, name, hint)
        self._changed(parent_inode)
        self._names.forget(parent_inode, name)
        check(result.status)
        self._names.learn(parent_inode, name, ABSENT)
        self._cache.learn_wcc(parent_inode, result.dir_wcc, asked)
        self._lost_link(result.object, result.obj_attributes, asked)

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        asked = self._cache.now()
        hint = self._names.object_at(parent_inode, name)
        result = await self._service.rmdir(self._credentials.of(ctx), parent_inode, name, hint)
        self._changed(parent_inode)
        self._names.forget(parent_inode, name)
        check(result.status)
        self._names.learn(parent_inode, name, ABSENT)
        self._cache.learn_wcc(parent_inode, result.dir_wcc, asked)
        self._cache.forget(result.object)

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~_RENAME_FLAGS:
            raise pyfuse3.FUSEError(errno.EINVAL)
        asked = self._cache.now()
        source, target = (parent_inode_old, name_old), (parent_inode_new, name_new)
        moved, replaced = self._names.object_at(*source), self._names.hint(*target)
        result = await self._service.rename(self._credentials.of(ctx), *source, *target, flags, moved, replaced)
        for directory, name in (source, target):
            self._changed(directory)
            self._names.forget(directory, name)
        check(result.status)
        self._cache.learn_wcc(parent_inode_old, result.fromdir_wcc, asked)
        self._cache.learn_wcc(parent_inode_new, result.todir_wcc, asked)
        self._cache.forget(result.moved)
        self._files.learn(result.moved_attributes, asked)
        if flags & pyfuse3.RENAME_EXCHANGE:
            self._cache.forget(replaced or 0)
            self._cache.forget(result.replaced)
            self._files.learn(result.replaced_attributes, asked)
            return
        if result.moved != result.replaced:
            self._names.learn(*target, result.moved)
            self._lost_link(result.replaced, result.replaced_attributes, asked)

    def _lost_link(self, obj: int, attributes: fattr3 | None, asked: float) -> None:
        """An object lost a name, perhaps its last."""
        self._cache.forget(obj)
        if attributes is None or is_directory(obj):
            return
        if attributes.nlink == 0:
            self._files.removed(obj, attributes)
        else:
            self._files.learn(attributes, asked)
