"""Which objects a store holds, a page at a time: for who looks for those that no name leads to any more.

Nothing is taken into the store's memory for it: what is in use there has better reasons to be.
"""

import struct
from collections.abc import Mapping
from itertools import islice
from typing import Final

from qunfs.protocol.errors import MalformedMessage, StorageError
from qunfs.protocol.held_object import HeldObject
from qunfs.protocol.history import LT_BYTES, parse_history_untrusted
from qunfs.protocol.operation import RESERVED_PREFIX
from qunfs.protocol.store import Listed, Overlay, Rows

_ID: Final = struct.Struct(">Q")
_HEADERS: Final = b"o"
_AFTER_HEADERS: Final = b"p"
_HEAD_ROWS: Final = b"r"
_VISIBLE: Final = RESERVED_PREFIX[:-1] + bytes((RESERVED_PREFIX[-1] + 1,))
"""Where the keys begin that methods see."""
_NOTHING: Final[dict[bytes, bytes | None]] = {}


def page(rows: Rows, waiting: Mapping[int, HeldObject], after: int, most: int) -> tuple[list[Listed], bool]:
    """Objects with the next higher ids, and whether there are more.

    They lie in the rows, by the headers that the store writes, or wait to be written.  Raises StorageError.
    """
    headers: dict[int, bytes] = {}
    for key, header in islice(rows.scan(_HEADERS + _ID.pack(after + 1), _AFTER_HEADERS), most + 1):
        headers[int.from_bytes(key[len(_HEADERS) :], "big")] = header
    ids = sorted({*headers, *[obj for obj in waiting if obj > after]})
    return [_listed(rows, obj, headers.get(obj), waiting.get(obj)) for obj in ids[:most]], len(ids) > most


def _listed(rows: Rows, obj: int, header: bytes | None, known: HeldObject | None) -> Listed:
    prefix = _HEAD_ROWS + _ID.pack(obj)
    if known is not None:
        head, view = known.history.head, Overlay(rows, prefix, known.rows)
    else:
        assert header is not None
        try:
            head = parse_history_untrusted(header[LT_BYTES:], obj).head
        except MalformedMessage as error:
            raise StorageError(
                f"the stored data of object {obj:016x} is damaged: rebuild this server from the others"
            ) from error
        view = Overlay(rows, prefix, _NOTHING)
    return Listed(obj, head.lt, next(view.scan(_VISIBLE), None) is not None)
