"""The one msgpack packer of a process, and how bytes begin in what it makes.

``msgpack.packb`` makes a new packer, with a buffer of a megabyte, for every value; this one is used again and again.
It takes the same values and gives the same bytes.
"""

from collections.abc import Callable
from typing import Final

import msgpack

pack: Final[Callable[[object], bytes]] = msgpack.Packer().pack
_SHORT: Final = [bytes((0xC4, length)) for length in range(256)]
new_tuple: Final = tuple.__new__
"""Makes a named tuple of its fields without the interpreted function that its class has for that."""


def bytes_head(length: int) -> bytes:
    """What msgpack puts in front of so many bytes."""
    if length < 1 << 8:
        return _SHORT[length]
    return b"\xc5" + length.to_bytes(2, "big") if length < 1 << 16 else b"\xc6" + length.to_bytes(4, "big")
