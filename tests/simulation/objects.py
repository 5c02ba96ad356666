"""The object types of the simulation: the production counter, and ledgers whose state shows what took effect.

A ledger is a list of entries; an update appends one entry to each of its objects and answers at which positions, a
fetch answers the lists.  So a version's state tells which operations it contains, each how often and in which order.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from qunfs.objects import REGISTRY as PRODUCTION
from qunfs.protocol.operation import Context, MethodFailed, ObjectView, Registry

LEDGER: Final = "ledger"
COUNTER: Final = "counter"
_LENGTH: Final = b"n"
_ENTRY: Final = b"e"

SIMULATED: Final = Registry()


def pack(value: Any) -> bytes:
    """The form of arguments and answers."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack(data: bytes) -> Any:
    """The value in an argument or answer."""
    return msgpack.unpackb(data, use_list=False)


def entries(rows: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The entries of a ledger's state."""
    return tuple(rows[key] for key in sorted(rows) if key.startswith(_ENTRY))


@SIMULATED.update("ledger.append")
def append(views: Mapping[int, ObjectView], context: Context) -> bytes:
    """Append an entry to every object; with lengths given, only if those are the lengths now."""
    entry, expected = context.argument
    lengths = tuple(_length(views[obj]) for obj in context.objects)
    if expected is not None and tuple(expected) != lengths:
        return MethodFailed(pack(("no", lengths)))
    for obj, length in zip(context.objects, lengths, strict=True):
        views[obj].put(_ENTRY + length.to_bytes(4, "big"), entry)
        views[obj].put(_LENGTH, pack(length + 1))
    return pack(("ok", lengths))


@SIMULATED.query("ledger.fetch")
def fetch(views: Mapping[int, ObjectView], context: Context) -> bytes:
    """The entries of every object."""
    return pack([[value for _, value in views[obj].scan(_ENTRY, b"f")] for obj in context.objects])


def _length(view: ObjectView) -> int:
    row = view.get(_LENGTH)
    return 0 if row is None else int(unpack(row))


def _adopt_counter() -> None:
    for name in ("counter.increment", "counter.fetch"):
        method = PRODUCTION.find(name, 1)
        assert method is not None
        SIMULATED.register(method)


_adopt_counter()
