"""That the baseline orders and executes correctly, whatever order messages arrive in."""

import pytest

from bench.baselines.pbft.core.messages import TYPE_CHECKPOINT
from bench.baselines.pbft.core.tuning import Tuning
from tests.bench.pbft_group import Group, fetch, increment

SMALL = Tuning(checkpoint_every=4, log_batches_max=8, batch_entries_max=3)


def test_one_increment_and_one_fetch() -> None:
    group = Group()
    done = group.update(1, increment(7))
    group.run()
    assert group.answer(done) == 1
    read = group.query(1, fetch(7), fetch(8))
    group.run()
    assert group.read(read) == [1, 0]
    group.settle()
    group.check_same(complete=True)


@pytest.mark.parametrize("faults", [0, 1, 2, 5])
def test_every_number_of_faults(faults: int) -> None:
    group = Group(faults=faults, clients=3)
    for turn in range(1, 6):
        done = [group.update(client, increment(client)) for client in (1, 2, 3)]
        group.run()
        assert [group.answer(which) for which in done] == [turn] * 3
    group.settle()
    group.check_same(complete=True)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("commit_delay_s", [0.0, 0.02])
def test_reordered_duplicated_and_lost_messages(seed: int, commit_delay_s: float) -> None:
    tuning = Tuning(
        checkpoint_every=4, log_batches_max=8, batch_entries_max=3, window=1 + seed % 3, commit_delay_s=commit_delay_s
    )
    group = Group(1 + seed % 2, 3, seed, tuning, loss=0.05, duplication=0.1, reorders=True)
    counted = {}
    for turn in range(1, 9):
        # counter 1 is everybody's, the others are their client's own
        own = [group.update(client, increment(10 + client)) for client in (1, 2, 3)]
        shared = [group.update(client, increment(1)) for client in (1, 2, 3)]
        group.run(lambda which=(*own, *shared): all(w in group.done for w in which))
        assert [group.answer(which) for which in own] == [turn] * 3
        for which in shared:
            counted.setdefault(group.answer(which), which)
        group.check_same()
    assert sorted(counted) == list(range(1, 25)), "each increment took effect exactly once"


def test_checkpoints_truncate_the_log() -> None:
    group = Group(clients=2, tuning=SMALL)
    for _ in range(30):
        group.update(1, increment(1))
        group.update(2, increment(2))
        group.run()
    group.settle()
    group.check_same(complete=True)
    for replica in group.replicas:
        known = replica.describe()
        assert known["executed"] >= 30
        assert known["stable"] == known["executed"] // 4 * 4
        assert known["log"] < 2 * SMALL.checkpoint_every
        assert known["checkpoints"] >= 7


def test_water_marks_hold_the_primary_back_while_no_checkpoint_is_stable() -> None:
    group = Group(tuning=SMALL, clients=1)
    group.change = lambda packet: None if packet.payload[0] == TYPE_CHECKPOINT else packet  # no checkpoint arrives
    for _ in range(8):
        group.update(1, increment(1))
        group.run()
    stuck = group.update(1, increment(1))
    with pytest.raises(AssertionError, match="not within"):
        group.run(seconds=5)
    assert group.replicas[0].describe()["executed"] == 8
    group.change = lambda packet: packet
    group.run(lambda: stuck in group.done)
    assert group.answer(stuck) == 9


def test_batches_hold_what_came_meanwhile() -> None:
    group = Group(clients=8, tuning=Tuning(window=1))
    done = [group.update(client, increment(1)) for client in range(1, 9)]
    group.run()
    assert sorted(map(group.answer, done)) == list(range(1, 9))
    assert len(group.states[0].batches) < 8
    group.settle()
    group.check_same(complete=True)


def test_a_client_bundles_what_it_has_at_once() -> None:
    group = Group()
    first = group.update(1, increment(1))
    others = [group.update(1, increment(obj)) for obj in range(2, 12)]
    group.run()
    assert group.answer(first) == 1
    assert [group.answer(which) for which in others] == [1] * 10
    assert group.people[1].counters["bundles"] == 2


def test_operations_on_their_own_take_effect_as_well() -> None:
    group = Group(tuning=Tuning(bundle_operations_max=1))
    done = [group.update(1, increment(obj)) for obj in range(1, 12)]
    reads = [group.query(1, fetch(obj)) for obj in range(1, 12)]
    group.run()
    assert [group.answer(which) for which in done] == [1] * 11
    assert all(group.read(which) in ([0], [1]) for which in reads)
    assert group.people[1].counters["bundles"] == 11


def test_a_client_queues_updates_of_one_object() -> None:
    group = Group()
    done = [group.update(1, increment(1)) for _ in range(5)]
    group.run()
    assert [group.answer(which) for which in done] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("faults", [1, 2])
def test_crashed_backups(faults: int) -> None:
    group = Group(faults=faults, clients=2, tuning=SMALL)
    group.crashed = set(range(group.n - faults, group.n))
    for turn in range(1, 13):
        done = [group.update(client, increment(client)) for client in (1, 2)]
        group.run()
        assert [group.answer(which) for which in done] == [turn] * 2
    read = group.query(1, fetch(2))
    group.run()
    assert group.read(read) == [12]
    group.settle()
    group.check_same(complete=True)
    reached = group.replicas[0].describe()
    assert reached["stable"] == reached["executed"] // 4 * 4


def test_one_backup_too_many_and_nothing_is_executed() -> None:
    group = Group(faults=1)
    group.crashed = {2, 3}
    which = group.update(1, increment(1))
    with pytest.raises(AssertionError, match="not within"):
        group.run(seconds=10)
    assert which not in group.done
    assert not group.states[0].batches


def test_a_dead_primary_is_named() -> None:
    group = Group()
    group.crashed = {0}
    which = group.update(1, increment(1))
    group.run(lambda: which in group.done, seconds=200)
    with pytest.raises(Exception, match=r"the primary, server 0, has failed .*no view change"):
        group.answer(which)


def test_a_lost_connection_to_the_primary_is_named_at_once() -> None:
    group = Group()
    which = group.update(1, increment(1))
    group.people[1].disconnected(0, group.now)
    later = group.update(1, increment(1))
    for lost in (which, later):
        with pytest.raises(Exception, match="connection to it is lost"):
            group.answer(lost)


def test_bundles_that_are_long_travel_separately() -> None:
    tuning = Tuning(inline_bytes_max=16)
    group = Group(clients=2, tuning=tuning, reorders=True, seed=3)
    done = [group.update(client, increment(client)) for client in (1, 2) for _ in range(4)]
    group.run()
    assert [group.answer(which) for which in done] == [1, 2, 3, 4] * 2
    group.settle()
    group.check_same(complete=True)


def test_a_long_bundle_that_is_lost_on_the_way_to_a_backup_comes_again() -> None:
    group = Group(tuning=Tuning(inline_bytes_max=16))
    lost = []

    def lose(packet):
        if packet.source == ("client", 1) and packet.target in (("server", 1), ("server", 2)) and len(lost) < 2:
            lost.append(packet)
            return None
        return packet

    group.change = lose
    which = group.update(1, increment(1))
    group.run(lambda: which in group.done)
    assert group.answer(which) == 1
    assert len(lost) == 2


@pytest.mark.parametrize("authenticators", [True, False])
def test_with_and_without_authenticators(authenticators: bool) -> None:
    group = Group(clients=2, tuning=Tuning(authenticators=authenticators))
    done = [group.update(client, increment(1)) for client in (1, 2)]
    group.run()
    assert sorted(map(group.answer, done)) == [1, 2]
