"""Open directories: READDIRPLUS pages, larger than what the kernel takes at a time.

A page is dropped as soon as this mount changes the directory: an entry that is handed to the kernel after it was
removed would come back to life in the kernel's cache.  A listing from the start to the end without a gap makes the
directory known whole, and where lookups find nothing time and again a small one is made just for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from fuse_client.errors import check
from fuse_client.files import Files
from fuse_client.names import Mark, NameCache
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, entryplus3, fattr3, nfsstat3
from qunfs.objects.permissions import SEARCH, granted
from qunfs.protocol.operation import Credentials

PAGE_BYTES: Final = 65_536
"""What one READDIRPLUS asks for; the kernel takes 4 KiB at a time."""

SMALL_BYTES: Final = 4096
"""What a listing of a directory asks for that nobody wants to read: room for a hundred names, in one page or not."""

_DOTS: Final = (b".", b"..")


@dataclass(eq=False, slots=True)
class OpenDirectory:
    """One opendir(3), with the page that was fetched last."""

    object: int
    credentials: Credentials
    thread: int = 0
    """Who opened it, and most likely reads it."""
    verifier: bytes = COOKIE_VERIFIER
    page: tuple[entryplus3, ...] = ()
    eof: bool = False
    asked: float = 0.0
    """When the page was asked for, by the attribute cache's clock."""
    position: dict[int, int] = field(default_factory=dict)
    """Where in the page the listing goes on after a cookie."""
    reached: int = 0
    """The cookie up to which all entries were seen."""
    mark: Mark | None = None
    """Set if those are knowledge."""

    def drop_page(self) -> None:
        """The directory changed."""
        self.page, self.position, self.eof = (), {}, False


class Directories:
    """The open directories of a mount."""

    def __init__(self, service: MetadataService, files: Files, names: NameCache) -> None:
        self._service = service
        self._files = files
        self._names = names
        self._open: dict[int, set[OpenDirectory]] = {}

    def open(self, obj: int, credentials: Credentials, thread: int) -> OpenDirectory:
        """A new listing."""
        directory = OpenDirectory(obj, credentials, thread)
        self._open.setdefault(obj, set()).add(directory)
        return directory

    def release(self, directory: OpenDirectory) -> None:
        """The listing was closed."""
        listings = self._open[directory.object]
        listings.discard(directory)
        if not listings:
            del self._open[directory.object]

    def changed(self, obj: int) -> None:
        """This mount changed a directory."""
        for directory in self._open.get(obj, ()):
            directory.drop_page()

    async def after(self, directory: OpenDirectory, cookie: int) -> tuple[Sequence[entryplus3], float]:
        """Some entries after a cookie (0: from the start, as things are now), none at the end; and when asked for."""
        index = directory.position.get(cookie) if cookie else None
        if index is None or (index == len(directory.page) and not directory.eof):
            await self._fetch(directory, cookie)
            index = 0
        return directory.page[index:], directory.asked

    async def found_nothing(self, obj: int, credentials: Credentials) -> None:
        """A lookup in a directory found nothing; so may the next ones, but then without asking."""
        if not self._names.wants_listing(obj):
            return
        asked = self._files.cache.now()
        result = await self._service.readdir(credentials, obj, 0, COOKIE_VERIFIER, SMALL_BYTES)
        if result.status != nfsstat3.NFS3_OK or not _shows_ids(result.dir_attributes, credentials):
            return  # may be searched but not read, or the other way round by now
        bindings = [(entry.name, entry.fileid) for entry in result.entries if entry.name not in _DOTS]
        mark = self._names.found(result.dir_attributes, bindings, asked)
        if result.eof and mark is not None:
            self._names.listed(obj, mark)

    async def _fetch(self, directory: OpenDirectory, cookie: int) -> None:
        asked = self._files.cache.now()
        result = await self._service.readdirplus(
            directory.credentials, directory.object, cookie, directory.verifier, PAGE_BYTES, PAGE_BYTES
        )
        check(result.status)
        self._files.learn(result.dir_attributes, asked)
        for entry in result.entries:
            self._files.learn(entry.name_attributes, asked)
        if result.dir_attributes is not None:
            self._files.accessed(result.dir_attributes)
        if _shows_ids(result.dir_attributes, directory.credentials):
            bindings = [(entry.name, entry.name_handle) for entry in result.entries if entry.name not in _DOTS]
            mark = self._names.found(result.dir_attributes, bindings, asked)
            unbroken = cookie == 0 or (cookie <= directory.reached and mark == directory.mark)
            directory.mark = mark if unbroken else None
            directory.reached = result.entries[-1].cookie if result.entries else cookie
            if result.eof and directory.mark is not None:
                self._names.listed(directory.object, directory.mark)
        directory.verifier = result.cookieverf
        directory.page, directory.eof, directory.asked = result.entries, result.eof, asked
        directory.position = {entry.cookie: index + 1 for index, entry in enumerate(result.entries)}
        if cookie:
            directory.position[cookie] = 0


def _shows_ids(attributes: fattr3 | None, cred: Credentials) -> TypeGuard[fattr3]:
    """Whether a listing shows whose names these are, which it does to who may search the directory."""
    if attributes is None:
        return False
    return cred.uid == 0 or bool(granted(attributes.mode, attributes.uid, attributes.gid, cred) & SEARCH)
