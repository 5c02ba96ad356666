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
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgpack

from qunfs.objects.codes import ftype3
from qunfs.protocol.packing import pack

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

_ENTRY: Final = struct.Struct(">QBQ")
_COOKIE: Final = struct.Struct(">Q")


@dataclass(slots=True)
class Attributes:
    """The attributes of any object: fattr3 without what follows from the id, and where the contents live."""

    type: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    rdev: tuple[int, int]
    atime: int
    mtime: int
    ctime: int
    store: bytes = b""
    """The UUID of the contents store that owns a file's contents; empty until somebody has written."""
    generation: int = 0
    """Grows whenever the contents are given up for empty ones in another store."""

    def pack(self) -> bytes:
        """The value of the attribute row."""
        return pack(
            (
                self.type,
                self.mode,
                self.nlink,
                self.uid,
                self.gid,
                self.size,
                self.rdev,
                self.atime,
                self.mtime,
                self.ctime,
                self.store,
                self.generation,
            )
        )

    @property
    def is_directory(self) -> bool:
        """Whether these are a directory's."""
        return self.type == ftype3.NF3DIR


def unpack_attributes(row: bytes) -> Attributes:
    """The attributes in an attribute row."""
    return Attributes(*msgpack.unpackb(row, use_list=False))


class Entry(NamedTuple):
    """What a name in a directory is bound to."""

    obj: int
    type: int
    cookie: int

    def pack(self) -> bytes:
        """The value of the entry row."""
        return _ENTRY.pack(*self)


def unpack_entry(row: bytes) -> Entry:
    """The entry in an entry row."""
    return Entry._make(_ENTRY.unpack(row))


class DirectoryHeader(NamedTuple):
    """A directory's parent (the root's is itself) and counters."""

    parent: int
    next_cookie: int = FIRST_COOKIE
    entries: int = 0

    def pack(self) -> bytes:
        """The value of the directory row."""
        return pack(self)


def unpack_header(row: bytes) -> DirectoryHeader:
    """The header in a directory row."""
    return DirectoryHeader(*msgpack.unpackb(row, use_list=False))


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
