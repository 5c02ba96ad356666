"""The walk over everything that names lead to, through quorums.

A page of rows shows a directory's entries and cookies as they are; many directories or the attributes of many files
travel together, and what has different preferred quorums goes at once.  A directory of several pages is read again when
it has changed in between, which its ctime shows.
"""

import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import trio

from qunfs.fsck.book import Book, State
from qunfs.nfs.calls import Reply, parse_answer, query_call
from qunfs.nfs.types import fattr3, nfsstat3
from qunfs.objects.ids import ROOT, TOPOLOGY
from qunfs.objects.state import (
    ATTRIBUTES_ROW,
    COOKIE_ROWS,
    DIRECTORY_ROW,
    ENTRY_ROWS,
    Attributes,
    DirectoryHeader,
    Entry,
    cookie_of,
    unpack_attributes,
    unpack_entry,
    unpack_header,
)
from qunfs.protocol.errors import OperationRefused
from qunfs.protocol.operation import Answer, Call, Credentials, QueryUpdate

SUPERUSER: Final = Credentials(0, 0)

_DIRECTORIES_TOGETHER: Final = 16
_PAGE_BYTES: Final = 64 * 1024
"""Of one of several directories: together they stay below Limits.reply_bytes_max."""
_LONG_PAGE_BYTES: Final = 512 * 1024
"""Of a directory that has a message to itself."""
_FILES_TOGETHER: Final = 256
"""Limits.queries_per_message_max."""
_MESSAGES_AT_ONCE: Final = 8
_READINGS_MAX: Final = 4
"""How often a directory is read again that changes while it is read."""


class Walk:
    """Reads what the book says is to be looked at, and what that leads to, until nothing is left."""

    def __init__(self, core: QueryUpdate, book: Book, n: int, on_progress: Callable[[str], None]) -> None:
        self._core, self._book, self._n, self._on_progress = core, book, n, on_progress
        self._seen = 0

    async def from_root(self) -> None:
        """Everything that names lead to."""
        self._book.add([ROOT], via=ROOT)
        await self._drain()

    async def from_ids(self, objects: Iterable[int]) -> None:
        """Objects of which only the ids are known, and what they lead to."""
        some: list[int] = []
        for obj in objects:
            some.append(obj)
            if len(some) >= _FILES_TOGETHER:
                self._book.add(some, via=0)
                some = []
        self._book.add(some, via=0)
        await self._drain()

    async def _drain(self) -> None:
        while True:
            directories = self._book.pending(True, _MESSAGES_AT_ONCE * _DIRECTORIES_TOGETHER)
            if directories:
                await self._at_once(self._scan, directories, _DIRECTORIES_TOGETHER)
            files = self._book.pending(False, _MESSAGES_AT_ONCE * _FILES_TOGETHER)
            if files and (not directories or len(files) >= _MESSAGES_AT_ONCE * _FILES_TOGETHER):
                await self._at_once(self._read, files, _FILES_TOGETHER)
            if not directories and not files:
                return
            self._seen += len(directories)
            self._on_progress(f"{self._seen} directories read")

    async def _at_once(
        self,
        work: Callable[[Sequence[tuple[int, int]]], Awaitable[None]],
        objects: Sequence[tuple[int, int]],
        together: int,
    ) -> None:
        """Work on objects; a share of it has one preferred quorum and goes into one message."""
        async with trio.open_nursery() as nursery:
            for _, group in groupby(objects, key=lambda pair: pair[0] % self._n):
                alike = list(group)
                for start in range(0, len(alike), together):
                    nursery.start_soon(work, alike[start : start + together])

    async def _read(self, files: Sequence[tuple[int, int]]) -> None:
        calls = [query_call(SUPERUSER, "attr.getattr", obj) for obj, _ in files]
        for (obj, _), reply in zip(files, await replies(self._core, calls), strict=True):
            attributes = None if reply is None else attributes_in(reply, obj)
            if attributes is not None:
                self._book.take_file(obj, attributes)
            else:
                absent = reply is not None and reply.status is nfsstat3.NFS3ERR_STALE
                self._book.settle(obj, State.ABSENT if absent else State.UNREADABLE)

    async def _scan(self, directories: Sequence[tuple[int, int]]) -> None:
        calls = [_rows_call(obj, b"", _PAGE_BYTES) for obj, _ in directories]
        for (obj, via), reply in zip(directories, await replies(self._core, calls), strict=True):
            reading = _Reading(self._book, obj, via)
            if reply is not None and reply.ok and reply.result[1]:
                await self._read_long(obj, via)
            elif reading.take(reply):
                reading.finish()

    async def _read_long(self, obj: int, via: int) -> None:
        for attempt in range(_READINGS_MAX):
            reading, after, more = _Reading(self._book, obj, via), b"", True
            while more:
                (reply,) = await replies(self._core, [_rows_call(obj, after, _LONG_PAGE_BYTES)])
                if not reading.take(reply):
                    return
                assert reply is not None
                page, more = reply.result
                after = page[-1][0] if page else after
                more = more and bool(page)
            if len(reading.ctimes) == 1 or attempt == _READINGS_MAX - 1:
                reading.finish()
                return
            self._book.forget_directory(obj)


class _Reading:
    """One directory, page by page."""

    def __init__(self, book: Book, obj: int, via: int) -> None:
        self._book, self._obj, self._via = book, obj, via
        self.ctimes: set[int] = set()
        self._attributes: Attributes | None = None
        self._header: DirectoryHeader | None = None

    def take(self, reply: Reply | None) -> bool:
        """Put a page into the book; False when there is no such directory, or none that makes sense."""
        if reply is None or not reply.ok:
            absent = reply is not None and reply.status is nfsstat3.NFS3ERR_STALE
            self._book.settle(self._obj, State.ABSENT if absent else State.UNREADABLE)
            return False
        entries: list[tuple[bytes, Entry]] = []
        cookies: list[tuple[int, bytes]] = []
        try:
            for key, value in reply.result[0]:
                self._take_row(key, value, entries, cookies)
            attributes = reply.attributes(self._obj)
        except Exception:  # rows that no method has written can be anything
            self._book.settle(self._obj, State.UNREADABLE)
            return False
        if attributes is not None:
            self.ctimes.add(attributes.ctime)
        self._book.take_entries(self._obj, self._via, entries)
        self._book.take_cookies(self._obj, cookies)
        return True

    def _take_row(
        self, key: bytes, value: bytes, entries: list[tuple[bytes, Entry]], cookies: list[tuple[int, bytes]]
    ) -> None:
        kind = key[:1]
        if kind == ENTRY_ROWS:
            entries.append((key[1:], unpack_entry(value)))
        elif kind == COOKIE_ROWS:
            cookies.append((cookie_of(key), value))
        elif key == ATTRIBUTES_ROW:
            self._attributes = unpack_attributes(value)
        elif key == DIRECTORY_ROW:
            self._header = unpack_header(value)

    def finish(self) -> None:
        """All pages are in the book."""
        if self._attributes is None or self._header is None or not self._attributes.is_directory:
            self._book.settle(self._obj, State.UNREADABLE)
        else:
            self._book.take_directory(self._obj, self._attributes, self._header, len(self.ctimes) > 1)


def _rows_call(obj: int, after: bytes, bytes_max: int) -> Call:
    return query_call(SUPERUSER, "fsck.rows", obj, (after, bytes_max), large=True)


async def replies(core: QueryUpdate, calls: Sequence[Call]) -> list[Reply | None]:
    """What the calls give; None for one that replicas cannot answer: the object makes no sense to them."""
    try:
        answers = await core.query(*calls)
    except OperationRefused:
        if len(calls) == 1:
            return [None]
        found: list[Reply | None] = []
        for call in calls:
            found += await replies(core, [call])
        return found
    return [_parsed(answer) for answer in answers]


def _parsed(answer: Answer) -> Reply | None:
    try:
        return parse_answer(answer.value)
    except (KeyError, ValueError, TypeError):
        return None


def attributes_in(reply: Reply, obj: int) -> fattr3 | None:
    """The attributes in a reply, if there are any that make sense."""
    try:
        return reply.attributes(obj)
    except (KeyError, ValueError, TypeError, struct.error):
        return None


async def generation(core: QueryUpdate) -> Any:
    """The topology's: it moves on when any directory gets another parent."""
    (answer,) = await core.query(query_call(SUPERUSER, "topo.fetch", TOPOLOGY))
    return parse_answer(answer.value).result
