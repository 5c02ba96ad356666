"""What servers prove where their groups count and not their number (paper section 3.3, recursive thresholds).

Six sites of four servers, of which one site may be malevolent and a server in each other may crash: five sites, three
servers of each, are a quorum, two servers in each of three sites a repairable set, and one whole site may lie.
"""

from collections.abc import Callable
from random import Random

import pytest

from qunfs.protocol.answering import Fresh, agreement, newest_established, unanimous_answer
from qunfs.protocol.classify import Request, RequestRefused, classify, proven, setup
from qunfs.protocol.client import Client
from qunfs.protocol.execution import Code
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    Candidate,
    Kind,
    LogicalTimestamp,
    ObjectHistorySet,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.messages import Shown, Status, UpdateReply
from qunfs.protocol.planning import Identity
from qunfs.protocol.quorum import mask_of
from qunfs.protocol.recursive_quorum import recursive_threshold
from qunfs.protocol.update_round import Outcome, UpdateRound
from tests.simulation.objects import SIMULATED

SITES = recursive_threshold([(1, 1), (0, 1)])
EVERYONE = range(24)
O = 7  # noqa: E741


def _lt(time: int, is_barrier: int = 0) -> LogicalTimestamp:
    return LogicalTimestamp(time, is_barrier, 1, b"d" * 32)


ONE = method(_lt(1), (O,), (ZERO.lt,))
BAR = barrier(_lt(1, 1), (O,), (ZERO.lt,))
WITH_ONE, BASED_ON_ONE, WITH_BAR = ReplicaHistory((ZERO, ONE)), ReplicaHistory((ONE,)), ReplicaHistory((ZERO, BAR))

FOUR_SITES = list(range(16))
"""More servers than a quorum has, and none."""
VIEW = [4 * site + server for site in range(5) for server in range(3)]
TWO_SITES = list(range(8))
"""More servers than a repairable set has, and none."""
REPAIRABLE = [0, 1, 4, 5, 8, 9]
ONE_SITE = [0, 1, 2, 3]
"""More servers than b, which may all lie together."""
TWO_SERVERS = [0, 4]


def _shown(history: ReplicaHistory, holders: list[int]) -> ObjectHistorySet:
    """Everybody's histories; those who do not hold this one have nothing."""
    histories = {server: history if server in holders else ZERO_HISTORY for server in EVERYONE}
    return ObjectHistorySet.of(O, histories, mask_of(EVERYONE))


def _classified(history: ReplicaHistory, holders: list[int]) -> tuple[Kind, Candidate, Candidate | None]:
    view = _shown(history, holders)
    made = classify(SITES, view, proven(SITES, (view,)))
    return made.kind, made.obj_cand, made.bar_cand


def test_a_record_is_proven_by_a_quorum_of_sites() -> None:
    assert ONE not in proven(SITES, (_shown(WITH_ONE, FOUR_SITES),))
    assert ONE in proven(SITES, (_shown(WITH_ONE, VIEW),))


def test_a_record_shown_by_one_quorum_alone_is_proven_if_it_is_one() -> None:
    for servers, holds in ((FOUR_SITES, False), (VIEW, True)):
        alone = ObjectHistorySet.of(O, dict.fromkeys(servers, WITH_ONE), mask_of(servers))
        assert (ONE in proven(SITES, (alone,))) == holds


def test_a_base_is_proven_by_more_sites_than_can_lie() -> None:
    assert ONE not in proven(SITES, (_shown(BASED_ON_ONE, ONE_SITE),))
    assert ONE in proven(SITES, (_shown(BASED_ON_ONE, TWO_SERVERS),))


def test_lines_702_703_a_candidate_is_repairable_by_sites() -> None:
    assert _classified(WITH_ONE, TWO_SITES) == (Kind.BARRIER, ZERO, None)
    assert _classified(WITH_ONE, REPAIRABLE) == (Kind.BARRIER, ONE, None)
    assert _classified(WITH_BAR, TWO_SITES) == (Kind.BARRIER, ZERO, None)
    assert _classified(WITH_BAR, REPAIRABLE) == (Kind.BARRIER, ZERO, BAR)


def test_lines_707_711_copy_and_method_take_a_quorum_of_sites() -> None:
    assert _classified(WITH_BAR, FOUR_SITES) == (Kind.BARRIER, ZERO, BAR)
    assert _classified(WITH_BAR, VIEW) == (Kind.COPY, ZERO, BAR)
    assert _classified(WITH_ONE, FOUR_SITES) == (Kind.BARRIER, ONE, None)
    assert _classified(WITH_ONE, VIEW) == (Kind.METHOD, ONE, None)


def test_a_view_is_a_quorum_of_sites_with_none_to_spare() -> None:
    def request(servers: list[int]) -> Request:
        view = ObjectHistorySet.of(O, dict.fromkeys(servers, ZERO_HISTORY), mask_of(servers))
        return Request(Kind.BARRIER, 1, bytes(16), None, (view,), ())

    for servers in (FOUR_SITES[:15], [*VIEW, 3], [*VIEW, 20], [*VIEW, 20, 21, 22]):
        with pytest.raises(RequestRefused, match="exactly a quorum"):
            setup(SITES, request(servers))
    with pytest.raises(RequestRefused) as refused:
        setup(SITES, request(VIEW))
    assert "exactly a quorum" not in str(refused.value)


@pytest.mark.parametrize("said", [agreement, lambda q, replies: unanimous_answer(q, [replies[0]], mask_of(replies))])
def test_answers_count_by_sites(said: Callable[..., object]) -> None:
    """An answer of more servers than can lie, or of a whole quorum; one site's or four sites' are not."""
    fresh = Fresh(WITH_ONE, ONE.lt, Code.OK, b"answer")
    few, enough = (ONE_SITE, TWO_SERVERS) if said is agreement else (FOUR_SITES, VIEW)
    assert said(SITES, dict.fromkeys(few, fresh)) is None
    assert said(SITES, dict.fromkeys(enough, fresh)) is not None


class Round(UpdateRound):
    def message(self, _server: int) -> bytes:
        return b""


@pytest.mark.pure
def test_an_update_is_done_at_a_quorum_of_sites() -> None:
    client = Client(Identity(1, bytes(16)), SITES, SIMULATED, Random(1).random)
    accepted = UpdateReply(Status.ACCEPTED, Code.OK, b"answer", (Shown(WITH_ONE, b""),))
    for servers, outcome in ((FOUR_SITES, None), (VIEW, Outcome(True, Code.OK, b"answer"))):
        update_round = Round("METHOD", client._means, ONE, O, False)
        for server in servers:
            update_round.take_untrusted(server, accepted.pack(0), SITES.n)
        update_round.note_new()
        assert update_round.judge(False) == outcome


def test_later_versions_are_repairable_by_sites() -> None:
    """In some quorum the holders of a later record and those whose base is later are no repairable set."""
    two = method(_lt(2), (O,), (ONE.lt,))
    for servers, newest in (([*TWO_SITES[4:], 8], ONE), (list(range(16)), None)):
        later = {server: ReplicaHistory((ZERO, ONE, two)) for server in servers}
        histories = dict.fromkeys(EVERYONE, WITH_ONE) | later
        assert newest_established(SITES, O, histories, (), 100) == newest
