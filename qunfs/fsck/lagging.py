"""Replicas that are behind on objects of which they are asked first: looked at again, and brought up to date.

A new version that changes nothing is given to all replicas.  One that lacks the version before must fetch it for that,
from the others, as it would for the next change that somebody makes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from qunfs.fsck.census import PATIENCE_S, Census, Replicas
from qunfs.fsck.walk import SUPERUSER
from qunfs.objects.ids import TOPOLOGY, is_valid, type_of
from qunfs.protocol.errors import OperationRefused
from qunfs.protocol.history import ZERO_TIMESTAMP, LogicalTimestamp
from qunfs.protocol.messages import Query, QueryItem, QueryReply
from qunfs.protocol.operation import Call, QueryUpdate
from qunfs.protocol.packing import pack
from qunfs.protocol.quorum import QuorumSystem, servers_of

_TOGETHER: Final = 16
"""Histories asked for at once: a long one has a hundred kilobytes, and a reply holds two megabytes."""
_AT_ONCE: Final = 16
"""Updates under way together."""
_SETTLE_S: Final = 5.0
"""How long replicas may take to fetch what they lack until it is said that they still lack it."""
_LOOK_S: Final = 0.2

Due = dict[int, int]
"""Per object the bitmap of the replicas that should have its newest version and have not."""


class Lagging:
    """Looks again at what a census has noted."""

    def __init__(self, core: QueryUpdate, replicas: Replicas, quorums: QuorumSystem, census: Census) -> None:
        self._core, self._replicas, self._quorums, self._census = core, replicas, quorums, census

    async def still(self, objects: Iterable[int]) -> Due:
        """Which replicas are behind on these now; one that does not answer is not."""
        wanted, found = list(objects), {}
        for start in range(0, len(wanted), _TOGETHER):
            some = wanted[start : start + _TOGETHER]
            heads = await self._heads(some)
            for place, obj in enumerate(some):
                behind = self._behind(obj, {server: lts[place] for server, lts in heads.items()})
                if behind:
                    found[obj] = behind
        return found

    async def _heads(self, objects: Sequence[int]) -> dict[int, list[LogicalTimestamp]]:
        """The newest version of each object at each replica that answers."""
        question = Query(tuple([QueryItem((obj,), (b"",)) for obj in objects]))
        heads: dict[int, list[LogicalTimestamp]] = {}

        async def look(server: int) -> None:
            reply = await self._replicas.ask(server, question, PATIENCE_S)
            if isinstance(reply, QueryReply):
                shown = [result.histories[0].history for result in reply.results]
                heads[server] = [ZERO_TIMESTAMP if history is None else history.head.lt for history in shown]

        async with trio.open_nursery() as nursery:
            for server in range(self._quorums.n):
                if server not in self._census.failures:
                    nursery.start_soon(look, server)
        return heads

    def _behind(self, obj: int, heads: dict[int, LogicalTimestamp]) -> int:
        holders: dict[LogicalTimestamp, int] = {}
        for server, lt in heads.items():
            holders[lt] = holders.get(lt, 0) | 1 << server
        newest = max([lt for lt, mask in holders.items() if self._quorums.exceeds_malevolent(mask)], default=None)
        if newest is None:
            return 0
        behind = 0
        for server, lt in heads.items():
            if lt < newest:
                behind |= 1 << server
        return behind & self._census.preferred(obj)

    async def bring_up_to_date(self, due: Due, on_progress: Callable[[str], None]) -> Due:
        """Have the replicas fetch what they lack; who still lacks what afterwards."""
        objects = [obj for obj in due if is_valid(obj) or obj == TOPOLOGY]
        limiter, done = trio.CapacityLimiter(_AT_ONCE), 0

        async def one(obj: int) -> None:
            nonlocal done
            async with limiter:
                call = Call("fsck.refresh", ((obj, type_of(obj)),), pack(None), SUPERUSER, home=obj, everyone=True)
                try:
                    await self._core.update(call)
                except OperationRefused:
                    return  # it makes no sense to them, which is another fault
                done += 1
                on_progress(f"bringing replicas up to date: {done} of {len(objects)}")

        for start in range(0, len(objects), _TOGETHER):
            async with trio.open_nursery() as nursery:
                for obj in objects[start : start + _TOGETHER]:
                    nursery.start_soon(one, obj)
        until = trio.current_time() + _SETTLE_S
        left = await self.still(due)
        while left and trio.current_time() < until:
            await trio.sleep(_LOOK_S)
            left = await self.still(left)
        return left


def by_server(due: Due, n: int) -> list[int]:
    """How many objects each replica is behind on."""
    counts = [0] * n
    for mask in due.values():
        for server in servers_of(mask):
            counts[server] += 1
    return counts
