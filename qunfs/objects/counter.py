"""A counter: the paper's example object (section 5.2), for benchmarks and tests of the protocol."""

from collections.abc import Mapping
from typing import Final

import msgpack

from qunfs.objects.registry import REGISTRY
from qunfs.objects.state import ATTRIBUTES_ROW, GENERATION_ROW
from qunfs.protocol.operation import Context, MethodFailed, ObjectView
from qunfs.protocol.packing import pack

_VALUE_ROW: Final = b"n"
_VALUE_MAX: Final = (1 << 63) - 1


@REGISTRY.update("counter.increment")
def increment(views: Mapping[int, ObjectView], context: Context) -> bytes:
    """Add the argument, an integer (None: one), and answer the new value; past 64 bits it is refused."""
    view = _only(views)
    step = 1 if context.argument is None else int(context.argument)
    value = _value(view) + step
    if not 0 <= value <= _VALUE_MAX:
        raise MethodFailed(pack(_value(view)))
    view.put(_VALUE_ROW, pack(value))
    return pack(value)


@REGISTRY.query("counter.fetch")
def fetch(views: Mapping[int, ObjectView], _context: Context) -> bytes:
    """The value; a counter never touched is zero."""
    return pack(_value(_only(views)))


def _only(views: Mapping[int, ObjectView]) -> ObjectView:
    (view,) = views.values()
    if any(view.get(row) is not None for row in (ATTRIBUTES_ROW, GENERATION_ROW)):  # anybody may count, but not there
        raise ValueError("not a counter")
    return view


def _value(view: ObjectView) -> int:
    row = view.get(_VALUE_ROW)
    return 0 if row is None else int(msgpack.unpackb(row))
