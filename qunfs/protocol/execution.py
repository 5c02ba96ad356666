"""Running a method on object versions, exactly once (DESIGN: "Exactly once"; paper section 3.5, repeated requests).

The home object's state remembers, per client, its last sessions with the last sequence and answer of each, so that an
operation which took effect is answered and not run again, whatever repaired it forward.  The first update of an object
also fixes its type.  All of it is object state: versioned, synced and copied like the rest.
"""

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

import msgpack

from qunfs.protocol.errors import StorageError, VersionMissing
from qunfs.protocol.limits import DEFAULT_LIMITS, Limits
from qunfs.protocol.operation import Context, Method, MethodFailed, ObjectView, Operation
from qunfs.protocol.store import Overlay

TYPE_KEY: Final = b"\x00t"
_DUPLICATES: Final = b"\x00d"
_CLIENT: Final = struct.Struct(">I")
_ENTRY: Final = struct.Struct(">QQ")


class Code(IntEnum):
    """How a method ended; part of what replicas must agree on."""

    OK = 0
    FAILED = 1
    """The method refused (EEXIST and its like); the answer is the method's own."""
    STALE = 2
    """A later operation of the same session has taken effect on the home object."""
    WRONG_TYPE = 3
    """An object is of another type than the operation says."""
    BAD_ARGUMENT = 4
    """The argument is not one that the method takes."""
    NO_VERSION = 5
    """The version asked for by name is not held (queries only)."""


class Execution:
    """The outcome of a method; ``effective`` is false when no version results and it is answered as a query."""

    __slots__ = ("answer", "code", "effective")

    def __init__(self, code: Code, answer: bytes, effective: bool) -> None:
        self.code: Final = code
        self.answer: Final = answer
        self.effective: Final = effective

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Execution):
            return NotImplemented
        return (self.code, self.answer, self.effective) == (other.code, other.answer, other.effective)


_OK: Final = Code.OK
_FAILED: Final = Code.FAILED
_WRONG_TYPE: Final = Execution(Code.WRONG_TYPE, b"", effective=False)
_ANSWER_MAX: Final = DEFAULT_LIMITS.answer_bytes_max
_NIL: Final = b"\xc0"
_unpack: Final = msgpack.unpackb


def run_query(method: Method, operation: Operation, views: dict[int, Overlay]) -> Execution:
    """Run a query; whatever it does to its overlays is forgotten."""
    if _untyped(operation, views) is None:
        return _WRONG_TYPE
    return _invoke(method, operation, views)


def run_update(
    method: Method, operation: Operation, client: int, time: int, views: dict[int, Overlay], limits: Limits
) -> Execution:
    """Run an update on overlays of its conditioned-on versions; when effective, their changes are the new versions.

    ``time`` is the logical time of the version to be made: it orders the sessions in the duplicate cache.
    """
    home = views[operation.home]
    key = _DUPLICATES + _CLIENT.pack(client) + operation.session
    entry = home.get(key)
    if entry is not None:
        sequence = _ENTRY.unpack_from(entry)[0]
        if sequence == operation.sequence:
            return Execution(Code.OK, entry[_ENTRY.size :], effective=False)
        if sequence > operation.sequence:
            return Execution(Code.STALE, b"", effective=False)
    untyped = _untyped(operation, views)
    if untyped is None:
        return _WRONG_TYPE
    execution = _invoke(method, operation, views)
    if execution.code is not _OK:
        return execution
    for view, kind in untyped:
        if view.get(TYPE_KEY) is None:  # the method itself may have settled it
            view.put(TYPE_KEY, kind)
    if entry is None:
        _make_room(home, key[: -len(operation.session)], limits.sessions_per_client)
    home.put(key, _ENTRY.pack(operation.sequence, time) + execution.answer)
    return execution


def _untyped(operation: Operation, views: dict[int, Overlay]) -> list[tuple[Overlay, bytes]] | None:
    """The objects that have no type yet, and the one they are to get; None when another is of a wrong type."""
    untyped: list[tuple[Overlay, bytes]] = []
    for place, obj in enumerate(operation.objects):
        view, kind = views[obj], operation.types[place].encode()
        known = view.get(TYPE_KEY)
        if known is None:
            untyped.append((view, kind))
        elif known != kind:
            return None
    return untyped


def _invoke(method: Method, operation: Operation, views: Mapping[int, ObjectView]) -> Execution:
    try:
        packed = operation.argument
        argument = None if packed == _NIL else _unpack(packed, use_list=False)
        context = Context(operation.objects, argument, operation.credentials, operation.client_time)
        answer = method.body(views, context)
        if isinstance(answer, MethodFailed):
            return Execution(_FAILED, answer.answer, False)
        if len(answer) > _ANSWER_MAX:
            return Execution(Code.BAD_ARGUMENT, b"", effective=False)
        return Execution(_OK, answer, True)
    except (StorageError, VersionMissing, MemoryError):
        raise
    except Exception:  # a malformed argument can surface as anything; the outcome is the same at every replica
        return Execution(Code.BAD_ARGUMENT, b"", effective=False)


def _make_room(home: Overlay, prefix: bytes, sessions: int) -> None:
    """Drop the least recent sessions of one client so that one more fits; other clients are untouched."""
    entries = [(_ENTRY.unpack_from(value)[1], key) for key, value in home.scan(prefix, prefix + b"\xff" * 17)]
    for _, key in sorted(entries)[: max(0, len(entries) - sessions + 1)]:
        home.delete(key)
