"""XATTR_CREATE and XATTR_REPLACE, of which pyfuse3 tells its file system nothing.

It asks for the attribute first (``fuse_setxattr_async`` in its ``handlers.pxi``), refuses by what it is told, and then
sets the attribute without a word of the flag; between the two another mount may come.  But both calls get one context
object, as no other two do.  So a SETXATTR whose context has just been seen at a GETXATTR has a flag, and the answer of
that GETXATTR tells which: an attribute that is there can only be replaced, one that is not only be created.  With the
flag the replicas decide.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pyfuse3

from qunfs.nfs.types import XATTR_CREATE, XATTR_REPLACE

_implied: ContextVar[tuple[pyfuse3.RequestContext, int] | None] = ContextVar("implied", default=None)
"""The context of the GETXATTR that this task has answered last, held so that no other can be at its place, and the flag
that a SETXATTR with it has."""


@contextmanager
def noticing(context: pyfuse3.RequestContext) -> Iterator[None]:
    """For the block that answers a GETXATTR."""
    try:
        yield
    except pyfuse3.FUSEError as error:
        if error.errno == errno.ENODATA:
            _implied.set((context, XATTR_CREATE))
        raise
    _implied.set((context, XATTR_REPLACE))


def flag_of(context: pyfuse3.RequestContext) -> int:
    """The flag of a SETXATTR: 0, XATTR_CREATE or XATTR_REPLACE."""
    implied = _implied.get()
    return implied[1] if implied is not None and implied[0] is context else 0
