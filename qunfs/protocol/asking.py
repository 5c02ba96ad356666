"""Asking one server something for which no quorum is needed: how it is, what it holds."""

from typing import Any, Final

from qunfs.protocol.messages import Query, QueryReply, Reply, Roll, RollReply, StatusQuery, StatusReply
from qunfs.protocol.quorum_rpc import Alike, Phase
from qunfs.protocol.steps import Running

Question = Query | Roll | StatusQuery

_REPLIES: Final[dict[type[Any], type[Any]]] = {Query: QueryReply, Roll: RollReply, StatusQuery: StatusReply}


class _Ask(Phase):
    """One question to one server; ends with its reply, whatever that says."""

    __slots__ = ("_question", "_wanted")

    def __init__(self, server: int, question: Question) -> None:
        objects = tuple([item.objects for item in question.items]) if isinstance(question, Query) else ()
        super().__init__("ASK", (server,), objects)
        self._question: Final = question
        self._wanted: Final[type[Any]] = _REPLIES[type(question)]

    def message(self, _server: int) -> bytes:
        return self._question.pack(self.number)

    def note(self, _alike: Alike, _servers: int) -> None:
        """Nothing to remember."""

    def judge(self, _final: bool) -> Reply | None:
        for alike in self.alike:
            if type(alike.reply) is self._wanted:
                return alike.reply
        return None


def ask(server: int, question: Question) -> Running:
    """The reply of a server, which may lie; never ends when there is none."""
    return (yield _Ask(server, question))
