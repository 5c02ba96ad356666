"""Object ids: what NFS calls a file handle and FUSE an inode number.

An id is below 2^63 and says by itself whether it names a directory, so that nobody must ask.  ``id mod n`` picks the
preferred quorum: a file's attribute object takes its directory's, and so do the first few directories in a directory,
which files are likely to be moved between; the directories in the root, and the rest, spread over all.
"""

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

ROOT: Final = 1
"""The root directory."""

TOPOLOGY: Final = 2
"""The object that every move of a directory to another parent goes through."""

RESERVED_MAX: Final = 1023
"""Ids up to here are never made at random."""

_DIRECTORY_BIT: Final = 1 << 62
_FILE_BIT: Final = 1 << 61
RANDOM_BITS: Final = 61
_ID: Final = struct.Struct(">Q")

COUNTER_TYPE: Final = "counter"
DIRECTORY_TYPE: Final = "dir"
ATTRIBUTES_TYPE: Final = "attr"
TOPOLOGY_TYPE: Final = "topo"


def is_directory(obj: int) -> bool:
    """Whether an id names a directory object."""
    return obj == ROOT or bool(obj & _DIRECTORY_BIT)


def is_file(obj: int) -> bool:
    """Whether an id can name an attribute object (a file of any type but directory)."""
    return RESERVED_MAX < obj < _DIRECTORY_BIT


def is_valid(obj: int) -> bool:
    """Whether an id can name an object of the namespace."""
    return obj == ROOT or RESERVED_MAX < obj < _DIRECTORY_BIT << 1


def type_of(obj: int) -> str:
    """The object type that an id of the namespace implies."""
    if obj == TOPOLOGY:
        return TOPOLOGY_TYPE
    return DIRECTORY_TYPE if is_directory(obj) else ATTRIBUTES_TYPE


def disguised(where: int, cookie: int, directory: bool) -> int:
    """An id for an entry of a directory that says nothing of the object, and names none; each entry has its own."""
    digest = blake2b(_ID.pack(cookie), digest_size=8, key=_ID.pack(where), person=b"disguised").digest()
    low = _DIRECTORY_BIT if directory else _FILE_BIT
    word: int = _ID.unpack(digest)[0]
    return low + (word & (1 << RANDOM_BITS) - 1)


def new_id(residue: int, n: int, directory: bool, randbits: Callable[[int], int]) -> int:
    """A random id with ``id % n == residue``."""
    low = _DIRECTORY_BIT if directory else _FILE_BIT
    obj = low + randbits(RANDOM_BITS)
    obj += (residue - obj) % n
    return obj if obj < low + (1 << RANDOM_BITS) else obj - n
