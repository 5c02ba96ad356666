"""What must hold of the disks is noticed when it does not."""

from types import SimpleNamespace
from typing import Any

import pytest

from qunfs.protocol.history import ZERO, ZERO_TIMESTAMP, Candidate, LogicalTimestamp, ReplicaHistory, method
from qunfs.protocol.quorum import threshold
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.versions import VersionStore
from tests.faults.stores import Stores
from tests.simulation.oracles import Violation

A, B = 7, 8


def at(time: int, client: int = 1) -> LogicalTimestamp:
    return LogicalTimestamp(time, 0, client, bytes(32))


FIRST = method(at(1), (A, B), (ZERO_TIMESTAMP, ZERO_TIMESTAMP))
SECOND = method(at(2), (A,), (at(1),))


def accept(store: VersionStore, record: Candidate, content: bytes = b"x", answer: bytes = b"y") -> None:
    for obj in record.objects:
        store.add_version(obj, record.lt, record.conditioned_on(obj), {b"n": content}, answer)
        store.set_history(obj, ReplicaHistory((*store.history(obj).records, record)))


def six(lacking: int = 0) -> list[VersionStore]:
    """Stores of which all but the last few hold the second record."""
    made = [VersionStore(MemoryRows(), {}) for _ in range(6)]
    for number, store in enumerate(made):
        accept(store, FIRST)
        if number < 6 - lacking:
            accept(store, SECOND)
    return made


def check(stores: list[VersionStore], liars: int = 0) -> Stores:
    cluster: Any = SimpleNamespace(n=6, quorums=threshold(1))
    honest: Any = dict(enumerate(stores[: 6 - liars]))
    checked = Stores(cluster, honest)
    checked.check([A, B])
    return checked


@pytest.mark.parametrize(("lacking", "liars"), [(0, 0), (1, 0), (1, 1)])
def test_stores_that_agree(lacking: int, liars: int) -> None:
    checked = check(six(lacking), liars)
    assert checked.views((A,))[A].get(b"n") == b"x"
    assert checked.seen["objects in stores that lag"] == max(0, lacking - liars)


def test_a_partly_accepted_record_is_not_established() -> None:
    checked = check(six(lacking=4))
    assert checked.seen["history records that are not established"] == 2


def test_other_content() -> None:
    stores = six(lacking=1)
    accept(stores[5], SECOND, content=b"z")
    with pytest.raises(Violation, match="other content at server 5"):
        check(stores)


def test_another_answer() -> None:
    stores = six(lacking=1)
    accept(stores[5], SECOND, answer=b"z")
    with pytest.raises(Violation, match="another answer at server 5"):
        check(stores)


def test_a_version_that_was_fetched_has_no_answer() -> None:
    stores = six(lacking=1)
    accept(stores[5], SECOND, answer=b"")
    check(stores)


def test_two_records_at_one_time() -> None:
    stores = six(lacking=1)
    accept(stores[5], method(at(2), (A,), (ZERO_TIMESTAMP,)))
    with pytest.raises(Violation, match="two records"):
        check(stores)


def test_a_base_that_is_not_in_a_quorum() -> None:
    stores = six(lacking=5)
    stores[0].set_history(A, ReplicaHistory((SECOND,)))
    with pytest.raises(Violation, match="visibility"):
        check(stores)


def test_a_fork() -> None:
    stores = six()
    rival = method(at(3, 2), (A,), (at(1),))
    for store in stores[:5]:
        store.add_version(A, rival.lt, at(1), {b"n": b"z"}, b"y")
        store.set_history(A, ReplicaHistory((FIRST, rival)))
    stores[5].set_history(A, ReplicaHistory((SECOND,)))
    with pytest.raises(Violation, match="fork"):
        check(stores)


def test_half_of_an_operation() -> None:
    stores = six()
    both = method(at(3), (A, B), (at(2), at(1)))
    for store in stores:
        store.add_version(A, both.lt, at(2), {b"n": b"z"}, b"y")
        store.set_history(A, ReplicaHistory((SECOND, both)))
    with pytest.raises(Violation, match="atomicity"):
        check(stores)


def test_everything_lost() -> None:
    checked = check([VersionStore(MemoryRows(), {}) for _ in range(6)])
    assert checked.stores[0].history(A).latest == ZERO
    assert checked.views((A,))[A].get(b"n") is None
