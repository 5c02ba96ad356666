"""What is remembered lately, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from qunfs.protocol.recent import Recent

KEPT = 4


@given(st.lists(st.tuples(st.integers(0, 20), st.integers())))
def test_the_last_values_are_remembered_and_not_many_more(puts: list[tuple[int, int]]) -> None:
    recent: Recent[int, int] = Recent(KEPT)
    last: dict[int, int] = {}
    for key, value in puts:
        recent.put(key, value)
        last.pop(key, None)
        last[key] = value
        assert len(recent) <= 2 * KEPT
        for known in list(last)[-KEPT:]:
            assert recent.get(known) == last[known]
        assert all(recent.get(known) in (None, last[known]) for known in last)


def test_everything_can_be_forgotten() -> None:
    recent: Recent[int, int] = Recent(KEPT)
    recent.put(1, 2)
    recent.clear()
    assert recent.get(1) is None
    assert len(recent) == 0
