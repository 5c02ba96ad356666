"""What a SETATTR request asks for, and how it works on a file that has no object any more."""

import errno
import stat

import pyfuse3

from fuse_client.files import OpenFile
from qunfs.nfs.types import SET_TO_CLIENT_TIME, sattr3, time_how
from qunfs.objects.codes import TIME_MAX, TIME_MIN
from qunfs.protocol.operation import Credentials


def requested(attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields, *, as_owner: bool) -> sattr3:
    """The sattr3 of a FUSE SETATTR.

    The kernel does not say whether a time is the caller's or simply now, nor whether a mode is the caller's or only
    lost its set-id bits to a write.  Whoever is neither owner nor superuser (``as_owner`` false) was refused the former
    by the kernel: the time is now, which needs no ownership, and the bits go with the SETATTR that reports the write.

    A time that cannot be kept becomes the nearest one that can, as on local file systems.
    """

    def time(wanted: bool, value: int) -> int | time_how | None:
        if not wanted:
            return None
        return min(max(value, TIME_MIN), TIME_MAX) if as_owner else SET_TO_CLIENT_TIME

    return sattr3(
        mode=stat.S_IMODE(attr.st_mode) if fields.update_mode and as_owner else None,
        uid=attr.st_uid if fields.update_uid else None,
        gid=attr.st_gid if fields.update_gid else None,
        size=attr.st_size if fields.update_size else None,
        atime=time(fields.update_atime, attr.st_atime_ns),
        mtime=time(fields.update_mtime, attr.st_mtime_ns),
    )


def set_removed(file: OpenFile, new: sattr3, credentials: Credentials, now_ns: int) -> None:
    """SETATTR without a size on an open file that was removed: nobody else sees it, so it happens here alone."""
    old = file.known
    owner = credentials.uid in (0, old.uid)
    own_groups = {credentials.gid, *credentials.groups}
    gives_away = new.uid not in (None, old.uid) or (new.gid not in (None, old.gid) and new.gid not in own_groups)
    if (not owner and (new.mode, new.uid, new.gid) != (None, None, None)) or (credentials.uid != 0 and gives_away):
        raise pyfuse3.FUSEError(errno.EPERM)
    file.attributes = old._replace(
        mode=old.mode if new.mode is None else new.mode,
        uid=old.uid if new.uid is None else new.uid,
        gid=old.gid if new.gid is None else new.gid,
        atime=_time(new.atime, old.atime, now_ns),
        mtime=_time(new.mtime, old.mtime, now_ns),
        ctime=max(old.ctime + 1, now_ns),
    )
    if new.mtime is not None:
        file.dirty = False  # nobody is left to be told about writes; this time stands


def _time(new: int | time_how | None, old: int, now_ns: int) -> int:
    if new is None:
        return old
    return now_ns if isinstance(new, time_how) else new
