"""Operations, methods and the registry of object types (Figure 3, lines 100-102).

A method is a deterministic function of its argument and the state of its objects, nothing else.  State is an ordered
map of byte keys to byte values; keys that begin with a zero byte belong to the protocol (:mod:`execution`).
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from qunfs.protocol.errors import LocalError, MalformedMessage
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.packing import pack

RESERVED_PREFIX: Final = b"\x00"
"""Keys of an object's state that methods never see."""

SESSION_BYTES: Final = 16
NO_SESSION: Final = bytes(SESSION_BYTES)


class MethodClass(IntEnum):
    """Read-only methods are queries, the others updates (Figure 3, line 100)."""

    QUERY = 0
    UPDATE = 1


class ObjectView(Protocol):
    """One version of an object's state as a method sees it: an ordered map; updates go to an overlay."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""

    def delete(self, key: bytes) -> None:
        """Remove a key if present."""

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with start <= key < stop, ascending."""


class Credentials(NamedTuple):
    """On whose behalf an operation runs, as NFS's AUTH_SYS states it (RFC 5531 appendix A)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class MethodFailed:
    """What a method returns to refuse, deterministically: no version is made and ``answer`` is what the client gets."""

    __slots__ = ("answer",)

    def __init__(self, answer: bytes) -> None:
        self.answer: Final = answer


class Context:
    """What a method may read besides its objects' state."""

    __slots__ = ("argument", "client_time", "credentials", "objects")

    def __init__(self, objects: tuple[int, ...], argument: Any, credentials: Credentials, client_time: int) -> None:
        """``client_time`` is the client's clock in nanoseconds since the epoch; zero in queries."""
        self.objects: Final = objects
        self.argument: Final = argument
        self.credentials: Final = credentials
        self.client_time: Final = client_time


MethodBody = Callable[[Mapping[int, ObjectView], Context], bytes | MethodFailed]


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method of an object type."""

    name: str
    version: int
    kind: MethodClass
    body: MethodBody
    follow: Callable[[bytes], tuple[int, str, str] | None] | None = None
    """For queries: from an answer, the (object, type, method) whose answer travels along, such as LOOKUP's child."""


class Registry:
    """Every method that replicas run, by name and version."""

    def __init__(self) -> None:
        self._methods: dict[tuple[str, int], Method] = {}

    def register(self, method: Method) -> None:
        """Add a method; a second one of the same name and version is a LocalError."""
        key = (method.name, method.version)
        if key in self._methods:
            raise LocalError(f"method {method.name} version {method.version} is registered twice")
        self._methods[key] = method

    def query(
        self, name: str, *, version: int = 1, follow: Callable[[bytes], tuple[int, str, str] | None] | None = None
    ) -> Callable[[MethodBody], MethodBody]:
        """Decorator that registers a query."""

        def decorate(body: MethodBody) -> MethodBody:
            self.register(Method(name, version, MethodClass.QUERY, body, follow))
            return body

        return decorate

    def update(self, name: str, *, version: int = 1) -> Callable[[MethodBody], MethodBody]:
        """Decorator that registers an update."""

        def decorate(body: MethodBody) -> MethodBody:
            self.register(Method(name, version, MethodClass.UPDATE, body))
            return body

        return decorate

    def find(self, name: str, version: int) -> Method | None:
        """The method, or None when replicas of this release do not know it."""
        return self._methods.get((name, version))


class Operation:
    """One method call on one or several objects (Figure 3, line 102), with what makes it run exactly once.

    ``objects`` are ascending; ``types[i]`` is the type of ``objects[i]``.  ``home`` is the object whose duplicate
    cache remembers an update: the same at every re-issue.  Queries have no home, session or sequence.  Never changed.
    """

    __slots__ = (
        "_wire",
        "argument",
        "client_time",
        "credentials",
        "home",
        "method",
        "objects",
        "sequence",
        "session",
        "types",
        "version",
    )

    def __init__(
        self,
        objects: tuple[int, ...],
        types: tuple[str, ...],
        method: str,
        version: int,
        argument: bytes,
        credentials: Credentials,
        client_time: int = 0,
        home: int = 0,
        session: bytes = NO_SESSION,
        sequence: int = 0,
        received: bytes = b"",
    ) -> None:
        """``received`` are the bytes it was parsed from, when it came over the network."""
        self.objects: Final = objects
        self.types: Final = types
        self.method: Final = method
        self.version: Final = version
        self.argument: Final = argument
        self.credentials: Final = credentials
        self.client_time: Final = client_time
        self.home: Final = home
        self.session: Final = session
        self.sequence: Final = sequence
        self._wire = received

    @property
    def wire(self) -> bytes:
        """The bytes that go over the network and into the timestamp of an update."""
        if not self._wire:
            uid, gid, groups = self.credentials
            calling = pack((self.types, self.method, self.version, uid, gid, groups))
            count = len(self.objects)
            once = _ONCE.pack(self.client_time, self.home, self.session, self.sequence, len(calling), count)
            self._wire = b"".join((once, calling, _IDS[count].pack(*self.objects), self.argument))
        return self._wire

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Operation) and self.wire == other.wire)

    def __hash__(self) -> int:
        return hash(self.wire)


class _Calling:
    """What many operations have in common: what is called on which types, and for whom."""

    __slots__ = ("credentials", "method", "types", "version")

    def __init__(self, types: tuple[str, ...], method: str, version: int, credentials: Credentials) -> None:
        self.types: Final = types
        self.method: Final = method
        self.version: Final = version
        self.credentials: Final = credentials


_ONCE: Final = struct.Struct(f">QQ{SESSION_BYTES}sQHB")
"""Client time, home, session, sequence; the length of the calling and the number of objects.  Behind it lie the calling
in msgpack, the objects' ids and the argument."""
_ONCE_BYTES: Final = _ONCE.size
_SHAPE: Final = (tuple, str, int, int, int, tuple)
_OBJECTS_MAX: Final = DEFAULT_LIMITS.objects_per_operation_max
_ARGUMENT_MAX: Final = DEFAULT_LIMITS.argument_bytes_max
_GROUPS_MAX: Final = DEFAULT_LIMITS.groups_max
_ID_END: Final = 1 << 32
_TIME_END: Final = 1 << 63
_ID_BYTES: Final = 8
_IDS: Final = [struct.Struct(f">{count}Q") for count in range(_OBJECTS_MAX + 1)]
"""By how many they are."""
_CALLINGS_KEPT: Final = 1_024
_SHORT_CALLING_BYTES: Final = 512
"""Longer ones, with hundreds of groups, are rare and not remembered: anybody can send them."""
_unpack: Final = msgpack.unpackb
_callings: Final[dict[bytes, _Calling]] = {}
"""One decode per distinct calling: a client asks for few different ones, again and again."""


def parse_operation_untrusted(data: bytes) -> Operation:
    """An operation from its bytes, every field checked for type and bound.  Raises MalformedMessage.

    The bytes as sent are what gets hashed: another encoding of the same fields is another operation.
    """
    client_time: int
    home: int
    session: bytes
    sequence: int
    length: int
    count: int
    objects: tuple[int, ...]
    try:
        client_time, home, session, sequence, length, count = _ONCE.unpack_from(data)
        at = _ONCE_BYTES + length
        objects = _IDS[count].unpack_from(data, at)
    except (struct.error, IndexError) as error:
        raise MalformedMessage("operation cut short, or on too many objects") from error
    packed = data[_ONCE_BYTES:at]
    calling = _callings.get(packed)
    if calling is None:
        calling = _calling_untrusted(packed)
    below = 0
    for obj in objects:
        if obj <= below:
            raise MalformedMessage("operation's objects not in ascending order")
        below = obj
    argument = data[at + _ID_BYTES * count :]
    sound = (
        count > 0
        and len(calling.types) == count
        and len(argument) <= _ARGUMENT_MAX
        and client_time < _TIME_END
        and (home == 0 or home in objects)
    )
    if not sound:
        raise MalformedMessage("operation out of bounds")
    return Operation(
        objects,
        calling.types,
        calling.method,
        calling.version,
        argument,
        calling.credentials,
        client_time,
        home,
        session,
        sequence,
        data,
    )


def _calling_untrusted(packed: bytes) -> _Calling:
    try:
        fields = _unpack(packed, use_list=False)
    except Exception as error:  # msgpack raises half a dozen unrelated types on bad input
        raise MalformedMessage("operation's calling is not msgpack") from error
    if type(fields) is not tuple or tuple(map(type, fields)) != _SHAPE:
        raise MalformedMessage("operation's calling of a wrong shape")
    types: tuple[Any, ...]
    groups: tuple[Any, ...]
    types, name, version, uid, gid, groups = fields
    sound = (
        len(types) <= _OBJECTS_MAX
        and all(type(kind) is str and len(kind) <= 32 for kind in types)
        and 0 < len(name) <= 64
        and 0 <= version < _ID_END
        and 0 <= uid < _ID_END
        and 0 <= gid < _ID_END
        and (not groups or _sound_groups(groups))
    )
    if not sound:
        raise MalformedMessage("operation's calling out of bounds")
    calling = _Calling(types, name, version, Credentials(uid, gid, groups))
    if len(packed) <= _SHORT_CALLING_BYTES:
        if len(_callings) >= _CALLINGS_KEPT:
            _callings.clear()
        _callings[packed] = calling
    return calling


def _sound_groups(groups: tuple[Any, ...]) -> bool:
    return len(groups) <= _GROUPS_MAX and set(map(type, groups)) == {int} and min(groups) >= 0 and max(groups) < _ID_END


@dataclass(frozen=True, slots=True)
class Call:
    """What a user of the update core asks for: a method on objects, by (id, type) in any order."""

    method: str
    objects: tuple[tuple[int, str], ...]
    argument: bytes
    credentials: Credentials
    home: int = 0
    """For updates: the object whose duplicate cache makes the update run exactly once."""
    fresh: frozenset[int] = frozenset()
    """For updates: objects that the caller has just invented an id for, so that nobody need be asked for them."""
    everyone: bool = False
    """For updates: have all replicas take part, also those that a quorum does not need."""
    large: bool = False
    """For queries: the answer may be long; one replica sends it whole and the others a digest."""
    version: int = 1


class Answer(NamedTuple):
    """What a query gives."""

    value: bytes
    followed: bytes | None = None
    """The answer of the method that the registered ``follow`` named, or None when it named none."""


class QueryUpdate(Protocol):
    """The update core as the services on top of it see it; operations wait for a quorum and run exactly once."""

    async def query(self, *calls: Call) -> list[Answer]:
        """Answers in the order of the calls, each the newest established one of its objects."""

    async def update(self, call: Call) -> bytes:
        """The answer of an update that took effect exactly once, or failed deterministically without effect."""
