"""What a replica checks before it accepts (Figure 3, 1000-1010; DESIGN, "Server, on a request"), one rule at a time."""

from dataclasses import replace

import pytest

from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.classify import Request
from qunfs.protocol.execution import Code
from qunfs.protocol.history import Kind
from qunfs.protocol.messages import Status
from qunfs.protocol.operation import Credentials, Operation
from tests.protocol.scripted import RIGHTS, A, B, Scripted, altered
from tests.simulation.objects import pack, unpack

ALL = range(6)
QUORUM = range(5)
BAD_MAC = bytes(MAC_BYTES)
READER, USER, PERSON = 30, 31, 32


@pytest.fixture
def world() -> Scripted:
    """Six benign replicas with one update behind them."""
    made = Scripted((A, B), liar=False)
    assert made.send(made.request(Kind.METHOD, (A, B)), ALL) == [Status.ACCEPTED] * 6
    return made


# ---- MACs


def test_a_history_with_a_bad_mac_is_refused_and_not_culled(world: Scripted) -> None:
    """One of q does not validate: the replica does not go on with the rest, and says which it was."""
    request = world.request(Kind.METHOD, (A,))
    before = world.history(0, A)
    reply = world.reply_to(request, 0, spoiled={3: BAD_MAC})
    assert reply is not None
    assert reply.status is Status.CULLED
    assert set(reply.culled) == {(A, 3, False), (B, 3, False)}, (
        "in the view of one object and in the evidence on the other"
    )
    assert world.history(0, A) == before
    assert world.send(request, (0,)) == [Status.ACCEPTED]


def test_evidence_with_a_bad_mac_is_refused_too(world: Scripted) -> None:
    request = world.request(Kind.METHOD, (A,), range(5))
    shown = altered(request, evidence=(world.view(B, (5,)),))
    reply = world.reply_to(shown, 0, spoiled={5: BAD_MAC})
    assert reply is not None
    assert (reply.status, reply.culled) == (Status.CULLED, ((B, 5, False),))


# ---- admission


def _refused(world: Scripted, operation: Operation, client: int = 1) -> Status:
    request = Request(Kind.METHOD, client, operation.session, operation, (world.view(A, QUORUM),))
    reply = world.reply_to(request, 0)
    assert reply is not None
    return reply.status


def test_admission(world: Scripted) -> None:
    """Who may not, for whom it may not, at no sensible time, or what no object would remember: refused, not altered."""
    rights = {
        READER: Rights(False, Squash.NONE, (0, 1 << 31), (0, 1 << 31)),
        USER: Rights(True, Squash.ROOT, (0, 1 << 31), (0, 1 << 31)),
        PERSON: Rights(True, Squash.NONE, (1000, 1000), (1000, 1000)),
        1: RIGHTS,
    }
    world.replicas[0]._rights = rights
    sound = world.operation((A,))
    before = world.history(0, A)
    assert _refused(world, sound, READER) is Status.REFUSED
    assert _refused(world, sound, USER) is Status.REFUSED, "root is squashed"
    assert _refused(world, sound, PERSON) is Status.REFUSED, "another uid"
    groups = altered(sound, credentials=Credentials(1000, 1000, (0,)))
    assert _refused(world, groups, PERSON) is Status.REFUSED, "another supplementary group"
    assert _refused(world, groups, USER) is Status.REFUSED, "root's group is squashed wherever it is"
    assert _refused(world, sound, 33) is Status.REFUSED, "not in the cluster file"
    window = 600 * 10**9
    for time in (sound.client_time - window - 1, sound.client_time + window + 1):
        assert _refused(world, altered(sound, client_time=time)) is Status.TIME
    assert _refused(world, altered(sound, home=0)) is Status.REFUSED
    assert _refused(world, altered(sound, sequence=0)) is Status.REFUSED
    assert world.history(0, A) == before
    assert _refused(world, altered(sound, client_time=sound.client_time + window)) is Status.ACCEPTED


def test_readers_may_repair_now_and_then(world: Scripted) -> None:
    """Or their reads could block; but no more than so many a second."""
    world.replicas[0]._rights = {READER: Rights(False, Squash.NONE, (0, 1), (0, 1))}
    world.send(world.request(Kind.METHOD, (A,)), (0, 1))
    barrier = world.request(Kind.BARRIER, (A,), client=READER)
    statuses = world.send(barrier, [0] * 60)
    assert statuses[0] is Status.ACCEPTED
    assert statuses.count(Status.BUSY) == 10


# ---- repeats


def test_a_repeat_gets_the_stored_answer_and_nothing_runs(world: Scripted) -> None:
    """Line 1005: before currentness, which no repeat passes."""
    request = world.request(Kind.METHOD, (A,))
    first, again = world.reply_to(request, 0), world.reply_to(request, 0)
    assert first is not None
    assert again is not None
    assert (again.status, again.answer) == (Status.ACCEPTED, first.answer)
    assert again.histories == first.histories
    assert unpack(again.answer) == ("ok", (1,))


def test_a_repeat_is_known_by_its_history_after_a_restart(world: Scripted) -> None:
    """What a replica remembers beside its store is gone; the answer is with the version."""
    request = world.request(Kind.METHOD, (A,))
    first = world.reply_to(request, 0)
    world.replicas[0]._answers.clear()
    again = world.reply_to(request, 0)
    assert first is not None
    assert again is not None
    assert (again.status, again.answer) == (Status.ACCEPTED, first.answer)


# ---- currentness


def test_a_method_on_a_view_that_is_behind_fails(world: Scripted) -> None:
    """Line 1007; and line 1008, with the histories that bring the client up to date."""
    stale = world.request(Kind.METHOD, (A,))
    world.send(world.request(Kind.METHOD, (A,)), ALL)
    now = world.history(0, A)
    reply = world.reply_to(stale, 0)
    assert reply is not None
    assert reply.status is Status.FAIL
    assert [shown.history for shown in reply.histories] == [now]
    assert world.authenticators[3].valid(0, A, now, reply.histories[0].vector[3 * MAC_BYTES : 4 * MAC_BYTES])
    assert world.history(0, A) == now


def test_one_object_that_is_ahead_fails_the_whole_update(world: Scripted) -> None:
    """All objects or none, whichever of them it is."""
    for ahead, behind in ((A, B), (B, A)):
        both = world.request(Kind.METHOD, (A, B))
        world.send(world.request(Kind.METHOD, (ahead,)), ALL)
        before = world.history(0, behind)
        assert world.send(both, ALL) == [Status.FAIL] * 6
        assert world.history(0, behind) == before


def test_a_late_server_accepts_at_its_current_time(world: Scripted) -> None:
    """Its history ends below what the candidate is conditioned on, or just there: both are current."""
    world.send(world.request(Kind.METHOD, (A,)), QUORUM)
    assert world.send(world.request(Kind.METHOD, (A,)), (0, 5)) == [Status.ACCEPTED] * 2


def test_a_barrier_is_accepted_over_what_it_has_seen(world: Scripted) -> None:
    """cur of a BARRIER is its own time, of a COPY the barrier's: both are above the contenders."""
    world.send(world.request(Kind.METHOD, (A,)), (0, 1, 2))
    assert world.send(world.request(Kind.BARRIER, (A,)), QUORUM) == [Status.ACCEPTED] * 5
    assert world.send(world.request(Kind.COPY, (A,)), QUORUM) == [Status.ACCEPTED] * 5


def test_a_copy_is_not_accepted_over_a_later_barrier(world: Scripted) -> None:
    world.send(world.request(Kind.METHOD, (A,)), (0, 1, 2))
    world.send(world.request(Kind.BARRIER, (A,)), QUORUM)
    copied = world.request(Kind.COPY, (A,))
    world.send(world.request(Kind.BARRIER, (A,), client=2), (4,))
    assert world.send(copied, (3, 4)) == [Status.ACCEPTED, Status.FAIL]


# ---- methods


def test_a_method_that_fails_is_answered_and_makes_no_version(world: Scripted) -> None:
    """At exactly the conditioned-on versions: whoever is not current fails it."""
    picky = altered(world.operation((A,)), argument=pack((b"x", [7])))
    request = Request(Kind.METHOD, 1, picky.session, picky, (world.view(A, QUORUM),))
    before = world.history(0, A)
    reply = world.reply_to(request, 0)
    assert reply is not None
    assert (reply.status, reply.code, unpack(reply.answer)) == (Status.ANSWERED, Code.FAILED, ("no", (1,)))
    assert world.history(0, A) == before
    world.send(world.request(Kind.METHOD, (A,)), ALL)
    assert world.send(request, ALL) == [Status.FAIL] * 6


def test_full_histories_have_room_for_repairs(world: Scripted) -> None:
    replica = world.replicas[0]
    replica.limits = replace(replica.limits, records_before_refusal_max=2, records_per_history_max=4)
    assert len(world.history(0, A).records) == 2
    assert world.send(world.request(Kind.METHOD, (A,)), ALL)[0] is Status.BUSY
    assert world.send(world.request(Kind.BARRIER, (A,), (0, 1, 2, 3, 4)), (0,)) == [Status.ACCEPTED]
