"""Operations, methods and the registry of object types (Figure 3, lines 100-102).

A method is a deterministic function of its argument and the state of its objects, nothing else.  State is an ordered
map of byte keys to byte values; keys that begin with a zero byte belong to the protocol (:mod:`execution`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

import msgpack

from qunfs.protocol.errors import LocalError, MalformedMessage
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.packing import new_tuple, pack

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


class MethodFailed(Exception):
    """A method's deterministic refusal: no version is made and ``answer`` is what the client gets."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("method failed")
        self.answer = answer


class Context:
    """What a method may read besides its objects' state."""

    __slots__ = ("argument", "client_time", "credentials", "objects")

    def __init__(self, objects: tuple[int, ...], argument: Any, credentials: Credentials, client_time: int) -> None:
        """``client_time`` is the client's clock in nanoseconds since the epoch; zero in queries."""
        self.objects: Final = objects
        self.argument: Final = argument
        self.credentials: Final = credentials
        self.client_time: Final = client_time


MethodBody = Callable[[Mapping[int, ObjectView], Context], bytes]


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
            call = (self.objects, self.types, self.method, self.version, self.argument)
            once = (self.client_time, self.home, self.session, self.sequence)
            self._wire = pack((*call, *self.credentials, *once))
        return self._wire

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Operation) and self.wire == other.wire)

    def __hash__(self) -> int:
        return hash(self.wire)


_SHAPE: Final = (tuple, tuple, str, int, bytes, int, int, tuple, int, int, bytes, int)
_OBJECTS_MAX: Final = DEFAULT_LIMITS.objects_per_operation_max
_ARGUMENT_MAX: Final = DEFAULT_LIMITS.argument_bytes_max
_GROUPS_MAX: Final = DEFAULT_LIMITS.groups_max
_ID_END: Final = 1 << 32
_TIME_END: Final = 1 << 63
_NUMBER_END: Final = 1 << 64
_unpack: Final = msgpack.unpackb


def parse_operation_untrusted(data: bytes) -> Operation:
    """An operation from its bytes, every field checked for type and bound.  Raises MalformedMessage.

    The bytes as sent are what gets hashed: another encoding of the same fields is another operation.
    """
    try:
        fields = _unpack(data, use_list=False)
    except Exception as error:  # msgpack raises half a dozen unrelated types on bad input
        raise MalformedMessage("operation is not msgpack") from error
    if type(fields) is not tuple or tuple(map(type, fields)) != _SHAPE:
        raise MalformedMessage("operation of a wrong shape")
    objects: tuple[Any, ...]
    types: tuple[Any, ...]
    groups: tuple[Any, ...]
    name: str
    argument: bytes
    session: bytes
    version: int
    uid: int
    gid: int
    client_time: int
    home: int
    sequence: int
    objects, types, name, version, argument, uid, gid, groups, client_time, home, session, sequence = fields
    if not 1 <= len(objects) <= _OBJECTS_MAX or len(types) != len(objects):
        raise MalformedMessage("operation on too many objects, or not of one type each")
    below = 0
    for place, obj in enumerate(objects):
        kind = types[place]
        if type(obj) is not int or not below < obj < _NUMBER_END or type(kind) is not str or len(kind) > 32:
            raise MalformedMessage("operation's objects or types out of bounds")
        below = obj
    sound = (
        0 < len(name) <= 64
        and 0 <= version < _ID_END
        and len(argument) <= _ARGUMENT_MAX
        and 0 <= uid < _ID_END
        and 0 <= gid < _ID_END
        and (not groups or _sound_groups(groups))
        and 0 <= client_time < _TIME_END
        and (home == 0 or home in objects)
        and len(session) == SESSION_BYTES
        and 0 <= sequence < _NUMBER_END
    )
    if not sound:
        raise MalformedMessage("operation out of bounds")
    credentials = new_tuple(Credentials, (uid, gid, groups))
    return Operation(objects, types, name, version, argument, credentials, client_time, home, session, sequence, data)


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
