"""GETATTR, SETATTR, ACCESS, READLINK and the extended attributes of RFC 8276: one query or one update each."""

from typing import Final

from qunfs.nfs.calls import Procedures, changes_of
from qunfs.nfs.types import (
    ACCESS3res,
    GETATTR3res,
    GETXATTRres,
    LISTXATTRSres,
    READLINK3res,
    SETATTR3res,
    SETXATTRres,
    nfs_fh3,
    sattr3,
)
from qunfs.objects.codes import XATTR_BYTES_MAX, XATTR_NAME_MAX
from qunfs.protocol.operation import Credentials

_XATTR_NAME_END: Final = XATTR_NAME_MAX + 1
_XATTR_BYTES_END: Final = XATTR_BYTES_MAX + 1
"""More is not sent of what is too long in any case: no message may carry it, and the refusal is the method's."""


class AttributeProcedures(Procedures):
    """Procedures on one object."""

    async def getattr(self, cred: Credentials, object: nfs_fh3) -> GETATTR3res:
        """GETATTR (RFC 1813, section 3.3.1)."""
        reply = await self._query(cred, "attr.getattr", object)
        return GETATTR3res(reply.status, reply.attributes(object))

    async def setattr(
        self, cred: Credentials, object: nfs_fh3, new_attributes: sattr3, guard: int | None = None
    ) -> SETATTR3res:
        """SETATTR (RFC 1813, section 3.3.2); ``guard``: the ctime that the object must still have."""
        argument = (changes_of(new_attributes), guard)
        reply = await self._update(cred, "attr.setattr", (object,), argument, home=object)
        return SETATTR3res(reply.status, reply.wcc(object))

    async def access(self, cred: Credentials, object: nfs_fh3, access: int) -> ACCESS3res:
        """ACCESS (RFC 1813, section 3.3.4)."""
        reply = await self._query(cred, "attr.access", object, access)
        return ACCESS3res(reply.status, reply.attributes(object), reply.result if reply.ok else 0)

    async def readlink(self, cred: Credentials, symlink: nfs_fh3) -> READLINK3res:
        """READLINK (RFC 1813, section 3.3.5)."""
        reply = await self._query(cred, "attr.readlink", symlink)
        return READLINK3res(reply.status, reply.attributes(symlink), reply.result if reply.ok else b"")

    async def getxattr(self, cred: Credentials, object: nfs_fh3, name: bytes) -> GETXATTRres:
        """GETXATTR (RFC 8276, section 8.4.1)."""
        reply = await self._query(cred, "attr.getxattr", object, name[:_XATTR_NAME_END], large=True)
        return GETXATTRres(reply.status, reply.result if reply.ok else b"")

    async def setxattr(
        self, cred: Credentials, object: nfs_fh3, name: bytes, value: bytes, flags: int = 0
    ) -> SETXATTRres:
        """SETXATTR (RFC 8276, section 8.4.2); flags: 0, XATTR_CREATE or XATTR_REPLACE."""
        argument = (name[:_XATTR_NAME_END], value[:_XATTR_BYTES_END], flags)
        reply = await self._update(cred, "attr.setxattr", (object,), argument, home=object)
        return SETXATTRres(reply.status, reply.wcc(object))

    async def listxattr(self, cred: Credentials, object: nfs_fh3) -> LISTXATTRSres:
        """LISTXATTRS (RFC 8276, section 8.4.3)."""
        reply = await self._query(cred, "attr.listxattr", object, large=True)
        return LISTXATTRSres(reply.status, reply.result if reply.ok else ())

    async def removexattr(self, cred: Credentials, object: nfs_fh3, name: bytes) -> SETXATTRres:
        """REMOVEXATTR (RFC 8276, section 8.4.4)."""
        reply = await self._update(cred, "attr.removexattr", (object,), name[:_XATTR_NAME_END], home=object)
        return SETXATTRres(reply.status, reply.wcc(object))
