"""The replica's half of queries (DESIGN section 3, "Queries").

Queries change nothing and are run on what the store holds: the newest version of each object, or one asked for by name.
"""

from collections.abc import Sequence
from typing import Final

from qunfs.protocol.admission import Rights, credentials_refusal
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.errors import MalformedMessage, VersionMissing
from qunfs.protocol.execution import Code, run_query
from qunfs.protocol.history import LT_BYTES, LogicalTimestamp, ReplicaHistory, unpack_timestamp
from qunfs.protocol.messages import HELD_BYTES, Body, QueryItem, ResultParts
from qunfs.protocol.operation import MethodClass, Operation, Registry, parse_operation_untrusted
from qunfs.protocol.store import StoreView
from qunfs.protocol.sync import rows_digest

_OK: Final = Code.OK
_QUERY: Final = MethodClass.QUERY
_UNCHANGED: Final = (None, False)
"""A history that the client holds, in the body of a reply."""


class Reader:
    """Answers the queries of a replica's clients."""

    __slots__ = ("_authenticator", "_registry", "_store")

    def __init__(self, store: StoreView, registry: Registry, authenticator: Authenticator) -> None:
        self._store, self._registry, self._authenticator = store, registry, authenticator

    def answer(self, items: Sequence[QueryItem], rights: Rights | None, bytes_max: int) -> ResultParts:
        """The results for somebody with these rights, if any.  Raises MalformedMessage when they outgrow a reply."""
        parts = ResultParts()
        for item in items:
            if parts.size >= bytes_max:
                raise MalformedMessage("queries with more to answer than a reply can hold")
            self._answer_item(item, rights, parts)
        return parts

    def _answer_item(self, item: QueryItem, rights: Rights | None, parts: ResultParts) -> None:
        objects, held, wire, named, want_auth, whole = item
        lts: list[LogicalTimestamp] = []
        heads: list[bytes] = []
        shown: list[Body] = []
        for place, obj in enumerate(objects):
            history = self._store.history(obj)
            lts.append(history.head.lt)
            heads.append(history.head.packed_lt)
            if held[place] and history.digest[:HELD_BYTES] == held[place]:
                shown.append(_UNCHANGED)
            else:
                shown.append(parts.show(history, self._vector(obj, history) if want_auth else b""))
        if not wire:
            parts.add(_OK, heads, b"", shown)
            return
        operation = parse_operation_untrusted(wire)
        method = self._registry.find(operation.method, operation.version)
        if (
            method is None
            or method.kind is not _QUERY
            or operation.objects != objects
            or rights is None
            or credentials_refusal(rights, operation) is not None
        ):
            parts.add(Code.BAD_ARGUMENT, heads, b"", shown)
            return
        if named:
            lts = [unpack_timestamp(named, place * LT_BYTES) for place in range(len(objects))]
            heads = [named[place * LT_BYTES : (place + 1) * LT_BYTES] for place in range(len(objects))]
        try:
            views = {obj: self._store.open(obj, lts[place]) for place, obj in enumerate(objects)}
            execution = run_query(method, operation, views)
        except VersionMissing:
            parts.add(Code.NO_VERSION, heads, b"", shown)
            return
        answer = execution.answer if whole else rows_digest(((execution.answer, None),), False)
        onward = None
        if method.follow is not None and execution.code is _OK:
            onward = self._follow(method.follow(execution.answer), operation, want_auth, parts)
        parts.add(execution.code, heads, answer, shown, onward)

    def _follow(
        self, target: tuple[int, str, str] | None, operation: Operation, want_auth: bool, parts: ResultParts
    ) -> Body | None:
        if target is None:
            return None
        obj, kind, name = target
        follower = self._registry.find(name, operation.version)
        if follower is None:
            return None
        history = self._store.history(obj)
        head = history.head
        onward = Operation((obj,), (kind,), name, operation.version, b"\xc0", operation.credentials)
        result = run_query(follower, onward, {obj: self._store.open(obj, head.lt)})
        shown = parts.show(history, self._vector(obj, history) if want_auth else b"")
        return obj, shown, head.packed_lt, result.code, result.answer

    def _vector(self, obj: int, history: ReplicaHistory) -> bytes:
        return self._authenticator.tags(obj, history).vector
