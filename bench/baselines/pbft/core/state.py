"""The service's state: objects and last replies, executed upon batch by batch, all of it in memory and on disk.

Objects, methods and their execution are the project's own (:mod:`qunfs.protocol.execution`), and so is the storage: a
log in front of a map of rows.  What is logged are the batches themselves, one record for all of a wake-up; what they do
to the rows goes there when the log is full.  A state that finds records executes them again.

Rows: "r" object key, "c" client session for the last reply, "s" for the number of batches executed.
"""

import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import msgpack
from mypy_extensions import mypyc_attr

from bench.baselines.pbft.core.macs import DIGEST_BYTES, digest_of
from bench.baselines.pbft.core.messages import Entry, parse_batch_untrusted, parse_bundle_untrusted
from qunfs.protocol.errors import MalformedMessage, StorageError
from qunfs.protocol.execution import Code, run_query, run_update
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import MethodClass, Operation, Registry, parse_operation_untrusted
from qunfs.protocol.packing import pack
from qunfs.protocol.store import NO_ROWS, Overlay, Rows

SESSIONS_MAX: Final = 65_536
"""Last replies kept per client; the least recently executed go first."""
_OBJECT: Final = struct.Struct(">cQ")
_SESSION: Final = struct.Struct(">cI")
_LENGTH: Final = struct.Struct(">I")
_EXECUTED: Final = b"s"
_MODULUS: Final = 1 << (8 * DIGEST_BYTES)
_BAD: Final = (int(Code.BAD_ARGUMENT), b"")

Result = tuple[int, bytes]
"""Code and answer of one operation."""
_Value = bytes | tuple[int, int, bytes] | None
"""A row's value, packed or as it will be; None when the row is gone."""


class _Object:
    """One object's rows; None in the place of one that is gone."""

    __slots__ = ("keys", "prefix", "rows")

    def __init__(self, obj: int) -> None:
        self.prefix: Final = _OBJECT.pack(b"r", obj)
        self.rows: dict[bytes, bytes | None] = {}
        self.keys: list[bytes] = []

    def view(self) -> Overlay:
        return Overlay(NO_ROWS, self.prefix, self.rows, None, self.keys)


@mypyc_attr(allow_interpreted_subclasses=True)
class ServiceState:
    """What a replica executes on.  Raises StorageError when rows or log cannot be used."""

    def __init__(self, registry: Registry, rows: Rows) -> None:
        self._registry = registry
        self._rows = rows
        self.executed = 0
        """The sequence number of the newest batch."""
        self._objects: dict[int, _Object] = {}
        self._replies: dict[int, OrderedDict[bytes, tuple[int, int, bytes]]] = {}
        """By client and session: sequence, code and answer of the newest operation."""
        self._changed: dict[bytes, _Value] = {}
        """Rows whose change is not in the digest."""
        self._unapplied: dict[bytes, bytes | None] = {}
        """Rows whose change is, but not in the map."""
        self._unlogged: list[tuple[int, bytes]] = []
        self._row_hashes: dict[bytes, int] = {}
        self._sum = 0
        self._load()

    # ---- executing

    def execute(self, sequence: int, batch: bytes, entries: Sequence[Entry]) -> list[tuple[int, list[Result]] | None]:
        """Execute the next batch: for each bundle its number and results, None where there is nothing to reply.

        ``entries`` are those of ``batch``, which has all bundles in their places.
        """
        assert sequence == self.executed + 1, "batches are executed in order"
        self._unlogged.append((sequence, batch))
        self.executed = sequence
        return [self._execute_bundle(sequence, entry.client, entry.bundle) for entry in entries]

    def _execute_bundle(self, sequence: int, client: int, bundle: bytes) -> tuple[int, list[Result]] | None:
        try:
            number, packed = parse_bundle_untrusted(bundle)
            operations = [parse_operation_untrusted(operation) for operation in packed]
        except MalformedMessage:  # the client's own fault, and the same at every replica
            return None
        results: list[Result] = []
        for operation in operations:
            result = self._execute_once(sequence, client, operation)
            if result is None:
                return None
            results.append(result)
        return number, results

    def _execute_once(self, sequence: int, client: int, operation: Operation) -> Result | None:
        """The result, the one from before for a repeated operation, None for one that has been superseded."""
        replies = self._replies.get(client)
        if replies is None:
            replies = self._replies[client] = OrderedDict()
        session = operation.session
        last = replies.get(session)
        if last is not None:
            if last[0] >= operation.sequence:
                return last[1:] if last[0] == operation.sequence else None
            replies.move_to_end(session)
        code, answer = result = self._run(sequence, client, operation)
        reply = replies[session] = (operation.sequence, code, answer)
        self._changed[_SESSION.pack(b"c", client) + session] = reply
        if len(replies) > SESSIONS_MAX:
            oldest, _ = replies.popitem(last=False)
            self._changed[_SESSION.pack(b"c", client) + oldest] = None
        return result

    def _run(self, sequence: int, client: int, operation: Operation) -> Result:
        method = self._registry.find(operation.method, operation.version)
        if method is None:
            return _BAD
        views = {obj: self._object(obj).view() for obj in operation.objects}
        if method.kind is MethodClass.QUERY:
            execution = run_query(method, operation, views)
        elif operation.home in views:
            execution = run_update(method, operation, client, sequence, views, DEFAULT_LIMITS)
            if execution.effective:
                for obj, view in views.items():
                    self._change(self._objects[obj], view)
        else:
            return _BAD
        return int(execution.code), execution.answer

    def _change(self, held: _Object, view: Overlay) -> None:
        changes = view.changes()
        held.rows.update(changes)
        changed, prefix = self._changed, held.prefix
        for key, value in changes.items():
            changed[prefix + key] = value

    def repeat(self, client: int, bundle: bytes) -> tuple[int, list[Result]] | None:
        """Number and results of a bundle whose operations are the newest of their sessions."""
        number, packed = parse_bundle_untrusted(bundle)
        replies = self._replies.get(client) or OrderedDict()
        results: list[Result] = []
        for operation in map(parse_operation_untrusted, packed):
            last = replies.get(operation.session)
            if last is None or last[0] != operation.sequence:
                return None
            results.append(last[1:])
        return number, results

    def read(self, bundle: bytes) -> list[Result]:
        """The results of queries in the present state.  Raises MalformedMessage."""
        _, packed = parse_bundle_untrusted(bundle)
        results: list[Result] = []
        for operation in map(parse_operation_untrusted, packed):
            method = self._registry.find(operation.method, operation.version)
            if method is None or method.kind is not MethodClass.QUERY:
                results.append(_BAD)
            else:
                views = {obj: self._object(obj).view() for obj in operation.objects}
                execution = run_query(method, operation, views)
                results.append((int(execution.code), execution.answer))
        return results

    def _object(self, obj: int) -> _Object:
        held = self._objects.get(obj)
        if held is None:
            held = self._objects[obj] = _Object(obj)
        return held

    # ---- checkpoints

    def digest(self) -> bytes:
        """The digest of the state: of a sum of the hashes of all rows, as in the papers (AdHash)."""
        self._fold()
        return digest_of(self.executed.to_bytes(8, "big") + self._sum.to_bytes(DIGEST_BYTES, "big"))

    def _fold(self) -> None:
        """Bring the sum up to date; it costs what has changed."""
        hashes, total = self._row_hashes, self._sum
        for key, held in self._changed.items():
            value = pack(held) if type(held) is tuple else held
            assert not isinstance(value, tuple)
            self._unapplied[key] = value
            total -= hashes.pop(key, 0)
            if value is not None:
                new = hashes[key] = int.from_bytes(digest_of(_LENGTH.pack(len(key)) + key + value), "big")
                total += new
        self._changed.clear()
        self._sum = total % _MODULUS

    # ---- what is durable

    def commit(self) -> None:
        """Make everything executed so far durable.  Raises StorageError."""
        if self._unlogged:
            if self._rows.append(pack(self._unlogged), len(self._unapplied) + len(self._changed)):
                self._unlogged = []
            else:
                self.apply()

    def apply(self) -> None:
        """The same, in the rows; the log may begin anew."""
        self._fold()
        self._rows.apply(sorted([*self._unapplied.items(), (_EXECUTED, pack(self.executed))]))
        self._unapplied.clear()
        self._unlogged = []

    def _load(self) -> None:
        """What an earlier process left: rows, and the batches behind them."""
        for key, value in self._rows.scan(b""):
            self._load_row(key, value)
        try:
            for record in self._rows.recovered():
                for sequence, batch in msgpack.unpackb(record, use_list=False):
                    self.execute(sequence, batch, parse_batch_untrusted(batch))
        except (MalformedMessage, ValueError, TypeError, AssertionError) as error:
            raise StorageError(f"the log does not fit the stored data ({error}): begin with an empty one") from error
        self._unlogged = []

    def _load_row(self, key: bytes, value: bytes) -> None:
        kind = key[:1]
        if kind == _EXECUTED:
            self.executed = msgpack.unpackb(value)
        elif kind == b"c":
            reply: Any = msgpack.unpackb(value, use_list=False)
            _, client = _SESSION.unpack_from(key)
            self._replies.setdefault(client, OrderedDict())[key[_SESSION.size :]] = reply
            self._changed[key] = reply
        else:
            self._object(_OBJECT.unpack_from(key)[1]).rows[key[_OBJECT.size :]] = value
            self._changed[key] = value
