from collections.abc import Callable
from pathlib import Path

import pytest

from bench.postmark import Phase, Progress
from bench.system import System
from qunfs import processes
from qunfs.cli import demo_story
from qunfs.cli.demo_story import Event, Story
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError


def at(tenths: int, phase: Phase = Phase.TRANSACTIONS) -> Progress:
    return Progress(phase, tenths, 0.0, 0.0)


@pytest.fixture
def system(made: Cluster, running: Callable[..., None], fake_replica: str, monkeypatch: pytest.MonkeyPatch) -> System:
    """A system of fake replicas; the liar is one more of them."""
    running(*range(made.n))
    launch = processes.start
    monkeypatch.setattr(processes, "start", lambda c, s, _arguments, _module: launch(c, s, ["works"], fake_replica))
    return System(made.directory, made, Path("/m"), Path("/s"), "sync")


def drive(story: Story, progress: Progress, until: Callable[[], bool]) -> None:
    for _ in range(1000):
        story.advance(progress)
        if until():
            return
        processes.wait_gone([1], processes.POLL_SECONDS)
    pytest.fail("the story did not go on")


def test_crash_return_and_lie_come_in_this_order(system: System) -> None:
    events: list[Event] = []
    story = Story(system, events.append)
    pids = [processes.replica_pid(system.cluster, server) for server in range(6)]
    story.advance(at(0, Phase.CREATION))
    for tenths in range(1, 6):
        story.advance(at(tenths))
    assert events == []
    drive(story, at(6), lambda: len(events) == 1)
    assert "replica 1 killed" in events[0].text
    assert processes.replica_pid(system.cluster, 1) is None
    assert story.doing[1] == "killed"
    drive(story, at(7), lambda: len(events) == 2)
    assert "replica 1 back" in events[1].text
    assert story.doing[1] == "correct"
    drive(story, at(8), lambda: story.finished)
    assert "replica 2 lying from now on" in events[2].text
    assert story.roles[1] == "killed, then back"
    assert story.roles[2] == "lied (wrong-answers)"
    now = [processes.replica_pid(system.cluster, server) for server in range(6)]
    assert [server for server in range(6) if now[server] != pids[server]] == [1, 2]
    assert None not in now


def test_a_short_run_is_completed_afterwards(system: System) -> None:
    events: list[Event] = []
    story = Story(system, events.append)
    story.advance(at(10))
    assert not story.finished
    story.complete()
    assert len(events) == 3


def test_a_replica_that_does_not_come_back_is_an_error(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_REPLICA_KIND", "dies")
    story = Story(system, lambda event: None)
    with pytest.raises(LocalError, match=r"server 1 did not start: .*cheese"):
        drive(story, at(8), lambda: story.finished)


def test_without_tolerated_faults_there_is_no_story(made: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_story.processes, "kill", lambda *_: pytest.fail("killed"))
    alone = object.__new__(type("Alone", (), {"b": 0, "n": 1}))
    story = Story(System(made.directory, alone, Path("/m"), Path("/s"), "sync"), lambda event: pytest.fail(event.text))
    story.advance(at(10))
    story.complete()
    assert story.finished
    assert story.roles == {0: "correct"}
