"""Methods on the attributes of any object, file or directory: GETATTR, SETATTR, ACCESS, READLINK."""

from typing import Any, Final

from qunfs.objects.codes import FILE_BYTES_MAX, STORE_BYTES, TIME_MAX, TIME_MIN, VERIFIER_BYTES, ftype3, nfsstat3
from qunfs.objects.invocation import Invocation, Node, Refusal, query, update
from qunfs.objects.permissions import (
    EXECUTE,
    MODE_BITS,
    READ,
    S_ISGID,
    S_IXGRP,
    WRITE,
    allows,
    in_group,
    is_owner,
    is_superuser,
    require_write,
    without_set_id,
)
from qunfs.objects.shapes import Nothing, fields, one_of
from qunfs.objects.state import DIRECTORY_BYTES, TARGET_ROW, VERIFIER_ROW, Attributes

_REGULAR: Final = int(ftype3.NF3REG)
_DIRECTORY: Final = int(ftype3.NF3DIR)

_ID_MAX: Final = (1 << 32) - 2
"""Users and groups; the highest 32-bit word means "leave alone" to chown."""

_ACCESS_READ: Final = 0x01
_ACCESS_LOOKUP: Final = 0x02
_ACCESS_WRITE: Final = 0x04 | 0x08
_ACCESS_DELETE: Final = 0x10
_ACCESS_EXECUTE: Final = 0x20


class Changes:
    """sattr3 as it travels in arguments: None leaves a field alone, a time of True is the operation's own."""

    __slots__ = ("atime", "generation", "gid", "mode", "mtime", "size", "store", "uid", "wrote")

    def __init__(
        self,
        mode: int | None,
        uid: int | None,
        gid: int | None,
        size: int | None,
        atime: Any,
        mtime: Any,
        wrote: bool,
        store: bytes | None,
        generation: int | None,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.atime: Any = atime
        self.mtime: Any = mtime
        self.wrote = wrote
        self.store = store
        self.generation = generation

    @property
    def writes(self) -> bool:
        """Whether they are to contents."""
        return self.size is not None or self.wrote or self.store is not None

    @property
    def nothing(self) -> bool:
        """Whether there are none, for which nobody needs a permission."""
        alone = self.mode is None and self.uid is None and self.gid is None
        return alone and self.atime is None and self.mtime is None and not self.writes


def parse_changes(argument: Any) -> Changes:
    """The changes in an argument, refused with INVAL or FBIG when a value is out of bounds."""
    if type(argument) is not tuple:
        raise TypeError("not a sattr3")
    mode, uid, gid, size, atime, mtime, wrote, store, generation = argument
    if not (
        (mode is None or type(mode) is int)
        and (uid is None or type(uid) is int)
        and (gid is None or type(gid) is int)
        and (size is None or type(size) is int)
        and (atime is None or atime is True or type(atime) is int)
        and (mtime is None or mtime is True or type(mtime) is int)
        and type(wrote) is bool
        and (store is None or type(store) is bytes)
        and (generation is None or type(generation) is int)
    ):
        raise TypeError("not a sattr3")
    if (
        (mode is not None and not 0 <= mode <= _ID_MAX)
        or (uid is not None and not 0 <= uid <= _ID_MAX)
        or (gid is not None and not 0 <= gid <= _ID_MAX)
    ):
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if size is not None and not 0 <= size <= FILE_BYTES_MAX:
        raise Refusal(nfsstat3.NFS3ERR_FBIG if size > 0 else nfsstat3.NFS3ERR_INVAL)
    if (
        (atime is not None and not TIME_MIN <= atime <= TIME_MAX)
        or (mtime is not None and not TIME_MIN <= mtime <= TIME_MAX)
        or (store is not None and len(store) != STORE_BYTES)
    ):
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return Changes(mode, uid, gid, size, atime, mtime, wrote, store, generation)


def new_attributes(call: Invocation, directory: Attributes, kind: int, changes: Changes) -> Attributes:
    """The attributes of an object made in a directory; without a mode only the owner may use it."""
    cred, now = call.credentials, call.now
    inherits = directory.mode & S_ISGID != 0
    gid = directory.gid if inherits else cred.gid
    if not is_superuser(cred) and (
        (changes.uid is not None and changes.uid != cred.uid)
        or (changes.gid is not None and changes.gid != gid and not in_group(cred, changes.gid))
    ):
        raise Refusal(nfsstat3.NFS3ERR_PERM)
    is_directory, regular = kind == _DIRECTORY, kind == _REGULAR
    mode = 0o700 if is_directory else 0o600
    if changes.mode is not None:
        mode = changes.mode & MODE_BITS
    if changes.gid is not None:
        gid = changes.gid
    size, store = DIRECTORY_BYTES if is_directory else 0, b""
    if regular:
        size, store = changes.size or 0, changes.store or b""
    outsider = not is_superuser(cred) and not in_group(cred, gid)
    if is_directory and inherits:
        mode |= S_ISGID
    elif outsider and (is_directory or mode & S_IXGRP):
        mode &= ~S_ISGID
    return Attributes(
        kind,
        mode,
        2 if is_directory else 1,
        cred.uid if changes.uid is None else changes.uid,
        gid,
        size,
        (0, 0),
        _time(changes.atime, now),
        _time(changes.mtime, now),
        now,
        store,
        0,
    )


@query("attr.getattr")
def getattr_(call: Invocation) -> None:
    """GETATTR: the attributes of the object are in every answer."""
    call.node(call.only)


@query("attr.access", one_of(int))
def access(call: Invocation) -> int:
    """ACCESS: which of the wanted ACCESS3 bits are granted."""
    attributes, cred = call.node(call.only).attributes, call.credentials
    granted = 0
    if allows(attributes, cred, READ):
        granted |= _ACCESS_READ
    if allows(attributes, cred, WRITE):
        granted |= _ACCESS_WRITE | (_ACCESS_DELETE if attributes.is_directory else 0)
    if allows(attributes, cred, EXECUTE):
        granted |= _ACCESS_LOOKUP if attributes.is_directory else _ACCESS_EXECUTE
    wanted: int = call.argument
    return granted & wanted


@query("attr.readlink")
def readlink(call: Invocation) -> bytes:
    """READLINK: the target of a symlink."""
    target = call.node(call.only).view.get(TARGET_ROW)
    if target is None:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return target


@query("attr.verify", one_of(bytes))
def verify(call: Invocation) -> None:
    """Whether an exclusive CREATE with this verifier made the file; EXIST otherwise (RFC 1813, section 3.3.8)."""
    node = call.node(call.only)
    if node.view.get(VERIFIER_ROW) != parse_verifier(call.argument):
        raise Refusal(nfsstat3.NFS3ERR_EXIST)


def parse_verifier(verifier: bytes) -> bytes:
    """A createverf3, refused with INVAL when it is none."""
    if len(verifier) != VERIFIER_BYTES:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return verifier


@update("attr.setattr", fields(tuple, (Nothing, int)))
def setattr_(call: Invocation) -> None:
    """SETATTR of (changes, guard): with a guard only if it still is the ctime (RFC 1813, section 3.3.2)."""
    argument, guard = call.argument
    changes = parse_changes(argument)
    node = call.node(call.only)
    if guard is not None and guard != node.attributes.ctime:
        raise Refusal(nfsstat3.NFS3ERR_NOT_SYNC)
    _check(call, node.attributes, changes)
    if changes.nothing and not is_owner(call.credentials, node.attributes):
        raise Refusal(nfsstat3.NFS3_OK)
    _apply(call, node, changes)
    if node.view.get(VERIFIER_ROW) is not None:
        node.view.delete(VERIFIER_ROW)


def _check(call: Invocation, attributes: Attributes, changes: Changes) -> None:
    """Refuse what the caller may not change."""
    cred = call.credentials
    owner = is_owner(cred, attributes)
    uid, gid = changes.uid, changes.gid
    if not is_superuser(cred):
        gives_away = uid is not None and uid != attributes.uid
        if gives_away or (gid is not None and gid != attributes.gid and not in_group(cred, gid)):
            raise Refusal(nfsstat3.NFS3ERR_PERM)
    if not owner and not (changes.mode is None and uid is None and gid is None):
        raise Refusal(nfsstat3.NFS3ERR_PERM)
    if changes.writes:
        if attributes.type != _REGULAR:
            raise Refusal(nfsstat3.NFS3ERR_ISDIR if attributes.is_directory else nfsstat3.NFS3ERR_INVAL)
        require_write(attributes, cred)
    if not owner and not (changes.atime is None and changes.mtime is None):
        if not changes.wrote and not (_is_own(changes.atime) and _is_own(changes.mtime)):
            raise Refusal(nfsstat3.NFS3ERR_PERM)
        require_write(attributes, cred)


def _is_own(time: Any) -> bool:
    """Whether a time is left alone or set to the operation's own."""
    return time is None or time is True


def _apply(call: Invocation, node: Node, changes: Changes) -> None:
    attributes, cred = node.attributes, call.credentials
    atime, mtime, writes = attributes.atime, attributes.mtime, changes.writes
    plain = without_set_id(attributes, cred)
    if writes:
        _claim_contents(attributes, changes)
        if changes.size is not None:
            attributes.size = changes.size
        node.modify(call.now)
    else:
        node.touch(call.now)
    if changes.atime is not None:
        attributes.atime = _new_time(call, attributes, atime, changes.atime)
    if changes.mtime is not None:
        attributes.mtime = _new_time(call, attributes, mtime, changes.mtime)
    if changes.uid is not None:
        attributes.uid = changes.uid
    if changes.gid is not None:
        attributes.gid = changes.gid
    if changes.mode is not None:
        attributes.mode = changes.mode & MODE_BITS
        if not is_superuser(cred) and not in_group(cred, attributes.gid):
            attributes.mode &= ~S_ISGID
    given_away = changes.uid is not None or changes.gid is not None
    if is_superuser(cred):
        loses_set_id = given_away and changes.mode is None
    else:
        loses_set_id = given_away or (writes and changes.mode is None)
    if loses_set_id:
        attributes.mode = plain if changes.mode is None else without_set_id(attributes, cred)


def _claim_contents(attributes: Attributes, changes: Changes) -> None:
    """The first store that writes owns the contents; another one may only take over empty ones, or gets REMOTE."""
    if changes.generation is not None and changes.generation != attributes.generation:
        raise Refusal(nfsstat3.NFS3ERR_REMOTE)
    claimed = changes.store or b""
    if claimed == attributes.store:
        return
    if not attributes.store:
        attributes.store = claimed
    elif changes.size == 0 and not changes.wrote:
        attributes.store = claimed
        attributes.generation += 1
    elif claimed or changes.wrote or changes.size != attributes.size:
        raise Refusal(nfsstat3.NFS3ERR_REMOTE)


def _new_time(call: Invocation, attributes: Attributes, old: int, new: Any) -> int:
    """A time to set; who only writes to another's file cannot pretend to have done so at any other time."""
    if new is True:
        return call.now
    time: int = new
    return time if is_owner(call.credentials, attributes) or old <= time <= call.now else call.now


def _time(new: Any, now: int) -> int:
    if _is_own(new):
        return now
    time: int = new
    return time
