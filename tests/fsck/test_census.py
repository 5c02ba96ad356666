"""The lists of single replicas, some of which lie, are silent or go on for ever."""

import pytest
import trio

from qunfs.fsck import census
from qunfs.fsck.census import Census
from qunfs.objects.ids import ROOT
from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import LogicalTimestamp
from qunfs.protocol.messages import Roll, RollReply, Status
from qunfs.protocol.quorum import mask_of, threshold
from qunfs.protocol.recursive_quorum import recursive_threshold
from qunfs.protocol.store import Listed
from tests.fsck.conftest import VERSION, Bench

OLDER, NEWER = LogicalTimestamp(0, 0, 1, bytes(32)), LogicalTimestamp(2, 0, 1, bytes(32))
QUORUMS = threshold(1)
LIAR = 2


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "_PAGE", 3)
    monkeypatch.setattr(census, "_BUSY_S", 0.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "BUSY_MAX_S", 0.2)


async def taken(bench: Bench, quorums=QUORUMS) -> tuple[Census, list[int]]:
    found: list[int] = []
    counted = Census(bench.replicas, quorums, lambda _: None)
    await counted.take(found.extend)
    return counted, found


def answered(*listed: Listed, more: bool = False) -> RollReply:
    return RollReply(Status.ANSWERED, listed, more)


async def test_all_that_is_there_is_listed_once(bench: Bench, tree: dict[str, int]) -> None:
    counted, found = await taken(bench)
    assert found == sorted({ROOT, *tree.values()})
    assert [state.behind for state in counted.states] == [0] * 6
    assert bench.replicas.rolls < 6 * 4


@pytest.mark.parametrize("server", [0, 5])
async def test_what_one_replica_alone_lists_is_not_there(bench: Bench, tree: dict[str, int], server: int) -> None:
    ghost = bench.spoil.fresh()

    def lie(question: Roll, _: RollReply) -> RollReply:
        return answered(*[Listed(ghost + n, VERSION, True) for n in range(3) if ghost + n > question.after])

    bench.replicas.told[server] = lie
    counted, found = await taken(bench)
    assert found == sorted({ROOT, *tree.values()})
    assert counted.states[server].behind == 7  # the topology too


async def test_what_one_replica_does_not_list_is_there(bench: Bench, tree: dict[str, int]) -> None:
    bench.replicas.told[LIAR] = lambda _, reply: answered()
    _, found = await taken(bench)
    assert found == sorted({ROOT, *tree.values()})


async def test_a_replica_that_goes_on_for_ever_is_left_out(
    bench: Bench, tree: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "UNVOUCHED_MAX", 100)

    def endless(question: Roll, _: RollReply) -> RollReply:
        return answered(*[Listed(question.after + n, VERSION, True) for n in (1, 2, 3)], more=True)

    bench.replicas.told[LIAR] = endless
    counted, found = await taken(bench)
    assert found == sorted({ROOT, *tree.values()})
    assert "more than 100 objects" in counted.failures[LIAR]


@pytest.mark.parametrize(
    "lie",
    [
        lambda question, reply: answered(Listed(1, VERSION, True), more=True),
        lambda question, reply: answered(more=True),
        lambda question, reply: answered(*reply.listed[:2], more=True),
        lambda question, reply: RollReply(Status.REFUSED),
        lambda question, reply: RollReply(Status.ACCEPTED, reply.listed, True),
        lambda question, reply: None,
    ],
    ids=["the same again", "nothing and more", "few and more", "refused", "odd status", "silent"],
)
async def test_one_replica_that_does_not_list_properly_stops_nothing(bench: Bench, tree, lie) -> None:
    bench.replicas.told[LIAR] = lie
    counted, found = await taken(bench)
    assert found == sorted({ROOT, *tree.values()})
    assert list(counted.failures) == [LIAR]


async def test_two_silent_replicas_leave_no_quorum(bench: Bench, tree: dict[str, int]) -> None:
    for server in (1, 4):
        bench.replicas.told[server] = lambda question, reply: None
    with pytest.raises(LocalError, match=r"too few replicas .*1: it did not answer in time; 4: "):
        await taken(bench)


async def test_a_busy_replica_is_asked_again(bench: Bench, tree: dict[str, int]) -> None:
    turns = iter(range(1000))
    bench.replicas.told[LIAR] = lambda _, reply: reply if next(turns) % 3 == 0 else RollReply(Status.BUSY)
    counted, _ = await taken(bench)
    assert counted.states[LIAR].answered
    assert counted.failures == {}


async def test_a_replica_that_is_busy_for_ever_is_left_out(bench: Bench, tree: dict[str, int], hasty: None) -> None:
    bench.replicas.told[LIAR] = lambda question, reply: RollReply(Status.BUSY)
    with trio.fail_after(200.0):
        counted, found = await taken(bench)
    assert found == sorted({ROOT, *tree.values()})
    assert counted.failures == {LIAR: "it was busy for too long"}


async def test_a_replica_that_is_busy_for_ever_at_the_second_look(
    bench: Bench, tree: dict[str, int], hasty: None
) -> None:
    def lie(question: Roll, reply: RollReply) -> RollReply:
        if question.most == 1:
            return RollReply(Status.BUSY)
        listed = [one._replace(present=one.obj != tree["g"]) for one in reply.listed]
        return answered(*listed, more=reply.more)

    bench.replicas.told[LIAR] = lie
    with trio.fail_after(200.0):
        report = await bench.check()
    assert report.faults == []
    assert f"replica {LIAR} was left out: it was busy for too long" in report.notes


async def test_a_page_may_be_full_and_the_last(bench: Bench) -> None:
    """The root and the topology and one object more are three."""
    await bench.make(ROOT, b"f")
    counted, found = await taken(bench)
    assert len(found) == 2
    assert (counted.failures, bench.replicas.rolls) == ({}, 6)


async def test_older_and_unfinished_versions_are_counted(bench: Bench, tree: dict[str, int]) -> None:
    def old(_: Roll, reply: RollReply) -> RollReply:
        return answered(*[one._replace(lt=OLDER) for one in reply.listed], more=reply.more)

    def new(_: Roll, reply: RollReply) -> RollReply:
        return answered(*[one._replace(lt=NEWER) for one in reply.listed], more=reply.more)

    bench.replicas.told |= {0: old, 5: new}
    counted, _ = await taken(bench)
    assert counted.states[0].behind == counted.states[5].ahead == 7
    assert all(mask == 1 for mask in counted.due.values())
    # all but those whose ids leave replica 0 out: it is the last that is asked
    assert set(counted.due) == {obj for obj in (ROOT, 2, *tree.values()) if obj % 6 != 1}


async def test_another_state_at_the_same_version_is_a_contradiction(bench: Bench, tree: dict[str, int]) -> None:
    def lie(_: Roll, reply: RollReply) -> RollReply:
        listed = [one._replace(present=one.obj != tree["g"]) for one in reply.listed]
        return answered(*listed, more=reply.more)

    bench.replicas.told[LIAR] = lie
    report = await bench.check(repair=True)
    (fault,) = report.faults
    assert (fault.kind.value, fault.obj, fault.seen, fault.fate.value) == (
        "replica-contradicts",
        tree["g"],
        (LIAR,),
        "left",
    )
    assert report.files == 2


async def test_it_is_none_when_it_is_gone_at_the_second_look(bench: Bench, tree: dict[str, int]) -> None:
    looks = iter(range(1000))

    def once(_: Roll, reply: RollReply) -> RollReply:
        first = next(looks) < 3
        return answered(*[one._replace(present=one.present and not first) for one in reply.listed], more=reply.more)

    bench.replicas.told[LIAR] = once
    assert (await bench.check()).faults == []


async def test_a_group_that_lies_as_a_whole(bench: Bench, tree: dict[str, int]) -> None:
    """More replicas than one can be malevolent when they are the right ones: what they alone list is not there."""
    quorums = recursive_threshold([(1, 1), (0, 1)])
    group = range(4)
    assert not quorums.exceeds_malevolent(mask_of(group))
    ghost = bench.spoil.fresh()

    def lie(question: Roll, _: RollReply) -> RollReply:
        return answered(*[one for one in (Listed(ghost, VERSION, True),) if one.obj > question.after])

    bench.replicas.told |= dict.fromkeys(group, lie)
    _, found = await taken(bench, quorums)
    assert found == sorted({ROOT, *tree.values()})
