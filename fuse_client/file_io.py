"""Everything that touches contents, and the close-to-open rule.

Opening a file asks for its attributes.  Writes go to the contents at once and make the file *dirty*; flush, fsync and
release then tell the attribute object in one SETATTR, and whatever changes meanwhile stays dirty for the next.

The store that wrote first owns the contents.  Elsewhere the file can be looked at but not read or written (EREMOTE),
until somebody truncates it to zero and so takes it over.
"""

import contextlib
import errno
import logging
import os
import uuid
from collections.abc import Callable

import pyfuse3
import trio

from fuse_client.contents import ContentStore, is_cut, is_marked, is_writable, mark, mark_cut, unmark, write_all
from fuse_client.errors import GONE, StatusError
from fuse_client.files import Files, Handle, OpenFile, may_write, mode_once_written
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import fattr3, nfsstat3, sattr3
from qunfs.protocol.errors import OperationRefused, QunfsError
from qunfs.protocol.operation import Credentials

log = logging.getLogger(__name__)


class FileIO:
    """Opens, reads, writes, truncates and reports files."""

    def __init__(
        self,
        service: MetadataService,
        contents: ContentStore,
        files: Files,
        void: Callable[[int], None],
        *,
        revalidate: bool = True,
    ) -> None:
        """``void`` is called with an object when an open finds attributes that the kernel cannot know of.

        ``revalidate``: whether every open asks the service even when fresh attributes are cached.
        """
        self._service = service
        self._contents = contents
        self._files = files
        self._void = void
        self._revalidate = revalidate

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def open(self, obj: int, flags: int, credentials: Credentials, looked_up: bool = False) -> Handle:
        """Open a file: see its attributes as they are now, check that the contents are here, truncate if asked.

        ``looked_up``: this very open has just looked the name up, and the attributes that came with it will do.
        """
        file = self._files.pin(obj)
        try:
            await self._refresh(file, credentials, looked_up)
            writing = flags & os.O_ACCMODE != os.O_RDONLY
            if writing and not may_write(file.known, credentials):  # the kernel went by older attributes
                raise StatusError(nfsstat3.NFS3ERR_ACCES)
            if flags & os.O_TRUNC:
                await self.resize(file, sattr3(size=0), credentials)
            else:
                if writing and not self._is_here(file):
                    await self._take_over_if_empty(file, credentials)
                self._require_here(file)
                if not file.loaded:
                    await self._load(file)
        except BaseException:
            self._files.unpin(file)
            raise
        file.handles += 1  # and stays pinned
        return Handle(file, credentials, bool(flags & os.O_NOATIME))

    async def _take_over_if_empty(self, file: OpenFile, credentials: Credentials) -> None:
        """Own a file from now on that has nothing in another store; nothing of what is written there is to be lost."""
        while file.known.size == 0 and not self._is_here(file) and not file.removed:
            try:
                await self.resize(file, sattr3(size=0), credentials, guard=file.known.ctime)
            except StatusError as error:
                if error.status is not nfsstat3.NFS3ERR_NOT_SYNC:
                    raise
                await self._fetch(file, credentials)

    def opened_new(self, attributes: fattr3, credentials: Credentials) -> Handle:
        """A handle of a file that was created this moment: nothing to ask, nothing to learn, nothing to look for."""
        file = self._files.pin(attributes.fileid)
        file.handles += 1
        file.loaded = True
        if file.attributes is None:
            file.attributes = attributes
        return Handle(file, credentials)

    async def release(self, handle: Handle) -> None:
        """The last descriptor of a handle was closed."""
        file = handle.file
        try:
            if file.dirty:
                await self.flush(file)
        finally:
            file.handles -= 1
            self._files.unpin(file)

    async def know(self, file: OpenFile, credentials: Credentials) -> None:
        """Have attributes of a file, not older than the attribute time-out."""
        cached = self._files.cache.fresh(file.object)
        if cached is not None:
            self._files.learn(*cached)
        else:
            await self._fetch(file, credentials)

    async def _refresh(self, file: OpenFile, credentials: Credentials, looked_up: bool) -> None:
        """Have attributes that are as new as an open needs them.

        Cached ones will do, if allowed, when the contents are here: elsewhere they change without a word to this mount.
        """
        believe = looked_up or not self._revalidate
        cached = self._files.cache.fresh(file.object) if believe else None
        if cached is not None and cached[0].store == self._contents.identity:
            self._files.learn(*cached)
        else:
            await self._fetch(file, credentials)

    async def _fetch(self, file: OpenFile, credentials: Credentials) -> None:
        if file.removed:
            return
        asked = self._files.cache.now()
        result = await self._service.getattr(credentials, file.object)
        if not file.removed:  # by this mount, meanwhile
            self._files.check_itself(result.status, file.object)
            cached = self._files.cache.fresh(file.object)
            self._files.learn(result.obj_attributes, asked)
            if cached is not None and cached[0].ctime != file.known.ctime:
                self._void(file.object)

    async def _load(self, file: OpenFile) -> None:
        """Look for the contents; if a crash left them ahead of the attribute object, tell it now."""
        if file.loaded:
            return
        async with file.lock:
            if file.loaded:
                return
            fd = self._open_contents(file) if self._is_here(file) else None
            if fd is None and file.known.size > 0:
                log.error(
                    "contents of object %x (%d bytes) are missing from the contents folder: restore or truncate them",
                    file.object,
                    file.known.size,
                )
                raise pyfuse3.FUSEError(errno.EIO)
            file.fd = fd
            file.loaded = True
            if fd is not None:
                status = os.fstat(fd)
                file.marked, file.cut = is_marked(status), is_cut(status)
                file.reads_only = not is_writable(fd)
                await self._mend(file, status)

    def _open_contents(self, file: OpenFile) -> int | None:
        """A descriptor of the contents, without an end that a mount had not cut off yet when it was killed."""
        fd = self._contents.open(file.object)
        if fd is None:
            return None
        try:
            status = os.fstat(fd)
            if is_cut(status) and is_writable(fd):
                if status.st_size > file.known.size:
                    log.warning("object %x: a mount ended before it had truncated the contents; doing it", file.object)
                    os.ftruncate(fd, file.known.size)
                unmark(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    async def _mend(self, file: OpenFile, status: os.stat_result) -> None:
        if file.cut or (not file.marked and status.st_size == file.known.size):
            return
        log.warning("object %x: a mount ended before it had recorded its last write; recording it", file.object)
        owner = Credentials(file.known.uid, file.known.gid)
        file.note_change(owner, max(status.st_mtime_ns, file.known.mtime))
        try:
            await self._report(file)
        except (StatusError, OperationRefused) as error:  # the file stays dirty, and this mount shows what it has
            log.warning("object %x: recording its last write failed with %s", file.object, error)
        self._void(file.object)

    # --- contents ---------------------------------------------------------------------------------------------------

    def _is_here(self, file: OpenFile) -> bool:
        return self._files.is_here(file.known)

    def _require_here(self, file: OpenFile, *, to_change: bool = False) -> None:
        """Refuse with EREMOTE to use contents of another store; empty ones can be read everywhere."""
        if self._is_here(file) or (file.known.size == 0 and not to_change):
            return
        log.warning(
            "contents of object %x are in store %s and this mount's is %s: use it there, or truncate it to zero here",
            file.object,
            uuid.UUID(bytes=file.known.store),
            uuid.UUID(bytes=self._contents.identity),
        )
        raise pyfuse3.FUSEError(errno.EREMOTE)

    def _descriptor(self, file: OpenFile) -> int:
        """The descriptor of the contents, made if there are none, with which they can be changed."""
        if file.reads_only or (file.fd is None and not file.loaded):
            self._open_to_change(file)
        if file.fd is None:
            file.fd = self._contents.create(file.object)
            if file.removed:
                self._contents.detach(file.object)
        file.loaded = True
        return file.fd

    def _open_to_change(self, file: OpenFile) -> None:
        """Open the contents, if there are any; EROFS if they still can only be read."""
        fd = self._open_contents(file)
        if (fd is None and file.reads_only) or (fd is not None and not is_writable(fd)):
            if fd is not None:
                os.close(fd)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        file.drop_descriptor()
        file.fd, file.reads_only, file.cut = fd, False, False
        file.marked = fd is not None and is_marked(os.fstat(fd))

    def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """Contents from an offset; short only at the end of the file."""
        file = handle.file
        self._require_here(file)
        if file.fd is None or not self._is_here(file):
            return b""
        data = os.pread(file.fd, size, offset)
        if not handle.keeps_atime:
            self._files.accessed(file.known)
        return data

    def write(self, handle: Handle, offset: int, data: bytes) -> int:
        """Change contents; the attribute object hears of it at flush, fsync or release."""
        file = handle.file
        self._require_here(file, to_change=True)
        try:
            fd = self._descriptor(file)
            if not (file.marked or file.removed or file.told_by_size(offset)):
                mark(fd)
                file.marked, file.cut = True, False
            try:
                write_all(fd, data, offset)
            finally:
                file.note_change(handle.credentials, self._files.now_ns())
        except OSError as error:  # the disk's, most likely: the log is to say whose contents these are
            error.filename = f"contents of object {file.object:x}"
            raise
        return len(data)

    # --- telling the attribute object -------------------------------------------------------------------------------

    async def fsync(self, handle: Handle) -> None:
        """Make contents durable, then tell the attribute object."""
        file = handle.file
        if file.fd is not None and not file.removed:
            await trio.to_thread.run_sync(os.fsync, file.fd)
        await self.flush(file)

    async def flush(self, file: OpenFile) -> None:
        """Tell the attribute object what changed, if anything did."""
        if not file.dirty or file.removed:
            return
        async with file.lock:
            await self._report(file)

    async def _report(self, file: OpenFile) -> None:
        if file.dirty and not file.removed:
            changes, before = file.changes, file.known.ctime
            await self._send_granted(file, self._changes_of(file), file.writer)
            self._settle(file, changes)
            if not file.dirty and file.mtime > before:  # otherwise it would not show that anything has changed
                self._files.reported(file, file.mtime, file.known)

    def _changes_of(self, file: OpenFile) -> sattr3:
        return sattr3(
            size=file.size,
            mtime=file.mtime,
            atime=self._files.atime(file.object),
            wrote=True,
            store=self._contents.identity,
            generation=file.known.generation,
        )

    async def _send(self, file: OpenFile, new: sattr3, credentials: Credentials, guard: int | None = None) -> None:
        """SETATTR; raises StatusError.  The lock is held."""
        asked = self._files.cache.now()
        file.telling = True
        result = await self._service.setattr(credentials, file.object, new, guard)
        if result.status in GONE and file.handles:  # removed elsewhere: what is open here lives on
            self._files.removed_elsewhere(file)
            return
        if result.status == nfsstat3.NFS3ERR_REMOTE and file.dirty:
            log.error("object %x: another store took its contents over; what was written here is lost", file.object)
        self._files.learn(result.obj_wcc.after, asked)
        self._files.check(result.status, file.object)
        file.telling = file.known.size != new.size

    async def _send_granted(self, file: OpenFile, new: sattr3, credentials: Credentials) -> None:
        """SETATTR of what an open for writing has permitted, for good: mode and owner may forbid it by now.

        Then it goes in the name of the owner, who may write in any case (RFC 1813, section 4.4).
        """
        try:
            await self._send(file, new, credentials)
            return
        except StatusError as error:
            if error.status is not nfsstat3.NFS3ERR_ACCES:
                raise
        await self._fetch(file, credentials)  # the owner and the mode of now
        owner = Credentials(file.known.uid, file.known.gid)
        mode = mode_once_written(file.known, credentials)
        if owner.uid == 0 and mode != file.known.mode:
            new = new._replace(mode=mode)
        try:
            await self._send(file, new, owner)
        except OperationRefused:  # this client may not act for the owner
            raise StatusError(nfsstat3.NFS3ERR_ACCES) from None

    def _settle(self, file: OpenFile, changes: int) -> None:
        """The attribute object knows all changes up to number ``changes``."""
        if file.changes == changes and not file.removed:
            file.dirty = False
            if (file.marked or file.cut) and file.fd is not None:
                with contextlib.suppress(OSError):  # the disk is read-only: the next open tells it once more
                    unmark(file.fd)
                    file.marked = file.cut = False

    async def resize(
        self,
        file: OpenFile,
        new: sattr3,
        credentials: Credentials,
        *,
        granted: bool = False,
        guard: int | None = None,
    ) -> None:
        """SETATTR with a size, which also supersedes unreported changes.

        ``granted``: by an open for writing; ``guard``: the ctime that the file must still have, or this is NOT_SYNC.

        Contents grow before the attribute object knows and shrink after: a refusal must lose nothing.  If the mount is
        killed in between, the note of the cut has the next open cut them; without it, since there were unreported
        changes as well, the next open records all of them.
        """
        size = new.size or 0
        if size > 0:
            self._require_here(file, to_change=True)
            await self._load(file)
        async with file.lock:
            if not self._is_here(file):
                file.lose_contents()
                self._contents.discard(file.object)  # of an older generation
            if size == 0 and file.loaded and file.fd is None:
                fd, before = None, 0
            else:
                fd = self._descriptor(file)
                before = os.fstat(fd).st_size
            changes = file.changes
            if fd is not None and size > before:
                os.ftruncate(fd, size)
            if fd is not None and size < before == file.known.size and not (file.dirty or file.marked or file.removed):
                mark_cut(fd)
                file.cut = True
            if file.removed:
                file.note_change(credentials, self._files.now_ns())
            else:
                await self._send_size(file, new, credentials, before, granted, guard)
            if file.fd is not None and size < before:  # it is closed if the file was removed and is another store's
                self._cut(file, file.fd, size, credentials)
            self._settle(file, changes)

    def _cut(self, file: OpenFile, fd: int, size: int, credentials: Credentials) -> None:
        """Have contents as long as the attribute object says by now; if they cannot be, it must hear of it."""
        try:
            os.ftruncate(fd, size)
        except OSError:
            file.note_change(credentials, self._files.now_ns())
            raise

    async def _send_size(
        self, file: OpenFile, new: sattr3, credentials: Credentials, before: int, granted: bool, guard: int | None
    ) -> None:
        generation = file.known.generation if new.size else None
        new = new._replace(store=self._contents.identity, generation=generation)
        try:
            if granted:
                await self._send_granted(file, new, credentials)
            else:
                await self._send(file, new, credentials, guard)
        except StatusError:
            if file.fd is not None and os.fstat(file.fd).st_size > before:
                os.ftruncate(file.fd, before)
            if file.fd is not None and file.cut:
                unmark(file.fd)
                file.cut = False
            raise

    async def set_with_changes(self, file: OpenFile, new: sattr3, credentials: Credentials) -> bool:
        """SETATTR without a size, together with unreported changes; False when it must go by itself.

        Otherwise the SETATTR of the next flush would overwrite times, or clear set-id bits, that were set after the
        write.  Changes that somebody else made go first.
        """
        async with file.lock:
            if not file.dirty or file.removed:
                return False
            if file.writer != credentials:
                await self._report(file)
                return False
            changes, count = self._changes_of(file), file.changes
            merged = changes._replace(
                mode=new.mode,
                uid=new.uid,
                gid=new.gid,
                atime=changes.atime if new.atime is None else new.atime,
                mtime=changes.mtime if new.mtime is None else new.mtime,
            )
            await self._send(file, merged, credentials)
            self._settle(file, count)
            return True

    async def close(self) -> None:
        """Report what is still dirty, as far as the service answers."""
        for file in self._files.all():
            try:
                await self.flush(file)
            except (StatusError, OSError, QunfsError) as error:
                log.warning("object %x: its last write is not recorded (%s); the next open does it", file.object, error)
