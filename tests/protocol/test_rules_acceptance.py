"""What accepting a record does to histories (DESIGN, skip rule and proof rule), one rule at a time."""

from collections.abc import Mapping, Sequence

import pytest

from qunfs.protocol.acceptance import accept
from qunfs.protocol.history import (
    ZERO,
    Candidate,
    LogicalTimestamp,
    ReplicaHistory,
    barrier,
    copy,
    method,
)
from qunfs.protocol.store import MemoryRows, Redo
from qunfs.protocol.versions import VersionStore

A, B = 1, 2


def _lt(time: int, is_barrier: int = 0) -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, bytes([time]) * 32)


ONE = method(_lt(1), (A,), (ZERO.lt,))
JOINT = method(_lt(2), (A, B), (ONE.lt, ZERO.lt))
RIVAL = method(_lt(3), (A,), (ONE.lt,))
BAR = barrier(_lt(4, 1), (A,), (ONE.lt,))


class Server:
    """A replica's store, with the histories that a test begins with."""

    def __init__(self, histories: Mapping[int, Sequence[Candidate]]) -> None:
        self.store = VersionStore(MemoryRows(), {})
        for obj, records in histories.items():
            for record in records:
                if record != ZERO and not record.lt.barrier:
                    self.store.add_version(obj, record.lt, ZERO.lt, {b"r": record.lt.digest}, b"")
            self.store.set_history(obj, ReplicaHistory(records))

    def accept(self, record: Candidate, source: Candidate = ZERO) -> None:
        own = [self.store.history(obj) for obj in record.objects]
        redo: list[Redo] = [] if record.lt.barrier else [{} for _ in record.objects]
        accept(self.store, own, record, redo, b"", (source,) * len(record.objects))

    def records(self, obj: int) -> tuple[Candidate, ...]:
        return self.store.history(obj).records

    def row(self, obj: int) -> bytes | None:
        """What the object's head says: the digest of the record that it was made by."""
        return self.store.open(obj, self.store.history(obj).head.lt).get(b"r")


def test_a_record_enters_all_its_histories() -> None:
    """Whether on the straight path or not."""
    for histories in ({}, {B: (ZERO, method(_lt(1), (B,), (ZERO.lt,)))}):
        server = Server(histories)
        joint = method(_lt(9), (A, B), (ZERO.lt, ZERO.lt))
        server.accept(joint)
        assert [server.records(obj)[-1] for obj in (A, B)] == [joint, joint]


def test_a_barrier_takes_the_place_of_older_ones() -> None:
    server = Server({A: (ZERO, ONE, BAR)})
    newer = barrier(_lt(6, 1), (A,), (ONE.lt,))
    server.accept(newer)
    assert server.records(A) == (ZERO, ONE, newer)


# ---- skip rule: records above bot that are not of the copied segment

COPY_OF_ONE = copy(_lt(5), (A,), (ONE.lt,), (BAR.lt,))
"""ONE is proven: bot is ONE, and a segment starts."""


def test_a_copy_removes_contenders_everywhere() -> None:
    """JOINT and RIVAL contend with what is copied; the head falls back to what is left."""
    server = Server({A: (ONE, JOINT, RIVAL, BAR), B: (ZERO, JOINT)})
    assert server.row(B) == JOINT.lt.digest
    server.accept(COPY_OF_ONE, ONE)
    assert server.records(A) == (ONE, BAR, COPY_OF_ONE)
    assert server.records(B) == (ZERO,)
    assert server.row(A) == ONE.lt.digest
    assert server.row(B) is None


def test_a_copy_spares_its_own_segment() -> None:
    """JOINT is merely repairable: a copy of it, of another segment than RIVAL, takes RIVAL away and spares JOINT."""
    server = Server({A: (ONE, JOINT, RIVAL, BAR), B: (ZERO, JOINT)})
    bars = (BAR.lt, BAR.lt)
    joint_copy = copy(_lt(5), (A, B), (JOINT.lt, JOINT.lt), bars, continues=JOINT)
    server.accept(joint_copy, JOINT)
    assert server.records(A) == (ONE, JOINT, BAR, joint_copy)
    assert server.records(B) == (ZERO, JOINT, joint_copy)


def test_a_copy_removes_contenders_below_its_source() -> None:
    """RIVAL lies between bot and what a second copy of the segment copies; it is dead all the same."""
    first = copy(_lt(5), (A,), (RIVAL.lt,), (BAR.lt,), continues=RIVAL)
    server = Server({A: (ONE, method(_lt(2), (A,), (ONE.lt,)), first)})
    second = copy(_lt(7), (A,), (first.lt,), (_lt(6, 1),), continues=first)
    server.accept(second, first)
    assert server.records(A) == (ONE, first, second)


def test_a_copy_spares_what_is_not_above_bot() -> None:
    """Below bot is the proof rule's business, and on a sibling without the proof nobody's."""
    early = method(_lt(1), (A, B), (ZERO.lt, ZERO.lt))
    late = method(_lt(3), (A,), (early.lt,))
    server = Server({A: (ZERO, early, late), B: (ZERO, early)})
    copied = copy(_lt(5), (A,), (late.lt,), (_lt(4, 1),))
    server.accept(copied, late)
    assert server.records(A) == (late, copied)
    assert server.records(B) == (ZERO, early), "established before the copied record, and not shown to be"


def test_a_copy_leaves_barriers_alone() -> None:
    """The barrier that a COPY builds on stays until it is proved over; so do a sibling's."""
    server = Server({A: (ONE, RIVAL, BAR)})
    server.accept(COPY_OF_ONE, ONE)
    assert BAR in server.records(A)


def test_a_copy_never_removes_a_base() -> None:
    """What is a base is established, whatever a copy that should not have been made says."""
    onward = method(_lt(3), (B,), (JOINT.lt,))
    server = Server({A: (JOINT, BAR), B: (JOINT, onward)})
    server.store.add_version(A, ONE.lt, ZERO.lt, {}, b"")
    server.accept(COPY_OF_ONE, JOINT)
    assert server.records(A) == (JOINT, BAR, COPY_OF_ONE)
    assert server.records(B) == (JOINT, onward)


# ---- proof rule: bot is established, wherever its record stands


def test_a_method_proves_what_it_is_conditioned_on() -> None:
    server = Server({A: (ZERO, ONE, JOINT), B: (ZERO, JOINT)})
    after = method(_lt(3), (A,), (JOINT.lt,))
    server.accept(after, JOINT)
    assert server.records(A) == (JOINT, after)
    assert server.records(B) == (JOINT,), "proved on the sibling too"


def test_a_method_proves_it_where_it_is_not_the_latest() -> None:
    """The sibling has gone on, so that the straight path does not apply to it."""
    onward = method(_lt(3), (B,), (JOINT.lt,))
    server = Server({A: (ZERO, ONE, JOINT), B: (ZERO, JOINT, onward)})
    after = method(_lt(4), (A,), (JOINT.lt,))
    server.accept(after, JOINT)
    assert server.records(B) == (JOINT, onward)


def test_a_copy_of_a_proven_source_proves_it_on_siblings() -> None:
    server = Server({A: (ZERO, ONE, JOINT, BAR), B: (ZERO, JOINT)})
    copied = copy(_lt(5), (A,), (JOINT.lt,), (BAR.lt,))
    server.accept(copied, JOINT)
    assert server.records(A) == (JOINT, BAR, copied)
    assert server.records(B) == (JOINT,)


def test_a_copy_of_a_copy_proves_the_segment_s_bot() -> None:
    """JOINT was proven when the segment began; a server that meets only the second copy learns it from that."""
    first = copy(_lt(5), (A,), (JOINT.lt,), (BAR.lt,))
    server = Server({A: (ONE, JOINT, first), B: (ZERO, JOINT)})
    second = copy(_lt(7), (A,), (first.lt,), (_lt(6, 1),), continues=first)
    server.accept(second, first)
    assert server.records(A) == (JOINT, first, second)
    assert server.records(B) == (JOINT,)


def test_a_missing_base_is_inserted_with_its_version() -> None:
    server = Server({A: (ZERO, ONE)})
    server.store.add_version(A, RIVAL.lt, ONE.lt, {b"r": RIVAL.lt.digest}, b"")  # as object sync brings it
    after = method(_lt(9), (A,), (RIVAL.lt,))
    server.accept(after, RIVAL)
    assert server.records(A) == (RIVAL, after)
    assert server.store.open(A, RIVAL.lt).get(b"r") == RIVAL.lt.digest


def test_a_repairable_source_never_becomes_a_base() -> None:
    server = Server({A: (ONE, RIVAL, BAR)})
    goes_on = copy(_lt(5), (A,), (RIVAL.lt,), (BAR.lt,), continues=RIVAL)
    server.accept(goes_on, RIVAL)
    assert server.records(A) == (ONE, RIVAL, BAR, goes_on)


@pytest.mark.parametrize("held", [(ZERO,), (ZERO, ONE)])
def test_a_repairable_source_is_not_inserted(held: tuple[Candidate, ...]) -> None:
    """Nor is its bot: who lacks the record has nothing that the copy proves."""
    server = Server({A: held})
    server.store.add_version(A, JOINT.lt, ZERO.lt, {}, b"")
    server.store.add_version(A, RIVAL.lt, JOINT.lt, {}, b"")
    source = method(_lt(3), (A,), (JOINT.lt,))
    goes_on = copy(_lt(5), (A,), (source.lt,), (BAR.lt,), continues=source)
    server.accept(goes_on, source)
    assert server.records(A)[0] == ZERO
    assert source not in server.records(A)
