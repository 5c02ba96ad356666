"""How the objects of the namespace lie in rows.

========================  ====================================================================================
``a``                     attributes, of every object; an object without this row is absent
``d``                     of a directory: (parent, next cookie, number of entries)
``e`` name                of a directory: the entry of that name
``k`` cookie              of a directory: the name of the entry with that cookie, so that READDIR goes on in order
``l``                     of a symlink: its target
``v``                     of a file made by an exclusive CREATE: the verifier, until the first SETATTR
``x`` name                an extended attribute
``g``                     of the topology object: its generation
========================  ====================================================================================

Every row is small and a method touches a fixed number of them, however large the directory.
"""

import struct
from typing import Final

from qunfs.objects.codes import STORE_BYTES, ftype3

ATTRIBUTES_ROW: Final = b"a"
DIRECTORY_ROW: Final = b"d"
ENTRY_ROWS: Final = b"e"
COOKIE_ROWS: Final = b"k"
TARGET_ROW: Final = b"l"
VERIFIER_ROW: Final = b"v"
XATTR_ROWS: Final = b"x"
GENERATION_ROW: Final = b"g"

DIRECTORY_BYTES: Final = 4096
"""The size that a directory shows."""

FIRST_COOKIE: Final = 3
"""0 starts a listing, 1 and 2 are ``.`` and ``..``."""

ATTRIBUTES: Final = struct.Struct(">BIiIIQIIqqQQ")
"""The attribute row up to the store: type, mode, links, user, group, size, device, three times, generation."""
_NUMBERS_BYTES: Final = ATTRIBUTES.size
_HEADER: Final = struct.Struct(">QQq")
_HEADER_BYTES: Final = _HEADER.size
_ENTRY: Final = struct.Struct(">QBQ")
_COOKIE: Final = struct.Struct(">Q")
_DIRECTORY: Final = int(ftype3.NF3DIR)


class Attributes:
    """The attributes of any object: fattr3 without what follows from the id, and where the contents live.

    ``store`` is the UUID of the contents store that owns a file's contents, empty until somebody has written;
    ``generation`` grows whenever the contents are given up for empty ones in another store.
    """

    __slots__ = (
        "atime",
        "ctime",
        "generation",
        "gid",
        "mode",
        "mtime",
        "nlink",
        "rdev",
        "size",
        "store",
        "type",
        "uid",
    )

    def __init__(
        self,
        type: int,
        mode: int,
        nlink: int,
        uid: int,
        gid: int,
        size: int,
        rdev: tuple[int, int],
        atime: int,
        mtime: int,
        ctime: int,
        store: bytes,
        generation: int,
    ) -> None:
        self.type = type
        self.mode = mode
        self.nlink = nlink
        self.uid = uid
        self.gid = gid
        self.size = size
        self.rdev = rdev
        self.atime = atime
        self.mtime = mtime
        self.ctime = ctime
        self.store = store
        self.generation = generation

    def pack(self) -> bytes:
        """The value of the attribute row."""
        major, minor = self.rdev
        numbers = ATTRIBUTES.pack(
            self.type,
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.size,
            major,
            minor,
            self.atime,
            self.mtime,
            self.ctime,
            self.generation,
        )
        return numbers + self.store

    @property
    def is_directory(self) -> bool:
        """Whether these are a directory's."""
        return self.type == _DIRECTORY


def unpack_attributes(row: bytes) -> Attributes:
    """The attributes in an attribute row."""
    store = row[_NUMBERS_BYTES:]
    if len(row) < _NUMBERS_BYTES or len(store) not in (0, STORE_BYTES):
        raise ValueError("not an attribute row")
    found = ATTRIBUTES.unpack_from(row)
    kind, mode, nlink, uid, gid, size, major, minor, atime, mtime, ctime, generation = found
    return Attributes(kind, mode, nlink, uid, gid, size, (major, minor), atime, mtime, ctime, store, generation)


class Entry:
    """What a name in a directory is bound to."""

    __slots__ = ("cookie", "obj", "type")

    def __init__(self, obj: int, type: int, cookie: int) -> None:
        self.obj = obj
        self.type = type
        self.cookie = cookie


def pack_entry(obj: int, kind: int, cookie: int) -> bytes:
    """The value of the entry row of an object of this type."""
    return _ENTRY.pack(obj, kind, cookie)


def unpack_entry(row: bytes) -> Entry:
    """The entry in an entry row."""
    obj, kind, cookie = _ENTRY.unpack(row)
    return Entry(obj, kind, cookie)


class DirectoryHeader:
    """A directory's parent (the root's is itself) and counters."""

    __slots__ = ("entries", "next_cookie", "parent")

    def __init__(self, parent: int, next_cookie: int = FIRST_COOKIE, entries: int = 0) -> None:
        self.parent = parent
        self.next_cookie = next_cookie
        self.entries = entries

    def pack(self) -> bytes:
        """The value of the directory row."""
        return _HEADER.pack(self.parent, self.next_cookie, self.entries)


def unpack_header(row: bytes) -> DirectoryHeader:
    """The header in a directory row."""
    if len(row) != _HEADER_BYTES:
        raise ValueError("not a directory row")
    parent, next_cookie, entries = _HEADER.unpack(row)
    return DirectoryHeader(parent, next_cookie, entries)


def cookie_key(cookie: int) -> bytes:
    """The key of a cookie row; keys sort as cookies do."""
    return COOKIE_ROWS + _COOKIE.pack(cookie)


def cookie_of(key: bytes) -> int:
    """The cookie of a cookie row's key."""
    cookie: int = _COOKIE.unpack_from(key, len(COOKIE_ROWS))[0]
    return cookie


def entry_key(name: bytes) -> bytes:
    """The key of an entry row."""
    return ENTRY_ROWS + name


def xattr_key(name: bytes) -> bytes:
    """The key of an extended attribute's row."""
    return XATTR_ROWS + name


def pack_generation(generation: int) -> bytes:
    """The value of the topology object's row."""
    return _COOKIE.pack(generation)


def unpack_generation(row: bytes) -> int:
    """The generation in the topology object's row."""
    generation: int = _COOKIE.unpack(row)[0]
    return generation
