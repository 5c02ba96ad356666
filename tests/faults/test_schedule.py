from collections import Counter

import pytest

from tests.faults.schedule import FOR_GOOD, KINDS, Move, Schedule, Servers, State, What, schedule

MAY_BE = {
    What.KILL: {State.WELL, State.STOPPED, State.LYING},
    What.STOP: {State.WELL, State.LYING},
    What.CONTINUE: {State.STOPPED},
    What.START: {State.KILLED, State.LYING},
    What.LIE: set(State),
}


def drawn(seed: int, b: int, t: int) -> Schedule:
    return schedule(seed, 3 * t + 2 * b + 1, b, t, clients=2, operations=1000, moves=30)


@pytest.mark.parametrize(("b", "t"), [(1, 1), (2, 2), (1, 2)])
def test_no_more_servers_are_faulty_or_lie_than_the_cluster_tolerates(b: int, t: int) -> None:
    seen: Counter[What | str] = Counter()
    most = 0
    for seed in range(300):
        plan = drawn(seed, b, t)
        servers = Servers(3 * t + 2 * b + 1)
        for move in plan.moves:
            if move.what is not What.CLIENT:
                assert servers.states[move.who] in MAY_BE[move.what], f"seed {seed}: {move}"
            servers.make(move)
            assert len(servers.faulty) <= t, f"seed {seed}: {move}"
            assert servers.lied <= set(plan.traitors), f"seed {seed}: {move}"
            most = max(most, len(servers.faulty))
            seen.update((move.what, move.kind))
        assert len(plan.traitors) == b
        assert [move.at for move in plan.moves] == sorted(move.at for move in plan.moves)
    assert most == t
    assert all(seen[what] > 0 for what in What)
    assert all(seen[kind] > 0 for kind in KINDS)


def test_a_seed_is_a_schedule() -> None:
    assert drawn(7, 1, 1) == drawn(7, 1, 1) != drawn(8, 1, 1)


@pytest.mark.parametrize("kind", sorted(FOR_GOOD))
def test_who_has_forgotten_or_was_found_out_is_faulty_to_the_end(kind: str) -> None:
    servers = Servers(6)
    for move in (Move(0, What.LIE, 3, kind), Move(1, What.START, 3)):
        servers.make(move)
    assert servers.states[3] is State.WELL
    assert servers.faulty == {3}


def test_who_lied_on_the_wire_only_may_be_well_again() -> None:
    servers = Servers(6)
    servers.make(Move(0, What.LIE, 3, "wrong-answers"))
    servers.make(Move(1, What.STOP, 3))
    servers.make(Move(2, What.CONTINUE, 3))
    assert servers.states[3] is State.LYING
    servers.make(Move(3, What.START, 3))
    assert servers.faulty == set()
    assert servers.lied == {3}
