"""Attributes on their way to the kernel: the cache, the conversion, and what relatime does to them.

A cached fattr3 serves as long as the kernel itself would have kept it, counted from when it was fetched: what is handed
on carries only the rest of that time, so that nothing is ever older than the attribute time-out.  ctime grows with
every change of an object, which tells older attributes from newer ones when replies overtake each other.
"""

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import pyfuse3

from qunfs.nfs.types import fattr3, ftype3, wcc_data

ATTRIBUTES_MAX: Final = 65_536
"""Objects whose attributes are cached; about 30 MiB."""

BLOCK_BYTES: Final = 512
"""What st_blocks counts in."""

PREFERRED_BYTES: Final = 65_536
"""st_blksize: stdio writes in pieces of this size, and every piece is a request of its own."""

RELATIME_NS: Final = 24 * 3600 * 1_000_000_000
"""An access time older than a day is renewed even if nothing was written since (mount(8), relatime)."""

_MAJOR_MASK: Final = (1 << 12) - 1
_MINOR_MASK: Final = (1 << 20) - 1
"""What FUSE can tell of a device's numbers; RFC 1813 has two words for them."""

_FORMAT: Final = {
    ftype3.NF3REG: stat.S_IFREG,
    ftype3.NF3DIR: stat.S_IFDIR,
    ftype3.NF3BLK: stat.S_IFBLK,
    ftype3.NF3CHR: stat.S_IFCHR,
    ftype3.NF3LNK: stat.S_IFLNK,
    ftype3.NF3SOCK: stat.S_IFSOCK,
    ftype3.NF3FIFO: stat.S_IFIFO,
}

TYPE_OF_FORMAT: Final = {value: key for key, value in _FORMAT.items()}
"""ftype3 by the S_IFMT bits of a mode."""


class AttributeCache:
    """The newest attributes known of each object, for ``lifetime_s`` after they were fetched."""

    def __init__(
        self, lifetime_s: float, now: Callable[[], float] = time.monotonic, capacity: int = ATTRIBUTES_MAX
    ) -> None:
        self._lifetime_s = lifetime_s
        self.now: Final = now
        """To be read before attributes are asked for, and passed to :meth:`learn` with them."""
        self._capacity = capacity
        self._known: OrderedDict[int, tuple[fattr3, float]] = OrderedDict()

    def learn(self, attributes: fattr3 | None, asked: float) -> None:
        """Keep attributes that a service gave, unless newer ones are known."""
        if attributes is None:
            return
        obj, known = attributes.fileid, self._known
        held = known.get(obj)
        if held is not None:
            newest, when = held
            if newest.ctime > attributes.ctime or (newest.ctime == attributes.ctime and when > asked):
                return
            known.move_to_end(obj)
        known[obj] = (attributes, asked)
        if len(known) > self._capacity:
            known.popitem(last=False)

    def learn_wcc(self, obj: int, wcc: wcc_data, asked: float) -> None:
        """Keep what an update said of an object that it changed; if it said nothing, what was known is void."""
        if wcc.after is None:
            self.forget(obj)
        else:
            self.learn(wcc.after, asked)

    def forget(self, obj: int) -> None:
        """Drop what is known of an object, because it changed in an unknown way or is no more."""
        self._known.pop(obj, None)

    def fresh(self, obj: int) -> tuple[fattr3, float] | None:
        """Attributes that the kernel may still be given, and when they were asked for."""
        held = self._known.get(obj)
        return held if held is not None and held[1] + self._lifetime_s > self.now() else None

    def newest(self, obj: int) -> tuple[fattr3, float] | None:
        """The newest attributes that were seen, however old, and when they were asked for."""
        return self._known.get(obj)

    def left(self, asked: float) -> float:
        """For how many more seconds attributes asked for then may be kept."""
        left = asked + self._lifetime_s - self.now()
        return left if left > 0.0 else 0.0


def relatime_due(attributes: fattr3, now_ns: int) -> bool:
    """Whether a read moves the access time (relatime: it is not newer than the last change, or a day old)."""
    atime = attributes.atime
    return atime <= attributes.mtime or atime <= attributes.ctime or now_ns - atime >= RELATIME_NS


def entry_attributes(attributes: fattr3, attr_timeout: float, entry_timeout: float = 0.0) -> pyfuse3.EntryAttributes:
    """fattr3 as the kernel wants it; time-outs in seconds.  The generation stays 0: ids are never used again."""
    kind, mode, nlink, uid, gid, size, used, rdev, _, obj, atime, mtime, ctime, _, _ = attributes
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = obj
    entry.attr_timeout = attr_timeout
    entry.entry_timeout = entry_timeout
    entry.st_mode = _FORMAT[kind] | stat.S_IMODE(mode)
    entry.st_nlink = nlink
    entry.st_uid = uid
    entry.st_gid = gid
    major, minor = rdev
    entry.st_rdev = os.makedev(major & _MAJOR_MASK, minor & _MINOR_MASK)
    entry.st_size = size
    entry.st_blksize = PREFERRED_BYTES
    entry.st_blocks = -(-used // BLOCK_BYTES)
    entry.st_atime_ns = atime
    entry.st_mtime_ns = mtime
    entry.st_ctime_ns = ctime
    return entry


def unknown_entry(obj: int, kind: ftype3) -> pyfuse3.EntryAttributes:
    """A directory entry of which only id and type are known: the kernel asks for the rest at its first use."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = obj
    entry.attr_timeout = 0
    entry.entry_timeout = 0
    entry.st_mode = _FORMAT[kind]
    return entry
