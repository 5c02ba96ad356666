"""Object sync and vouching: what counts as agreement (section 3.5, "retrieving object versions")."""

from dataclasses import replace

import pytest

from qunfs.protocol.history import ZERO, ZERO_TIMESTAMP, LogicalTimestamp, method
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.messages import Sync, SyncReply, Vouch, VouchReply
from qunfs.protocol.quorum import threshold
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.sync import ANSWER_WAIT_S, GIVE_UP_S, Finished, Rows, Synchroniser, answer_sync, rows_digest
from qunfs.protocol.versions import VersionStore
from qunfs.protocol.wire import parse_to_server_untrusted

OBJ = 7
OTHER, THIRD = 8, 9
TARGET = LogicalTimestamp(3, 0, 1, b"t" * 32)
RECORD = method(TARGET, (OBJ,), (ZERO.lt,))
STATE = {bytes([key]): bytes(20) for key in range(1, 9)}
SMALL = replace(DEFAULT_LIMITS, sync_chunk_bytes=40)
Asked = list[tuple[int, int, Sync | Vouch]]


@pytest.fixture
def store() -> VersionStore:
    return VersionStore(MemoryRows(), {})


@pytest.fixture
def sync(store: VersionStore) -> Synchroniser:
    return Synchroniser(0, threshold(1), store, SMALL)


def _asked(sync: Synchroniser) -> Asked:
    """Server, number and question of everything to be sent."""
    outgoing, sync.outgoing = sync.outgoing, []
    asked: Asked = []
    for server, payload in outgoing:
        number, question = parse_to_server_untrusted(payload, 0)
        assert isinstance(question, Sync | Vouch)
        asked.append((server, number, question))
    return asked


def _host() -> VersionStore:
    host = VersionStore(MemoryRows(), {})
    host.add_version(OBJ, TARGET, ZERO_TIMESTAMP, STATE, b"")
    return host


def _run(sync: Synchroniser, host: VersionStore) -> Finished | None:
    """Let honest hosts answer everything until nothing is asked any more."""
    while asked := _asked(sync):
        for server, number, question in asked:
            assert isinstance(question, Sync)
            finished = sync.on_reply(server, number, answer_sync(host, question, SMALL), 0.0)
            if finished is not None:
                return finished
    return None


def test_a_version_comes_in_chunks_from_more_hosts_than_can_lie(sync: Synchroniser, store: VersionStore) -> None:
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    finished = _run(sync, _host())
    assert finished is not None
    assert finished.success
    assert dict(store.open(OBJ, TARGET).scan()) == STATE
    assert len(sync) == 0


def test_one_host_is_not_believed(sync: Synchroniser) -> None:
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    lie: Rows = ((b"k", b"lie"),)
    (one, number, _), *_ = _asked(sync)
    assert sync.on_reply(one, number, SyncReply(True, rows_digest(lie, False), lie, False), 0.0) is None
    assert sync.on_reply(one, number, SyncReply(True, rows_digest(lie, False), lie, False), 0.0) is None
    assert len(sync) == 1


def test_a_late_reply_to_one_question_is_no_vote_on_the_next(sync: Synchroniser, store: VersionStore) -> None:
    """Three hosts are asked for the first chunk, two agree; the third's reply and a liar's would skip a chunk."""
    sync.want_version(OBJ, TARGET, 0b111110, b"", 0.0)
    host = _host()
    first = _asked(sync)
    assert list(sync.tick(ANSWER_WAIT_S + 0.01)) == []
    first += _asked(sync)
    assert len(first) >= 3
    for server, number, question in first[:2]:
        assert isinstance(question, Sync)
        sync.on_reply(server, number, answer_sync(host, question, SMALL), 0.3)
    second = _asked(sync)
    for server, number, question in first[2:]:
        assert isinstance(question, Sync)
        sync.on_reply(server, number, answer_sync(host, question, SMALL), 0.3)
    liar, number, _ = second[0]
    stale = answer_sync(host, Sync(OBJ, ZERO_TIMESTAMP, TARGET, b"", True), SMALL)
    sync.on_reply(liar, number, stale, 0.3)
    for server, number, question in second[1:]:
        assert isinstance(question, Sync)
        sync.on_reply(server, number, answer_sync(host, question, SMALL), 0.3)
    finished = _run(sync, host)
    assert finished is not None
    assert dict(store.open(OBJ, TARGET).scan()) == STATE


def test_hosts_without_the_asker_s_version_send_all(sync: Synchroniser, store: VersionStore) -> None:
    mine = LogicalTimestamp(1, 0, 1, b"m" * 32)
    store.add_version(OBJ, mine, ZERO_TIMESTAMP, {b"old": b"row"}, b"")
    from_mine = method(mine, (OBJ,), (ZERO.lt,))
    store.set_history(OBJ, type(store.history(OBJ))((ZERO, from_mine)))
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    finished = _run(sync, _host())
    assert finished is not None
    assert dict(store.open(OBJ, TARGET).scan()) == STATE


def test_a_version_that_nobody_has_is_given_up_at_once(sync: Synchroniser) -> None:
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    finished = _run(sync, VersionStore(MemoryRows(), {}))
    assert finished is not None
    assert not finished.success


def test_silent_hosts_are_replaced_and_at_last_given_up(sync: Synchroniser) -> None:
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    asked = {server for server, _, _ in _asked(sync)}
    assert len(asked) == 2
    assert list(sync.tick(ANSWER_WAIT_S + 0.01)) == []
    asked |= {server for server, _, _ in _asked(sync)}
    assert len(asked) == 4
    (finished,) = sync.tick(GIVE_UP_S + 0.01)
    assert not finished.success


def test_a_host_that_was_late_is_asked_last_until_it_answers(sync: Synchroniser) -> None:
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    asked = {server: (number, question) for server, number, question in _asked(sync)}
    assert asked.keys() == {1, 2}
    number, question = asked[2]
    assert isinstance(question, Sync)
    sync.on_reply(2, number, answer_sync(_host(), question, SMALL), 0.1)
    list(sync.tick(ANSWER_WAIT_S + 0.01))
    _asked(sync)
    sync.want_version(OTHER, TARGET, 0b1110, b"", 1.0)
    assert {server for server, _, _ in _asked(sync)} == {2, 3}
    sync.on_reply(1, asked[1][0], answer_sync(_host(), question, SMALL), 1.1)
    sync.want_version(THIRD, TARGET, 0b1110, b"", 1.2)
    assert 1 in {server for server, _, _ in _asked(sync)}


def test_others_are_asked_at_once_for_a_host_that_cannot_be_reached(sync: Synchroniser) -> None:
    sync.want_version(OBJ, TARGET, 0b1110, b"", 0.0)
    assert {server for server, _, _ in _asked(sync)} == {1, 2}
    sync.unreachable(1, 0.0)
    assert {server for server, _, _ in _asked(sync)} == {3}
    sync.want_version(OTHER, TARGET, 0b1110, b"", 0.0)
    assert {server for server, _, _ in _asked(sync)} == {2, 3}


# ---- vouching


def test_hosts_that_lack_a_record_keep_nobody_from_vouching(sync: Synchroniser) -> None:
    """A client may name the hosts badly: that two do not hold the record says nothing about the others."""
    sync.want_vouched(RECORD, 0b111110, 0.0)
    finished = None
    while asked := _asked(sync):
        for server, number, _ in asked:
            holds = server in (3, 4)
            reply = VouchReply(RECORD.wire, b"answer") if holds else VouchReply(b"")
            finished = sync.on_reply(server, number, reply, 0.0) or finished
    assert finished is not None
    assert finished.success
    assert finished.job.answer == b"answer"


def test_one_host_cannot_vouch(sync: Synchroniser) -> None:
    sync.want_vouched(RECORD, 0b111110, 0.0)
    finished = None
    while asked := _asked(sync):
        for server, number, _ in asked:
            reply = VouchReply(RECORD.wire, b"answer") if server == 5 else VouchReply(b"")
            finished = sync.on_reply(server, number, reply, 0.0) or finished
    assert finished is not None
    assert not finished.success


def test_vouchers_must_agree_on_record_and_answer(sync: Synchroniser) -> None:
    other = method(TARGET, (OBJ,), (TARGET,))
    replies = {1: VouchReply(RECORD.wire, b"a"), 2: VouchReply(RECORD.wire, b"b"), 3: VouchReply(other.wire, b"a")}
    sync.want_vouched(RECORD, 0b1110, 0.0)
    finished = None
    while asked := _asked(sync):
        for server, number, _ in asked:
            finished = sync.on_reply(server, number, replies.get(server, VouchReply(b"")), 0.0) or finished
    assert finished is not None
    assert not finished.success


def test_replies_count_only_from_whom_they_were_asked(sync: Synchroniser) -> None:
    """And others that guess the number do not keep the right one's reply from counting."""
    sync.want_vouched(RECORD, 0b1110, 0.0)
    (one, number, _), (other, its_number, _) = _asked(sync)
    for claimed in (4, 5):
        assert sync.on_reply(claimed, number, VouchReply(RECORD.wire, b"lie"), 0.0) is None
        assert sync.on_reply(claimed, its_number, VouchReply(RECORD.wire, b"lie"), 0.0) is None
    assert sync.on_reply(one, number, VouchReply(RECORD.wire, b"answer"), 0.0) is None
    finished = sync.on_reply(other, its_number, VouchReply(RECORD.wire, b"answer"), 0.0)
    assert finished is not None
    assert finished.job.answer == b"answer"
