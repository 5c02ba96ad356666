"""Who may ask a replica for what: rights, credentials, client clocks and rates (DESIGN section 6).

Admission accepts or refuses and never alters a request: replicas that altered differently would diverge.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from qunfs.protocol.limits import Limits
from qunfs.protocol.operation import Operation

_REPAIRS_PER_SECOND: Final = 50.0
"""Repairs that a read-only client may ask for per object: its reads need few, its mischief no more."""
_BUCKETS_KEPT: Final = 65_536


class Squash(Enum):
    """Which credentials a client must have mapped away before it sends an operation."""

    NONE = "none"
    ROOT = "root"
    ALL = "all"


_NO_SQUASH: Final = Squash.NONE


@dataclass(frozen=True, slots=True)
class Rights:
    """What the cluster file grants a client."""

    read_write: bool
    squash: Squash
    uids: tuple[int, int]
    """Lowest and highest uid it may act for."""
    gids: tuple[int, int]


def refusal(rights: Rights | None, operation: Operation) -> str | None:
    """Why a client may not have this operation run, or None when it may."""
    if rights is None:
        return "this client is not in the cluster file"
    if not rights.read_write:
        return "this client may only read"
    return credentials_refusal(rights, operation)


def credentials_refusal(rights: Rights, operation: Operation) -> str | None:
    """Why a client may not act for these credentials, or None when it may."""
    uid, gid, groups = operation.credentials
    if rights.squash is not _NO_SQUASH and (uid == 0 or gid == 0 or 0 in groups):
        return "root is squashed for this client"
    lowest, highest = rights.uids
    if not lowest <= uid <= highest:
        return f"uid {uid} is outside the range of this client"
    lowest, highest = rights.gids
    if not lowest <= gid <= highest:
        return f"gid {gid} is outside the range of this client"
    for group in groups:
        if not lowest <= group <= highest:
            return f"gid {group} is outside the range of this client"
    return None


def in_time(operation: Operation, wall_ns: int, limits: Limits) -> bool:
    """Whether the client's clock is close enough to the replica's."""
    return abs(operation.client_time - wall_ns) <= limits.client_time_window_ns


def may_list(rights: Rights | None) -> bool:
    """Whether a client may ask which objects there are.

    Only who may act for the superuser: ids are what others must have looked up in directories that they may search.
    """
    return rights is not None and rights.squash is _NO_SQUASH and rights.uids[0] == 0 and rights.gids[0] == 0


class RepairRate:
    """A token bucket per client and object, such as for the repairs of read-only clients."""

    def __init__(self, per_second: float = _REPAIRS_PER_SECOND) -> None:
        self._per_second = per_second
        self._buckets: dict[tuple[int, int], tuple[float, float]] = {}

    def allows(self, client: int, obj: int, now: float) -> bool:
        """Take a token if there is one; ``now`` in seconds of any monotonic clock."""
        if len(self._buckets) > _BUCKETS_KEPT:
            self._buckets.clear()
        tokens, since = self._buckets.get((client, obj), (self._per_second, now))
        tokens = min(self._per_second, tokens + (now - since) * self._per_second)
        allowed = tokens >= 1.0
        self._buckets[client, obj] = (tokens - allowed, now)
        return allowed
