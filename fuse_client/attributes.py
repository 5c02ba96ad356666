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
        self._now = now
        self._capacity = capacity
        self._known: OrderedDict[int, tuple[float, fattr3]] = OrderedDict()

    def now(self) -> float:
        """To be read before attributes are asked for, and passed to :meth:`learn` with them."""
        return self._now()

    def learn(self, attributes: fattr3 | None, asked: float) -> None:
        """Keep attributes that a service gave, unless newer ones are known."""
        if attributes is None:
            return
        obj = attributes.fileid
        held = self._known.get(obj)
        if held is not None and (held[1].ctime, held[0]) > (attributes.ctime, asked):
            return
        self._known[obj] = (asked, attributes)
        self._known.move_to_end(obj)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)

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
        if held is None or held[0] + self._lifetime_s <= self._now():
            return None
        return held[1], held[0]

    def newest(self, obj: int) -> tuple[fattr3, float] | None:
        """The newest attributes that were seen, however old, and when they were asked for."""
        held = self._known.get(obj)
        return None if held is None else (held[1], held[0])

    def left(self, asked: float) -> float:
        """For how many more seconds attributes asked for then may be kept."""
        return max(0.0, asked + self._lifetime_s - self._now())


def relatime_due(attributes: fattr3, now_ns: int) -> bool:
    """Whether a read moves the access time (relatime: it is not newer than the last change, or a day old)."""
    atime = attributes.atime
    return atime <= attributes.mtime or atime <= attributes.ctime or now_ns - atime >= RELATIME_NS


def entry_attributes(attributes: fattr3, attr_timeout: float, entry_timeout: float = 0.0) -> pyfuse3.EntryAttributes:
    """fattr3 as the kernel wants it; time-outs in seconds."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = attributes.fileid
    entry.generation = 0  # ids are never used again
    entry.attr_timeout = attr_timeout
    entry.entry_timeout = entry_timeout
    entry.st_mode = _FORMAT[attributes.type] | stat.S_IMODE(attributes.mode)
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = os.makedev(*attributes.rdev)
    entry.st_size = attributes.size
    entry.st_blksize = PREFERRED_BYTES
    entry.st_blocks = -(-attributes.used // BLOCK_BYTES)
    entry.st_atime_ns = attributes.atime
    entry.st_mtime_ns = attributes.mtime
    entry.st_ctime_ns = attributes.ctime
    return entry


def unknown_entry(obj: int, kind: ftype3) -> pyfuse3.EntryAttributes:
    """A directory entry of which only id and type are known: the kernel asks for the rest at its first use."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = obj
    entry.attr_timeout = 0
    entry.entry_timeout = 0
    entry.st_mode = _FORMAT[kind]
    return entry
