"""READDIR and READDIRPLUS: a page is one query; READDIRPLUS fetches the attributes of a page with one more batch."""

from typing import Any, Final

from qunfs.nfs.calls import Procedures, Reply, not_a_directory, parse_answer, query_call
from qunfs.nfs.types import (
    COOKIE_VERIFIER,
    READDIR3res,
    READDIRPLUS3res,
    entry3,
    entryplus3,
    fattr3,
    ftype3,
    nfs_fh3,
    nfsstat3,
)
from qunfs.objects.codes import COOKIE_MAX
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Credentials

_RESULT_BYTES: Final = 108
"""XDR bytes of a reply besides its entries: status, attributes, verifier, end of list, eof."""

_ENTRY_BYTES: Final = 24
"""XDR bytes of an entry3 besides the name: it follows, fileid, name length, cookie."""

_ENTRYPLUS_BYTES: Final = _ENTRY_BYTES + 88 + 16
"""XDR bytes of an entryplus3 besides the name: attributes and an 8-byte handle more."""

_ENTRIES_MAX: Final = 1 << 16
_COUNT_MAX: Final = (1 << 32) - 1
"""count3 is a 32-bit word (RFC 1813, section 2.5)."""

_DOTS: Final = (b".", b"..")


class ListingProcedures(Procedures):
    """Procedures that list directories; cookies stay valid for as long as their directory exists."""

    async def readdir(self, cred: Credentials, dir: nfs_fh3, cookie: int, cookieverf: bytes, count: int) -> READDIR3res:
        """READDIR (RFC 1813, section 3.3.16); ``count``: bytes that the reply may take."""
        reply = await self._page(cred, dir, cookie, cookieverf, count, _ENTRIES_MAX, _ENTRY_BYTES)
        if not reply.ok:
            return READDIR3res(reply.status, reply.attributes(dir))
        page, eof = reply.result
        entries = tuple(entry3(obj, name, at, ftype3(kind)) for name, obj, kind, at in page)
        return READDIR3res(reply.status, reply.attributes(dir), COOKIE_VERIFIER, entries, eof)

    async def readdirplus(
        self, cred: Credentials, dir: nfs_fh3, cookie: int, cookieverf: bytes, dircount: int, maxcount: int
    ) -> READDIRPLUS3res:
        """READDIRPLUS (RFC 1813, section 3.3.17).

        ``maxcount``: bytes that the reply may take; ``dircount``: bytes that names, ids and cookies may take of them.
        ``..`` has no attributes: it would cost a round trip, and nobody wants them.
        """
        most = DEFAULT_LIMITS.queries_per_message_max
        reply = await self._page(cred, dir, cookie, cookieverf, maxcount, most, _ENTRYPLUS_BYTES)
        if not reply.ok:
            return READDIRPLUS3res(reply.status, reply.attributes(dir))
        page, eof = _within(dircount, *reply.result)
        attributes = await self._attributes_of(cred, {obj for name, obj, _, _ in page if name not in _DOTS})
        attributes[dir] = reply.attributes(dir)
        entries = tuple(
            entryplus3(obj, name, at, attributes.get(obj), obj, ftype3(kind)) for name, obj, kind, at in page
        )
        return READDIRPLUS3res(reply.status, reply.attributes(dir), COOKIE_VERIFIER, entries, eof)

    async def _page(
        self, cred: Credentials, dir: nfs_fh3, cookie: int, cookieverf: bytes, count: int, most: int, overhead: int
    ) -> Reply:
        if not_a_directory(dir):
            return Reply(nfsstat3.NFS3ERR_NOTDIR)
        if not 0 <= cookie <= COOKIE_MAX or (cookie and cookieverf != COOKIE_VERIFIER):
            return Reply(nfsstat3.NFS3ERR_BAD_COOKIE)
        argument: Any = (cookie, most, min(max(count, 0), _COUNT_MAX) - _RESULT_BYTES, overhead)
        return await self._query(cred, "dir.readdir", dir, argument, large=True)

    async def _attributes_of(self, cred: Credentials, objects: set[int]) -> dict[int, fattr3 | None]:
        """Attributes of many objects; None of those that went away since the page was read."""
        order = sorted(objects)
        answers = await self._query_all([query_call(cred, "attr.getattr", obj) for obj in order]) if order else []
        return {obj: parse_answer(answer.value).attributes(obj) for obj, answer in zip(order, answers, strict=True)}


def _within(dircount: int, page: list[Any], eof: bool) -> tuple[list[Any], bool]:
    """The part of a page that dircount allows; one entry at least, since RFC 1813 takes it for a hint."""
    for index, entry in enumerate(page):
        dircount -= _ENTRY_BYTES + (len(entry[0]) + 3 & ~3)
        if dircount < 0 and index:
            return page[:index], False
    return page, eof
