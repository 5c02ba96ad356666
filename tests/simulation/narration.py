"""What clients and servers say to each other, in words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from qunfs.protocol.classify import Request, setup
from qunfs.protocol.errors import QunfsError
from qunfs.protocol.history import Candidate, ObjectHistorySet, ReplicaHistory
from qunfs.protocol.messages import (
    HEADER,
    Adopt,
    Query,
    QueryReply,
    Reply,
    Status,
    Sync,
    ToServer,
    Update,
    UpdateReply,
    Vouch,
)
from qunfs.protocol.quorum import servers_of
from qunfs.protocol.wire import parse_reply_untrusted, parse_to_server_untrusted
from tests.simulation.clock import Clock
from tests.simulation.network import Address, Link, Network, Node, Weather
from tests.simulation.trace import history, short

if TYPE_CHECKING:
    from tests.simulation.stories import Story


@dataclass(eq=False)
class Said:
    """One request of a client, and the servers it was sent to."""

    client: int
    kind: str
    """READ, QUERY, METHOD, BARRIER, COPY or ADOPT."""
    objects: tuple[tuple[int, ...], ...]
    record: Candidate | None = None
    request: Request | None = None
    hosts: int = 0
    servers: list[int] = field(default_factory=list)


def named(servers: list[int]) -> str:
    """Servers as a list."""
    return " ".join(f"s{server}" for server in servers)


class Narrator:
    """Turns payloads into lines of the trace; requests that go to several servers at once make one."""

    def __init__(self, story: "Story", say: Callable[[str], None]) -> None:
        self._story, self._say = story, say
        self._requests: dict[tuple[int, int], Said] = {}
        self._unsaid: list[tuple[Said, int]] = []
        """With how many servers were sent it before."""
        self.said: list[Said] = []
        """All requests of clients."""
        self.replies: list[tuple[int, int, UpdateReply]] = []
        """Server, client and reply, of updates and adoptions."""

    def message(self, sender: Address, receiver: Address, payload: bytes) -> None:
        """A message is sent."""
        if sender.kind == "client":
            self._request(sender.index, receiver.index, payload)
        elif receiver.kind == "client":
            self._reply(sender.index, receiver.index, payload)
        else:
            self._between_servers(sender.index, receiver.index, payload)

    def forget(self, client: int) -> None:
        """A client is dead; the next process of its name counts its requests anew."""
        self._requests = {key: said for key, said in self._requests.items() if key[0] != client}

    def flush(self) -> None:
        """Say what has been held back to be said in one."""
        unsaid, self._unsaid = self._unsaid, []
        for said, before in unsaid:
            for line in self._lines(said, said.servers[before:]):
                self._say(line)

    # ---- requests

    def _request(self, client: int, server: int, payload: bytes) -> None:
        number, message = parse_to_server_untrusted(payload, client)
        said = self._requests.get((client, number))
        if said is None:
            said = self._requests[client, number] = self._understood(client, message)
            self.said.append(said)
        if not any(said is other for other, _ in self._unsaid):
            self._unsaid.append((said, len(said.servers)))
        said.servers.append(server)

    def _understood(self, client: int, message: ToServer) -> Said:
        if isinstance(message, Update):
            record = setup(self._story.quorums, message.request).candidate
            return Said(client, record.kind.name, (record.objects,), record, message.request)
        if isinstance(message, Adopt):
            return Said(client, "ADOPT", (message.record.objects,), message.record, hosts=message.hosts)
        assert isinstance(message, Query)
        kind = "QUERY" if message.items[0].operation else "READ"
        return Said(client, kind, tuple(item.objects for item in message.items))

    def _lines(self, said: Said, servers: list[int]) -> Iterator[str]:
        names = self._story.names(said.objects[0])
        who, whom = f"c{said.client}", named(servers)
        if said.record is None:
            what = f"reads the histories of {names} at" if said.kind == "READ" else f"queries {names} at"
            yield f"{who} {what} {whom}"
        elif said.request is None:
            hosts = named(servers_of(said.hosts))
            yield f"{who} asks {whom} to adopt {short(said.record.lt)} on {names}, which {hosts} hold"
        else:
            yield f"{who} sends {said.kind} {short(said.record.lt)} on {names} to {whom}, and shows of"
            for view in said.request.views:
                yield f"    {self._view(view)}"

    def _view(self, view: ObjectHistorySet) -> str:
        shown = "; ".join(f"{history(value)} at {named(servers_of(mask))}" for value, mask in view.groups)
        return f"{self._story.names((view.obj,))}: {shown or 'nothing, it is new'}"

    # ---- replies

    def _reply(self, server: int, client: int, payload: bytes) -> None:
        said = self._requests[client, HEADER.unpack_from(payload)[1]]
        try:  # liars may send anything
            reply: Reply = parse_reply_untrusted(payload, said.objects, self._story.quorums.n)[1]
        except QunfsError:
            self._say(f"s{server} answers c{client} something unreadable")
            return
        if isinstance(reply, UpdateReply):
            self.replies.append((server, client, reply))
            self._update_reply(server, client, said, reply)
        elif isinstance(reply, QueryReply) and server in self._story.oracles.malevolent:
            for result in reply.results:
                shown = self._shown(said, [shown.history for shown in result.histories])
                answer = f" answers {result.answer!r}," if result.answer else ""
                self._say(f"s{server} to c{client}, of its own making:{answer} here is{shown}")

    def _update_reply(self, server: int, client: int, said: Said, reply: UpdateReply) -> None:
        who = f"s{server} to c{client}: {reply.status.name}"
        if reply.status is Status.CULLED:
            for late, why in ((False, "the MAC is bad of"), (True, "too late is")):
                those = [
                    f"s{c.server}'s history of {self._story.names((c.obj,))}" for c in reply.culled if c.late is late
                ]
                if those:
                    self._say(f"{who}, {why} {', '.join(those)}")
        elif reply.status is not Status.ACCEPTED:
            self._say(f"{who}, here is{self._shown(said, [shown.history for shown in reply.histories])}")

    def _shown(self, said: Said, histories: list[ReplicaHistory | None]) -> str:
        pairs = zip(said.objects[0], histories, strict=False)
        return ",".join(f" {self._story.names((o,))} {'as before' if h is None else history(h)}" for o, h in pairs)

    # ---- between servers

    def _between_servers(self, sender: int, receiver: int, payload: bytes) -> None:
        try:
            message = parse_to_server_untrusted(payload, 0)[1]
        except QunfsError:
            return  # a reply
        if isinstance(message, Vouch):
            self._say(
                f"s{sender} asks s{receiver} to vouch for {short(message.lt)} on {self._story.names((message.obj,))}"
            )
        elif isinstance(message, Sync) and message.whole:
            self._say(
                f"s{sender} fetches version {short(message.target)} of {self._story.names((message.obj,))} from "
                f"s{receiver}"
            )


class StoryNetwork(Network):
    """A network that is as fast as the story says, and tells the narrator."""

    def __init__(self, clock: Clock, story: "Story", narrator: Narrator) -> None:
        super().__init__(clock, Random(0), Weather(late_after_break=1.0))
        self._story, self._narrator = story, narrator
        self._latency_s = 0.001

    def delay(self) -> float:
        return self._latency_s

    def send(self, link: Link, sender: Node, payload: bytes) -> None:
        receiver = link.other(sender)
        self._latency_s = self._story.latency_s(sender.address, receiver.address)
        if link.up:
            self._narrator.message(sender.address, receiver.address, payload)
        super().send(link, sender, payload)
