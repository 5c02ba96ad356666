"""What speaks against servers: which lies were seen, how often, when, and whether they prove anything.

Most of what looks wrong can be honest.  A crash without sync durability, or pruning, makes a history shorter; a loaded
machine is late; a server whose answer came by object sync has none.  Evidence is *proof* when, with at most b liars, no
correct server can have left it; all else is *suspicion*.  Only the order in which servers are asked follows from it.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from qunfs.protocol.quorum import QuorumSystem, mask_of

_DETAIL_MAX: Final = 120
"""Characters kept of what a malformed message had wrong, in which a liar has a say."""


class Ground(Enum):
    """Why a server is suspected."""

    WRONG_ANSWER = "wrong-answer"
    """It answered otherwise than more servers than can lie, for the same candidate or version: methods are
    deterministic, and who has not run the method says so."""
    BAD_MACS = "bad-macs"
    """Other servers refused its histories for their MACs."""
    COMPLAINTS = "complaints"
    """It refused histories of other servers: the other side of BAD_MACS."""
    FUTURE = "future-times"
    """It showed a time which no correct clock allows yet, if that of whoever noticed is right."""
    MALFORMED = "malformed"
    """It sent what no correct server sends, over a connection that only its key can open."""
    WRONG_DATA = "wrong-data"
    """It gave a replica other contents of a version, or another answer, than more servers than can lie."""
    DENIED = "denied"
    """It said that it has accepted what the histories it showed along with that lack.  A correct server can: it
    remembers the answer to a contender that a repair has since skipped."""
    SILENT = "silent"
    """It was connected, was asked again after a while without a word, and was late again."""


_PROOF: Final = (Ground.WRONG_ANSWER, Ground.MALFORMED, Ground.WRONG_DATA)
"""What a correct server never does, whatever others say of it."""


class Finding(NamedTuple):
    """Everything of one kind that speaks against one server; times in nanoseconds since the epoch."""

    server: int
    ground: Ground
    proof: bool
    times: int
    first_ns: int
    last_ns: int
    text: str
    others: tuple[int, ...] = ()
    """The servers that it disagrees with, if that is what speaks against it."""


class _Entry:
    """How often, when, and what it was."""

    __slots__ = ("count", "detail", "first_ns", "last_ns")

    def __init__(self, first_ns: int) -> None:
        self.count = 0
        self.first_ns: Final = first_ns
        self.last_ns = first_ns
        self.detail = ""


class Evidence:
    """What one client, or one replica, has seen of the servers."""

    def __init__(self, quorums: QuorumSystem) -> None:
        self._quorums = quorums
        self._entries: dict[tuple[int, Ground, int], _Entry] = {}
        """By server, ground and, when two servers disagree, the other one."""
        self._opponents: dict[int, int] = {}
        """Per server the bitmap of those of which one says that the other's MACs are bad: one of each pair lies."""
        self._proven = 0

    def note(self, server: int, ground: Ground, wall_ns: int, detail: str = "") -> None:
        """One more thing that speaks against a server."""
        self._count(server, ground, server, wall_ns, detail)
        if ground in _PROOF:
            self._proven |= 1 << server

    def disagree(self, issuer: int, reporter: int, wall_ns: int) -> None:
        """A server refused a history of another's."""
        self._count(issuer, Ground.BAD_MACS, reporter, wall_ns)
        self._count(reporter, Ground.COMPLAINTS, issuer, wall_ns)
        for one, other in ((issuer, reporter), (reporter, issuer)):
            self._opponents[one] = self._opponents.get(one, 0) | 1 << other

    def is_proven(self, server: int) -> bool:
        """Whether a server has done what a correct one cannot."""
        return self._proven >> server & 1 == 1 or self._is_outvoted(server)

    def findings(self) -> list[Finding]:
        """All of it, by server; of two that disagree, one that lies or that more disagree with explains it."""
        found: list[Finding] = []
        for server in range(self._quorums.n):
            for ground in Ground:
                others = [o for s, g, o in self._entries if s == server and g is ground]
                if ground in (Ground.BAD_MACS, Ground.COMPLAINTS) and not self._is_outvoted(server):
                    others = [other for other in others if not self.is_proven(other)]
                if others:
                    found.append(self._finding(server, ground, sorted(others)))
        return found

    def _count(self, server: int, ground: Ground, other: int, wall_ns: int, detail: str = "") -> None:
        entry = self._entries.get((server, ground, other))
        if entry is None:
            entry = self._entries[server, ground, other] = _Entry(wall_ns)
        entry.count += 1
        entry.last_ns = wall_ns
        entry.detail = detail or entry.detail

    def _is_outvoted(self, server: int) -> bool:
        """Whether a server disagrees with more than can lie.

        Not all of them lie, so it does: correct servers hold nothing against each other's MACs.
        """
        return self._quorums.exceeds_malevolent(self._opponents.get(server, 0))

    def _finding(self, server: int, ground: Ground, others: list[int]) -> Finding:
        entries = [self._entries[server, ground, other] for other in others]
        count = sum([entry.count for entry in entries])
        first, last = min([entry.first_ns for entry in entries]), max([entry.last_ns for entry in entries])
        disagree = ground in (Ground.BAD_MACS, Ground.COMPLAINTS)
        outvoted = disagree and self._is_outvoted(server)
        proof = outvoted or ground in _PROOF
        text = text_of(ground, count, others, entries[0].detail, outvoted)
        return Finding(server, ground, proof, count, first, last, text, tuple(others) if disagree else ())


def is_vouched_for(quorums: QuorumSystem, server: int, tellers: Iterable[int]) -> bool:
    """Whether what these servers tell against another is proof: some of them could be liars, and agree on a lie."""
    return quorums.exceeds_malevolent(mask_of([teller for teller in set(tellers) if teller != server]))


def text_of(ground: Ground, count: int, others: Sequence[int], detail: str, outvoted: bool = False) -> str:
    """A finding in words, to follow on the server's number; ``outvoted`` by others, more than can lie."""
    who = "one of the two lies, nobody can tell which"
    if outvoted:
        who = "more than can lie, so it lies"
    elif len(others) > 1:
        who = "it lies or all of these do"
    named = f"server{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}"
    if ground is Ground.WRONG_ANSWER:
        return f"{count} answers differed from what more servers than can lie gave for the same candidate or version"
    if ground is Ground.BAD_MACS:
        return f"the MACs of its histories were refused by {named}: {who}"
    if ground is Ground.COMPLAINTS:
        return f"it refused the MACs of histories of {named}: {who}"
    if ground is Ground.MALFORMED:
        last = f", the last: {detail[:_DETAIL_MAX]}" if detail else ""
        return f"{count} messages that no correct server sends, and the connection closed each time{last}"
    if ground is Ground.WRONG_DATA:
        return f"{count} object syncs or vouchings differed from what more servers than can lie agree on"
    if ground is Ground.FUTURE:
        return f"{count} times it showed a time that no correct clock allows yet, unless that of this machine is wrong"
    if ground is Ground.DENIED:
        return f"{count} times it said that it has accepted what the history it showed lacks; after repairs some may"
    return f"late {count} times with nothing said for seconds before, though connected: slow, stopped or silent"
