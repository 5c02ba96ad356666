"""The oracles see what they are there to see: each is shown one thing that must not be, and a sound run beside it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.classify import Request, RequestRefused, setup
from qunfs.protocol.history import (
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
)
from qunfs.protocol.messages import Adopt, pack_update, pack_update_body
from qunfs.protocol.quorum import threshold
from tests.simulation.justified import Justification
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.watched import HistoryChanged, VersionAdded

Q = threshold(1)
LIAR = 5
A, B = 7, 8


def _lt(time: int, is_barrier: int = 0, digest: bytes = b"d") -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, digest * 32)


ONE = method(_lt(1), (A,), (ZERO.lt,))
RIVAL = method(_lt(1, digest=b"e"), (A,), (ZERO.lt,))
TWO = method(_lt(2), (A,), (ONE.lt,))
BARRIER = barrier(_lt(2, 1), (A,), (ONE.lt,))
LATER = barrier(_lt(3, 1), (A,), (ONE.lt,))
COPIED = copy(_lt(4), (A,), (ONE.lt,), (BARRIER.lt,))
CARRIED = copy(_lt(4), (A,), (ONE.lt,), (BARRIER.lt,), continues=ONE)
JOINT = method(_lt(1, digest=b"j"), (A, B), (ZERO.lt, ZERO.lt))


class Told:
    """Oracles that are told what benign servers do, one record or history at a time."""

    def __init__(self) -> None:
        self.oracles = Oracles(Q, (A, B), [LIAR])

    def change(self, server: int, *records: Candidate, obj: int = A) -> HistoryChanged:
        return HistoryChanged(obj, self.oracles.histories[server][obj], ReplicaHistory(records))

    def commit(self, server: int, *records: Candidate, obj: int = A) -> None:
        version = VersionAdded(obj, records[-1].lt, (), b"")
        self.oracles.committed(server, [version, self.change(server, *records, obj=obj)])

    def accept(self, servers: range, *records: Candidate) -> None:
        for server in servers:
            self.commit(server, *records)


def _sound(told: Told) -> None:
    told.accept(range(4), ZERO, ONE)
    assert told.oracles.established[A] == [ZERO, ONE]
    told.accept(range(4), ZERO, ONE, BARRIER)
    told.accept(range(4), ONE, BARRIER, COPIED)
    assert told.oracles.established[A] == [ZERO, ONE, COPIED]


def _unknown_ground(told: Told) -> None:
    told.accept(range(3), ZERO, ONE)
    told.commit(0, ONE, TWO)


def _over_the_unknown(told: Told) -> None:
    told.accept(range(1, 5), ZERO, ONE)
    told.commit(0, ZERO, RIVAL)
    told.commit(0, ONE, TWO)


def _forgotten_barrier(told: Told) -> None:
    told.commit(0, ZERO, BARRIER)
    told.commit(0, ZERO, CARRIED)


def _two_barriers(told: Told) -> None:
    told.commit(0, ZERO, BARRIER)
    told.commit(0, ZERO, BARRIER, LATER)


def _rivals_stay(told: Told) -> None:
    told.commit(0, ZERO, RIVAL)
    told.commit(0, ZERO, RIVAL, BARRIER)
    told.commit(0, ZERO, RIVAL, BARRIER, CARRIED)


def _skipped_and_established(told: Told) -> None:
    told.commit(0, ZERO, RIVAL)
    told.commit(0, ZERO, RIVAL, BARRIER)
    told.commit(0, ZERO, BARRIER, CARRIED)
    told.accept(range(1, 5), ZERO, RIVAL)


def _skipped_for_nothing(told: Told) -> None:
    told.commit(0, ZERO, RIVAL)
    told.commit(0, ZERO, LATER)


def _half_gone(told: Told) -> None:
    told.oracles.committed(0, [told.change(0, ZERO, JOINT), told.change(0, ZERO, JOINT, obj=B)])
    told.commit(0, ZERO, JOINT, BARRIER)
    told.oracles.committed(0, [told.change(0, ZERO, BARRIER, CARRIED)])


def _not_pruned(told: Told) -> None:
    told.accept(range(5), ZERO, ONE)
    told.commit(0, ZERO, ONE, TWO)


def _other_answer(told: Told) -> None:
    told.oracles.committed(0, [VersionAdded(A, ONE.lt, (), b"yes")])
    told.oracles.committed(1, [VersionAdded(A, ONE.lt, (), b"")])
    told.oracles.committed(2, [VersionAdded(A, ONE.lt, (), b"no")])


def _base_of_one(told: Told) -> None:
    for server in range(4):
        told.oracles.committed(
            server,
            [
                VersionAdded(A, JOINT.lt, (), b""),
                VersionAdded(B, JOINT.lt, (), b""),
                told.change(server, ZERO, JOINT),
                told.change(server, ZERO, JOINT, obj=B),
            ],
        )
    told.commit(0, JOINT, method(_lt(2), (A,), (JOINT.lt,)))


def _version_gone(told: Told) -> None:
    told.oracles.kept(0, A, ONE, None)


def _version_changed(told: Told) -> None:
    told.oracles.committed(0, [VersionAdded(A, ONE.lt, ((b"k", b"v"),), b"")])
    told.oracles.kept(0, A, ONE, ((b"k", b"w"),))


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (_unknown_ground, "as if"),
        (_over_the_unknown, "later than"),
        (_forgotten_barrier, "dropped a barrier"),
        (_two_barriers, "more than one barrier"),
        (_rivals_stay, "kept contenders"),
        (_skipped_and_established, "though a benign server has skipped it"),
        (_skipped_for_nothing, "skipped something"),
        (_half_gone, "and not on"),
        (_base_of_one, "as the base of 7 and not of 8"),
        (_not_pruned, "kept what is below"),
        (_other_answer, "other answer"),
        (_version_gone, "version is gone"),
        (_version_changed, "has changed"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_benign_servers_must_not_do(deed: Callable[[Told], None], why: str) -> None:
    _sound(Told())
    with pytest.raises(Violation, match=why):
        deed(Told())


# ---- what is accepted on the word of a request


def _view(*histories: ReplicaHistory, obj: int = A) -> ObjectHistorySet:
    return ObjectHistorySet.of(obj, dict(enumerate(histories)), (1 << len(histories)) - 1)


def _judge(told: Told, record: Candidate, *views: ObjectHistorySet) -> None:
    """Server 0 accepts a BARRIER or COPY that these views are shown for."""
    request = Request(record.kind, 1, bytes(16), None, views)
    shown = sum(view.mask.bit_count() for view in views)
    payload = pack_update(1, pack_update_body(request), bytes(MAC_BYTES * shown))
    records = told.oracles.histories[0][A].records
    kept = [r for r in records if r.lt >= record.bottom(A)] if record.kind is Kind.COPY else records
    changes = [told.change(0, *kept, record)]
    Justification(told.oracles, Q).stepped(0, payload, changes, [])


NEW = ReplicaHistory((ZERO, ONE))
BARRED = ReplicaHistory((ZERO, ONE, BARRIER))


def test_no_barrier_lands_on_a_healthy_object_from_fewer_than_q_histories() -> None:
    """Nor from a quorum of histories, if they show that the object is healthy; and one that is not gets its barrier."""
    told = Told()
    told.accept(range(4), ZERO, ONE)
    sound = _view(NEW, NEW, NEW, NEW, ZERO_HISTORY)
    _judge(told, BARRIER, sound)
    for count in range(5):
        with pytest.raises(Violation, match="no view"):
            _judge(told, BARRIER, _view(*[NEW] * 3, ZERO_HISTORY) if count == 4 else _view(*[NEW] * count))
    told.commit(4, ZERO, ONE)
    with pytest.raises(Violation, match="was healthy"):
        _judge(told, BARRIER, _view(*[NEW] * 5))
    with pytest.raises(Violation, match="was healthy"):
        _judge(told, BARRIER, _view(*[ZERO_HISTORY] * 5))


def test_what_a_benign_server_never_had_justifies_nothing() -> None:
    told = Told()
    told.accept(range(3), ZERO, ONE)
    with pytest.raises(Violation, match="s3 never had"):
        _judge(told, BARRIER, _view(NEW, NEW, NEW, NEW, ZERO_HISTORY))


def test_a_copy_needs_one_barrier_in_the_whole_view() -> None:
    told = Told()
    told.accept(range(5), ZERO, ONE)
    told.accept(range(4), ZERO, ONE, BARRIER)
    with pytest.raises(Violation, match="not under one barrier"):
        _judge(told, COPIED, _view(*[BARRED] * 4, NEW))
    told.commit(4, ZERO, ONE, BARRIER)
    _judge(told, COPIED, _view(*[BARRED] * 5))
    with pytest.raises(Violation, match="were to be built on"):
        _judge(told, CARRIED, _view(*[BARRED] * 5))


def test_a_twisted_copy_of_the_latest_record_does_not_make_an_object_unhealthy() -> None:
    """A liar shows a record of the same time with something else in it; whose history comes first must not matter."""
    twisted = ReplicaHistory((method(ONE.lt, (A,), (ONE.lt,)),))
    judge = Justification(Told().oracles, Q)
    for liar in (0, 4):
        view = _view(*[twisted if server == liar else ReplicaHistory((ONE,)) for server in range(5)])
        request = Request(Kind.BARRIER, 1, bytes(16), None, (view,))
        assert "was healthy" in str(judge.objection(request))
        with pytest.raises(RequestRefused, match="views show METHOD"):
            setup(Q, request)


def test_what_nobody_has_accepted_is_not_adopted() -> None:
    told = Told()
    judge, asked = Justification(told.oracles, Q), Adopt(ONE, 0b1110).pack(1)
    with pytest.raises(Violation, match="no benign server had accepted"):
        judge.stepped(0, asked, [told.change(0, ZERO, ONE)], [])
    told.commit(1, ZERO, ONE)
    judge.stepped(0, asked, [told.change(0, ZERO, ONE)], [])


def test_the_judge_agrees_with_the_code_that_it_judges() -> None:
    """A barrier that production code makes of a view in need of one is what the judge lets through."""
    told = Told()
    told.accept(range(3), ZERO, ONE)
    view = _view(NEW, NEW, NEW, ZERO_HISTORY, ZERO_HISTORY)
    made = setup(Q, Request(Kind.BARRIER, 1, bytes(16), None, (view,))).candidate
    _judge(told, made, view)


# ---- and seeds see it


@pytest.mark.parametrize(
    ("mutant", "why"),
    [
        ("views_of_any_size", "no view"),
        ("barriers_on_healthy_objects", "was healthy"),
        ("macs_unchecked", "never had"),
    ],
)
def test_a_few_seeds_see_a_broken_rule(mutant: str, why: str) -> None:
    script = (
        "from tests.mutants.catalogue import MUTANTS; from tests.simulation.__main__ import main; "
        f"MUTANTS[{mutant!r}].apply(); raise SystemExit(main(['--seeds', '0-29']))"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert why in ended.stdout.partition("\n")[0]
