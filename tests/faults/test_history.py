import os
from random import Random
from typing import Any

import pytest

from tests.faults.history import History, Told, hear, tell
from tests.simulation.linearizability import Verdict
from tests.support.file_work import Tree

TREE = Tree(1, 2, 3)
READ = {"op": 9, "method": "lookup", "object": 1, "argument": (1, "a"), "at": 8.0}


def heard(*events: dict[str, Any]) -> History:
    history = History()
    history.told["tree", 0] = Told("tree", 1, TREE.initial(), 0.0, None, 0.0)
    for event in events:
        history.hear("c", event)
    return history


def create(op: int = 1, **more: Any) -> dict[str, Any]:
    return {"op": op, "method": "create", "object": 1, "argument": (1, "a", 0o644, True), "at": 1.0, **more}


def created(op: int = 1, new: int = 70) -> dict[str, Any]:
    return {"op": op, "argument": (1, "a", 0o644, True, new), "answer": ("OK", new), "at": 2.0}


def found(obj: int) -> dict[str, Any]:
    return {"op": 9, "argument": (1, "a"), "answer": ("OK", obj) if obj else ("NOENT", 0), "at": 9.0}


def test_what_was_answered_must_be_explained() -> None:
    assert heard(create(), created(), READ, found(70)).check().verdict is Verdict.LEGAL
    assert heard(create(), created(), READ, found(71)).check().verdict is Verdict.ILLEGAL
    assert heard(create(), created(), READ, found(0)).check().verdict is Verdict.ILLEGAL


@pytest.mark.parametrize("gave_up", [[], [{"op": 1}]])
def test_what_was_not_answered_may_have_happened_or_not(gave_up: list[dict[str, Any]]) -> None:
    events = [create(), {"op": 1, "new": 70}, *gave_up, READ]
    assert heard(*events, found(70)).check().verdict is Verdict.LEGAL
    assert heard(*events, found(0)).check().verdict is Verdict.LEGAL
    assert heard(*events, found(71)).check().verdict is Verdict.ILLEGAL
    assert heard(create(), *gave_up, READ, found(70)).check().verdict is Verdict.ILLEGAL  # it was never asked for


def test_what_was_refused_each_time_did_not_happen() -> None:
    refused = {"op": 1, "argument": (1, "a", 0o644, True, 0), "answer": ("JUKEBOX", 0), "at": 2.0}
    assert heard(create(), {"op": 1, "new": 70}, refused, READ, found(0)).check().verdict is Verdict.LEGAL
    assert heard(create(), {"op": 1, "new": 70}, refused, READ, found(70)).check().verdict is Verdict.ILLEGAL


def test_counters_count_once() -> None:
    def count(*answers: int | None) -> Verdict:
        events = []
        for op, answer in enumerate(answers):
            events.append({"op": op, "method": "increment", "object": 5, "argument": None, "at": float(op)})
            if answer is not None:
                events.append({"op": op, "argument": None, "answer": answer, "at": op + 0.5})
        return heard(*events).check().verdict

    assert count(1, 2, 3) is Verdict.LEGAL
    assert count(1, None, 3) is Verdict.LEGAL
    assert count(1, None, 2) is Verdict.LEGAL
    assert count(1, 3) is Verdict.ILLEGAL
    assert count(1, None, 4) is Verdict.ILLEGAL
    assert count(2, 1) is Verdict.ILLEGAL
    assert count(1, 1) is Verdict.ILLEGAL


def test_operations_are_counted_as_they_end() -> None:
    history = heard(create(), READ, create(2), created(), {"op": 9})
    assert history.ended == 2
    assert history.open_now({"c"}) == [(("c", 2), history.told["c", 2])]
    assert history.open_now({"d"}) == []
    assert history.files() == {70: 1}
    assert heard(create(), {"op": 1, "new": 71}).files() == {71: 1}


def test_a_falsified_history_is_noticed() -> None:
    history = heard(create(), created(), READ, found(70))
    assert history.falsified(Random(1)).check().verdict is Verdict.ILLEGAL
    assert history.check().verdict is Verdict.LEGAL


def test_events_come_over_a_pipe_as_they_were() -> None:
    there, here = os.pipe()
    with os.fdopen(there, "rb") as lines, os.fdopen(here, "wb"):
        tell(here, op=3, argument=(1, "b", (2, True)), at=0.5, answer=("OK", (("a", 2**62),)))
        assert hear(lines.readline()) == {
            "op": 3,
            "argument": (1, "b", (2, True)),
            "at": 0.5,
            "answer": ("OK", (("a", 2**62),)),
        }
