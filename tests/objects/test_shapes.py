"""No method takes an argument of another shape than it declares, nor a row that no method writes."""

from collections import defaultdict
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.objects import REGISTRY
from qunfs.objects.codes import STORE_BYTES
from qunfs.objects.ids import ROOT
from qunfs.objects.state import Attributes, DirectoryHeader, unpack_attributes, unpack_header
from qunfs.protocol.execution import Code
from tests.objects import outcomes
from tests.objects.outcomes import ARGUMENTS, COUNTER, NESTED, NUMBERS, PEOPLE, Tree

SAME_TYPE_ROUNDS = 20
_DIRECTORY_BIT = 1 << 62
NAMES = ["type", "mode", "nlink", "uid", "gid", "size", "rdev", "atime", "mtime", "ctime", "store", "generation"]


def others(value: Any) -> list[Any]:
    """Values of other types than a field's, those that equal it first."""
    if type(value) is int:
        return [float(value), bool(value), str(value), *NESTED]
    if type(value) is bool:
        return [int(value), float(value), None, b""]
    if type(value) is bytes:
        return [value.decode("latin-1"), 1, True, (value,)]
    if type(value) is tuple:
        return [None, 1, b"", {}, *NUMBERS]
    return [*NUMBERS, *NESTED, False, ""]  # an optional field is None, a number or bytes


def wrong(argument: Any) -> list[Any]:
    """The argument with another type or number of fields."""
    if type(argument) is not tuple:
        return others(argument)
    swapped = [
        (*argument[:at], other, *argument[at + 1 :]) for at, field in enumerate(argument) for other in others(field)
    ]
    return [*swapped, argument[:-1], (*argument, None), argument[0], (argument,), None]


def wrong_changes() -> list[Any]:
    """sattr3 with one field of another type."""
    none = (None,) * 6 + (False, None, None)
    odd: list[tuple[int, Any]] = [(at, other) for at in range(9) for other in (1.0, "1", (1,), {})]
    odd += [(at, other) for at in (0, 1, 2, 3, 4, 5, 8) for other in (b"1", False)]
    odd += [(at, True) for at in (0, 1, 2, 3, 7, 8)] + [(6, None), (6, 0), (6, 1), (7, 1)]
    return [(*none[:at], other, *none[at + 1 :]) for at, other in odd] + [none[1:], (*none, None)]


@pytest.fixture
def tree() -> Tree:
    outcomes.rng.seed(5)
    return Tree()


def test_there_are_arguments_for_every_method() -> None:
    assert set(ARGUMENTS) == {name for name, _ in REGISTRY._methods}


@pytest.mark.parametrize("method", sorted(ARGUMENTS))
def test_fields_of_other_types_are_refused(tree: Tree, method: str) -> None:
    for _ in range(SAME_TYPE_ROUNDS):
        argument = ARGUMENTS[method](tree)
        objects = outcomes._named(tree, method, argument)
        for bad in wrong(argument):
            execution, changes = tree.run(method, bad, objects, PEOPLE[0])
            assert (execution.code, execution.answer, changes) == (Code.BAD_ARGUMENT, b"", {}), bad


@pytest.mark.parametrize("method", ["dir.create", "dir.mkdir", "attr.setattr"])
def test_changes_of_other_types_are_refused(tree: Tree, method: str) -> None:
    for bad in wrong_changes():
        new = tree.new(directory=method == "dir.mkdir")
        if method == "attr.setattr":
            execution, _ = tree.run(method, (bad, None), {ROOT}, PEOPLE[0])
        else:
            tail = (None,) if method == "dir.create" else ()
            execution, _ = tree.run(method, (ROOT, b"new", new, bad, *tail), {ROOT, new}, PEOPLE[0])
        assert execution.code is Code.BAD_ARGUMENT, bad


def test_a_counter_steps_by_whole_numbers(tree: Tree) -> None:
    for bad in (True, 1.0, "1", b"1", (1,)):
        assert tree.run("counter.increment", bad, {COUNTER}, PEOPLE[0])[0].code is Code.BAD_ARGUMENT


def test_rows_of_other_types_are_none() -> None:
    for store in (b"", bytes(range(STORE_BYTES))):
        row = Attributes(1, 0o644, 1, 7, 8, 1 << 40, (3, 4), -5, 5, 6, store, 9).pack()
        assert unpack_attributes(row).pack() == row
        for bad in (b"", row[:-1], row + b"\0", b"\x80"):
            with pytest.raises(ValueError, match="not an attribute row"):
                unpack_attributes(bad)
    header = DirectoryHeader(1, 3, 0).pack()
    assert unpack_header(header).pack() == header
    for bad in (b"", header[:-1], header + b"\0"):
        with pytest.raises(ValueError, match="not a directory row"):
            unpack_header(bad)


@given(
    st.tuples(
        st.integers(0, 255),
        st.integers(0, (1 << 32) - 1),
        st.integers(-(1 << 31), (1 << 31) - 1),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 32) - 1),
        st.integers(0, (1 << 64) - 1),
        st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.integers(0, (1 << 64) - 1),
        st.sampled_from([b"", b"s" * STORE_BYTES]),
        st.integers(0, (1 << 64) - 1),
    )
)
def test_attributes_survive_their_row(fields: tuple) -> None:
    read = unpack_attributes(Attributes(*fields).pack())
    assert tuple(getattr(read, name) for name in NAMES) == fields


def test_following_asks_for_an_id() -> None:
    follow = REGISTRY.find("dir.lookup", 1).follow
    for child, target in [(_DIRECTORY_BIT, "dir"), (1 << 61, "attr")]:
        assert follow(msgpack.packb((0, (child, 1), ()))) == (child, target, "attr.getattr")
    for child in (True, 1.0, None, b"1", "1"):
        assert follow(msgpack.packb((0, (child, 1), ()))) is None


def test_the_cases_are_of_all_kinds() -> None:
    ended = defaultdict(set)
    for line in outcomes.outcomes(1, 18_000):
        method, kind, code, *_ = line.split()
        ended[method, kind].add(code)
    for method in ARGUMENTS:
        assert "OK" in ended[method, "right"], method
        assert "BAD_ARGUMENT" in ended[method, "wrong"], method
        assert "BAD_ARGUMENT" in ended[method, "others"] | ended[method, "spoilt"], method
