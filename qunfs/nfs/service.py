"""MetadataService: one method per NFSv3 procedure (RFC 1813), each one query or one atomic update.

Every method takes the credentials on whose behalf it runs first, and returns the RFC's result with its status; nothing
that a server refuses is an exception.  A number that not even 64 bits hold is refused with INVAL, but a count may be
any.  ValueError is for credentials that AUTH_SYS has no room for, OperationRefused for those that this client may not
use, and for arguments of other types than are asked for.

Where what a procedure had read is no longer so when its update arrives, the
method says what is instead and the procedure starts over, a bounded number of times; JUKEBOX after that.
"""

from typing import Final

from qunfs.nfs.attributes import AttributeProcedures
from qunfs.nfs.listing import ListingProcedures
from qunfs.nfs.naming import NamingProcedures
from qunfs.nfs.renaming import RenameProcedures
from qunfs.nfs.types import FSINFO3res, FSSTAT3res, PATHCONF3res, nfs_fh3
from qunfs.objects.codes import FILE_BYTES_MAX, LINK_MAX, NAME_MAX
from qunfs.protocol.operation import Credentials

_FILES: Final = 1 << 48
"""File slots that FSSTAT shows: ids never run out, and nobody counts those in use."""

_PAGE_BYTES: Final = 32 * 1024

_FSF_LINK: Final = 0x01
_FSF_SYMLINK: Final = 0x02
_FSF_HOMOGENEOUS: Final = 0x08
_FSF_CANSETTIME: Final = 0x10


class MetadataService(AttributeProcedures, NamingProcedures, RenameProcedures, ListingProcedures):
    """The namespace as RFC 1813 describes it, on an update core of n servers."""

    async def fsstat(self, cred: Credentials, fsroot: nfs_fh3) -> FSSTAT3res:
        """FSSTAT (RFC 1813, section 3.3.18); bytes are zero: contents live with the clients."""
        got = await self.getattr(cred, fsroot)
        return FSSTAT3res(got.status, got.obj_attributes, tfiles=_FILES, ffiles=_FILES, afiles=_FILES)

    async def fsinfo(self, cred: Credentials, fsroot: nfs_fh3) -> FSINFO3res:
        """FSINFO (RFC 1813, section 3.3.19); there is no READ and no WRITE to have a preferred size."""
        got = await self.getattr(cred, fsroot)
        return FSINFO3res(
            got.status,
            got.obj_attributes,
            dtpref=_PAGE_BYTES,
            maxfilesize=FILE_BYTES_MAX,
            time_delta=1,
            properties=_FSF_LINK | _FSF_SYMLINK | _FSF_HOMOGENEOUS | _FSF_CANSETTIME,
        )

    async def pathconf(self, cred: Credentials, object: nfs_fh3) -> PATHCONF3res:
        """PATHCONF (RFC 1813, section 3.3.20)."""
        got = await self.getattr(cred, object)
        return PATHCONF3res(got.status, got.obj_attributes, linkmax=LINK_MAX, name_max=NAME_MAX)
