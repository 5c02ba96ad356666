"""That the baseline refuses what is forged, conflicting or makes no sense."""

import pytest

from bench.baselines.pbft.core import messages
from bench.baselines.pbft.core.agreement import StateDiffers
from bench.baselines.pbft.core.messages import Checkpoint, Entry, Request, Status
from bench.baselines.pbft.core.ordering import Origin
from bench.baselines.pbft.core.tuning import Tuning
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.errors import MalformedMessage
from tests.bench.pbft_group import Group, Packet, increment

EVERY_TYPE = range(messages.TYPE_REQUEST, messages.TYPE_STATUS + 1)


def spoilt(payload: bytes, at: int) -> bytes:
    return payload[:at] + bytes((payload[at] ^ 1,)) + payload[at + 1 :]


def votes_spoilt(sender: int):
    def change(packet: Packet) -> Packet:
        if packet.source == ("server", sender) and packet.payload[0] == messages.TYPE_VOTES:
            payload = packet.payload
            for end in range(len(payload), 9, -24):  # a sequence number and a MAC each
                payload = spoilt(payload, end - 1)
            return Packet(packet.source, packet.target, payload)
        return packet

    return change


def test_votes_with_forged_macs_do_not_count() -> None:
    group = Group(reorders=True)
    group.change = votes_spoilt(3)
    for turn in range(1, 9):
        done = group.update(1, increment(1))
        group.run()
        assert group.answer(done) == turn  # f of them
    group.settle(0.1)
    assert any(replica.counters["refused_votes"] for replica in group.replicas[:3])
    assert all(not s.prepares >> 3 & 1 for r in group.replicas[:3] for s in r.agreement.log.above(0, 9))


def test_with_too_many_forged_votes_nothing_is_executed() -> None:
    group = Group()
    two, three = votes_spoilt(2), votes_spoilt(3)
    group.change = lambda packet: two(three(packet))
    done = group.update(1, increment(1))
    with pytest.raises(AssertionError, match="not within"):
        group.run(seconds=5)
    assert done not in group.done
    assert not any(state.batches for state in group.states[:2])


def test_a_vote_cannot_be_passed_on_as_anothers() -> None:
    """MACs bind sender, receiver, phase and batch."""
    group = Group()
    tags = [macs.tags(0, 1, b"d" * 32) for macs in group.macs]
    seen = set()
    for a, mine in enumerate(tags):
        for b, theirs in enumerate(tags):
            if a != b:
                assert mine.prepare_issued[b] == theirs.prepare_awaited[a]
                assert mine.commit_issued[b] == theirs.commit_awaited[a]
                seen |= {mine.prepare_issued[b], mine.commit_issued[b]}
    assert len(seen) == 2 * 4 * 3
    for view, sequence, digest in ((1, 1, b"d"), (0, 2, b"d"), (0, 1, b"e")):
        assert not seen & set(group.macs[0].tags(view, sequence, digest * 32).prepare_issued)


def test_a_forged_batch_is_refused() -> None:
    group = Group()

    def forge(packet: Packet) -> Packet:
        if packet.payload[0] == messages.TYPE_PRE_PREPARE:
            return Packet(packet.source, packet.target, spoilt(packet.payload, 20))
        return packet

    group.change = forge
    group.update(1, increment(1))
    with pytest.raises(AssertionError, match="not within"):
        group.run(seconds=2)
    assert set(group.refused) == {"a batch with a forged MAC"}
    assert not any(state.batches for state in group.states)


def test_a_batch_from_a_backup_is_refused() -> None:
    group = Group()
    tag = group.macs[1].tags(0, 1, b"").prepare_issued[2]
    payload = messages.pack_pre_prepare(0, 1, tag, (bytes(16),), b"x")
    with pytest.raises(MalformedMessage, match="another than the primary"):
        group.replicas[2].step(Origin(True, 1, 1), payload, 0.0)


def test_a_request_that_its_client_has_not_made_is_refused() -> None:
    """The primary invents one: its own MAC is right, the client's cannot be."""
    group = Group()
    bundle = messages.pack_bundle(1, [b"forged"])
    entries = [Entry(1, 0, bundle, messages.request_digest(1, bundle))]
    tags = group.macs[0].tags(0, 1, messages.batch_digest(entries))
    batch = messages.pack_batch(entries)
    payload = messages.pack_pre_prepare(0, 1, tags.prepare_issued[2], (bytes(MAC_BYTES),), batch)
    with pytest.raises(MalformedMessage, match="client 1 has not made"):
        group.replicas[2].step(Origin(True, 0, 0), payload, 0.0)
    assert group.replicas[2].finish(0.0).to_replicas == []


def test_what_one_client_has_sent_is_not_anothers() -> None:
    group = Group(clients=2)
    bundle = messages.pack_bundle(1, [b"operation"])
    request = messages.pack_request(0, bytes(4 * MAC_BYTES), bundle)
    group.replicas[2].step(Origin(False, 2, 2), request, 0.0)
    entries = [Entry(1, 0, bundle, messages.request_digest(1, bundle))]
    tags = group.macs[0].tags(0, 1, messages.batch_digest(entries))
    payload = messages.pack_pre_prepare(0, 1, tags.prepare_issued[2], (bytes(MAC_BYTES),), messages.pack_batch(entries))
    with pytest.raises(MalformedMessage, match="client 1 has not made"):
        group.replicas[2].step(Origin(True, 0, 0), payload, 0.0)


def test_a_request_passed_on_must_be_its_clients() -> None:
    group = Group()
    request = Request(1, 0, bytes(4 * MAC_BYTES), messages.pack_bundle(1, [b"operation"]))
    with pytest.raises(MalformedMessage, match="client 1 has not made"):
        group.replicas[0].step(Origin(True, 2, 2), messages.pack_forward(request), 0.0)


def test_a_primary_that_says_two_things_is_not_followed_in_both() -> None:
    group = Group(clients=2)
    group.update(1, increment(1))
    group.update(2, increment(2))
    twin = Group(clients=2)  # the same keys: the primary's other half
    twin.update(2, increment(2))
    twin.update(1, increment(1))
    for which, to in ((group, (1,)), (twin, (2, 3))):
        primary = which.replicas[0]
        for packet in [p for p in which.packets if p.target == ("server", 0)]:
            primary.step(Origin(False, packet.source[1], packet.source[1]), packet.payload, 0.0)
            for peer, payload in primary.finish(0.0).to_replicas:
                if peer in to:
                    group.replicas[peer].step(Origin(True, 0, 0), payload, 0.0)
        group.packets = [p for p in group.packets if p.target != ("server", 0)]
    for _ in range(5):
        for r in (1, 2, 3):
            for peer, payload in group.replicas[r].finish(100.0).to_replicas:
                if peer != 0:
                    group.replicas[peer].step(Origin(True, r, r), payload, 100.0)
    done = [state.batches for state in group.states[1:]]
    assert done[0] == []
    assert group.replicas[1].counters["refused_votes"]
    assert done[1] == done[2]


def test_a_checkpoint_with_a_forged_mac_is_refused() -> None:
    group = Group()
    forged = messages.pack_checkpoint(Checkpoint(128, bytes(32), bytes(16)))
    with pytest.raises(MalformedMessage, match="forged"):
        group.replicas[1].step(Origin(True, 2, 2), forged, 0.0)


def test_a_replica_whose_state_is_another_stops() -> None:
    tuning = Tuning(checkpoint_every=2, log_batches_max=4)
    group = Group(tuning=tuning)
    group.states[3]._sum += 1
    group.update(1, increment(1))
    group.run()
    group.update(1, increment(1))
    with pytest.raises(StateDiffers, match="state after batch 2"):
        group.settle()


def test_a_replica_that_has_fallen_behind_says_so() -> None:
    tuning = Tuning(checkpoint_every=2, log_batches_max=4)
    group = Group(tuning=tuning)
    group.change = lambda packet: None if packet.target == ("server", 3) else packet
    for _ in range(10):
        group.update(1, increment(1))
        group.run()
    group.settle(0.5)
    group.change = lambda packet: packet
    for _ in range(4):
        group.update(1, increment(1))
        group.run()
    group.settle()
    assert [replica.agreement.is_behind() for replica in group.replicas] == [False, False, False, True]


@pytest.mark.parametrize("kind", EVERY_TYPE)
@pytest.mark.parametrize("is_replica", [True, False])
def test_malformed_messages_raise_nothing_else(kind: int, is_replica: bool) -> None:
    group = Group()
    for length in (0, 1, 2, 7, 8, 9, 15, 16, 24, 33, 57, 80, 100):
        for fill in (b"\x00", b"\xff", b"\x92"):
            payload = bytes((kind,)) + fill * length
            try:
                group.replicas[1].step(Origin(is_replica, 2, 2), payload, 0.0)
            except MalformedMessage:
                continue
            group.replicas[1].finish(0.0)
    with pytest.raises(MalformedMessage):
        group.replicas[1].step(Origin(is_replica, 2, 2), b"", 0.0)


def test_a_bundle_of_nonsense_is_executed_as_nothing() -> None:
    """Its client is authentic: all replicas do the same, and go on."""
    group = Group()
    for number, operations in enumerate(([b"nonsense"], [b""], [b"\x91\x01"])):
        bundle = messages.pack_bundle(number, operations)
        vector = group.people[1]._macs.vector(messages.request_digest(1, bundle))
        group.packets.append(Packet(("client", 1), ("server", 0), messages.pack_request(0, vector, bundle)))
        group.settle()
    done = group.update(1, increment(1))
    group.run()
    assert group.answer(done) == 1
    group.settle()
    group.check_same(complete=True)


def test_messages_come_back_as_they_were_packed() -> None:
    status = Status(1, 2, 3)
    assert messages.parse_status_untrusted(messages.pack_status(status)) == status
    checkpoint = Checkpoint(5, b"d" * 32, b"m" * 16)
    assert messages.parse_checkpoint_untrusted(messages.pack_checkpoint(checkpoint)) == checkpoint
    request = Request(7, 3, b"v" * 64, b"bundle")
    assert messages.parse_forward_untrusted(messages.pack_forward(request), 4) == request
    packed = messages.pack_request(3, b"v" * 64, b"bundle")
    assert messages.parse_request_untrusted(packed, 7, 4) == request
    issued = tuple(bytes((r,)) * 16 for r in range(4))
    for prepares in range(3):
        for commits in range(3):
            if prepares + commits:
                p, c = [(9 + i, issued) for i in range(prepares)], [(5 + i, issued) for i in range(commits)]
                for peer, payload in messages.pack_votes(0, p, c, (1, 2, 3)):
                    view, got_p, got_c = messages.parse_votes_untrusted(payload)
                    assert (view, got_p, got_c) == (0, [(s, i[peer]) for s, i in p], [(s, i[peer]) for s, i in c])
    assert messages.parse_description_untrusted(
        messages.pack_description(messages.pack_describe(77), {"cpu_s": 1.5})
    ) == (77, {"cpu_s": 1.5})
    assert messages.parse_read_untrusted(messages.pack_read(2, 88, b"bundle")) == (2, 88, b"bundle")
