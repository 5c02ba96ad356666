"""What a system call gets: NFS statuses become errno values, and nothing else escapes a handler."""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

import pyfuse3

from fuse_client.interrupts import interruptible
from qunfs.nfs.types import nfsstat3
from qunfs.protocol.errors import OperationGivenUp, OperationRefused

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_ERRNO_OF: Final = {
    nfsstat3.NFS3ERR_PERM: errno.EPERM,
    nfsstat3.NFS3ERR_NOENT: errno.ENOENT,
    nfsstat3.NFS3ERR_IO: errno.EIO,
    nfsstat3.NFS3ERR_NXIO: errno.ENXIO,
    nfsstat3.NFS3ERR_ACCES: errno.EACCES,
    nfsstat3.NFS3ERR_EXIST: errno.EEXIST,
    nfsstat3.NFS3ERR_XDEV: errno.EXDEV,
    nfsstat3.NFS3ERR_NODEV: errno.ENODEV,
    nfsstat3.NFS3ERR_NOTDIR: errno.ENOTDIR,
    nfsstat3.NFS3ERR_ISDIR: errno.EISDIR,
    nfsstat3.NFS3ERR_INVAL: errno.EINVAL,
    nfsstat3.NFS3ERR_FBIG: errno.EFBIG,
    nfsstat3.NFS3ERR_NOSPC: errno.ENOSPC,
    nfsstat3.NFS3ERR_ROFS: errno.EROFS,
    nfsstat3.NFS3ERR_MLINK: errno.EMLINK,
    nfsstat3.NFS3ERR_NAMETOOLONG: errno.ENAMETOOLONG,
    nfsstat3.NFS3ERR_NOTEMPTY: errno.ENOTEMPTY,
    nfsstat3.NFS3ERR_DQUOT: errno.EDQUOT,
    nfsstat3.NFS3ERR_STALE: errno.ESTALE,
    nfsstat3.NFS3ERR_REMOTE: errno.EREMOTE,
    nfsstat3.NFS3ERR_BADHANDLE: errno.ESTALE,
    nfsstat3.NFS3ERR_NOTSUPP: errno.EOPNOTSUPP,
    nfsstat3.NFS3ERR_BADTYPE: errno.EINVAL,
    nfsstat3.NFS3ERR_JUKEBOX: errno.EAGAIN,
    nfsstat3.NFS4ERR_NOXATTR: errno.ENODATA,
    nfsstat3.NFS4ERR_XATTR2BIG: errno.E2BIG,
}
"""Statuses that no system call can be told about (cookies, verifiers, server faults) come out as EIO."""

GONE: Final = frozenset({nfsstat3.NFS3ERR_STALE, nfsstat3.NFS3ERR_NOENT, nfsstat3.NFS3ERR_BADHANDLE})
"""How a service says that an object is no more."""


class StatusError(Exception):
    """A service refused; :func:`handler` turns the status into an errno."""

    def __init__(self, status: nfsstat3) -> None:
        super().__init__(status.name)
        self.status = status


def check(status: nfsstat3) -> None:
    """Raise StatusError unless a procedure succeeded."""
    if status is not nfsstat3.NFS3_OK:
        raise StatusError(status)


def errno_of(status: nfsstat3) -> int:
    """The errno that stands for an NFS status."""
    return _ERRNO_OF.get(status, errno.EIO)


def handler(body: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a FUSE request handler raise nothing but FUSEError, since anything else ends the mount.

    A request whose last argument says who made it ends with EINTR when that thread is killed meanwhile.
    """

    @functools.wraps(body)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if args and isinstance(args[-1], pyfuse3.RequestContext):
                with interruptible(args[-1].pid):
                    return await body(*args, **kwargs)
            return await body(*args, **kwargs)
        except Exception as error:
            raise _fuse_error(body.__name__, error) from None

    return guarded


def prompt_handler(body: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same for a body that never waits: a coroutine less for each request."""

    @functools.wraps(body)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return body(*args, **kwargs)
        except Exception as error:
            raise _fuse_error(body.__name__, error) from None

    return guarded


def _fuse_error(name: str, error: Exception) -> pyfuse3.FUSEError:
    """What to raise for an exception that is being handled."""
    if isinstance(error, pyfuse3.FUSEError):
        return error
    if isinstance(error, StatusError):
        return pyfuse3.FUSEError(errno_of(error.status))
    if isinstance(error, OperationGivenUp):
        return pyfuse3.FUSEError(errno.EINTR)
    if isinstance(error, OperationRefused):  # cluster.toml does not let this client act for that user
        log.warning("%s: %s", name, error)
        return pyfuse3.FUSEError(errno.EACCES)
    if isinstance(error, OSError):  # from the contents folder: full, over quota, out of descriptors
        log.warning("%s: %s", name, error)
        return pyfuse3.FUSEError(error.errno or errno.EIO)
    log.exception("%s failed", name)  # a bug, here or below, may cost one system call but not the mount
    return pyfuse3.FUSEError(errno.EIO)
