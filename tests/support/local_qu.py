"""The update core without replication: the real methods and the real duplicate cache, on rows in memory.

Every method is run twice on the same state and must do the same, and every update is issued again and must have no
further effect: what replicas rely on is checked wherever a test uses this.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgpack
import trio

from qunfs.protocol.execution import Code, Execution, run_query, run_update
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import (
    Answer,
    Call,
    Context,
    Credentials,
    Method,
    MethodClass,
    Operation,
    Registry,
    parse_operation_untrusted,
)
from qunfs.protocol.store import MemoryRows, Overlay

START_NS = 1_700_000_000_000_000_000
_PREFIX = b"."  # overlays need one

Hook = Callable[[], Awaitable[object]]


class CountingRows(MemoryRows):
    """Rows that count what is done to them, and the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def get(self, key: bytes) -> bytes | None:
        value = super().get(key)
        self.counts["get"] += 1
        self.counts["bytes read"] += len(value or b"")
        return value

    def put(self, key: bytes, value: bytes) -> None:
        self.counts["put"] += 1
        self.counts["bytes written"] += len(key) + len(value)
        super().put(key, value)

    def delete(self, key: bytes) -> None:
        self.counts["delete"] += 1
        super().delete(key)

    def scan(self, start: bytes, stop: bytes | None = None):
        for item in super().scan(start, stop):
            self.counts["scan"] += 1
            self.counts["bytes read"] += len(item[1])
            yield item


class State:
    """The objects that all clients share, and the clock."""

    def __init__(self, registry: Registry, genesis: Mapping[int, Mapping[bytes, bytes]]) -> None:
        self.registry = registry
        self.rows: dict[int, CountingRows] = {}
        self.logical_time = 0
        self.now = START_NS
        for obj, rows in genesis.items():
            for key, value in rows.items():
                self.put(obj, key, value)

    def get(self, obj: int, key: bytes) -> bytes | None:
        return self.rows_of(obj).get(_PREFIX + key)

    def put(self, obj: int, key: bytes, value: bytes | None) -> None:
        """Set a row, or remove it with None."""
        if value is None:
            self.rows_of(obj).delete(_PREFIX + key)
        else:
            self.rows_of(obj).put(_PREFIX + key, value)

    def rows_of(self, obj: int) -> CountingRows:
        return self.rows.setdefault(obj, CountingRows())

    def views(self, objects: tuple[int, ...]) -> dict[int, Overlay]:
        return {obj: Overlay(self.rows_of(obj), _PREFIX, {}) for obj in objects}

    def dump(self) -> dict[int, dict[bytes, bytes]]:
        """Every object that is there, without what the protocol keeps."""
        dumped = {o: {k[1:]: v for k, v in rows.scan(_PREFIX + b"\x01")} for o, rows in self.rows.items()}
        return {obj: rows for obj, rows in dumped.items() if rows}

    def row_operations(self) -> Counter[str]:
        return sum((rows.counts for rows in self.rows.values()), Counter())


class LocalQu:
    """QueryUpdate of one client; ``other_client`` gives one more on the same state.

    A hook in ``before_update`` or ``before_query`` runs once, before the next such call takes effect: what another
    client does at just that moment.  ``trips`` counts calls, ``methods`` what ran.
    """

    def __init__(
        self, registry: Registry, genesis: Mapping[int, Mapping[bytes, bytes]] | None = None, state: State | None = None
    ) -> None:
        self.state = state or State(registry, genesis or {})
        self.client = 1
        self.session = bytes(15) + b"\x01"
        self.sequence = 0
        self.trips = 0
        self.methods: Counter[str] = Counter()
        self.before_update: list[Hook] = []
        self.before_query: list[Hook] = []
        self.last: Operation | None = None

    def other_client(self, client: int = 2) -> "LocalQu":
        other = LocalQu(self.state.registry, state=self.state)
        other.client, other.session = client, bytes(15) + bytes((client,))
        return other

    async def query(self, *calls: Call) -> list[Answer]:
        await trio.lowlevel.checkpoint()
        if self.before_query:
            await self.before_query.pop(0)()
        self.trips += 1
        return [self._query(call) for call in calls]

    async def update(self, call: Call) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.before_update:
            await self.before_update.pop(0)()
        self.trips += 1
        self.state.now += 1_000
        self.sequence += 1
        operation = self._operation(call)
        for obj in call.fresh:
            assert obj in operation.objects
        assert call.home in operation.objects, "an update must name its home"
        self.last = operation
        return self.issue(operation)

    def issue(self, operation: Operation) -> bytes:
        """Run an update, and again as a lost reply would have it."""
        answer = self._issue_once(operation)
        before = self.state.dump()
        if not answer.effective:
            return answer.answer
        again = self._issue_once(operation)
        assert (again.answer, again.effective) == (answer.answer, False)
        assert self.state.dump() == before or len(before) > 200
        return answer.answer

    def _issue_once(self, operation: Operation) -> Execution:
        self.state.logical_time += 1
        method = self._method(operation, MethodClass.UPDATE)
        runs = []
        for _ in range(2):
            views = self.state.views(operation.objects)
            execution = run_update(method, operation, self.client, self.state.logical_time, views, DEFAULT_LIMITS)
            runs.append((execution, {obj: view.changes() for obj, view in views.items()}))
        assert runs[0] == runs[1], f"{operation.method} is not deterministic"
        execution, changes = runs[0]
        self._demand_sound(method, operation, execution)
        if execution.effective:
            for obj, difference in changes.items():
                for key, value in difference.items():
                    self.state.put(obj, key, value)
        assert len(execution.answer) <= DEFAULT_LIMITS.answer_bytes_max
        return execution

    def _query(self, call: Call) -> Answer:
        operation = self._operation(call)
        method = self._method(operation, MethodClass.QUERY)
        execution = self._run_query(method, operation)
        target = method.follow(execution.answer) if method.follow and execution.code is Code.OK else None
        if target is None:
            return Answer(execution.answer)
        obj, kind, name = target
        followed = Operation((obj,), (kind,), name, 1, b"\xc0", call.credentials)
        return Answer(execution.answer, self._run_query(self._method(followed, MethodClass.QUERY), followed).answer)

    def _run_query(self, method: Method, operation: Operation) -> Execution:
        views = self.state.views(operation.objects)
        execution = run_query(method, operation, views)
        self._demand_sound(method, operation, execution)
        assert not any(view.changes() for view in views.values()), f"{operation.method} is a query and writes"
        return execution

    def _demand_sound(self, method: Method, operation: Operation, execution: Execution) -> None:
        """Fail with the method's own exception where replicas would answer BAD_ARGUMENT."""
        if execution.code is Code.BAD_ARGUMENT:
            argument = msgpack.unpackb(operation.argument, use_list=False)
            context = Context(operation.objects, argument, operation.credentials, operation.client_time)
            method.body(self.state.views(operation.objects), context)
        assert execution.code in (Code.OK, Code.FAILED), f"{operation.method}: {execution.code.name}"

    def _operation(self, call: Call) -> Operation:
        objects, types = zip(*sorted(call.objects), strict=True)
        operation = Operation(objects, types, call.method, call.version, call.argument, call.credentials)
        if call.home:
            operation = Operation(
                objects,
                types,
                call.method,
                call.version,
                call.argument,
                call.credentials,
                self.state.now,
                call.home,
                self.session,
                self.sequence,
            )
        return parse_operation_untrusted(operation.wire)

    def _method(self, operation: Operation, kind: MethodClass) -> Method:
        method = self.state.registry.find(operation.method, operation.version)
        assert method is not None, f"no method {operation.method}"
        assert method.kind is kind, f"{operation.method} is no {kind.name.lower()}"
        self.methods[operation.method] += 1
        return method


ROOT_CREDENTIALS = Credentials(0, 0)
