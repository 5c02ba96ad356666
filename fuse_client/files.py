"""Open files, and attributes as this mount sees them: the service's, with what changed locally laid over.

An :class:`OpenFile` exists while a handle or a request uses the object; it holds the only descriptor of its contents.
A file that is removed while open lives on in its OpenFile, without an object.
"""

import errno
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import pyfuse3

from fuse_client.attributes import AttributeCache, relatime_due
from fuse_client.contents import ContentStore
from fuse_client.credentials import SUPERUSER
from fuse_client.errors import GONE, StatusError
from fuse_client.names import NameCache
from fuse_client.turns import Turns
from qunfs.nfs.types import fattr3, ftype3, nfsstat3
from qunfs.objects.ids import is_file
from qunfs.objects.permissions import WRITE, granted, is_superuser, mode_without_set_id
from qunfs.protocol.operation import Credentials

T = TypeVar("T")

log = logging.getLogger(__name__)

TIMES_MAX: Final = 16_384
"""Objects whose local access times, and whose local change times, are remembered after they are closed."""

REMOVED_MAX: Final = 1024
"""Removed directories whose attributes are remembered until the kernel forgets them, which it mostly does at once."""


@dataclass(eq=False, slots=True)
class OpenFile:
    """A regular file in use at this mount."""

    object: int
    attributes: fattr3 | None = None
    """The newest attributes that the service gave; never None once a handle exists."""
    users: int = 0
    """Handles and requests."""
    handles: int = 0
    fd: int | None = None
    loaded: bool = False
    """Whether the contents folder was looked at: from then on no descriptor means no contents."""
    removed: bool = False
    dirty: bool = False
    """Whether the contents have changes that the attribute object was not told about."""
    reads_only: bool = False
    """Whether the descriptor is good for reading only: the disk was when it was opened."""
    marked: bool = False
    """Whether the contents carry the mark."""
    cut: bool = False
    """Whether the contents carry the note of a cut."""
    telling: bool = False
    """Whether a size was sent to the attribute object that has not been seen there: it may or may not have arrived."""
    changes: int = 0
    """Counts local changes, so that a SETATTR can tell whether it covered them all."""
    mtime: int = 0
    """When the contents last changed, if dirty."""
    writer: Credentials = SUPERUSER
    """Who last changed the contents, if dirty."""
    lock: Turns = field(default_factory=Turns)
    """Held while sizes travel: two SETATTRs under way could take effect in the wrong order."""

    @property
    def known(self) -> fattr3:
        """The attributes of a file whose attributes were fetched."""
        if self.attributes is None:
            raise pyfuse3.FUSEError(errno.ESTALE)
        return self.attributes

    @property
    def size(self) -> int:
        """The size as this mount sees it: that of the contents while they are ahead of the attribute object."""
        if self.fd is not None and (self.dirty or self.removed):
            return os.fstat(self.fd).st_size
        return self.known.size

    def told_by_size(self, offset: int) -> bool:
        """Whether the size of the contents is going to differ from the attribute object's when a write there changed
        anything: if nothing below the size that the object has is touched, and no other is on its way to it, nor
        did one leave an end that is to go.
        """
        return not self.telling and not self.cut and offset >= self.known.size

    def note_change(self, writer: Credentials, mtime: int) -> None:
        """The contents changed."""
        self.changes += 1
        self.dirty = True
        self.writer = writer
        self.mtime = mtime

    def drop_descriptor(self) -> None:
        """Close the contents."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)  # for good, even if it fails

    def lose_contents(self) -> None:
        """The contents are another store's now: what was written here counts no more."""
        self.drop_descriptor()
        self.loaded, self.dirty, self.marked, self.cut = True, False, False, False


@dataclass(eq=False, slots=True)
class Handle:
    """One open(2) of a file, on behalf of whoever opened it."""

    file: OpenFile
    credentials: Credentials
    keeps_atime: bool = False
    """Opened with O_NOATIME."""
    thread: int = 0
    """Who opened it, and most likely flushes it: the kernel's requests say it, but pyfuse3 does not."""


class Files:
    """The files in use at a mount."""

    def __init__(
        self,
        contents: ContentStore,
        cache: AttributeCache,
        names: NameCache,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.cache: Final = cache
        self.names: Final = names
        self.now_ns: Final = now_ns
        self._contents = contents
        self._open: dict[int, OpenFile] = {}
        self._atimes: OrderedDict[int, int] = OrderedDict()
        self._directories: OrderedDict[int, fattr3] = OrderedDict()
        """Removed ones that the kernel may still ask for."""
        self._ctimes: OrderedDict[int, tuple[int, int]] = OrderedDict()
        """By object: the ctime of the SETATTR that reported a write, and the ctime to show instead."""

    def find(self, obj: int) -> OpenFile | None:
        """The open file of an object, if it is in use and its attributes are known."""
        file = self._open.get(obj)
        return file if file is not None and file.attributes is not None else None

    def all(self) -> list[OpenFile]:
        """Every file in use."""
        return list(self._open.values())

    def pin(self, obj: int) -> OpenFile:
        """The open file of an object, with one more user."""
        file = self._open.get(obj)
        if file is None:
            file = self._open[obj] = OpenFile(obj)
        file.users += 1
        return file

    def unpin(self, file: OpenFile) -> None:
        """One user less; the last one closes the contents."""
        file.users -= 1
        if file.users == 0:
            self._open.pop(file.object, None)
            file.drop_descriptor()
            if file.removed:
                self._atimes.pop(file.object, None)

    @contextmanager
    def using(self, obj: int) -> Iterator[OpenFile]:
        """The open file of an object for the length of a request."""
        file = self.pin(obj)
        try:
            yield file
        finally:
            self.unpin(file)

    # --- attributes -------------------------------------------------------------------------------------------------

    def is_here(self, attributes: fattr3) -> bool:
        """Whether the contents of a file are in this mount's store, or in none yet."""
        return not attributes.store or attributes.store == self._contents.identity

    def learn(self, attributes: fattr3 | None, asked: float) -> None:
        """Take note of attributes that the service gave (``asked``: when, by the cache's clock)."""
        if attributes is None:
            return
        file = self._open.get(attributes.fileid)
        if file is not None:
            if file.removed:
                return
            if file.attributes is None or attributes.ctime >= file.attributes.ctime:
                file.attributes = attributes
        if attributes.type is ftype3.NF3DIR:
            self.names.saw(attributes, asked)
        self.cache.learn(attributes, asked)

    def check(self, status: nfsstat3, obj: int) -> None:
        """Raise StatusError unless a procedure on an object succeeded; nothing is kept of one that is no more."""
        if status is nfsstat3.NFS3_OK:
            return
        if status in GONE:
            self.cache.forget(obj)
            self.names.drop(obj)
        raise StatusError(status)

    def check_itself(self, status: nfsstat3, obj: int) -> None:
        """The same for a GETATTR, which is about the object alone.

        What a quorum says is no more was there when its id was heard of, and ids are never used again: nobody is going
        to need its contents, except through a handle.
        """
        file = self._open.get(obj)
        in_use = file is not None and (file.handles or file.fd is not None)
        if status is nfsstat3.NFS3ERR_STALE and is_file(obj) and not in_use:
            with _contents_left(obj):
                self._contents.discard(obj)
        self.check(status, obj)

    def seen_here(self, attributes: fattr3) -> fattr3:
        """Attributes as programs on this mount must see them."""
        obj = attributes.fileid
        file = self._open.get(obj)
        if file is not None and file.attributes is not None:
            if file.removed or file.attributes.ctime > attributes.ctime:
                attributes = file.attributes
            if file.removed:
                size = file.size
                attributes = attributes._replace(size=size, used=size)
            if file.dirty and self.is_here(attributes):
                attributes = _with_changes(file, attributes)
        atime = self._atimes.get(obj)
        if atime is not None and atime > attributes.atime:
            attributes = attributes._replace(atime=atime)
        reported = self._ctimes.get(obj)
        if reported is not None and attributes.ctime == reported[0]:
            attributes = attributes._replace(ctime=reported[1])
        return attributes

    def reported(self, file: OpenFile, ctime: int, reply: fattr3) -> None:
        """The attribute object has taken over changes that were seen with another ctime: that one stays.

        Programs take a file whose ctime moves after they closed it for changed by somebody else, and one whose ctime is
        later than its mtime for changed in other ways than by writing.
        """
        _remember(self._ctimes, file.object, (reply.ctime, ctime))

    def atime(self, obj: int) -> int | None:
        """The access time that was kept locally, if any."""
        return self._atimes.get(obj)

    def forget_atime(self, obj: int) -> None:
        """Somebody set the access time: what was kept locally is void."""
        self._atimes.pop(obj, None)

    def accessed(self, attributes: fattr3) -> None:
        """Contents, a listing or a link were read; relatime decides whether that shows."""
        now_ns = self.now_ns()
        if relatime_due(self.seen_here(attributes), now_ns):
            _remember(self._atimes, attributes.fileid, now_ns)

    # --- removal ----------------------------------------------------------------------------------------------------

    def removed(self, obj: int, attributes: fattr3) -> None:
        """The last name of a file went away: its contents go too, as soon as nobody has them open."""
        self.cache.forget(obj)
        file = self._open.get(obj)
        if file is None:
            self._atimes.pop(obj, None)
            with _contents_left(obj):
                self._contents.discard(obj)
            return
        if not file.removed:
            if not file.loaded:
                file.fd = self._contents.open(obj)
            size = attributes.size if file.attributes is None else file.size
            if file.attributes is None or attributes.ctime >= file.attributes.ctime:
                file.attributes = attributes
            if not self.is_here(file.attributes):  # another store took them over: nobody sees the old ones again
                file.lose_contents()
                size = file.attributes.size
            file.attributes = file.attributes._replace(nlink=0, size=size, used=size)
            file.loaded = file.removed = True
        with _contents_left(obj):
            self._contents.detach(obj)

    def directory_removed(self, attributes: fattr3) -> None:
        """A directory went away: programs may still be in it, or have it open, and look at it."""
        _remember(self._directories, attributes.fileid, attributes, REMOVED_MAX)

    def removed_directory(self, obj: int) -> fattr3 | None:
        """The last attributes of a directory that this mount removed, while the kernel knows it."""
        return self._directories.get(obj)

    def forget_directory(self, obj: int) -> None:
        """The kernel has dropped an inode."""
        self._directories.pop(obj, None)

    def removed_elsewhere(self, file: OpenFile) -> None:
        """The service does not know an open file any more."""
        self.removed(file.object, file.known)


@contextmanager
def _contents_left(obj: int) -> Iterator[None]:
    """The contents of a file without a name are to go; that they cannot does not undo its removal."""
    try:
        yield
    except OSError as error:
        log.warning("contents of removed object %x stay in the contents folder until qunfs fsck: %s", obj, error)


def _remember(values: OrderedDict[int, T], obj: int, value: T, values_max: int = TIMES_MAX) -> None:
    values[obj] = value
    values.move_to_end(obj)
    if len(values) > values_max:
        values.popitem(last=False)


def may_write(attributes: fattr3, who: Credentials) -> bool:
    """Whether the mode of a file lets somebody write."""
    return is_superuser(who) or bool(granted(attributes.mode, attributes.uid, attributes.gid, who) & WRITE)


def mode_once_written(attributes: fattr3, writer: Credentials) -> int:
    """The mode that SETATTR leaves when somebody has written."""
    return attributes.mode if is_superuser(writer) else mode_without_set_id(attributes.mode, attributes.gid, writer)


def _with_changes(file: OpenFile, attributes: fattr3) -> fattr3:
    mode = mode_once_written(attributes, file.writer)
    size = file.size
    ctime = max(attributes.ctime, file.mtime)
    return attributes._replace(size=size, used=size, mode=mode, mtime=file.mtime, ctime=ctime)
