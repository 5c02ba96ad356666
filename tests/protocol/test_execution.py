"""Exactly once: the home object remembers, versioned and copied like the rest of its state."""

from collections.abc import Sequence

import pytest

from qunfs.protocol.execution import Code, Execution, run_query, run_update
from qunfs.protocol.history import Kind, LogicalTimestamp
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Status
from qunfs.protocol.operation import Method, Operation
from qunfs.protocol.store import MemoryRows, Overlay
from qunfs.protocol.versions import VersionStore
from tests.protocol.scripted import CREDENTIALS, A, B, Scripted, altered
from tests.simulation.objects import SIMULATED, pack, unpack

CLIENT = 4


class Objects:
    """Versions of two objects, one update after the other."""

    def __init__(self) -> None:
        self._store = VersionStore(MemoryRows(), {})
        self._heads: dict[int, LogicalTimestamp] = {}
        self._time = 0

    def views(self, objects: Sequence[int]) -> dict[int, Overlay]:
        return {o: self._store.open(o, self._heads.get(o, LogicalTimestamp(0, 0, 0, bytes(32)))) for o in objects}

    def run(self, operation: Operation, client: int = CLIENT) -> Execution:
        """Run an update as a replica does, keeping its version when there is one."""
        self._time += 1
        views = self.views(operation.objects)
        execution = run_update(_method(operation), operation, client, self._time, views, DEFAULT_LIMITS)
        if execution.effective:
            lt = LogicalTimestamp(self._time, 0, client, bytes(32))
            for obj, view in views.items():
                parent = self._heads.get(obj, LogicalTimestamp(0, 0, 0, bytes(32)))
                self._store.add_version(obj, lt, parent, view.changes(), execution.answer)
            self._heads.update(dict.fromkeys(views, lt))
        return execution

    def ledger(self, obj: int) -> list[bytes]:
        operation = Operation((obj,), ("ledger",), "ledger.fetch", 1, pack(None), CREDENTIALS)
        execution = run_query(_method(operation), operation, self.views((obj,)))
        assert execution.code is Code.OK
        return list(unpack(execution.answer)[0])


def _method(operation: Operation) -> Method:
    method = SIMULATED.find(operation.method, operation.version)
    assert method is not None
    return method


def _append(name: bytes, sequence: int, objects: tuple[int, ...] = (A,), session: int = 1, home: int = 0) -> Operation:
    kinds = ("ledger",) * len(objects)
    return Operation(
        objects,
        kinds,
        "ledger.append",
        1,
        pack((name, None)),
        CREDENTIALS,
        0,
        home or objects[0],
        bytes([session]) * 16,
        sequence,
    )


def test_a_repeat_gets_the_answer_and_runs_nothing() -> None:
    objects = Objects()
    first = objects.run(_append(b"x", 1))
    assert (first.code, first.effective) == (Code.OK, True)
    again = objects.run(_append(b"x", 1))
    assert (again.code, again.answer, again.effective) == (first.code, first.answer, False)
    assert objects.ledger(A) == [b"x"]


def test_the_home_remembers_whatever_objects_a_reissue_has() -> None:
    """The duplicate cache of a fixed home: with that of the lowest object a re-issue would run again (drc.py)."""
    objects = Objects()
    first = objects.run(_append(b"rename", 1, (A, B), home=B))
    again = objects.run(_append(b"rename", 1, (A - 1, A, B), home=B))
    assert (again.code, again.answer, again.effective) == (first.code, first.answer, False)
    alone = objects.run(_append(b"rename", 1, (B,), home=B))
    assert (alone.code, alone.answer, alone.effective) == (first.code, first.answer, False)
    assert (objects.ledger(A), objects.ledger(A - 1)) == ([b"rename"], [])


def test_an_operation_overtaken_by_its_session_is_stale() -> None:
    objects = Objects()
    objects.run(_append(b"x", 5))
    stale = objects.run(_append(b"y", 4))
    assert (stale.code, stale.effective) == (Code.STALE, False)


def test_clients_and_sessions_are_told_apart() -> None:
    objects = Objects()
    assert objects.run(_append(b"x", 1)).effective
    assert objects.run(_append(b"y", 1, session=2)).effective
    assert objects.run(_append(b"z", 1), client=CLIENT + 1).effective
    assert objects.ledger(A) == [b"x", b"y", b"z"]


def test_a_client_that_fills_the_cache_evicts_its_own_oldest_sessions_only() -> None:
    objects = Objects()
    objects.run(_append(b"theirs", 1), client=CLIENT + 1)
    for session in range(1, 2 + DEFAULT_LIMITS.sessions_per_client):
        assert objects.run(_append(b"x", 1, session=session)).effective
    assert not objects.run(_append(b"theirs", 1), client=CLIENT + 1).effective
    assert not objects.run(_append(b"x", 1, session=2)).effective
    assert objects.run(_append(b"x", 1, session=1)).effective, "the least recent session went"


def test_a_refusal_makes_no_version_and_is_not_remembered() -> None:
    objects = Objects()
    picky = altered(_append(b"x", 1), argument=pack((b"x", [3])))
    refused = objects.run(picky)
    assert (refused.code, refused.effective) == (Code.FAILED, False)
    assert unpack(refused.answer) == ("no", (0,))
    assert objects.run(_append(b"x", 1)).effective


def test_types_are_fixed_by_the_first_update() -> None:
    objects = Objects()
    objects.run(_append(b"x", 1))
    other = altered(_append(b"y", 2), types=("counter",), method="counter.increment", argument=pack(None))
    assert objects.run(other).code is Code.WRONG_TYPE


@pytest.mark.parametrize("argument", [b"", b"\xc1", pack(None), pack(7), pack((b"x",)), pack((b"x", "nonsense", 3))])
def test_bad_arguments_are_an_answer(argument: bytes) -> None:
    execution = Objects().run(altered(_append(b"x", 1), argument=argument))
    assert (execution.code, execution.effective) == (Code.BAD_ARGUMENT, False)


# ---- through repair

ALL = range(5)


def test_an_update_that_its_own_repair_copied_forward_runs_once() -> None:
    """Three servers took it; the client saw a failure, repaired it forward and issues it again."""
    world = Scripted()
    request = world.request(Kind.METHOD, (A, B))
    assert world.send(request, (0, 1, 2)) == [Status.ACCEPTED] * 3
    assert world.send(world.request(Kind.BARRIER, (A, B)), ALL) == [Status.ACCEPTED] * 5
    assert world.send(world.request(Kind.COPY, (A, B)), ALL) == [Status.ACCEPTED] * 5
    again = world.request(Kind.METHOD, (A, B))
    again = altered(again, operation=request.operation, session=request.session)
    for server in ALL:
        reply = world.reply_to(again, server)
        assert reply is not None
        assert (reply.status, unpack(reply.answer)) == (Status.ANSWERED, ("ok", (0, 0)))
    assert world.oracles.entries(A) == world.oracles.entries(B) == (b"x1",)


def test_a_repeated_request_gets_the_stored_answer() -> None:
    """Figure 3, line 1005: the same request again, also after the history has moved on and the version is pruned."""
    world = Scripted()
    request = world.request(Kind.METHOD, (A,))
    first = world.reply_to(request, 0)
    world.send(request, ALL)
    for _ in range(3):
        world.send(world.request(Kind.METHOD, (A,)), ALL)
    again = world.reply_to(request, 0)
    assert first is not None
    assert again is not None
    assert (again.status, again.answer) == (Status.ACCEPTED, first.answer)
    assert len(world.oracles.entries(A)) == 4
