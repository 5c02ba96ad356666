"""The FUSE request handlers for attributes and names: each one NFS procedure."""

import contextlib
import errno
import logging
import os
import stat
from types import TracebackType
from typing import Final

import pyfuse3

from fuse_client.attributes import TYPE_OF_FORMAT, AttributeCache, entry_attributes
from fuse_client.contents import ContentStore
from fuse_client.credentials import CredentialCache
from fuse_client.directories import Directories
from fuse_client.errors import GONE, StatusError, check, handler
from fuse_client.file_io import FileIO
from fuse_client.files import Files, Handle, OpenFile
from fuse_client.names import ABSENT, NameCache
from fuse_client.setattr import requested, set_removed
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import CREATE3res, RENAME3res, createmode3, fattr3, ftype3, nfsstat3, sattr3, wcc_data
from qunfs.objects.codes import NAME_MAX
from qunfs.objects.ids import is_directory
from qunfs.protocol.errors import OperationGivenUp
from qunfs.protocol.operation import Credentials

log = logging.getLogger(__name__)

_RENAME_FLAGS: Final = pyfuse3.RENAME_NOREPLACE | pyfuse3.RENAME_EXCHANGE

_FOUND_OUT: Final = (nfsstat3.NFS3_OK, nfsstat3.NFS3ERR_NOENT)
"""How a LOOKUP ends that says what a name is bound to."""


def void_in_kernel(inode: int) -> None:
    """Have the kernel ask for attributes again before it uses them."""
    with contextlib.suppress(FileNotFoundError):  # it does not know the inode
        pyfuse3.invalidate_inode(inode, attr_only=True)


def _owns(credentials: Credentials, attributes: fattr3) -> bool:
    """Whether an owner's rights, or the superuser's, are all the caller's."""
    own_groups = (credentials.gid, *credentials.groups)
    return credentials.uid == 0 or (credentials.uid == attributes.uid and attributes.gid in own_groups)


class _Changing:
    """What becomes of names in directories, and of objects, is being found out.

    Unless it is, the names may be bound to anything.  Objects have changed or not when an operation was given up.
    """

    __slots__ = ("_cache", "_directories", "_names", "_objects", "_places")

    def __init__(
        self,
        names: NameCache,
        cache: AttributeCache,
        directories: Directories,
        places: tuple[tuple[int, bytes], ...],
        objects: tuple[int | None, ...],
    ) -> None:
        self._names, self._cache, self._directories = names, cache, directories
        self._places, self._objects = places, objects

    def __enter__(self) -> None:
        for directory, _ in self._places:
            self._names.updating(directory)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            for directory, name in self._places:
                self._names.forget(directory, name)
                self._cache.forget(directory)  # it may be gone
        if isinstance(error, OperationGivenUp):
            for obj in filter(None, self._objects):
                self._cache.forget(obj)
                void_in_kernel(obj)
        for directory, _ in self._places:
            self._names.updated(directory)
            self._directories.changed(directory)


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
        self._names = NameCache(lifetime_s=entry_timeout, now=self._cache.now)
        self._credentials = CredentialCache()
        self._files = Files(contents, self._cache, self._names)
        self._last_lookup = (0, 0, 0.0)
        self._io = FileIO(service, contents, self._files, void_in_kernel, revalidate=revalidate)
        self._directories = Directories(service, self._files, self._names)
        self._handles: dict[int, Handle] = {}

    # --- attributes ---------------------------------------------------------------------------------------------------

    def _entry(self, attributes: fattr3, asked: float, bound: float | None = None) -> pyfuse3.EntryAttributes:
        """What the kernel is told of an object, and for how long it may believe it.

        ``asked``: when the attributes were asked for; ``bound``: when the name was, if not at the same time.
        """
        seen = self._files.seen_here(attributes)
        entry_timeout = (asked if bound is None else bound) + self._entry_timeout - self._cache.now()
        return entry_attributes(seen, self._cache.left(asked), entry_timeout if entry_timeout > 0.0 else 0.0)

    async def _attributes(self, inode: int, credentials: Credentials) -> tuple[fattr3, float]:
        """Attributes of an object, not older than the attribute time-out, and when they were asked for."""
        file = self._files.find(inode)
        if file is not None and file.removed:
            return file.known, self._cache.now()
        removed = self._files.removed_directory(inode)
        if removed is not None:
            return removed, self._cache.now()
        cached = self._cache.fresh(inode)
        if cached is not None:
            return cached
        asked = self._cache.now()
        result = await self._service.getattr(credentials, inode)
        if file is not None and self._gone(file, result.status):
            return file.known, asked
        self._files.check_itself(result.status, inode)
        return self._learned(result.obj_attributes, asked), asked

    def _learned(self, attributes: fattr3 | None, asked: float) -> fattr3:
        if attributes is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        self._files.learn(attributes, asked)
        return attributes

    @handler
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        cached = self._cache.fresh(inode)
        if cached is not None:
            return self._entry(*cached)
        began = self._cache.now()
        attributes, asked = await self._attributes(inode, self._credentials.of(ctx))
        if asked >= began:  # the permission check of an open asks for what the lookup could not give
            self._last_lookup = (inode, ctx.pid, asked)
        return self._entry(attributes, asked)

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
        if new == sattr3() and fields.update_mode:
            return await self._without_set_id(inode, stat.S_IMODE(attr.st_mode), credentials)
        if new.atime is not None:
            self._files.forget_atime(inode)
        with self._changing(objects=(inode,)):
            if new.size is not None:
                return await self._set_size(inode, new, credentials, opened=handle is not None)
            return await self._set_without_size(inode, new, credentials)

    async def _set_size(
        self, inode: int, new: sattr3, credentials: Credentials, *, opened: bool
    ) -> pyfuse3.EntryAttributes:
        with self._files.using(inode) as file:
            if not opened:  # a descriptor goes on with what it has, also if that was removed elsewhere
                await self._io.know(file, credentials)
            await self._io.resize(file, new, credentials, granted=opened)
            if file.removed:
                set_removed(file, new._replace(size=None), credentials, self._files.now_ns())
            return self._entry(file.known, self._cache.now())

    async def _without_set_id(self, inode: int, mode: int, credentials: Credentials) -> pyfuse3.EntryAttributes:
        """What the kernel takes for granted before a write: set-id bits are gone."""
        attributes, asked = await self._attributes(inode, credentials)
        shown = self._entry(attributes, asked)
        shown.st_mode = stat.S_IFMT(shown.st_mode) | mode
        return shown

    async def _set_without_size(self, inode: int, new: sattr3, credentials: Credentials) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        removed = self._files.removed_directory(inode)
        if removed is not None:
            gone = OpenFile(inode, removed)
            set_removed(gone, new, credentials, self._files.now_ns())
            self._files.directory_removed(gone.known)
            return self._entry(gone.known, asked)
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
        self._files.check(result.status, inode)
        self._changed_itself(inode, result.obj_wcc, asked)
        return self._entry(self._learned(result.obj_wcc.after, asked), asked)

    def _changed_itself(self, inode: int, wcc: wcc_data, asked: float) -> None:
        """This mount changed an object, but no names."""
        self._names.changed(inode, wcc, {}, asked)
        if wcc.after is None:
            self._cache.forget(inode)
        else:
            self._files.learn(wcc.after, asked)

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
        known = self._known(parent_inode, name, credentials)
        if known is not None:
            return known
        asked = self._cache.now()
        result = await self._service.lookup(credentials, parent_inode, name)
        self._files.learn(result.dir_attributes, asked)
        if result.dir_attributes is not None and name != b".." and result.status in _FOUND_OUT:
            self._names.found(result.dir_attributes, [(name, result.object)], asked)
        if result.status == nfsstat3.NFS3ERR_NOENT:
            await self._directories.found_nothing(parent_inode, credentials)
            raise StatusError(result.status)
        if result.status == nfsstat3.NFS3ERR_IO:
            log.error("directory %x: %r names an object that is not there: run qunfs fsck", parent_inode, name)
        self._files.check(result.status, parent_inode)
        self._last_lookup = (result.object, ctx.pid, asked)
        return self._entry(self._learned(result.obj_attributes, asked), asked)

    def _known(self, parent: int, name: bytes, credentials: Credentials) -> pyfuse3.EntryAttributes | None:
        """The answer to a LOOKUP, as far as names and attributes are known; raises StatusError if it is NOENT.

        The kernel does not ask again before it compares owners.  Where that could refuse somebody what the service
        would allow by now, attributes must be as new as the attribute time-out wants them.
        """
        found = self._names.known(parent, name)
        if found is None or len(name) > NAME_MAX:
            return None
        if found.object == ABSENT:
            raise StatusError(nfsstat3.NFS3ERR_NOENT)
        held = self._cache.newest(found.object)
        if held is None:
            return None
        attributes, asked = held
        if self._cache.left(asked) <= 0 and (found.sticky or not _owns(credentials, attributes)):
            return None
        return self._entry(attributes, asked, found.asked)

    def _just_looked_up(self, inode: int, pid: int) -> bool:
        """Whether an open that comes now is most likely the one that the last question was part of.

        That was its LOOKUP, or, when no lookup was needed, the GETATTR of the kernel's permission check.
        If it is another one of the same process, it sees what was true up to JUST_NOW_S ago.
        """
        last_inode, last_pid, asked = self._last_lookup
        return inode == last_inode and pid == last_pid and self._cache.now() - asked < JUST_NOW_S

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        asked = self._cache.now()
        result = await self._service.readlink(self._credentials.of(ctx), inode)
        self._files.check(result.status, inode)
        if result.symlink_attributes is not None:
            self._files.learn(result.symlink_attributes, asked)
            self._files.accessed(result.symlink_attributes)
        return result.data

    def _created(self, parent: int, name: bytes, result: CREATE3res, asked: float) -> fattr3:
        """Take note of what CREATE, MKDIR, SYMLINK or MKNOD did."""
        self._files.check(result.status, parent)
        self._changed(parent, result.dir_wcc, {name: result.obj}, asked)
        return self._learned(result.obj_attributes, asked)

    def _changed(self, directory: int, wcc: wcc_data, names: dict[bytes, int], asked: float) -> None:
        """An update bound names to objects."""
        self._names.changed(directory, wcc, names, asked)
        self._cache.learn_wcc(directory, wcc, asked)

    def _changing(self, *places: tuple[int, bytes], objects: tuple[int | None, ...] = ()) -> "_Changing":
        return _Changing(self._names, self._cache, self._directories, places, objects)

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
        with self._changing((parent_inode, name)):
            if kind is ftype3.NF3REG:
                result = await self._service.create(credentials, parent_inode, name, createmode3.GUARDED, new)
            else:
                device = (os.major(rdev), os.minor(rdev)) if kind in (ftype3.NF3BLK, ftype3.NF3CHR) else (0, 0)
                result = await self._service.mknod(credentials, parent_inode, name, kind, new, device)
            made = self._created(parent_inode, name, result, asked)
        return self._entry(made, asked)

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        new = sattr3(mode=stat.S_IMODE(mode))
        with self._changing((parent_inode, name)):
            result = await self._service.mkdir(self._credentials.of(ctx), parent_inode, name, new)
            made = self._created(parent_inode, name, result, asked)
        self._names.made(made, asked)
        return self._entry(made, asked)

    @handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        new = sattr3(mode=0o777)
        with self._changing((parent_inode, name)):
            result = await self._service.symlink(self._credentials.of(ctx), parent_inode, name, new, target)
            made = self._created(parent_inode, name, result, asked)
        return self._entry(made, asked)

    @handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        asked = self._cache.now()
        with self._changing((new_parent_inode, new_name), objects=(inode,)):
            result = await self._service.link(self._credentials.of(ctx), inode, new_parent_inode, new_name)
            self._files.check(result.status, inode)
            self._changed(new_parent_inode, result.linkdir_wcc, {new_name: inode}, asked)
        return self._entry(self._learned(result.file_attributes, asked), asked)

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        asked = self._cache.now()
        hint = self._names.object_at(parent_inode, name)
        with self._changing((parent_inode, name), objects=(hint,)):
            result = await self._service.remove(self._credentials.of(ctx), parent_inode, name, hint)
            check(result.status)
            self._changed(parent_inode, result.dir_wcc, {name: ABSENT}, asked)
        self._lost_link(result.object, result.obj_attributes, asked)

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        asked = self._cache.now()
        hint = self._names.object_at(parent_inode, name)
        with self._changing((parent_inode, name), objects=(hint,)):
            result = await self._service.rmdir(self._credentials.of(ctx), parent_inode, name, hint)
            if result.status != nfsstat3.NFS3ERR_NOTEMPTY:  # which says nothing against what is known of names
                check(result.status)
                self._changed(parent_inode, result.dir_wcc, {name: ABSENT}, asked)
        check(result.status)
        self._lost_link(result.object, result.obj_attributes, asked)

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
        with self._changing(source, target, objects=(moved, replaced)):
            result = await self._service.rename(self._credentials.of(ctx), *source, *target, flags, moved, replaced)
            check(result.status)
            self._renamed(source, target, flags, result, asked)
        self._cache.forget(result.moved)
        self._files.learn(result.moved_attributes, asked)
        if flags & pyfuse3.RENAME_EXCHANGE:
            self._cache.forget(replaced or 0)
            self._cache.forget(result.replaced)
            self._files.learn(result.replaced_attributes, asked)
            return
        if result.moved != result.replaced:
            self._lost_link(result.replaced, result.replaced_attributes, asked)

    def _renamed(
        self, source: tuple[int, bytes], target: tuple[int, bytes], flags: int, result: RENAME3res, asked: float
    ) -> None:
        """Take note of what RENAME did to two names; to links of one file it does nothing."""
        (from_dir, from_name), (to_dir, to_name) = source, target
        before, after = result.fromdir_wcc.before, result.fromdir_wcc.after
        nothing = before is not None and after is not None and before.ctime == after.ctime
        left = ABSENT
        if flags & pyfuse3.RENAME_EXCHANGE or nothing:
            left = result.moved if nothing else result.replaced
        if from_dir == to_dir:
            self._changed(from_dir, result.fromdir_wcc, {from_name: left, to_name: result.moved}, asked)
        else:
            self._changed(from_dir, result.fromdir_wcc, {from_name: left}, asked)
            self._changed(to_dir, result.todir_wcc, {to_name: result.moved}, asked)

    def _lost_link(self, obj: int, attributes: fattr3 | None, asked: float) -> None:
        """An object lost a name, perhaps its last."""
        self._cache.forget(obj)
        if is_directory(obj):
            self._names.drop(obj)
        if attributes is None:
            return
        if is_directory(obj):
            self._files.directory_removed(attributes)
            return
        if attributes.nlink == 0:
            self._files.removed(obj, attributes)
        else:
            self._files.learn(attributes, asked)
