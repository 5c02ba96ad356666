"""That read-only requests of the baseline are linearizable, and ordered like updates when replicas do not agree."""

from itertools import count

import msgpack
import pytest

from bench.baselines.pbft.core.messages import (
    TENTATIVE,
    TYPE_READ,
    TYPE_REPLY,
    TYPE_VOTES,
    pack_reply,
    parse_reply_untrusted,
)
from bench.baselines.pbft.core.tuning import Tuning
from tests.bench.pbft_group import Group, Packet, fetch, increment


@pytest.mark.parametrize("seed", range(30))
def test_reads_among_writes_are_linearizable(seed: int) -> None:
    """On a counter that is only incremented: no read is older than what was known when it began, none goes back."""
    tuning = Tuning(checkpoint_every=4, log_batches_max=8, window=1 + seed % 3)
    group = Group(1, 3, seed, tuning, loss=0.02, duplication=0.05, reorders=True)
    known = 0
    begun: dict[tuple[int, int], tuple[bool, int]] = {}
    asked = count()
    for _ in range(60):
        if len(begun) < 6:
            client = 1 + next(asked) % 3
            is_read = group.random.random() < 0.6
            which = group.query(client, fetch(1)) if is_read else group.update(client, increment(1))
            begun[which] = is_read, known
        group.run(lambda: any(which in group.done for which in begun), seconds=100)
        for which in [which for which in begun if which in group.done]:
            is_read, at_least = begun.pop(which)
            value = group.read(which)[0] if is_read else group.answer(which)
            assert value >= at_least + (not is_read), "older than what was known when it began"
            known = max(known, value)
    group.run(lambda: all(which in group.done for which in begun), seconds=100)
    group.check_same()


def test_a_read_shows_nothing_that_is_not_committed() -> None:
    group = Group(tuning=Tuning(commit_delay_s=10.0))
    done = group.update(1, increment(1))
    group.run(lambda: done in group.done)
    backup = group.replicas[1]
    assert backup.agreement.executed == 1
    group.packets.clear()  # other replicas' COMMITs never arrive
    assert all(replica.agreement.committed == 0 for replica in group.replicas)
    read = group.query(1, fetch(1))
    asked = [packet for packet in group.packets if packet.target == ("server", 1)]
    group.packets.clear()
    group.deliver(asked)
    assert not [packet for packet in group.packets if packet.target == ("client", 1)], "held back"
    commits = [packet for packet in group.packets if packet.payload[0] == TYPE_VOTES]
    assert len(commits) == 3, "the read hurries the COMMIT"
    assert read not in group.done


def test_reads_that_disagree_are_ordered() -> None:
    group = Group()
    done = group.update(1, increment(1))
    group.run()
    group.settle()
    lies = count(100)

    def lie(packet: Packet) -> Packet:
        """Two replicas of four answer reads with something else each, and tell the truth of what is ordered."""
        if packet.target[0] == "client" and packet.source[1] in (1, 2) and packet.payload[0] == TYPE_REPLY:
            reply = parse_reply_untrusted(packet.payload)
            if not reply.flags & TENTATIVE:
                body = msgpack.packb([(0, msgpack.packb(next(lies)))])
                return Packet(packet.source, packet.target, pack_reply(0, reply.number, body))
        return packet

    group.change = lie
    read = group.query(1, fetch(1))
    group.run()
    assert group.answer(done) == 1
    assert group.read(read) == [1]
    assert group.people[1].counters["reads_ordered"] == 1


def test_reads_that_are_not_answered_are_ordered() -> None:
    group = Group()
    group.change = lambda packet: None if packet.payload[0] == TYPE_READ else packet
    read = group.query(1, fetch(1))
    group.run()
    assert group.read(read) == [0]
    assert group.people[1].counters["reads_ordered"] == 1


def test_one_replica_that_lies_is_outvoted() -> None:
    group = Group()

    def lie(packet: Packet) -> Packet:
        if packet.source == ("server", 3) and packet.payload[0] == TYPE_REPLY:
            reply = parse_reply_untrusted(packet.payload)
            body = msgpack.packb([(0, msgpack.packb(77))])
            return Packet(packet.source, packet.target, pack_reply(0, reply.number, body))
        return packet

    group.change = lie
    for turn in range(1, 4):
        done = group.update(1, increment(1))
        group.run()
        assert group.answer(done) == turn
        read = group.query(1, fetch(1))
        group.run()
        assert group.read(read) == [turn]


def test_an_update_is_not_run_as_a_read() -> None:
    group = Group()
    read = group.query(1, increment(1))
    group.run()
    with pytest.raises(Exception, match="refused"):
        group.read(read)
    read = group.query(1, fetch(1))
    group.run()
    assert group.read(read) == [0]


def test_long_results_come_whole_from_one_replica() -> None:
    group = Group(tuning=Tuning(whole_result_bytes_max=1))
    seen = []

    def look(packet: Packet) -> Packet:
        if packet.target[0] == "client":
            seen.append(parse_reply_untrusted(packet.payload))
        return packet

    group.change = look
    done = group.update(1, increment(1))
    group.run()
    assert group.answer(done) == 1
    assert sorted(reply.flags & 2 for reply in seen) == [0, 2, 2, 2]
    read = group.query(1, fetch(1), fetch(2))
    group.run()
    assert group.read(read) == [1, 0]


def test_long_results_are_asked_of_all_when_the_one_is_silent() -> None:
    group = Group(tuning=Tuning(whole_result_bytes_max=1))
    silent = []

    def lose(packet: Packet) -> Packet | None:
        if packet.target[0] == "client" and not parse_reply_untrusted(packet.payload).flags & 2 and not silent:
            silent.append(packet.source)
        return None if packet.source in silent and packet.target[0] == "client" else packet

    group.change = lose
    done = group.update(1, increment(1))
    group.run()
    assert group.answer(done) == 1
    assert silent
