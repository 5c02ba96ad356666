"""Timestamps, candidates and histories: one canonical form, and nothing else gets in."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.history import (
    LT_BYTES,
    ZERO,
    ZERO_HISTORY,
    Candidate,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    barrier,
    copy,
    method,
    method_wire,
    parse_candidate_untrusted,
    parse_history_untrusted,
    unpack_timestamp,
)
from tests.protocol.strategies import OBJ, candidates, histories, timestamps


@given(timestamps(), timestamps(True))
def test_packed_timestamps_sort_as_timestamps(one: LogicalTimestamp, other: LogicalTimestamp) -> None:
    assert unpack_timestamp(one.pack()) == one
    assert len(one.pack()) == LT_BYTES
    assert (one < other) == (one.pack() < other.pack())


@given(candidates())
def test_candidates_survive_the_wire(candidate: object) -> None:
    assert candidate == parse_candidate_untrusted(candidate.wire)[0]  # type: ignore[attr-defined]
    parsed, end = parse_candidate_untrusted(b"xx" + candidate.wire + b"yy", 2)  # type: ignore[attr-defined]
    for name in ("kind", "lt", "objects", "lt_co", "bot", "src", "cur"):
        assert getattr(parsed, name) == getattr(candidate, name)
    assert end == 2 + len(parsed.wire)


@given(histories())
def test_histories_survive_the_wire(history: ReplicaHistory) -> None:
    parsed = parse_history_untrusted(history.wire, OBJ)
    assert parsed == history
    assert parsed.digest == history.digest
    assert parsed.head.kind is not Kind.BARRIER


@given(histories(), candidates(), st.integers(0, 4), st.integers(0, 4_000))
def test_a_history_reads_the_same_whatever_the_reader_expects(
    history: ReplicaHistory, other: Candidate, known: int, cut: int
) -> None:
    likely = (ZERO, other, *history.records[:known])
    parsed = parse_history_untrusted(history.wire, OBJ, likely)
    assert (parsed.records, parsed.wire) == (history.records, history.wire)
    with pytest.raises(MalformedMessage):
        parse_history_untrusted(history.wire[: cut % len(history.wire)], OBJ, likely)


@given(timestamps(), st.data())
def test_the_bytes_of_a_method_can_be_made_of_packed_timestamps(lt: LogicalTimestamp, data: st.DataObject) -> None:
    objects = tuple(sorted(data.draw(st.sets(st.integers(1, (1 << 64) - 1), min_size=1, max_size=8))))
    lt_co = tuple([data.draw(timestamps()) for _ in objects])
    assert method_wire(lt.pack(), objects, [one.pack() for one in lt_co]) == method(lt, objects, lt_co).wire


@given(histories())
def test_the_head_is_the_newest_record_that_is_no_barrier(history: ReplicaHistory) -> None:
    assert history.head == max((r for r in history.records if r.kind is not Kind.BARRIER), key=lambda r: r.lt)


def test_no_history_is_made_of_barriers_only() -> None:
    with pytest.raises(AssertionError, match="never a barrier"):
        ReplicaHistory((barrier(LogicalTimestamp(1, 1, 1, bytes(32)), (OBJ,), (ZERO.lt,)),))


@given(histories(), st.data())
def test_a_changed_byte_makes_another_history_or_none(history: ReplicaHistory, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(history.wire) - 1))
    value = data.draw(st.integers(0, 255))
    changed = history.wire[:at] + bytes([value]) + history.wire[at + 1 :]
    try:
        parsed = parse_history_untrusted(changed, OBJ)
    except MalformedMessage:
        return
    assert parsed.wire == changed
    assert (parsed == history) == (changed == history.wire)
    assert ReplicaHistory(parsed.records).wire == changed, "canonical: its records say all there is in the bytes"


@given(st.binary(max_size=300))
def test_only_malformed_message_escapes(data: bytes) -> None:
    for parse in (lambda: parse_history_untrusted(data, OBJ), lambda: parse_candidate_untrusted(data)):
        with suppress(MalformedMessage):
            parse()


def _lt(time: int, is_barrier: int = 0, digest: bytes = b"d") -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, digest * 32)


METHOD_1 = method(_lt(1), (OBJ,), (ZERO.lt,))
BARRIER_2 = barrier(_lt(2, 1), (OBJ,), (_lt(1),))


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ((METHOD_1, ZERO), "ascending"),
        ((METHOD_1, METHOD_1), "ascending"),
        ((BARRIER_2,), "based on a barrier"),
        ((ZERO, method(_lt(1), (OBJ + 1,), (ZERO.lt,))), "another object"),
        ((), "0 records"),
        ((ZERO, method(_lt(2), (9, OBJ, OBJ), (ZERO.lt,) * 3)), "objects not in ascending order"),
        ((ZERO, method(_lt(2), tuple(range(OBJ, OBJ + 9)), (ZERO.lt,) * 9)), "9 objects"),
        ((ZERO, method(_lt(2, 1), (OBJ,), (ZERO.lt,))), "does not fit its kind"),
        ((ZERO, barrier(_lt(2), (OBJ,), (ZERO.lt,))), "does not fit its kind"),
    ],
)
def test_histories_that_no_replica_has(records: tuple[object, ...], why: str) -> None:
    wire = len(records).to_bytes(2, "big") + b"".join(r.wire for r in records)  # type: ignore[attr-defined]
    with pytest.raises(MalformedMessage, match=why):
        parse_history_untrusted(wire, OBJ)


@pytest.mark.parametrize("cut", [0, 1, 2, 20, -1])
def test_truncated_and_extended_histories(cut: int) -> None:
    wire = ReplicaHistory((ZERO, METHOD_1)).wire
    with pytest.raises(MalformedMessage):
        parse_history_untrusted(wire[:cut], OBJ)
    with pytest.raises(MalformedMessage):
        parse_history_untrusted(wire + b"\0", OBJ)


def test_what_follows_from_the_kind() -> None:
    """METHOD: src = lt, bot = cur = lt_co.  BARRIER: cur = lt.  A COPY of a repairable record inherits src and bot."""
    assert (METHOD_1.src, METHOD_1.bot, METHOD_1.cur) == (METHOD_1.lt, METHOD_1.lt_co, METHOD_1.lt_co)
    assert BARRIER_2.cur == (BARRIER_2.lt,)
    starts = copy(_lt(3), (OBJ,), (_lt(1),), (_lt(2, 1),))
    assert (starts.src, starts.bot, starts.starts_segment) == (starts.lt, (_lt(1),), True)
    goes_on = copy(_lt(3), (OBJ,), (_lt(1),), (_lt(2, 1),), continues=METHOD_1)
    assert (goes_on.src, goes_on.bot, goes_on.starts_segment) == (METHOD_1.lt, METHOD_1.bot, False)
    assert starts != goes_on


def test_equal_histories_are_one_group() -> None:
    """A history set digests and sends a history once, with the servers that share it, lowest first."""
    one, other = ReplicaHistory((ZERO, METHOD_1)), ZERO_HISTORY
    view = ObjectHistorySet.of(OBJ, {0: one, 1: other, 2: ReplicaHistory((ZERO, METHOD_1)), 4: other}, 0b10111)
    assert view.groups == ((one, 0b101), (other, 0b10010))
    assert view.mask == 0b10111
    assert view.orders() == {ZERO: 0b10111, METHOD_1: 0b101}
    assert view.of_server(4) == other
