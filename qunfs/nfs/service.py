"""MetadataService: one method per NFSv3 procedure (RFC 1813), each one query or one atomic update."""

from collections.abc import Callable

from qunfs.nfs.types import (
    ACCESS3res,
    CREATE3res,
    FSINFO3res,
    FSSTAT3res,
    GETATTR3res,
    GETXATTRres,
    LINK3res,
    LISTXATTRSres,
    LOOKUP3res,
    PATHCONF3res,
    READDIR3res,
    READDIRPLUS3res,
    READLINK3res,
    REMOVE3res,
    RENAME3res,
    RMDIR3res,
    SETATTR3res,
    SETXATTRres,
    createmode3,
    ftype3,
    sattr3,
)
from qunfs.protocol.operation import Credentials, QueryUpdate


class MetadataService:
    """The namespace as RFC 1813 describes it, on an update core of n servers."""

    def __init__(self, core: QueryUpdate, n: int, randbits: Callable[[int], int]) -> None:
        self._core, self._n, self._randbits = core, n, randbits

    async def getattr(self, cred: Credentials, object: int) -> GETATTR3res:  # noqa: A002 - RFC 1813's name
        raise NotImplementedError

    async def setattr(
        self, cred: Credentials, object: int, new_attributes: sattr3, guard: int | None = None  # noqa: A002
    ) -> SETATTR3res:
        raise NotImplementedError

    async def lookup(self, cred: Credentials, dir: int, name: bytes) -> LOOKUP3res:  # noqa: A002
        raise NotImplementedError

    async def access(self, cred: Credentials, object: int, access: int) -> ACCESS3res:  # noqa: A002
        raise NotImplementedError

    async def readlink(self, cred: Credentials, symlink: int) -> READLINK3res:
        raise NotImplementedError

    async def create(
        self,
        cred: Credentials,
        where_dir: int,
        name: bytes,
        how: createmode3,
        attributes: sattr3 = sattr3(),
        verifier: bytes = b"",
    ) -> CREATE3res:
        raise NotImplementedError

    async def mkdir(self, cred: Credentials, dir: int, name: bytes, attributes: sattr3 = sattr3()) -> CREATE3res:  # noqa: A002
        raise NotImplementedError

    async def symlink(
        self, cred: Credentials, dir: int, name: bytes, attributes: sattr3, target: bytes  # noqa: A002
    ) -> CREATE3res:
        raise NotImplementedError

    async def mknod(
        self, cred: Credentials, dir: int, name: bytes, type: ftype3, attributes: sattr3, rdev: tuple[int, int] = (0, 0)  # noqa: A002
    ) -> CREATE3res:
        raise NotImplementedError

    async def remove(self, cred: Credentials, dir: int, name: bytes, hint: int | None = None) -> REMOVE3res:  # noqa: A002
        raise NotImplementedError

    async def rmdir(self, cred: Credentials, dir: int, name: bytes, hint: int | None = None) -> RMDIR3res:  # noqa: A002
        raise NotImplementedError

    async def rename(
        self,
        cred: Credentials,
        from_dir: int,
        from_name: bytes,
        to_dir: int,
        to_name: bytes,
        flags: int = 0,
        hint: int | None = None,
        to_hint: int | None = None,
    ) -> RENAME3res:
        """``hint``, ``to_hint``: the ids that the caller believes the names are bound to (``to_hint`` 0: to none)."""
        raise NotImplementedError

    async def link(self, cred: Credentials, file: int, dir: int, name: bytes) -> LINK3res:  # noqa: A002
        raise NotImplementedError

    async def readdir(self, cred: Credentials, dir: int, cookie: int, cookieverf: bytes, count: int) -> READDIR3res:  # noqa: A002
        raise NotImplementedError

    async def readdirplus(
        self, cred: Credentials, dir: int, cookie: int, cookieverf: bytes, count: int  # noqa: A002
    ) -> READDIRPLUS3res:
        raise NotImplementedError

    async def fsstat(self, cred: Credentials, root: int) -> FSSTAT3res:
        raise NotImplementedError

    async def fsinfo(self, cred: Credentials, root: int) -> FSINFO3res:
        raise NotImplementedError

    async def pathconf(self, cred: Credentials, object: int) -> PATHCONF3res:  # noqa: A002
        raise NotImplementedError

    async def getxattr(self, cred: Credentials, object: int, name: bytes) -> GETXATTRres:  # noqa: A002
        raise NotImplementedError

    async def setxattr(
        self, cred: Credentials, object: int, name: bytes, value: bytes, flags: int = 0  # noqa: A002
    ) -> SETXATTRres:
        raise NotImplementedError

    async def listxattr(self, cred: Credentials, object: int) -> LISTXATTRSres:  # noqa: A002
        raise NotImplementedError

    async def removexattr(self, cred: Credentials, object: int, name: bytes) -> SETXATTRres:  # noqa: A002
        raise NotImplementedError
