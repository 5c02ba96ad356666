"""The one msgpack packer of a process.

``msgpack.packb`` makes a new packer, with a buffer of a megabyte, for every value; this one is used again and again.
It takes the same values and gives the same bytes.
"""

from collections.abc import Callable
from typing import Final

import msgpack

pack: Final[Callable[[object], bytes]] = msgpack.Packer().pack
new_tuple: Final = tuple.__new__
"""Makes a named tuple of its fields without the interpreted function that its class has for that."""
