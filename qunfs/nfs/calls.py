"""From procedures to calls of the update core and back: what all procedures share."""

from collections.abc import Callable
from typing import Any, Final

from msgpack import unpackb

from qunfs.nfs.types import SET_TO_CLIENT_TIME, fattr3, ftype3, nfsstat3, sattr3, wcc_attr, wcc_data
from qunfs.objects.ids import ROOT, is_directory, is_valid, new_id, type_of
from qunfs.objects.state import ATTRIBUTES
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Answer, Call, Credentials, QueryUpdate
from qunfs.protocol.packing import pack

ATTEMPTS: Final = 256
"""How often a procedure starts over because what it had read was no longer so; JUKEBOX after that.

Each time another client's change came between, so that somebody gets on; bounded, for they may be malevolent.
"""

NEAR_MAX: Final = 4
"""So many directories in a directory share its preferred quorum: as many as files are often moved between."""

_FULL_KEPT: Final = 4096
"""Directories remembered for having so many; for one that is forgotten, the next one made in it shares its quorum."""

_BLOCK_BYTES: Final = 512

_ARGUMENT_BYTES_MAX: Final = DEFAULT_LIMITS.argument_bytes_max
_GROUPS_MAX: Final = DEFAULT_LIMITS.groups_max
_ID_END: Final = 1 << 32

_TYPES: Final = {int(kind): kind for kind in ftype3}
_STATUSES: Final = {int(status): status for status in nfsstat3}
_FILE: Final = ftype3.NF3REG
_DIRECTORY: Final = ftype3.NF3DIR
_NOTHING_SEEN: Final = wcc_data()


class Reply:
    """A method's answer: status, result, and the attributes of the objects that it looked at."""

    __slots__ = ("_nodes", "ok", "result", "status")

    def __init__(self, status: nfsstat3, result: Any = None, nodes: tuple[Any, ...] = ()) -> None:
        self.status, self.result = status, result
        self.ok = status is nfsstat3.NFS3_OK  # whether the method did what was asked
        self._nodes = nodes

    def saw(self, obj: int) -> bool:
        """Whether the method came to look at an object."""
        return obj in [node[0] for node in self._nodes]

    def attributes(self, obj: int) -> fattr3 | None:
        """Post-operation attributes of an object, if the method came to look at it."""
        for number, _, row in self._nodes:
            if number == obj:
                return fattr3_of(obj, row)
        return None

    def wcc(self, obj: int) -> wcc_data:
        """Weak cache consistency data of an object."""
        for number, before, row in self._nodes:
            if number == obj:
                return wcc_data(None if before is None else wcc_attr(*before), fattr3_of(obj, row))
        return _NOTHING_SEEN


def parse_answer(value: bytes) -> Reply:
    """The reply in an answer that a quorum vouches for."""
    status, result, nodes = unpackb(value, use_list=False)
    return Reply(_STATUSES[status], result, nodes)


def fattr3_of(obj: int, row: bytes) -> fattr3:
    """fattr3 from an object's attribute row, which is taken apart here: this runs once or twice for every answer."""
    numbers = ATTRIBUTES.unpack_from(row)
    type_, mode, nlink, uid, gid, size, major, minor, atime, mtime, ctime, generation = numbers
    store, rdev = row[ATTRIBUTES.size :], (major, minor)
    kind = _TYPES[type_]
    used = -(-size // _BLOCK_BYTES) * _BLOCK_BYTES if kind is _FILE or kind is _DIRECTORY else 0
    return fattr3(kind, mode, nlink, uid, gid, size, used, rdev, ROOT, obj, atime, mtime, ctime, store, generation)


def changes_of(attributes: sattr3) -> tuple[object, ...]:
    """sattr3 as methods take it."""
    mode, uid, gid, size, atime, mtime, wrote, store, generation = attributes
    if atime is SET_TO_CLIENT_TIME:
        atime = True
    if mtime is SET_TO_CLIENT_TIME:
        mtime = True
    return mode, uid, gid, size, atime, mtime, wrote, store, generation


class Unsendable(Exception):
    """No operation can carry an argument; replicas would take one that does for garbage and hang up."""

    def __init__(self, status: nfsstat3) -> None:
        super().__init__(status.name)
        self.status = status


def _pack(argument: object) -> bytes:
    """An argument as it travels.  Raises Unsendable."""
    try:
        packed = pack(argument)
    except OverflowError:  # more than 64 bits, which nothing that RFC 1813 knows has
        raise Unsendable(nfsstat3.NFS3ERR_INVAL) from None
    if len(packed) > _ARGUMENT_BYTES_MAX:  # names, or a symlink's target
        raise Unsendable(nfsstat3.NFS3ERR_NAMETOOLONG)
    return packed


def _check_credentials(cred: Credentials) -> None:
    """Raise ValueError for credentials that AUTH_SYS (RFC 5531, appendix A) has no room for, or too many groups."""
    uid, gid, groups = cred
    if not (
        0 <= uid < _ID_END
        and 0 <= gid < _ID_END
        and (not groups or (len(groups) <= _GROUPS_MAX and min(groups) >= 0 and max(groups) < _ID_END))
    ):
        raise ValueError(f"no operation can carry uid {uid}, gid {gid} and {len(groups)} groups: 32 bits, at most 1024")


class Procedures:
    """What the groups of procedures have in common."""

    def __init__(self, core: QueryUpdate, n: int, randbits: Callable[[int], int]) -> None:
        self._core, self._n, self._randbits = core, n, randbits
        self._full: dict[int, None] = {}
        """Directories that were last seen to have as many others in them as share their preferred quorum."""

    def _new_file(self, directory: int) -> int:
        """An id for a file in a directory: it shares the directory's preferred quorum."""
        return new_id(directory % self._n, self._n, False, self._randbits)

    def _new_directory(self, parent: int) -> int:
        """An id for a directory: the first few in another share its preferred quorum, the rest spread over all."""
        residue = self._randbits(32) if parent == ROOT or parent in self._full else parent
        return new_id(residue % self._n, self._n, True, self._randbits)

    def _saw_directory(self, obj: int, seen: fattr3 | None) -> None:
        """Remember whether a directory has few or many others in it."""
        if seen is None:
            return
        if seen.nlink < NEAR_MAX + 2:  # its own name, "." and a ".." in each
            self._full.pop(obj, None)
            return
        self._full[obj] = None
        if len(self._full) > _FULL_KEPT:
            del self._full[next(iter(self._full))]

    async def _query(
        self, cred: Credentials, method: str, obj: int, argument: object = None, *, large: bool = False
    ) -> Reply:
        """Ask one object."""
        if not is_valid(obj):
            return Reply(nfsstat3.NFS3ERR_BADHANDLE)
        try:
            call = query_call(cred, method, obj, argument, large=large)
        except Unsendable as error:
            return Reply(error.status)
        return parse_answer((await self._query_all([call]))[0].value)

    async def _query_all(self, calls: list[Call]) -> list[Answer]:
        return await self._core.query(*calls)

    async def _update(
        self,
        cred: Credentials,
        method: str,
        objects: tuple[int, ...],
        argument: object,
        *,
        home: int,
        fresh: tuple[int, ...] = (),
        more: tuple[int, ...] = (),
    ) -> Reply:
        """Update objects of the namespace (``more``: others besides, whose ids nobody outside gave)."""
        _check_credentials(cred)
        for obj in objects:
            if not is_valid(obj):
                return Reply(nfsstat3.NFS3ERR_BADHANDLE)
        named = tuple([(obj, type_of(obj)) for obj in {*objects, *more}])
        try:
            packed = _pack(argument)
        except Unsendable as error:
            return Reply(error.status)
        call = Call(method, named, packed, cred, home=home, fresh=frozenset(fresh))
        return parse_answer(await self._core.update(call))


def query_call(cred: Credentials, method: str, obj: int, argument: object = None, *, large: bool = False) -> Call:
    """A query of one object.  Raises Unsendable."""
    _check_credentials(cred)
    return Call(method, ((obj, type_of(obj)),), _pack(argument), cred, large=large)


def not_a_directory(*objects: int) -> bool:
    """Whether one of the handles that should name directories names something else."""
    return False in [is_directory(obj) or not is_valid(obj) for obj in objects]
