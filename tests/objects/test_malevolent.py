"""Clients with code of their own: arguments of any shape, any objects, no permission."""

import random

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT, TOPOLOGY, new_id, type_of
from qunfs.protocol.execution import TYPE_KEY, Code, run_query, run_update
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Call, Credentials, MethodClass, Operation
from tests.nfs.tree import check_tree
from tests.support.local_qu import START_NS, LocalQu, State

OWNER, OTHER = Credentials(1000, 1000), Credentials(2000, 2000)
RNG = random.Random(7)
DIR, SUB, NEW_DIR = (new_id(r, 6, True, RNG.getrandbits) for r in range(3))
FILE, NEW_FILE = (new_id(1, 6, False, RNG.getrandbits) for _ in range(2))
IDS = [ROOT, TOPOLOGY, DIR, SUB, NEW_DIR, FILE, NEW_FILE]
NONE = (None, None, None, None, None, None, False, None, None)
METHODS = sorted(name for name, _ in REGISTRY._methods)
QUERIES = [name for name in METHODS if REGISTRY.find(name, 1).kind is MethodClass.QUERY]
UPDATES = [name for name in METHODS if REGISTRY.find(name, 1).kind is MethodClass.UPDATE]


@pytest.fixture(scope="module")
def state() -> State:
    core = LocalQu(REGISTRY, genesis_rows(1000, 1000, 0o755, START_NS))

    def update(method, argument, *objects):
        named = tuple((obj, type_of(obj)) for obj in objects)
        operation = core._operation(Call(method, named, msgpack.packb(argument), OWNER, home=objects[0]))
        core.sequence += 1
        assert core._issue_once(operation).effective

    update("dir.mkdir", (ROOT, b"d", DIR, (0o755, *NONE[1:])), ROOT, DIR)
    update("dir.mkdir", (DIR, b"s", SUB, (0o755, *NONE[1:])), DIR, SUB)
    update("dir.create", (DIR, b"f", FILE, (0o644, *NONE[1:]), None), DIR, FILE)
    return core.state


scalars = st.one_of(
    st.sampled_from(IDS),
    st.sampled_from([b"d", b"s", b"f", b"new", b".", b"..", b"a/b", b"", b"user.x"]),
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(max_size=300),
    st.just(NONE),
    st.tuples(*[st.one_of(st.none(), st.booleans(), st.integers(-1, 1 << 63), st.binary(max_size=16))] * 9),
)
arguments = st.one_of(scalars, st.lists(scalars, max_size=10), st.recursive(scalars, st.lists, max_leaves=8))
object_sets = st.sets(st.sampled_from(IDS), min_size=1, max_size=5)


def operation_of(method, argument, objects, cred, types=None):
    order = tuple(sorted(objects))
    kinds = types or tuple(map(type_of, order))
    return Operation(order, kinds, method, 1, msgpack.packb(argument), cred, START_NS, order[0], b"\x07" * 16, 1)


def attempt(state, operation):
    """The outcome, and what would change, of an update by another client."""
    views = state.views(operation.objects)
    execution = run_update(REGISTRY.find(operation.method, 1), operation, 9, 1 << 20, views, DEFAULT_LIMITS)
    changes = {obj: dict(view.changes()) for obj, view in views.items()} if execution.effective else {}
    return execution, changes


SHAPES = {
    "dir.create": [st.sampled_from(IDS), None, st.sampled_from(IDS), st.just(NONE), st.sampled_from([None, bytes(8)])],
    "dir.mkdir": [st.sampled_from(IDS), None, st.sampled_from(IDS), st.just(NONE)],
    "dir.symlink": [st.sampled_from(IDS), None, st.sampled_from(IDS), st.just(NONE), st.binary(max_size=5)],
    "dir.mknod": [
        st.sampled_from(IDS),
        None,
        st.sampled_from(IDS),
        st.just(NONE),
        st.integers(0, 8),
        st.just((1, 2)),
    ],
    "dir.link": [st.sampled_from(IDS), st.sampled_from(IDS), None],
    "dir.remove": [st.sampled_from(IDS), None, st.sampled_from(IDS)],
    "dir.rmdir": [st.sampled_from(IDS), None, st.sampled_from(IDS)],
    "dir.rename": [
        st.sampled_from(IDS),
        None,
        st.sampled_from(IDS),
        None,
        st.sampled_from(IDS),
        st.sampled_from([0, *IDS]),
        st.sampled_from([0, 0, 1, 2]),
        st.sampled_from([None, 0, 1]),
        st.just(False),
    ],
}
NAMES = st.sampled_from([b"d", b"s", b"f", b"new"])


@st.composite
def nearly_right(draw):
    """Arguments of the right shape that say anything, with the objects that they name."""
    method = draw(st.sampled_from(sorted(SHAPES)))
    argument = [draw(NAMES if part is None else part) for part in SHAPES[method]]
    objects = {part for part in argument if type(part) is int and part in IDS and part not in (0, 1, 2)}
    if argument[0] == ROOT or (method != "dir.remove" and ROOT in argument[:3]):
        objects.add(ROOT)
    if method == "dir.rename" and argument[7] is not None:
        objects.add(TOPOLOGY)
    return method, argument, objects or {ROOT}


def _demand_no_change(state, method, argument, objects):
    execution, changes = attempt(state, operation_of(method, argument, objects, OTHER))
    assert execution.code in Code
    there = {ROOT, TOPOLOGY, DIR, SUB, FILE}
    for obj in there & changes.keys():
        assert all(key.startswith(b"\x00") for key in changes[obj])


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(UPDATES), arguments, object_sets)
def test_a_stranger_changes_nothing(state, method, argument, objects):
    _demand_no_change(state, method, argument, objects)


@settings(max_examples=600, deadline=None)
@given(nearly_right())
def test_a_stranger_changes_nothing_with_the_right_arguments(state, call):
    _demand_no_change(state, *call)


@settings(max_examples=600, deadline=None)
@given(nearly_right())
def test_whatever_an_owner_says_the_tree_stays_whole(state, call):
    method, argument, objects = call
    execution, changes = attempt(state, operation_of(method, argument, objects, OWNER))
    if not execution.effective:
        return
    trial = State(REGISTRY, state.dump())
    for obj, difference in changes.items():
        for key, value in difference.items():
            trial.put(obj, key, value)
    if method != "dir.rename":  # who may move directories can lie about ancestors: a cycle, which reads survive
        check_tree(trial)


def test_a_new_object_has_the_type_that_its_id_says(state):
    """Otherwise nobody could ever remove what a client made under a wrong one."""
    argument = (ROOT, b"new", NEW_FILE, NONE, None)
    for wrong in ("counter", "dir", "attr"):
        operation = operation_of("dir.create", argument, {ROOT, NEW_FILE}, OWNER, ("dir", wrong))
        _, changes = attempt(state, operation)
        assert changes[NEW_FILE][TYPE_KEY] == b"attr"


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(QUERIES), arguments, object_sets)
def test_queries_take_anything_and_write_nothing(state, method, argument, objects):
    operation = operation_of(method, argument, objects, OTHER)
    views = state.views(operation.objects)
    execution = run_query(REGISTRY.find(method, 1), operation, views)
    assert execution.code in Code
    assert not any(view.changes() for view in views.values())
    assert len(execution.answer) < 10_000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_following_an_answer_takes_anything(answer):
    follow = REGISTRY.find("dir.lookup", 1).follow
    target = follow(answer)
    assert target is None or len(target) == 3
