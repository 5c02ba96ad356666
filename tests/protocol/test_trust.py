"""Whom a client does without, and for how long."""

from qunfs.protocol.quorum import threshold
from qunfs.protocol.trust import Trust


def test_who_was_left_out_is_tried_again_when_nothing_helps() -> None:
    """A liar shows a time too late for two clocks only; three correct servers build on it and are accused too."""
    trust = Trust(threshold(1))
    for issuer in (0, 2, 4, 5):
        for reporter in (1, 3):
            trust.accuse(issuer, reporter)
    assert trust.preference(7).view == 0, "every view has a server that is left out"
    attempts = 0
    while trust.preference(7).view == 0:
        trust.reconsider()
        attempts += 1
        assert attempts < 20
    assert not any(trust.left_out(server) for server in (0, 2, 4, 5))


def test_who_is_malevolent_is_left_out_again_as_soon_as_it_is_accused() -> None:
    trust = Trust(threshold(1))
    for _ in range(3):
        trust.accuse(5, 1)
        trust.accuse(5, 3)
        assert trust.left_out(5)
        for _ in range(20):
            trust.reconsider()
        assert trust.preference(0).view


def test_doubts_that_do_not_help_are_dropped() -> None:
    """A liar handed server 2 a time that is too late for the clocks of the others; with one more down none is left."""
    system = threshold(b=1, t=2)
    trust = Trust(system)
    trust.reached([server for server in range(system.n) if server != 0])
    for reporter in (1, 3, 4, 8):
        trust.accuse(2, reporter)
    for reporter in (2, 3, 6, 1, 4, 8):
        trust.accuse(7, reporter)
    attempts, doubted = 0, set()
    while trust.left_out(2) or not attempts:
        trust.reconsider()
        doubted.add(trust.left_out(2))
        attempts += 1
        assert attempts < 20
    assert True in doubted, "they are what explains all complaints"
