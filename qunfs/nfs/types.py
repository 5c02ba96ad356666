"""The types of NFSv3 (RFC 1813), by its names, as far as the namespace needs them.

A file handle (nfs_fh3) is the object id.  Times are integers: nanoseconds since the epoch.  Names are bytes.
Structures are named tuples: several are made for each operation, and nothing immutable is made faster.
"""

from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

from qunfs.objects.codes import ftype3 as ftype3
from qunfs.objects.codes import nfsstat3 as nfsstat3

nfs_fh3: TypeAlias = int

COOKIE_VERIFIER: Final = b"qunfs\0\0\1"
"""cookieverf3: constant, because cookies stay valid for as long as their directory exists."""

RENAME_NOREPLACE: Final = 1
"""RENAME refuses an existing target (the flag of Linux' renameat2)."""

RENAME_EXCHANGE: Final = 2
"""RENAME swaps two existing names (the flag of Linux' renameat2)."""

XATTR_CREATE: Final = 1
"""SETXATTR refuses an existing attribute (the flag of Linux' setxattr)."""

XATTR_REPLACE: Final = 2
"""SETXATTR refuses a missing attribute (the flag of Linux' setxattr)."""

ACCESS3_READ: Final = 0x01
ACCESS3_LOOKUP: Final = 0x02
ACCESS3_MODIFY: Final = 0x04
ACCESS3_EXTEND: Final = 0x08
ACCESS3_DELETE: Final = 0x10
ACCESS3_EXECUTE: Final = 0x20


class createmode3(IntEnum):
    """How CREATE treats an existing name (RFC 1813, section 3.3.8)."""

    UNCHECKED = 0
    GUARDED = 1
    EXCLUSIVE = 2


class time_how(Enum):
    """How SETATTR sets a time when no time is given (RFC 1813, section 2.6)."""

    SET_TO_CLIENT_TIME = "now"


SET_TO_CLIENT_TIME: Final = time_how.SET_TO_CLIENT_TIME
"""The time at which the client issues the operation; replicas have no clock that methods may read."""


class fattr3(NamedTuple):
    """File attributes (RFC 1813, section 2.6), and where the contents live."""

    type: ftype3
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    used: int
    rdev: tuple[int, int]
    fsid: int
    fileid: int
    atime: int
    mtime: int
    ctime: int
    store: bytes = b""
    """The 16-byte UUID of the contents store that owns the contents; empty while nobody has written."""
    generation: int = 0
    """Grows when another store takes the contents over; contents of an older generation are void."""


class sattr3(NamedTuple):
    """Attributes to set (RFC 1813, section 2.6); None leaves one alone."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | time_how | None = None
    mtime: int | time_how | None = None
    wrote: bool = False
    """Contents were written locally: size and times follow from that, set-id bits go."""
    store: bytes | None = None
    """The contents store of whoever sets the size: the first one owns the contents, size 0 takes them over."""
    generation: int | None = None
    """The generation of the contents that were written; another one by now gives NFS3ERR_REMOTE."""


NO_CHANGE: Final = sattr3()
"""Sets nothing."""


class wcc_attr(NamedTuple):
    """Attributes before an operation (RFC 1813, section 2.6)."""

    size: int
    mtime: int
    ctime: int


class wcc_data(NamedTuple):
    """Weak cache consistency data (RFC 1813, section 2.6)."""

    before: wcc_attr | None = None
    after: fattr3 | None = None


class entry3(NamedTuple):
    """An entry of READDIR (RFC 1813, section 3.3.16)."""

    fileid: int
    name: bytes
    cookie: int
    type: ftype3


class entryplus3(NamedTuple):
    """An entry of READDIRPLUS (RFC 1813, section 3.3.17).

    There are no attributes of ``..``, of what went away meanwhile, and for who may not search the directory; an id and
    handle that such a one gets name nothing.
    """

    fileid: int
    name: bytes
    cookie: int
    name_attributes: fattr3 | None
    name_handle: nfs_fh3
    type: ftype3


class GETATTR3res(NamedTuple):
    """Result of GETATTR (RFC 1813, section 3.3.1)."""

    status: nfsstat3
    obj_attributes: fattr3 | None = None


class SETATTR3res(NamedTuple):
    """Result of SETATTR (RFC 1813, section 3.3.2)."""

    status: nfsstat3
    obj_wcc: wcc_data = wcc_data()


class LOOKUP3res(NamedTuple):
    """Result of LOOKUP (RFC 1813, section 3.3.3)."""

    status: nfsstat3
    object: nfs_fh3 = 0
    obj_attributes: fattr3 | None = None
    dir_attributes: fattr3 | None = None


class ACCESS3res(NamedTuple):
    """Result of ACCESS (RFC 1813, section 3.3.4)."""

    status: nfsstat3
    obj_attributes: fattr3 | None = None
    access: int = 0


class READLINK3res(NamedTuple):
    """Result of READLINK (RFC 1813, section 3.3.5)."""

    status: nfsstat3
    symlink_attributes: fattr3 | None = None
    data: bytes = b""


class CREATE3res(NamedTuple):
    """Result of CREATE, MKDIR, SYMLINK and MKNOD (RFC 1813, sections 3.3.8 to 3.3.11)."""

    status: nfsstat3
    obj: nfs_fh3 = 0
    obj_attributes: fattr3 | None = None
    dir_wcc: wcc_data = wcc_data()


MKDIR3res: TypeAlias = CREATE3res
SYMLINK3res: TypeAlias = CREATE3res
MKNOD3res: TypeAlias = CREATE3res


class REMOVE3res(NamedTuple):
    """Result of REMOVE (RFC 1813, section 3.3.12), with the object that lost a link (nlink 0: it went away)."""

    status: nfsstat3
    dir_wcc: wcc_data = wcc_data()
    object: nfs_fh3 = 0
    obj_attributes: fattr3 | None = None


class RMDIR3res(NamedTuple):
    """Result of RMDIR (RFC 1813, section 3.3.13), with the directory that went away."""

    status: nfsstat3
    dir_wcc: wcc_data = wcc_data()
    object: nfs_fh3 = 0
    obj_attributes: fattr3 | None = None


class RENAME3res(NamedTuple):
    """Result of RENAME (RFC 1813, section 3.3.14), with the moved object and the one that lost a link (0: none)."""

    status: nfsstat3
    fromdir_wcc: wcc_data = wcc_data()
    todir_wcc: wcc_data = wcc_data()
    replaced: nfs_fh3 = 0
    replaced_attributes: fattr3 | None = None
    moved: nfs_fh3 = 0
    moved_attributes: fattr3 | None = None


class LINK3res(NamedTuple):
    """Result of LINK (RFC 1813, section 3.3.15)."""

    status: nfsstat3
    file_attributes: fattr3 | None = None
    linkdir_wcc: wcc_data = wcc_data()


class READDIR3res(NamedTuple):
    """Result of READDIR (RFC 1813, section 3.3.16)."""

    status: nfsstat3
    dir_attributes: fattr3 | None = None
    cookieverf: bytes = COOKIE_VERIFIER
    entries: tuple[entry3, ...] = ()
    eof: bool = False


class READDIRPLUS3res(NamedTuple):
    """Result of READDIRPLUS (RFC 1813, section 3.3.17)."""

    status: nfsstat3
    dir_attributes: fattr3 | None = None
    cookieverf: bytes = COOKIE_VERIFIER
    entries: tuple[entryplus3, ...] = ()
    eof: bool = False


class FSSTAT3res(NamedTuple):
    """Result of FSSTAT (RFC 1813, section 3.3.18); bytes and file slots."""

    status: nfsstat3
    obj_attributes: fattr3 | None = None
    tbytes: int = 0
    fbytes: int = 0
    abytes: int = 0
    tfiles: int = 0
    ffiles: int = 0
    afiles: int = 0
    invarsec: int = 0


class FSINFO3res(NamedTuple):
    """Result of FSINFO (RFC 1813, section 3.3.19); sizes in bytes, time_delta in nanoseconds."""

    status: nfsstat3
    obj_attributes: fattr3 | None = None
    rtmax: int = 0
    rtpref: int = 0
    rtmult: int = 0
    wtmax: int = 0
    wtpref: int = 0
    wtmult: int = 0
    dtpref: int = 0
    maxfilesize: int = 0
    time_delta: int = 0
    properties: int = 0


class PATHCONF3res(NamedTuple):
    """Result of PATHCONF (RFC 1813, section 3.3.20)."""

    status: nfsstat3
    obj_attributes: fattr3 | None = None
    linkmax: int = 0
    name_max: int = 0
    no_trunc: bool = True
    chown_restricted: bool = True
    case_insensitive: bool = False
    case_preserving: bool = True


class GETXATTRres(NamedTuple):
    """Result of GETXATTR (RFC 8276, section 8.4.1)."""

    status: nfsstat3
    value: bytes = b""


class SETXATTRres(NamedTuple):
    """Result of SETXATTR and REMOVEXATTR (RFC 8276, sections 8.4.2 and 8.4.4)."""

    status: nfsstat3
    obj_wcc: wcc_data = wcc_data()


class LISTXATTRSres(NamedTuple):
    """Result of LISTXATTRS (RFC 8276, section 8.4.3), sorted."""

    status: nfsstat3
    names: tuple[bytes, ...] = ()
