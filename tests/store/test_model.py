"""Random walks: the versioned store against plain copies of every version's state, with crashes in between."""

import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qunfs.protocol.errors import VersionMissing
from qunfs.protocol.history import (
    ZERO,
    ZERO_HISTORY,
    ZERO_TIMESTAMP,
    Candidate,
    LogicalTimestamp,
    ReplicaHistory,
    barrier,
    method,
)
from qunfs.protocol.limits import Limits
from qunfs.protocol.versions import VersionStore

KEPT = 3
OBJECTS = (1, 7, 2**64 - 1)
GENESIS = {1: {b"a": b"genesis", b"c": b"genesis"}}
STATE = dict[bytes, bytes]

keys = st.sampled_from([b"\x00", b"a", b"a\x00", b"b", b"c", b"\xff", b"\xff" * 480])
values = st.one_of(st.sampled_from([b"", b"1", b"genesis"]), st.builds(bytes, st.just(20_000)))
differences = st.dictionaries(keys, st.none() | values, max_size=4)
objects = st.sampled_from([*OBJECTS, *OBJECTS[:1] * 4])


@dataclass
class Model:
    """One object, the obvious way."""

    genesis: STATE
    history: ReplicaHistory = ZERO_HISTORY
    states: dict[LogicalTimestamp, STATE] = field(default_factory=dict)
    answers: dict[LogicalTimestamp, bytes] = field(default_factory=dict)
    held: set[LogicalTimestamp] = field(default_factory=lambda: {ZERO_TIMESTAMP})

    def state(self, lt: LogicalTimestamp) -> STATE:
        return self.genesis if lt == ZERO_TIMESTAMP else self.states[lt]

    def recorded(self) -> set[LogicalTimestamp]:
        return {record.lt for record in self.history.records if not record.lt.barrier}

    def collect(self, spared: set[LogicalTimestamp]) -> None:
        others = sorted(self.held - self.recorded() - spared)
        self.held -= set(others[: max(len(others) - KEPT, 0)])

    def kept(self) -> list[LogicalTimestamp]:
        head = self.history.head.lt
        return [head, *sorted((self.held | {ZERO_TIMESTAMP}) - {head}, reverse=True)]


def net(base: STATE, target: STATE) -> list[tuple[bytes, bytes | None]]:
    return [(key, target.get(key)) for key in sorted(base | target) if base.get(key) != target.get(key)]


class StoreMachine(RuleBasedStateMachine):
    medium_of = None
    kind = "memory"

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.medium = self.medium_of(self.kind, Path(self.directory.name) / "data")
        self.models = {obj: Model(GENESIS.get(obj, {})) for obj in OBJECTS}
        self.committed = deepcopy(self.models)
        self.crash()

    def teardown(self) -> None:
        if hasattr(self, "medium"):
            self.medium.close()
            self.directory.cleanup()

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.committed = deepcopy(self.models)

    @rule()
    def crash(self) -> None:
        """A new process comes to what is there."""
        rows = self.medium.crash()
        self.models = deepcopy(self.committed)
        self.store = VersionStore(rows, GENESIS, Limits(versions_kept_per_object=KEPT), cached_versions=6)

    @rule(obj=objects, redos=st.lists(differences, min_size=1, max_size=6), data=st.data())
    def add_versions(self, obj: int, redos: list[dict[bytes, bytes | None]], data: st.DataObject) -> None:
        for redo in redos:
            lt = LogicalTimestamp(data.draw(st.integers(1, 12)), 0, data.draw(st.integers(1, 2)), bytes(32))
            self.add_version(obj, lt, data.draw(st.sampled_from(self.models[obj].kept())), redo)

    def add_version(
        self, obj: int, lt: LogicalTimestamp, parent: LogicalTimestamp, redo: dict[bytes, bytes | None]
    ) -> None:
        model = self.models[obj]
        if lt in model.states:
            # a timestamp stands for one operation on one state: it comes back with the state it had
            redo = dict(net(model.state(parent), model.states[lt])) | {b"absent": None}
        answer = str(lt).encode()
        self.store.add_version(obj, lt, parent, redo, answer)
        if lt not in model.held:
            after = model.state(parent) | redo
            model.states[lt] = {key: value for key, value in after.items() if value is not None}
            model.answers[lt] = answer
            model.held.add(lt)
            model.collect({lt, parent})

    @rule(obj=objects, data=st.data())
    def set_history(self, obj: int, data: st.DataObject) -> None:
        model = self.models[obj]
        choice = data.draw(st.sets(st.sampled_from(sorted(model.held)), min_size=1, max_size=4))
        barriers = data.draw(st.sets(st.integers(31, 33), max_size=2))
        records = [self.record(obj, lt) for lt in sorted(choice)]
        self.accept(obj, records + [self.barrier(obj, time) for time in sorted(barriers)])

    @rule(obj=objects, redo=differences)
    def update(self, obj: int, redo: STATE) -> None:
        """The way it goes when nobody contends."""
        model = self.models[obj]
        head = model.history.head
        lt = LogicalTimestamp(max(model.held).time + 1, 0, 1, bytes(32))
        if lt in model.states:
            return
        view = self.store.open(obj, head.lt)
        for key, value in redo.items():
            view.delete(key) if value is None else view.put(key, value)
        assert sorted(view.changes().items()) == net(model.state(head.lt), dict(view.scan()))
        model.states[lt] = dict(view.scan())
        model.answers[lt] = b"update"
        self.store.add_version(obj, lt, head.lt, view, b"update")
        model.held.add(lt)
        model.collect({lt, head.lt})
        self.accept(obj, [head, self.record(obj, lt)])

    @rule(obj=objects)
    def ask_for_what_is_gone(self, obj: int) -> None:
        model = self.models[obj]
        for lt in [lt for lt in model.states if lt not in model.held]:
            assert not self.store.has_version(obj, lt)
            assert self.store.answer(obj, lt) is None
            with pytest.raises(VersionMissing):
                self.store.open(obj, lt)

    @rule(obj=objects, limit_bytes=st.sampled_from([0, 2, 10, 500, 1 << 20]))
    def differences(self, obj: int, limit_bytes: int) -> None:
        model = self.models[obj]
        for base, target in product(model.kept(), repeat=2):
            expected, got, after, more = net(model.state(base), model.state(target)), [], b"", True
            while more:
                part, more = self.store.difference(obj, base, target, after, limit_bytes)
                assert part or not more
                assert sum(len(key) + len(value or b"") for key, value in part[:-1]) < max(limit_bytes, 1)
                got += part
                after = part[-1][0] if part else b""
            assert got == expected

    def accept(self, obj: int, entries: list[Candidate]) -> None:
        model = self.models[obj]
        history = ReplicaHistory(entries)
        self.store.set_history(obj, history)
        model.history = history
        if ZERO_TIMESTAMP not in model.recorded():
            model.held.discard(ZERO_TIMESTAMP)
        model.collect(set())

    def record(self, obj: int, lt: LogicalTimestamp) -> Candidate:
        return ZERO if lt == ZERO_TIMESTAMP else method(lt, (obj,), (ZERO_TIMESTAMP,))

    def barrier(self, obj: int, time: int) -> Candidate:
        return barrier(LogicalTimestamp(time + 1000, 1, 1, bytes(32)), (obj,), (ZERO_TIMESTAMP,))

    @invariant()
    @precondition(lambda self: hasattr(self, "store"))
    def everything_agrees(self) -> None:
        for obj, model in self.models.items():
            assert self.store.history(obj) == model.history
            assert self.store.kept(obj) == model.kept()
            for lt in model.kept():
                assert self.store.has_version(obj, lt)
                view = self.store.open(obj, lt)
                state = model.state(lt)
                assert list(view.scan(b"")) == sorted(state.items())
                assert list(view.scan(b"a\x00", b"c")) == [
                    (key, state[key]) for key in sorted(state) if b"a\x00" <= key < b"c"
                ]
                assert all(view.get(key) == value for key, value in state.items())
                assert view.get(b"nowhere") is None
                assert self.store.answer(obj, lt) == model.answers.get(lt)

    @rule()
    def nothing_is_left_over(self) -> None:
        self.store.checkpoint()
        self.committed = deepcopy(self.models)
        rows = self.medium.rows
        versions = {key[1:] for key, _ in rows.scan(b"v", b"w")}
        assert versions == {
            obj.to_bytes(8, "big") + lt.pack()
            for obj, model in self.models.items()
            for lt in model.held - {ZERO_TIMESTAMP}
        }
        assert {key[1:]: value for key, value in rows.scan(b"r", b"s")} == {
            obj.to_bytes(8, "big") + key: value
            for obj, model in self.models.items()
            for key, value in model.state(model.history.head.lt).items()
        }


@pytest.mark.pure
@pytest.mark.parametrize(("kind", "walks"), [("memory", 50), ("sync", 5), ("async", 10), ("small", 15)])
def test_the_store_agrees_with_plain_copies(kind, walks, medium_of):
    machine = type("Machine", (StoreMachine,), {"kind": kind, "medium_of": staticmethod(medium_of)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=walks, stateful_step_count=40, deadline=None, print_blob=True)
    )
