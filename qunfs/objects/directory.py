"""Directories: entries, and the queries LOOKUP and READDIR."""

from collections.abc import Iterator
from typing import Any, Final

import msgpack

from qunfs.objects.codes import COOKIE_MAX, NAME_MAX, SUBDIRECTORIES_MAX, ftype3, nfsstat3
from qunfs.objects.ids import disguised, is_directory, type_of
from qunfs.objects.invocation import Invocation, Node, Refusal, query
from qunfs.objects.permissions import READ, SEARCH, allows, require
from qunfs.objects.shapes import fields, one_of
from qunfs.objects.state import (
    COOKIE_ROWS,
    DIRECTORY_ROW,
    FIRST_COOKIE,
    Attributes,
    DirectoryHeader,
    Entry,
    cookie_key,
    cookie_of,
    entry_key,
    pack_entry,
    unpack_entry,
    unpack_header,
)
from qunfs.protocol.operation import ObjectView

_PAGE_ENTRIES_MAX: Final = 2048
_PAGE_BYTES_MAX: Final = 256 * 1024
"""A page stays well below Limits.answer_bytes_max whatever the caller asks for."""

_AFTER_COOKIE_ROWS: Final = bytes((COOKIE_ROWS[0] + 1,))
_DIRECTORY: Final = int(ftype3.NF3DIR)
_OK: Final = int(nfsstat3.NFS3_OK)
_SLASH: Final = ord("/")
_NUL: Final = 0


class Directory:
    """A directory that a method has opened."""

    __slots__ = ("_view", "attributes", "header", "node")

    def __init__(self, node: Node) -> None:
        row = node.view.get(DIRECTORY_ROW)
        if row is None:
            raise Refusal(nfsstat3.NFS3ERR_NOTDIR)
        self.node = node
        self.attributes: Final[Attributes] = node.attributes
        self.header: Final[DirectoryHeader] = unpack_header(row)
        self._view: Final[ObjectView] = node.view

    def find(self, name: bytes) -> Entry | None:
        """What a name is bound to."""
        row = self._view.get(entry_key(name))
        return None if row is None else unpack_entry(row)

    def enter(self, name: bytes, obj: int, kind: int) -> None:
        """Bind a new name, under a cookie that was never used."""
        header = self.header
        cookie = header.next_cookie
        if cookie >= COOKIE_MAX:
            raise Refusal(nfsstat3.NFS3ERR_NOSPC)
        if kind == _DIRECTORY:
            self.count_subdirectory(1)
        self._view.put(entry_key(name), pack_entry(obj, kind, cookie))
        self._view.put(cookie_key(cookie), name)
        header.next_cookie = cookie + 1
        header.entries += 1
        self.write_header()

    def rebind(self, name: bytes, old: Entry, obj: int, kind: int) -> None:
        """Bind a name to something else; its place in a listing stays."""
        self.count_subdirectory(int(kind == _DIRECTORY) - int(old.type == _DIRECTORY))
        self._view.put(entry_key(name), pack_entry(obj, kind, old.cookie))

    def rename(self, name: bytes, old: Entry, new_name: bytes) -> None:
        """Bind a new name instead of another; the place in a listing stays, so that none shows both or neither."""
        self._view.delete(entry_key(name))
        self._view.put(entry_key(new_name), pack_entry(old.obj, old.type, old.cookie))
        self._view.put(cookie_key(old.cookie), new_name)

    def drop(self, name: bytes, old: Entry) -> None:
        """Unbind a name."""
        if old.type == _DIRECTORY:
            self.count_subdirectory(-1)
        self._view.delete(entry_key(name))
        self._view.delete(cookie_key(old.cookie))
        self.header.entries -= 1
        self.write_header()

    def count_subdirectory(self, change: int) -> None:
        """A subdirectory's ``..`` is a link to its parent.  MLINK when there are too many."""
        self.attributes.nlink += change
        if change > 0 and self.attributes.nlink > SUBDIRECTORIES_MAX + 2:
            raise Refusal(nfsstat3.NFS3ERR_MLINK)

    def move_to(self, parent: int) -> None:
        """Give the directory another parent."""
        self.header.parent = parent
        self.write_header()

    def require_empty(self) -> None:
        """Refuse with NOTEMPTY while there are entries."""
        if self.header.entries:
            raise Refusal(nfsstat3.NFS3ERR_NOTEMPTY)

    def write_header(self) -> None:
        """Bring parent and counters into the state."""
        self._view.put(DIRECTORY_ROW, self.header.pack())


def start_directory(node: Node, parent: int) -> None:
    """Make a fresh object an empty directory."""
    node.view.put(DIRECTORY_ROW, DirectoryHeader(parent).pack())


def open_directory(call: Invocation, obj: int) -> Directory:
    """A directory that exists and that the caller may search; STALE, NOTDIR or ACCES otherwise."""
    if not is_directory(obj):
        raise Refusal(nfsstat3.NFS3ERR_NOTDIR)
    directory = Directory(call.node(obj))
    require(directory.attributes, call.credentials, SEARCH)
    return directory


def parse_name(name: bytes) -> bytes:
    """A name that an entry can have or ask for: any bytes but ``/`` and NUL."""
    if len(name) > NAME_MAX:
        raise Refusal(nfsstat3.NFS3ERR_NAMETOOLONG)
    if not name or _SLASH in name or _NUL in name:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return name


def is_dot(name: bytes) -> bool:
    """Whether a name is ``.`` or ``..``, which directories have and no entry may take."""
    return name in (b".", b"..")


def _follow_lookup(answer: bytes) -> tuple[int, str, str] | None:
    """The child whose attributes travel along with LOOKUP's answer, unless they are in it already (``.``)."""
    try:
        status, result, nodes = msgpack.unpackb(answer, use_list=False)
        child: Any = result[0]
        if type(child) is not int or status != _OK or child in [node[0] for node in nodes]:
            return None
        return child, type_of(child), "attr.getattr"
    except Exception:  # a single replica's answer can be anything, and there is nothing to follow in it then
        return None


@query("dir.lookup", one_of(bytes), follow=_follow_lookup)
def lookup(call: Invocation) -> tuple[int, int] | Refusal:
    """LOOKUP: (id, type) of what a name is bound to."""
    name, obj = parse_name(call.argument), call.only
    directory = open_directory(call, obj)
    if name == b".":
        return obj, _DIRECTORY
    if name == b"..":
        return directory.header.parent, _DIRECTORY
    entry = directory.find(name)
    if entry is None:
        return Refusal(nfsstat3.NFS3ERR_NOENT)  # not raised: this is the usual answer before a CREATE
    return entry.obj, entry.type


query("dir.find", one_of(bytes))(lookup)
"""LOOKUP for those who want to know only what the name is bound to."""


@query("dir.parent")
def parent(call: Invocation) -> int:
    """The parent's id, for the walk to the root before a directory moves.

    Nobody's permission is asked: whoever may move a directory need not be able to search all that lies above.
    """
    return Directory(call.node(call.only)).header.parent


@query("dir.readdir", fields(int, int, int, int))
def readdir(call: Invocation) -> tuple[list[tuple[bytes, int, int, int]], bool]:
    """READDIR of (cookie, entries at most, bytes at most, bytes an entry has besides its name).

    Gives entries (name, id, type, cookie) behind the cookie, and whether they are the last; TOOSMALL if none fits.
    An id is as good as a path: who may not search the directory gets others than those of what is in it.
    """
    cookie, entries_max, bytes_max, overhead = call.argument
    if overhead < 0:
        raise ValueError("an entry has bytes besides its name")
    obj = call.only
    directory = Directory(call.node(obj))
    require(directory.attributes, call.credentials, READ)
    searchable = allows(directory.attributes, call.credentials, SEARCH)
    entries_max, room = min(entries_max, _PAGE_ENTRIES_MAX), min(bytes_max, _PAGE_BYTES_MAX)
    page: list[tuple[bytes, int, int, int]] = []
    for entry in _entries_behind(obj, directory, cookie):
        room -= overhead + (len(entry[0]) + 3 & ~3)
        if room < 0 and not page:
            raise Refusal(nfsstat3.NFS3ERR_TOOSMALL)
        if room < 0 or len(page) >= entries_max:
            return page, False
        if not searchable and entry[3] >= FIRST_COOKIE:
            name, _, kind, at = entry
            entry = name, disguised(obj, at, kind == _DIRECTORY), kind, at
        page.append(entry)
    return page, True


def _entries_behind(obj: int, directory: Directory, cookie: int) -> Iterator[tuple[bytes, int, int, int]]:
    if cookie < 1:
        yield b".", obj, _DIRECTORY, 1
    if cookie < 2:
        yield b"..", directory.header.parent, _DIRECTORY, 2
    first = max(cookie + 1, FIRST_COOKIE)
    for key, name in directory.node.view.scan(cookie_key(first), _AFTER_COOKIE_ROWS):
        entry = directory.find(name)
        if entry is not None and entry.cookie == cookie_of(key):
            yield name, entry.obj, entry.type, entry.cookie
