"""The object history sets a client holds (paper section 3.5, "cached object history set")."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import ObjectHistorySet, ReplicaHistory
from qunfs.protocol.messages import Shown
from qunfs.protocol.quorum import QuorumSystem, mask_of, servers_of
from qunfs.protocol.trust import Trust

_OBJECTS_KEPT: Final = 65_536
"""Objects remembered per client, those last shown; forgetting one costs a round trip at its next update."""

Vectors = Mapping[int, bytes]
"""By server, what came behind the body of its reply: the MACs for all servers of one history after the other."""
_NO_VECTORS: Final[Vectors] = {}


class Held:
    """One history and the servers that showed it, each with its MACs for all servers or none of them with any."""

    __slots__ = ("at", "history", "servers", "vectors")

    def __init__(self, history: ReplicaHistory, servers: int, vectors: Vectors, at: int) -> None:
        self.history: Final = history
        self.servers = servers
        self.vectors: Final = vectors
        """Without MACs: empty."""
        self.at: Final = at
        """Where the MACs of this history begin in the vectors."""


def to_claim(held: Sequence[Held], server: int, want_auth: bool) -> ReplicaHistory | None:
    """What a server may be told that the client holds of it, so that it need not send it again."""
    for one in held:
        if one.servers >> server & 1:
            return None if want_auth and not one.vectors else one.history
    return None


def likes_of(held: Sequence[Held], server: int) -> int:
    """The bitmap of the servers of which the client holds the same as of this one."""
    others = 0
    for one in held:
        if one.servers >> server & 1:
            return one.servers
        others |= one.servers
    return ~others


class HistoryCache:
    """Per object and server the last history shown."""

    def __init__(self, quorums: QuorumSystem, trust: Trust) -> None:
        self._trust = trust
        self._vector_bytes: Final = MAC_BYTES * quorums.n
        self.changes = 0
        """How often what is held has changed."""
        self._objects: OrderedDict[int, list[Held]] = OrderedDict()

    def of(self, obj: int) -> Sequence[Held]:
        """What is held of an object; no server is in two of them."""
        return self._objects.get(obj, ())

    def histories(self, obj: int) -> dict[int, ReplicaHistory]:
        """The histories held of an object, by server."""
        return {server: held.history for held in self.of(obj) for server in servers_of(held.servers)}

    def authenticated(self, obj: int, least: bool = True) -> dict[int, ReplicaHistory]:
        """Those that are held with MACs and can be shown to others for all that is known of their servers and times.

        ``least``: what is shown is to be a view, so that late times are not left out when no quorum would remain.
        """
        with_macs = {s: held.history for held in self.of(obj) if held.vectors for s in servers_of(held.servers)}
        return self._trust.without_late({s: h for s, h in with_macs.items() if not self._trust.left_out(s)}, least)

    def vectors(self, shown: ObjectHistorySet) -> list[bytes]:
        """For each history of a set, in the order of its groups and then of their servers, its MACs for all servers."""
        vectors: list[bytes] = []
        held, size = self.of(shown.obj), self._vector_bytes
        for history, servers in shown.groups:
            for server in servers_of(servers):
                for one in held:
                    if one.servers >> server & 1:
                        break
                else:
                    raise LocalError("a request shows a history that is not held")
                if not one.vectors or one.history != history:
                    raise LocalError("a request shows a history that is not held with MACs")
                vector = one.vectors[server]
                vectors.append(vector if len(vector) == size else vector[one.at : one.at + size])
        return vectors

    def note(self, objects: Iterable[int], shown: Iterable[Shown], servers: int, vectors: Vectors, at: int = 0) -> int:
        """Remember what some servers have shown of some objects, with MACs that begin there; where the next begin.

        ``vectors`` may come to hold those of more servers later.
        """
        for obj, (history, vector) in zip(objects, shown):  # noqa: B905 - an update's reply may show none
            if history is not None:
                self._remember(obj, Held(history, servers, vectors if vector else _NO_VECTORS, at))
            elif obj in self._objects:
                self._objects.move_to_end(obj)
            if vector:
                at += self._vector_bytes
        return at

    def _remember(self, obj: int, new: Held) -> None:
        self.changes += 1
        before = self._objects.get(obj)
        if before is not None:
            self._objects.move_to_end(obj)
        elif len(self._objects) >= _OBJECTS_KEPT:
            self._objects.popitem(last=False)
        self._objects[obj] = [new, *_without(before, new.servers, new)] if before else [new]

    def forget(self, obj: int, server: int) -> None:
        """Drop a history whose MACs may be bad: a liar could lock it in behind "unchanged" otherwise."""
        self.changes += 1
        if obj in self._objects:
            self._objects[obj] = _without(self._objects[obj], 1 << server)

    def forget_all(self, server: int) -> None:
        """Drop whatever a server has shown."""
        for obj in self._objects:
            self.forget(obj, server)


def _without(held: Sequence[Held], servers: int, joined: Held | None = None) -> list[Held]:
    """What is held of all other servers; those of the reply that ``joined`` is from are joined with it."""
    kept = []
    for one in held:
        one.servers &= ~servers
        if not one.servers:
            continue
        if joined is None or one.history is not joined.history or one.vectors is not joined.vectors:
            kept.append(one)
        else:
            joined.servers |= one.servers
    return kept


def history_set(obj: int, histories: Mapping[int, ReplicaHistory], servers: Iterable[int]) -> ObjectHistorySet:
    """The object history set of some of the servers that a client holds histories of."""
    return ObjectHistorySet.of(obj, histories, mask_of(list(servers)))
