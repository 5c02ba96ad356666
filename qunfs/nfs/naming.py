"""LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, LINK, REMOVE and RMDIR.

Each is one query or one update.  CREATE goes on with what is there when the name exists.  REMOVE and RMDIR must know
the id that goes: from the caller, or from a lookup before; the method compares, and tells the right one if it differs.
"""

from typing import Final

from qunfs.nfs.calls import (
    ATTEMPTS,
    Procedures,
    Reply,
    Unsendable,
    changes_of,
    not_a_directory,
    parse_answer,
    query_call,
)
from qunfs.nfs.types import (
    NO_CHANGE,
    CREATE3res,
    LINK3res,
    LOOKUP3res,
    MKDIR3res,
    MKNOD3res,
    REMOVE3res,
    RMDIR3res,
    SYMLINK3res,
    createmode3,
    ftype3,
    nfs_fh3,
    nfsstat3,
    sattr3,
)
from qunfs.objects.ids import is_valid
from qunfs.protocol.operation import Credentials

_SIGHTINGS: Final = 3
"""How often a name has to lead to one and the same object that is not there before the entry counts as a fault.

The first time the object may just be made, the second time it may just go.  Then both were over before the name was
looked at for the third time, and ids are never used again.
"""

_NOT_THERE: Final = (nfsstat3.NFS3ERR_STALE, nfsstat3.NFS3ERR_BADHANDLE)
"""What an operation on an object says that is not there, or cannot be."""


def _names_nothing(obj: int, missing: list[int]) -> bool:
    """Whether an entry leads to nothing; ``missing``: where else the name has led in vain, to which this is added."""
    missing.append(obj)
    return missing.count(obj) >= _SIGHTINGS


class NamingProcedures(Procedures):
    """Procedures that find, give and take names."""

    async def lookup(self, cred: Credentials, dir: nfs_fh3, name: bytes) -> LOOKUP3res:
        """LOOKUP (RFC 1813, section 3.3.3), of ``.`` and ``..`` too."""
        missing: list[int] = []
        for _ in range(ATTEMPTS):
            reply, child = await self._lookup(cred, dir, name)
            if not reply.ok:
                attributes = reply.attributes(dir)
                self._saw_directory(dir, attributes)  # a mount looks a name up before it makes a directory of it
                return LOOKUP3res(reply.status, dir_attributes=attributes)
            obj = reply.result[0]
            if child.ok:
                return LOOKUP3res(reply.status, obj, child.attributes(obj), reply.attributes(dir))
            if _names_nothing(obj, missing):
                return LOOKUP3res(nfsstat3.NFS3ERR_IO, dir_attributes=reply.attributes(dir))
        return LOOKUP3res(nfsstat3.NFS3ERR_JUKEBOX)

    async def _lookup(self, cred: Credentials, dir: nfs_fh3, name: bytes) -> tuple[Reply, Reply]:
        """The directory's reply and the child's own; the child may be gone by the time that it is asked."""
        if not_a_directory(dir):
            return Reply(nfsstat3.NFS3ERR_NOTDIR), Reply(nfsstat3.NFS3ERR_NOTDIR)
        if not is_valid(dir):
            return Reply(nfsstat3.NFS3ERR_BADHANDLE), Reply(nfsstat3.NFS3ERR_BADHANDLE)
        try:
            call = query_call(cred, "dir.lookup", dir, name)
        except Unsendable as error:
            return Reply(error.status), Reply(error.status)
        (answer,) = await self._query_all([call])
        reply = parse_answer(answer.value)
        if not reply.ok or reply.saw(reply.result[0]):  # refused, or the directory itself
            return reply, reply
        if answer.followed is not None:
            return reply, parse_answer(answer.followed)
        return reply, await self._query(cred, "attr.getattr", reply.result[0])

    async def create(
        self,
        cred: Credentials,
        dir: nfs_fh3,
        name: bytes,
        how: createmode3,
        obj_attributes: sattr3 = NO_CHANGE,
        verf: bytes = b"",
    ) -> CREATE3res:
        """CREATE (RFC 1813, section 3.3.8).

        UNCHECKED opens an existing regular file, and sets its size if one is given.  EXCLUSIVE takes an existing file
        for its own if it was made with the same 8-byte verifier; it may give attributes too, as NFSv4.1's does.
        """
        exclusive = how is createmode3.EXCLUSIVE
        tail = (changes_of(obj_attributes), verf if exclusive else None)
        missing: list[int] = []
        for _ in range(ATTEMPTS):
            reply = await self._make(cred, "dir.create", dir, name, self._new_file(dir), tail)
            if reply.status is not nfsstat3.NFS3ERR_EXIST or how is createmode3.GUARDED:
                return _created(reply, dir)
            obj, kind = reply.result
            if kind != ftype3.NF3REG:
                is_dir = kind == ftype3.NF3DIR and not exclusive
                status = nfsstat3.NFS3ERR_ISDIR if is_dir else nfsstat3.NFS3ERR_EXIST
                return CREATE3res(status, dir_wcc=reply.wcc(dir))
            taken = await self._take(cred, obj, obj_attributes, verf if exclusive else None)
            if taken.status not in _NOT_THERE:
                return CREATE3res(taken.status, obj, taken.attributes(obj), reply.wcc(dir))
            if _names_nothing(obj, missing):
                return CREATE3res(nfsstat3.NFS3ERR_IO, dir_wcc=reply.wcc(dir))
        return CREATE3res(nfsstat3.NFS3ERR_JUKEBOX)

    async def _take(self, cred: Credentials, obj: int, attributes: sattr3, verifier: bytes | None) -> Reply:
        """Go on with an existing file."""
        if verifier is not None:
            return await self._query(cred, "attr.verify", obj, verifier)
        if attributes.size is None:
            return await self._query(cred, "attr.getattr", obj)
        size = sattr3(size=attributes.size, store=attributes.store)
        return await self._update(cred, "attr.setattr", (obj,), (changes_of(size), None), home=obj)

    async def mkdir(self, cred: Credentials, dir: nfs_fh3, name: bytes, attributes: sattr3 = NO_CHANGE) -> MKDIR3res:
        """MKDIR (RFC 1813, section 3.3.9)."""
        new = self._new_directory(dir)
        made = _created(await self._make(cred, "dir.mkdir", dir, name, new, (changes_of(attributes),)), dir)
        self._saw_directory(dir, made.dir_wcc.after)
        return made

    async def symlink(
        self, cred: Credentials, dir: nfs_fh3, name: bytes, symlink_attributes: sattr3, symlink_data: bytes
    ) -> SYMLINK3res:
        """SYMLINK (RFC 1813, section 3.3.10)."""
        tail = (changes_of(symlink_attributes), symlink_data)
        return _created(await self._make(cred, "dir.symlink", dir, name, self._new_file(dir), tail), dir)

    async def mknod(
        self,
        cred: Credentials,
        dir: nfs_fh3,
        name: bytes,
        type: ftype3,
        attributes: sattr3,
        spec: tuple[int, int] = (0, 0),
    ) -> MKNOD3res:
        """MKNOD (RFC 1813, section 3.3.11) of a device, socket or fifo; ``spec``: a device's two numbers."""
        tail = (changes_of(attributes), type, spec)
        return _created(await self._make(cred, "dir.mknod", dir, name, self._new_file(dir), tail), dir)

    async def _make(
        self, cred: Credentials, method: str, dir: nfs_fh3, name: bytes, new: int, tail: tuple[object, ...]
    ) -> Reply:
        """Make a new object under a new name."""
        if not_a_directory(dir):
            return Reply(nfsstat3.NFS3ERR_NOTDIR)
        return await self._update(cred, method, (dir, new), (dir, name, new, *tail), home=dir, fresh=(new,))

    async def link(self, cred: Credentials, file: nfs_fh3, dir: nfs_fh3, name: bytes) -> LINK3res:
        """LINK (RFC 1813, section 3.3.15)."""
        if not_a_directory(dir):
            return LINK3res(nfsstat3.NFS3ERR_NOTDIR)
        reply = await self._update(cred, "dir.link", (file, dir), (file, dir, name), home=dir)
        return LINK3res(reply.status, reply.attributes(file), reply.wcc(dir))

    async def remove(self, cred: Credentials, dir: nfs_fh3, name: bytes, hint: nfs_fh3 | None = None) -> REMOVE3res:
        """REMOVE (RFC 1813, section 3.3.12); ``hint``: the id that the caller believes the name is bound to."""
        reply = await self._take_away(cred, "dir.remove", dir, name, hint)
        obj = reply.result if reply.ok else 0
        return REMOVE3res(reply.status, reply.wcc(dir), obj, reply.attributes(obj))

    async def rmdir(self, cred: Credentials, dir: nfs_fh3, name: bytes, hint: nfs_fh3 | None = None) -> RMDIR3res:
        """RMDIR (RFC 1813, section 3.3.13); ``hint``: the id that the caller believes the name is bound to."""
        reply = await self._take_away(cred, "dir.rmdir", dir, name, hint)
        obj = reply.result if reply.ok else 0
        return RMDIR3res(reply.status, reply.wcc(dir), obj, reply.attributes(obj))

    async def _take_away(
        self, cred: Credentials, method: str, dir: nfs_fh3, name: bytes, hint: nfs_fh3 | None
    ) -> Reply:
        obj = hint
        if name in (b".", b".."):
            return Reply(nfsstat3.NFS3ERR_INVAL if name == b"." else nfsstat3.NFS3ERR_NOTEMPTY)
        if not_a_directory(dir):
            return Reply(nfsstat3.NFS3ERR_NOTDIR)
        for _ in range(ATTEMPTS):
            if not obj:
                found = await self._query(cred, "dir.find", dir, name)
                if not found.ok:
                    return found
                obj = found.result[0]
            reply = await self._update(cred, method, (dir, obj), (dir, name, obj), home=dir)
            if reply.status is not nfsstat3.RETRY:
                return reply
            obj = reply.result[0]
        return Reply(nfsstat3.NFS3ERR_JUKEBOX)


def _created(reply: Reply, dir: nfs_fh3) -> CREATE3res:
    if reply.status is nfsstat3.RETRY:  # an id that is in use after all: a broken source of random bits
        return CREATE3res(nfsstat3.NFS3ERR_JUKEBOX)
    obj = reply.result if reply.ok else 0
    return CREATE3res(reply.status, obj, reply.attributes(obj), reply.wcc(dir))
