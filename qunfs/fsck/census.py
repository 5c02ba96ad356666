"""What the single replicas hold: a list of every replica's objects, merged, a page of each at a time.

An object counts as being there when more replicas list it than can lie.  As an operation needs a quorum only, most
replicas lack some versions: that is as it should be, and is counted and no more.  That a replica gives the same version
another state than more of them than can lie is a contradiction.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from qunfs.fsck.findings import Fault, Kind, ReplicaState
from qunfs.objects.ids import is_valid
from qunfs.protocol.asking import Question
from qunfs.protocol.errors import LocalError
from qunfs.protocol.evidence import Finding
from qunfs.protocol.history import ZERO_TIMESTAMP, LogicalTimestamp
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Reply, Roll, RollReply, Status
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of
from qunfs.protocol.store import Listed

PATIENCE_S: Final = 10.0
"""How long a replica may take for a page; one that is stopped or full of work is then done without."""
BUSY_MAX_S: Final = 10.0
"""How long it may say for one page that it has had enough of such questions: a correct one has moments later."""

UNVOUCHED_MAX: Final = 65_536
"""Objects that one replica lists alone, in excess of which it is not listened to any more: a liar could go on for ever.
A correct one can have some: updates that nobody completed, of a client that crashed or means mischief."""

EXAMPLES_MAX: Final = 5
_DUE_MAX: Final = 100_000
"""Objects for which it is noted which replicas lack them; the next check goes on with others."""

_BUSY_S: Final = 0.05
_PAGE: Final = DEFAULT_LIMITS.roll_entries_max


class Replicas(Protocol):
    """The replicas one by one, as the driver reaches them."""

    async def ask(self, server: int, question: Question, timeout_s: float) -> Reply | None:
        """What a server, which may lie, replies; None when it does not in time."""

    def findings(self) -> list[Finding]:
        """What speaks against servers."""


async def _answer(replicas: Replicas, server: int, question: Roll) -> RollReply | str:
    """What a replica says when it is not busy, or why nothing can be had from it."""
    until = trio.current_time() + BUSY_MAX_S
    while True:
        reply = await replicas.ask(server, question, PATIENCE_S)
        if not isinstance(reply, RollReply):
            return "it did not answer in time"
        if reply.status is not Status.BUSY:
            return reply
        if trio.current_time() >= until:
            return "it was busy for too long"
        await trio.sleep(_BUSY_S)


class _Stream:
    """One replica's objects, in ascending order of ids."""

    def __init__(self, replicas: Replicas, server: int) -> None:
        self._replicas, self.server = replicas, server
        self._page: list[Listed] = []
        self._after = 0
        self._more = True
        self.unvouched = 0
        self.failed: str | None = None

    @property
    def empty(self) -> bool:
        """Whether a page has to be fetched before the next object is known."""
        return not self._page and self._more and self.failed is None

    @property
    def head(self) -> Listed | None:
        """The next object."""
        return self._page[-1] if self._page else None

    def take(self) -> Listed:
        """The next object, which is then behind."""
        return self._page.pop()

    def stop(self, why: str) -> None:
        """Listen to it no more."""
        self.failed, self._page = why, []

    async def fetch(self) -> None:
        """Get the next page."""
        reply = await _answer(self._replicas, self.server, Roll(self._after, _PAGE))
        if isinstance(reply, str):
            self.stop(reply)
        elif reply.status is not Status.ANSWERED:
            self.stop("it refused to list its objects")
        elif reply.listed and reply.listed[0].obj <= self._after:
            self.stop("it listed objects that were not asked for")
        elif reply.more and len(reply.listed) < _PAGE:
            self.stop("it listed fewer objects than it should have")
        else:
            self._page = list(reversed(reply.listed))
            self._more = reply.more
            if reply.listed:
                self._after = reply.listed[-1].obj


class Census:
    """The lists of all replicas, held against each other."""

    def __init__(self, replicas: Replicas, quorums: QuorumSystem, on_progress: Callable[[str], None]) -> None:
        self._replicas, self._quorums, self._on_progress = replicas, quorums, on_progress
        self.states = [ReplicaState(server) for server in range(quorums.n)]
        self.due: dict[int, int] = {}
        """Per object the bitmap of the replicas that are asked first and are behind, as far as the lists show."""
        self.doubts: list[tuple[int, int]] = []
        """(object, replica) where the replica gave the version of more than can lie another state."""
        self.examples: list[list[int]] = [[] for _ in range(quorums.n)]
        self.failures: dict[int, str] = {}

    async def take(self, add: Callable[[Sequence[int]], None]) -> None:
        """Go through all lists; ``add`` gets the ids of objects of the namespace that are there, some at a time.

        Raises LocalError when fewer than a quorum of replicas have listed theirs: some objects may be unknown then.
        """
        streams = [_Stream(self._replicas, server) for server in range(self._quorums.n)]
        there: list[int] = []
        count = 0
        while True:
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    if stream.empty:
                        nursery.start_soon(stream.fetch)
            while not any(stream.empty for stream in streams):
                heads = {stream.server: stream.head for stream in streams if stream.head is not None}
                if not heads:
                    break
                obj = min(listed.obj for listed in heads.values())
                listings = {server: listed for server, listed in heads.items() if listed.obj == obj}
                for server in listings:
                    streams[server].take()
                if self._weigh(obj, listings, streams):
                    there.append(obj)
                count += 1
                if count % 10_000 == 0:
                    self._on_progress(f"{count} objects listed")
            if len(there) >= _PAGE:
                add(there)
                there = []
            if not any(stream.empty or stream.head for stream in streams):
                break
        add(there)
        self._finish(streams)

    def _finish(self, streams: Sequence[_Stream]) -> None:
        for stream in streams:
            self.states[stream.server].answered = stream.failed is None
            if stream.failed is not None:
                self.failures[stream.server] = stream.failed
        whole = mask_of([stream.server for stream in streams if stream.failed is None])
        if not self._quorums.contains_quorum(whole):
            reasons = "; ".join(f"{server}: {why}" for server, why in sorted(self.failures.items()))
            raise LocalError(f"too few replicas have listed what they hold ({reasons}); see: qunfs status")

    def _weigh(self, obj: int, listings: dict[int, Listed], streams: Sequence[_Stream]) -> bool:
        """Count what each replica has of an object; whether it is there and of the namespace."""
        newest = ZERO_TIMESTAMP
        by_version: dict[LogicalTimestamp, int] = {}
        for server, listed in listings.items():
            by_version[listed.lt] = by_version.get(listed.lt, 0) | 1 << server
        for lt, mask in by_version.items():
            if lt > newest and self._quorums.exceeds_malevolent(mask):
                newest = lt
        if not self._quorums.exceeds_malevolent(mask_of(list(listings))):
            for server in listings:
                streams[server].unvouched += 1
                if streams[server].unvouched > UNVOUCHED_MAX:
                    streams[server].stop(f"it listed more than {UNVOUCHED_MAX} objects that no other has")
        self._compare(obj, newest, listings, streams)
        present = mask_of([server for server, listed in listings.items() if listed.present])
        return is_valid(obj) and self._quorums.exceeds_malevolent(present)

    def _compare(
        self, obj: int, newest: LogicalTimestamp, listings: dict[int, Listed], streams: Sequence[_Stream]
    ) -> None:
        preferred = 0
        same: dict[bool, int] = {True: 0, False: 0}
        for stream in streams:
            server, state = stream.server, self.states[stream.server]
            listed = listings.get(server)
            state.objects += listed is not None
            if stream.failed is not None or newest == ZERO_TIMESTAMP:
                continue
            if listed is not None and listed.lt > newest:
                state.ahead += 1
            elif listed is not None and listed.lt == newest:
                same[listed.present] |= 1 << server
            else:
                state.behind += 1
                preferred = preferred or self.preferred(obj)
                if preferred >> server & 1:
                    self._note_due(obj, server)
        for present, mask in same.items():
            if mask and self._quorums.exceeds_malevolent(same[not present]):
                self.doubts += [(obj, server) for server in servers_of(mask)][: _PAGE - len(self.doubts)]

    def preferred(self, obj: int) -> int:
        """The bitmap of the replicas that are asked first about an object."""
        return next(self._quorums.views_within(self._quorums.rotated(obj), 1))

    def _note_due(self, obj: int, server: int) -> None:
        self.states[server].due += 1
        if len(self.due) < _DUE_MAX:
            self.due[obj] = self.due.get(obj, 0) | 1 << server
        if len(self.examples[server]) < EXAMPLES_MAX and is_valid(obj):
            self.examples[server].append(obj)

    async def contradictions(self) -> list[Fault]:
        """Those of the doubts that are there when looked at again."""
        faults: list[Fault] = []
        for obj, server in self.doubts:
            listings = await self.listings(obj)
            mine = listings.pop(server, None)
            others = [s for s, one in listings.items() if mine is not None and one.lt == mine.lt]
            against = [s for s in sorted(others) if mine is not None and listings[s].present != mine.present]
            if mine is not None and self._quorums.exceeds_malevolent(mask_of(against)):
                said = "that it is there" if mine.present else "that nothing is left of it"
                text = f"replica {server} says of the newest version of this object {said}, unlike {against}"
                faults.append(Fault(Kind.REPLICA, obj, text=text, seen=(server,)))
        return faults

    async def listings(self, obj: int) -> dict[int, Listed]:
        """What each replica that answers says of one object now."""
        found: dict[int, Listed] = {}

        async def look(server: int) -> None:
            reply = await _answer(self._replicas, server, Roll(obj - 1, 1))
            if isinstance(reply, str):
                self.failures.setdefault(server, reply)
                return
            for listed in reply.listed:
                if listed.obj == obj:
                    found[server] = listed

        async with trio.open_nursery() as nursery:
            for server in range(self._quorums.n):
                if server not in self.failures:
                    nursery.start_soon(look, server)
        return found
