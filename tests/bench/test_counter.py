from collections import Counter

import pytest

from bench.counter import Load, counters_of, peak


@pytest.mark.parametrize(("n", "clients"), [(1, 4), (6, 1), (6, 16), (26, 16), (26, 64), (21, 3)])
def test_load_is_spread_evenly_over_the_servers(n: int, clients: int) -> None:
    counters = counters_of(Load(clients), n)
    assert len(set(counters)) == clients
    load = Counter(counter % n for counter in counters)
    counts = [load[server] for server in range(n)]
    assert max(counts) - min(counts) <= 1
    gaps = [b - a for a, b in zip(sorted(load), [*sorted(load)[1:], min(load) + n], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_loops_that_go_round_many_counters_do_not_meet() -> None:
    starts = counters_of(Load(5, spread=100), 6)
    used = [start + i for start in starts for i in range(100)]
    assert len(set(used)) == 500


def test_loops_run_in_as_few_processes_as_keep_up() -> None:
    assert [Load(k).process_count for k in (1, 32, 33, 64)] == [1, 1, 2, 2]
    assert Load(3, processes=8).process_count == 3


def test_the_peak_is_whatever_got_most_done() -> None:
    assert peak([{"ops_per_s": 1, "clients": 1}, {"ops_per_s": 3, "clients": 4}, {"ops_per_s": 2}])["clients"] == 4
