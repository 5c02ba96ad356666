"""That the baseline's replicas keep what they have executed, on the disk as in memory, and execute it once."""

from pathlib import Path

import msgpack
import pytest

from bench.baselines.pbft.core.messages import Entry, pack_batch, pack_bundle, request_digest
from bench.baselines.pbft.core.state import ServiceState
from qunfs.objects import REGISTRY
from qunfs.protocol.execution import Code
from qunfs.protocol.operation import Credentials, Operation
from qunfs.protocol.store import MemoryRows
from server.disk_rows import DiskRows

SESSION = b"s" * 16


def operation(obj: int, sequence: int, step: object = None, session: bytes = SESSION, home: int | None = None) -> bytes:
    home = obj if home is None else home
    argument = msgpack.packb(step)
    names = ((obj,), ("counter",), "counter.increment", 1)
    return Operation(*names, argument, Credentials(0, 0), 0, home, session, sequence).wire


def execute(state: ServiceState, *operations: bytes, client: int = 1, number: int = 1):
    bundle = pack_bundle(number, operations)
    entries = [Entry(client, 0, bundle, request_digest(client, bundle))]
    (result,) = state.execute(state.executed + 1, pack_batch(entries), entries)
    state.commit()
    return None if result is None else [(code, answer and msgpack.unpackb(answer)) for code, answer in result[1]]


def test_an_operation_runs_once() -> None:
    state = ServiceState(REGISTRY, MemoryRows())
    assert execute(state, operation(5, 1)) == [(Code.OK, 1)]
    assert execute(state, operation(5, 1)) == [(Code.OK, 1)]
    assert execute(state, operation(5, 2)) == [(Code.OK, 2)]
    assert execute(state, operation(5, 1)) is None, "superseded"
    assert execute(state, operation(5, 1), client=2) == [(Code.OK, 3)]


def test_a_refusal_is_remembered_too() -> None:
    """It would not be the same again after other operations."""
    state = ServiceState(REGISTRY, MemoryRows())
    assert execute(state, operation(5, 1, -1)) == [(Code.FAILED, 0)]
    assert execute(state, operation(5, 1, 10, b"o" * 16)) == [(Code.OK, 10)]
    assert execute(state, operation(5, 1, -1)) == [(Code.FAILED, 0)]


def test_what_makes_no_sense_changes_nothing() -> None:
    state = ServiceState(REGISTRY, MemoryRows())
    assert execute(state, operation(5, 1, "one")) == [(Code.BAD_ARGUMENT, b"")]
    assert execute(state, operation(5, 2, home=0)) == [(Code.BAD_ARGUMENT, b"")]
    assert execute(state, b"nonsense") is None
    assert execute(state, operation(5, 3)) == [(Code.OK, 1)]


def test_the_digest_is_of_the_state_and_not_of_how_often_it_was_asked_for() -> None:
    often, seldom, other = (ServiceState(REGISTRY, MemoryRows()) for _ in range(3))
    for sequence in range(1, 20):
        for state in (often, seldom):
            execute(state, operation(sequence % 3 + 1, sequence))
        execute(other, operation(sequence % 4 + 1, sequence))
        often.digest()
    assert often.digest() == seldom.digest() != other.digest()


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("rows_max", [1, 5, 1000])
def test_a_killed_replica_finds_everything_again(tmp_path: Path, durability: str, rows_max: int) -> None:
    rows = DiskRows(tmp_path, durability, rows_max=rows_max)
    state = ServiceState(REGISTRY, rows)
    for sequence in range(1, 30):
        execute(state, operation(sequence % 3 + 1, sequence, session=bytes((sequence % 5,)) * 16))
    digest = state.digest()
    rows.close()  # without applying anything
    again = ServiceState(REGISTRY, DiskRows(tmp_path, durability))
    assert again.executed == 29
    assert again.digest() == digest
    assert execute(again, operation(29 % 3 + 1, 29, session=bytes((29 % 5,)) * 16)) == [(Code.OK, 10)]


def test_a_wake_up_is_one_record() -> None:
    appended = []

    class Rows(MemoryRows):
        def append(self, record: bytes, waiting: int) -> bool:
            appended.append(record)
            return super().append(record, waiting)

    state = ServiceState(REGISTRY, Rows())
    for sequence in range(1, 4):
        bundle = pack_bundle(1, [operation(5, sequence)])
        entries = [Entry(1, 0, bundle, request_digest(1, bundle))]
        state.execute(sequence, pack_batch(entries), entries)
    state.commit()
    state.commit()
    assert len(appended) == 1
