"""The checker of histories, on histories that are known to be legal or not; and against a search of all orders."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations
from random import Random
from typing import Any

import pytest

from tests.simulation.linearizability import Model, Operation, State, Verdict, check
from tests.simulation.reference import States, simulated

LEGAL, ILLEGAL, GAVE_UP = Verdict.LEGAL, Verdict.ILLEGAL, Verdict.GAVE_UP


def _increment(name: str, began: float, ended: float | None, value: int | None = None, obj: str = "c") -> Operation:
    return Operation(name, "increment", (obj,), began, None, ended, value)


def _count(name: str, began: float, ended: float | None, value: int | None = None, obj: str = "c") -> Operation:
    return Operation(name, "count", (obj,), began, None, ended, value)


def _append(name: str, objects: str, began: float, ended: float | None, *lengths: int) -> Operation:
    answer = None if ended is None else ("ok", lengths)
    return Operation(name, "append", tuple(objects), began, (name, None), ended, answer)


def _fetch(name: str, objects: str, began: float, ended: float, *ledgers: str) -> Operation:
    return Operation(name, "fetch", tuple(objects), began, None, ended, tuple(tuple(each) for each in ledgers))


def _verdict(*history: Operation, **final: State) -> Verdict:
    return check(simulated, history, final or None).verdict


# ---- one object


def test_no_history_is_legal() -> None:
    assert _verdict() is LEGAL
    assert check(simulated, [], {"c": 1}).verdict is ILLEGAL


def test_one_after_the_other() -> None:
    assert _verdict(_increment("x", 0, 1, 1), _increment("y", 2, 3, 2), _count("z", 4, 5, 2)) is LEGAL


def test_at_the_same_time_any_order_will_do() -> None:
    assert _verdict(_increment("x", 0, 9, 2), _increment("y", 1, 8, 1)) is LEGAL
    assert _verdict(_increment("x", 0, 9, 1), _increment("y", 1, 8, 2), _count("z", 2, 7, 0)) is LEGAL


def test_a_stale_read() -> None:
    assert _verdict(_increment("x", 0, 1, 1), _count("y", 2, 3, 0)) is ILLEGAL


def test_a_read_may_see_what_is_under_way_but_not_unsee_it() -> None:
    write = _increment("x", 0, 9, 1)
    assert _verdict(write, _count("y", 1, 2, 1), _count("z", 3, 4, 1)) is LEGAL
    assert _verdict(write, _count("y", 1, 2, 0), _count("z", 3, 4, 1)) is LEGAL
    assert _verdict(write, _count("y", 1, 2, 1), _count("z", 3, 4, 0)) is ILLEGAL


def test_a_lost_update() -> None:
    """Two increments of the same value; and one that nobody sees afterwards."""
    assert _verdict(_increment("x", 0, 5, 1), _increment("y", 1, 6, 1)) is ILLEGAL
    assert _verdict(_increment("x", 0, 1, 1), _increment("y", 0, 1, 2), _count("z", 2, 3, 1)) is ILLEGAL


def test_an_update_executed_twice() -> None:
    assert _verdict(_increment("x", 0, 1, 1), _count("y", 2, 3, 2)) is ILLEGAL
    assert _verdict(_increment("x", 0, 1, 2)) is ILLEGAL
    assert _verdict(_append("x", "a", 0, 1, 0), _fetch("y", "a", 2, 3, "xx")) is ILLEGAL
    assert _verdict(_append("x", "a", 0, None), _fetch("y", "a", 2, 3, "xx")) is ILLEGAL


def test_an_order_against_real_time() -> None:
    """y was invoked after x was answered and precedes it in the ledger."""
    assert _verdict(_append("x", "a", 0, 1, 1), _append("y", "a", 2, 3, 0)) is ILLEGAL
    assert _verdict(_append("x", "a", 0, 1, 0), _append("y", "a", 2, 3, 1), _fetch("z", "a", 4, 5, "yx")) is ILLEGAL
    assert _verdict(_append("x", "a", 0, 2, 1), _append("y", "a", 2, 3, 0)) is LEGAL  # at once: either order


def test_a_value_that_nobody_wrote() -> None:
    assert _verdict(_fetch("z", "a", 0, 1, "q")) is ILLEGAL


def test_a_refusal_tells_the_state_too() -> None:
    def refused(length: int) -> Operation:
        return Operation("y", "append", ("a",), 2, (b"y", (7,)), 3, ("no", (length,)))

    assert _verdict(_append("x", "a", 0, 1, 0), refused(1), a=("x",)) is LEGAL
    assert _verdict(_append("x", "a", 0, 1, 0), refused(0)) is ILLEGAL


# ---- pending operations


def test_a_pending_update_may_take_effect_at_any_time_or_never() -> None:
    pending = _increment("x", 0, None)
    assert _verdict(pending, _count("y", 1, 2, 0)) is LEGAL
    assert _verdict(pending, _count("y", 1, 2, 1)) is LEGAL
    assert _verdict(pending, _count("y", 1, 2, 0), _count("z", 3, 4, 1)) is LEGAL
    assert _verdict(pending) is LEGAL


def test_a_pending_update_takes_effect_once_and_for_good() -> None:
    pending = _increment("x", 0, None)
    assert _verdict(pending, _count("y", 1, 2, 1), _count("z", 3, 4, 0)) is ILLEGAL
    assert _verdict(pending, _count("y", 1, 2, 1), _count("z", 3, 4, 2)) is ILLEGAL


def test_a_pending_update_takes_no_effect_before_it_is_invoked() -> None:
    assert _verdict(_count("y", 0, 1, 1), _increment("x", 2, None)) is ILLEGAL


def test_final_states_decide_about_pending_updates() -> None:
    pending = [_append("x", "a", 0, None), _append("y", "a", 0, None)]
    assert _verdict(*pending, a=("y", "x")) is LEGAL
    assert _verdict(*pending, a=("y",)) is LEGAL
    assert _verdict(*pending, a=None) is LEGAL
    assert _verdict(*pending, a=("y", "y")) is ILLEGAL
    assert _verdict(_append("x", "a", 0, 1, 0), a=None) is ILLEGAL
    with pytest.raises(ValueError, match="final states"):
        check(simulated, pending, {"b": None})


# ---- several objects


def test_operations_on_several_objects_take_effect_at_once() -> None:
    joint = _append("x", "ab", 0, 9, 0, 0)
    assert _verdict(joint, _fetch("y", "ab", 1, 2, "", ""), _fetch("z", "ab", 3, 4, "x", "x")) is LEGAL
    assert _verdict(joint, _fetch("y", "ab", 1, 2, "x", "")) is ILLEGAL
    assert _verdict(joint, _fetch("y", "a", 1, 2, "x"), _fetch("z", "b", 3, 4, "")) is ILLEGAL


def test_two_snapshots_that_see_two_updates_in_different_orders() -> None:
    """Each object by itself is linearizable."""
    updates = [_append("x", "a", 0, 9, 0), _append("y", "b", 0, 9, 0)]
    one, other = _fetch("p", "ab", 1, 8, "x", ""), _fetch("q", "ab", 1, 8, "", "y")
    assert _verdict(*updates, one) is LEGAL
    assert _verdict(*updates, other) is LEGAL
    assert _verdict(*updates, one, other) is ILLEGAL


def test_joint_updates_in_different_orders_on_their_objects() -> None:
    updates = [_append("x", "ab", 0, 9, 0, 1), _append("y", "ab", 0, 9, 1, 0)]
    assert _verdict(*updates) is ILLEGAL


def test_a_cycle_through_real_time() -> None:
    """z sees neither x nor y; y was answered before z began."""
    history = [_append("x", "a", 0, 9, 0), _append("y", "ab", 1, 2, 1, 0), _fetch("z", "a", 3, 4, "")]
    assert _verdict(*history) is ILLEGAL


def test_objects_that_nothing_joins_are_searched_apart() -> None:
    """All at once on each of five counters: 8! orders each, and all of them together hopeless."""
    history = [_increment(f"{obj}{i}", 0, 100, 8 - i, obj) for obj in "abcde" for i in range(8)]
    found = check(simulated, history)
    assert found.verdict is LEGAL
    assert len(found.orders) == 5
    assert found.steps < 5 * 40
    history[-1] = _increment("wrong", 0, 100, 9, "e")
    assert check(simulated, history).verdict is ILLEGAL


# ---- what is reported


def test_the_order_found_explains_the_history() -> None:
    history = [_increment("x", 0, 9, 2), _increment("y", 1, 8, 1), _count("z", 2, 7, 1), _increment("w", 5, None)]
    assert check(simulated, history, {"c": 3}).orders == (("y", "z", "x", "w"),)
    assert check(simulated, history, {"c": 2}).orders == (("y", "z", "x"),)


def test_an_illegal_history_is_explained() -> None:
    found = check(simulated, [_increment("x", 0, 1, 1), _count("y", 2, 3, 0)])
    assert found.why == "after x: y count was answered 0, not 1"
    found = check(simulated, [_increment("x", 0, 1, 1)], {"c": 2})
    assert found.why == "after x: it leaves (1,), not (2,)"


def test_a_search_that_takes_too_long_is_given_up() -> None:
    """24 appends at once of which nobody knows the order: too many sets of them to look at all for the last answer."""
    history = [_append(f"{i}", "a", 0, None) for i in range(24)]
    history.append(_fetch("z", "a", 1, 2, "q"))
    found = check(simulated, history, steps_max=1000)
    assert (found.verdict, found.steps) == (GAVE_UP, 1000)
    twice = [replace(o, objects=(obj,)) for o in history for obj in "ab"]
    assert check(simulated, twice, steps_max=1000).steps == 1000
    illegal = [_increment("x", 0, 1, 2, "elsewhere")]
    assert check(simulated, [*illegal, *history], steps_max=1000).verdict is ILLEGAL


def test_configurations_are_remembered() -> None:
    """Increments that nobody was told about: 2^12 sets of them, but 13 states and 12! orders."""
    history = [_increment(f"{i}", 0, None) for i in range(12)]
    found = check(simulated, [*history, _count("z", 1, 2, 13)], steps_max=12 * 2**12 + 2**12)
    assert found.verdict is ILLEGAL


# ---- against the definition


def _by_definition(model: Model, history: Sequence[Operation]) -> bool:
    """Try every order of every choice of pending operations."""
    required = [o for o in history if o.answered is not None]
    pending = [o for o in history if o.answered is None]
    return any(
        _explains(model, order)
        for count in range(len(pending) + 1)
        for some in combinations(pending, count)
        for order in permutations([*required, *some])
    )


def _explains(model: Model, order: Sequence[Operation]) -> bool:
    for i, second in enumerate(order):
        if any(o.answered is not None and o.answered < second.invoked for o in order[i + 1 :]):
            return False
    states: dict[Any, State] = {}
    for operation in order:
        answer, after = model(operation.method, operation.argument, tuple(states.get(o) for o in operation.objects))
        if operation.answered is not None and answer != operation.answer:
            return False
        states.update(zip(operation.objects, after, strict=True))
    return True


def _history(chance: Random) -> list[Operation]:
    """Operations run one at a time, each in a larger interval of its own; then perhaps something is wrong with one."""
    states: dict[Any, State] = {}
    history: list[Operation] = []
    for at in range(chance.randint(2, 6)):
        objects = tuple(sorted(chance.sample("ab", chance.choice((1, 1, 2)))))
        method = chance.choice(("append", "append", "fetch"))
        name = f"o{at}"
        argument = None if method == "fetch" else (name, chance.choice((None, None, (0,) * len(objects))))
        answer, after = simulated(method, argument, tuple(states.get(obj) for obj in objects))
        pending = chance.random() < 0.25
        if not pending or chance.random() < 0.5:
            states.update(zip(objects, after, strict=True))
        began, ended = at - chance.random() * 2, at + chance.random() * 2
        history.append(
            Operation(name, method, objects, began, argument, *((None, None) if pending else (ended, answer)))
        )
    for _ in range(chance.choice((0, 3, 6))):
        victim, other = chance.choice(history), chance.choice(history)
        if chance.random() < 0.5:  # told what another was told
            alike = victim.method == other.method and len(victim.objects) == len(other.objects)
            if alike and victim.answered is not None and other.answered is not None:
                history[history.index(victim)] = replace(victim, answer=other.answer)
        elif victim.answered is not None:  # at another time
            began = chance.random() * len(history)
            history[history.index(victim)] = replace(victim, invoked=began, answered=began + chance.random())
    return history


def test_verdicts_are_those_of_the_definition() -> None:
    chance, verdicts = Random(1), []
    for _ in range(1000):
        history = _history(chance)
        legal = _by_definition(simulated, history)
        verdicts.append(legal)
        chance.shuffle(history)
        assert check(simulated, history).verdict is (LEGAL if legal else ILLEGAL), history
    assert 150 < sum(verdicts) < 850


def test_the_model_refuses_what_it_does_not_know() -> None:
    states: States = (None,)
    with pytest.raises(ValueError, match="no such method"):
        simulated("remove", None, states)
