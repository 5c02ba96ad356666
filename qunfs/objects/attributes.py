"""Methods on the attributes of any object, file or directory: GETATTR, SETATTR, ACCESS, READLINK."""

from typing import Any, Final, NamedTuple

from qunfs.objects.codes import FILE_BYTES_MAX, STORE_BYTES, VERIFIER_BYTES, ftype3, nfsstat3
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
from qunfs.objects.state import DIRECTORY_BYTES, TARGET_ROW, VERIFIER_ROW, Attributes

_ID_MAX: Final = (1 << 32) - 2
"""Users and groups; the highest 32-bit word means "leave alone" to chown."""

_TIME_MIN: Final = -(1 << 63)
_TIME_MAX: Final = (1 << 63) - 1

_ACCESS_READ: Final = 0x01
_ACCESS_LOOKUP: Final = 0x02
_ACCESS_WRITE: Final = 0x04 | 0x08
_ACCESS_DELETE: Final = 0x10
_ACCESS_EXECUTE: Final = 0x20


class Changes(NamedTuple):
    """sattr3 as it travels in arguments: None leaves a field alone, a time of True is the operation's own."""

    mode: int | None
    uid: int | None
    gid: int | None
    size: int | None
    atime: int | None
    mtime: int | None
    wrote: bool
    store: bytes | None
    generation: int | None


def parse_changes(argument: Any) -> Changes:
    """The changes in an argument, refused with INVAL or FBIG when a value is out of bounds."""
    changes = Changes(*argument)
    mode, uid, gid, size, atime, mtime, wrote, store, generation = changes
    for number in (mode, uid, gid, size, generation):
        if number is not None and type(number) is not int:
            raise TypeError("not an integer")
    for word in (mode, uid, gid):
        if word is not None and not 0 <= word <= _ID_MAX:
            raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if size is not None and not 0 <= size <= FILE_BYTES_MAX:
        raise Refusal(nfsstat3.NFS3ERR_FBIG if size > 0 else nfsstat3.NFS3ERR_INVAL)
    for time in (atime, mtime):
        if time is not None and time is not True and (type(time) is not int or not _TIME_MIN <= time <= _TIME_MAX):
            raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if type(wrote) is not bool or (store is not None and type(store) is not bytes):
        raise TypeError("not what sattr3 holds")
    if store is not None and len(store) != STORE_BYTES:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return changes


def new_attributes(call: Invocation, directory: Attributes, kind: ftype3, changes: Changes) -> Attributes:
    """The attributes of an object made in a directory; without a mode only the owner may use it."""
    cred = call.credentials
    inherits = bool(directory.mode & S_ISGID)
    gid = directory.gid if inherits else cred.gid
    if not is_superuser(cred) and (
        changes.uid not in (None, cred.uid) or (changes.gid not in (None, gid) and not in_group(cred, changes.gid or 0))
    ):
        raise Refusal(nfsstat3.NFS3ERR_PERM)
    mode = changes.mode if changes.mode is not None else 0o700 if kind is ftype3.NF3DIR else 0o600
    uid = changes.uid if changes.uid is not None else cred.uid
    gid = changes.gid if changes.gid is not None else gid
    regular = kind is ftype3.NF3REG
    made = Attributes(
        type=kind,
        mode=mode & MODE_BITS,
        nlink=2 if kind is ftype3.NF3DIR else 1,
        uid=uid,
        gid=gid,
        size=DIRECTORY_BYTES if kind is ftype3.NF3DIR else (changes.size or 0) if regular else 0,
        rdev=(0, 0),
        atime=_time(changes.atime, call.now),
        mtime=_time(changes.mtime, call.now),
        ctime=call.now,
        store=(changes.store or b"") if regular else b"",
    )
    outsider = not is_superuser(cred) and not in_group(cred, gid)
    if kind is ftype3.NF3DIR:
        if inherits:
            made.mode |= S_ISGID
        elif outsider:
            made.mode &= ~S_ISGID
    elif outsider and made.mode & S_IXGRP:
        made.mode &= ~S_ISGID
    return made


@query("attr.getattr")
def getattr_(call: Invocation) -> None:
    """GETATTR: the attributes of the object are in every answer."""
    call.node(call.only)


@query("attr.access")
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
    return granted & int(call.argument)


@query("attr.readlink")
def readlink(call: Invocation) -> bytes:
    """READLINK: the target of a symlink."""
    target = call.node(call.only).view.get(TARGET_ROW)
    if target is None:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return target


@query("attr.verify")
def verify(call: Invocation) -> None:
    """Whether an exclusive CREATE with this verifier made the file; EXIST otherwise (RFC 1813, section 3.3.8)."""
    node = call.node(call.only)
    if node.view.get(VERIFIER_ROW) != parse_verifier(call.argument):
        raise Refusal(nfsstat3.NFS3ERR_EXIST)


def parse_verifier(argument: Any) -> bytes:
    """A createverf3, refused with INVAL when it is none."""
    if type(argument) is not bytes or len(argument) != VERIFIER_BYTES:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return argument


@update("attr.setattr")
def setattr_(call: Invocation) -> None:
    """SETATTR of (changes, guard): with a guard only if it still is the ctime (RFC 1813, section 3.3.2)."""
    argument, guard = call.argument
    changes = parse_changes(argument)
    node = call.node(call.only)
    if guard is not None and guard != node.attributes.ctime:
        raise Refusal(nfsstat3.NFS3ERR_NOT_SYNC)
    _check(call, node.attributes, changes)
    _apply(call, node, changes)
    if node.view.get(VERIFIER_ROW) is not None:
        node.view.delete(VERIFIER_ROW)


def _check(call: Invocation, attributes: Attributes, changes: Changes) -> None:
    """Refuse what the caller may not change."""
    cred = call.credentials
    owner = is_owner(cred, attributes)
    if not is_superuser(cred):
        gives_away = changes.uid not in (None, attributes.uid)
        foreign = changes.gid not in (None, attributes.gid) and not in_group(cred, changes.gid or 0)
        if gives_away or foreign:
            raise Refusal(nfsstat3.NFS3ERR_PERM)
    if not owner and (changes.mode, changes.uid, changes.gid) != (None, None, None):
        raise Refusal(nfsstat3.NFS3ERR_PERM)
    if _writes(changes):
        if attributes.type != ftype3.NF3REG:
            raise Refusal(nfsstat3.NFS3ERR_ISDIR if attributes.is_directory else nfsstat3.NFS3ERR_INVAL)
        require_write(attributes, cred)
    times = [time for time in (changes.atime, changes.mtime) if time is not None]
    if times and not owner:
        if not changes.wrote and any(time is not True for time in times):
            raise Refusal(nfsstat3.NFS3ERR_PERM)
        require_write(attributes, cred)


def _writes(changes: Changes) -> bool:
    return changes.size is not None or changes.wrote or changes.store is not None


def _apply(call: Invocation, node: Node, changes: Changes) -> None:
    attributes, cred = node.attributes, call.credentials
    atime, mtime, writes = attributes.atime, attributes.mtime, _writes(changes)
    if writes:
        _claim_contents(attributes, changes)
    if changes.size is not None:
        attributes.size = changes.size
    node.touch(call.now, modified=writes)
    if changes.atime is not None:
        attributes.atime = _new_time(call, attributes, atime, changes.atime)
    if changes.mtime is not None:
        attributes.mtime = _new_time(call, attributes, mtime, changes.mtime)
    attributes.uid = attributes.uid if changes.uid is None else changes.uid
    attributes.gid = attributes.gid if changes.gid is None else changes.gid
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
        attributes.mode = without_set_id(attributes)


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


def _new_time(call: Invocation, attributes: Attributes, old: int, new: int) -> int:
    """A time to set; who only writes to another's file cannot pretend to have done so at any other time."""
    if new is True or (not is_owner(call.credentials, attributes) and not old <= new <= call.now):
        return call.now
    return new


def _time(time: int | None, now: int) -> int:
    return now if time is None or time is True else time
