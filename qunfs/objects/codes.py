"""The vocabulary of RFC 1813 that methods answer in, and the bounds of names, links and extended attributes.

The bounds are part of the methods' version: replicas that disagreed on one would answer differently.
"""

from enum import IntEnum
from typing import Final

NAME_MAX: Final = 255
"""Bytes of a name, as on every local file system."""

PATH_MAX: Final = 4096
"""Bytes of a symlink's target with its terminating NUL, as Linux counts."""

LINK_MAX: Final = 65_000
"""Links to one file, as on ext4."""

SUBDIRECTORIES_MAX: Final = (1 << 31) - 3
"""Keeps a directory's link count within a signed 32-bit word."""

COOKIE_MAX: Final = (1 << 63) - 1
"""Cookies travel through the kernel as signed 64-bit offsets."""

FILE_BYTES_MAX: Final = (1 << 63) - 1
"""Sizes travel through the kernel as signed 64-bit offsets."""

TIME_MIN: Final = -(1 << 63)
TIME_MAX: Final = (1 << 63) - 1
"""Nanoseconds since the epoch, from 1677 to 2262: a signed 64-bit word."""

XATTR_NAME_MAX: Final = 255
"""Bytes of an extended attribute's name, as on Linux."""

XATTR_BYTES_MAX: Final = 60 * 1024
"""Bytes of one extended attribute's value: with its framing it must fit an argument (Limits.argument_bytes_max)."""

XATTRS_BYTES_MAX: Final = 64 * 1024
"""Bytes of all names and values of one object: SETXATTR adds them up every time."""

VERIFIER_BYTES: Final = 8
"""createverf3 (RFC 1813, section 2.4)."""

STORE_BYTES: Final = 16
"""A contents store is named by a UUID."""


class ftype3(IntEnum):
    """File types (RFC 1813, section 2.6)."""

    NF3REG = 1
    NF3DIR = 2
    NF3BLK = 3
    NF3CHR = 4
    NF3LNK = 5
    NF3SOCK = 6
    NF3FIFO = 7


class nfsstat3(IntEnum):
    """Statuses (RFC 1813, section 2.6); those of extended attributes from RFC 8276."""

    NFS3_OK = 0
    NFS3ERR_PERM = 1
    NFS3ERR_NOENT = 2
    NFS3ERR_IO = 5
    NFS3ERR_NXIO = 6
    NFS3ERR_ACCES = 13
    NFS3ERR_EXIST = 17
    NFS3ERR_XDEV = 18
    NFS3ERR_NODEV = 19
    NFS3ERR_NOTDIR = 20
    NFS3ERR_ISDIR = 21
    NFS3ERR_INVAL = 22
    NFS3ERR_FBIG = 27
    NFS3ERR_NOSPC = 28
    NFS3ERR_ROFS = 30
    NFS3ERR_MLINK = 31
    NFS3ERR_NAMETOOLONG = 63
    NFS3ERR_NOTEMPTY = 66
    NFS3ERR_DQUOT = 69
    NFS3ERR_STALE = 70
    NFS3ERR_REMOTE = 71
    NFS3ERR_BADHANDLE = 10001
    NFS3ERR_NOT_SYNC = 10002
    NFS3ERR_BAD_COOKIE = 10003
    NFS3ERR_NOTSUPP = 10004
    NFS3ERR_TOOSMALL = 10005
    NFS3ERR_SERVERFAULT = 10006
    NFS3ERR_BADTYPE = 10007
    NFS3ERR_JUKEBOX = 10008
    NFS4ERR_NOXATTR = 10095
    NFS4ERR_XATTR2BIG = 10096
    RETRY = 20000
    """Ours, never seen outside the service: what the caller had read is no longer so; the answer says what is."""
