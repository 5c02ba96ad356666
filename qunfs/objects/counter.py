"""A counter: the paper's example object (section 5.2), for benchmarks and tests of the protocol."""

from collections.abc import Mapping
from typing import Final

import msgpack

from qunfs.objects.registry import REGISTRY
from qunfs.objects.shapes import NO_ARGUMENT, Nothing, Shapes, one_of, shape_of
from qunfs.objects.state import ATTRIBUTES_ROW, GENERATION_ROW
from qunfs.protocol.operation import Context, MethodFailed, ObjectView
from qunfs.protocol.packing import pack

_VALUE_ROW: Final = b"n"
_VALUE_MAX: Final = (1 << 63) - 1
_STEP: Final = one_of(Nothing, int)
_unpack: Final = msgpack.unpackb


@REGISTRY.update("counter.increment")
def increment(views: Mapping[int, ObjectView], context: Context) -> bytes | MethodFailed:
    """Add the argument, an integer (None: one), and answer the new value; past 64 bits it is refused."""
    view = _only(views, context, _STEP)
    step: int = 1 if context.argument is None else context.argument
    old = _value(view)
    value = old + step
    if not 0 <= value <= _VALUE_MAX:
        return MethodFailed(pack(old))
    row = pack(value)
    view.put(_VALUE_ROW, row)
    return row


@REGISTRY.query("counter.fetch")
def fetch(views: Mapping[int, ObjectView], context: Context) -> bytes:
    """The value; a counter never touched is zero."""
    return pack(_value(_only(views, context, NO_ARGUMENT)))


def _only(views: Mapping[int, ObjectView], context: Context, takes: Shapes) -> ObjectView:
    if shape_of(context.argument) not in takes:
        raise TypeError("not an argument of this method")
    view = views[context.objects[0]]
    if len(views) != 1:
        raise ValueError("more than one object")
    # anybody may count, but not there
    if view.get(ATTRIBUTES_ROW) is not None or view.get(GENERATION_ROW) is not None:
        raise ValueError("not a counter")
    return view


def _value(view: ObjectView) -> int:
    row = view.get(_VALUE_ROW)
    return 0 if row is None else int(_unpack(row))
