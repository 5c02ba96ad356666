"""The straight path of accepting a METHOD does what the rules say, written out."""

import random

import pytest

from qunfs.protocol import acceptance
from qunfs.protocol.history import Kind, LogicalTimestamp, ReplicaHistory, barrier, method
from qunfs.protocol.store import MemoryRows
from qunfs.protocol.versions import VersionStore

OBJECTS = (1, 2, 3, 4)


def walk(seed: int) -> tuple[list[list[ReplicaHistory]], int]:
    """All histories after each of some random acceptances, and how often the straight path was taken."""
    choose = random.Random(seed)
    store = VersionStore(MemoryRows(), {})
    seen: list[list[ReplicaHistory]] = []
    straight = 0
    for time in range(1, 60):
        objects = tuple(sorted(choose.sample(OBJECTS, choose.choice((1, 1, 2, 3)))))
        conditioned = {}
        for obj in objects:
            versions = [r for r in store.history(obj).records if r.kind is not Kind.BARRIER]
            conditioned[obj] = versions[-1] if choose.random() < 0.9 else choose.choice(versions)
        is_barrier = choose.random() < 0.1
        lt = LogicalTimestamp(time, is_barrier, 1, bytes(32))
        lt_co = tuple(conditioned[obj].lt for obj in objects)
        record = barrier(lt, objects, lt_co) if is_barrier else method(lt, objects, lt_co)
        own = [store.history(obj) for obj in objects]
        straight += not is_barrier and acceptance._usual(own, record) is not None
        redo = [] if is_barrier else [{} for _ in objects]
        accepted = acceptance.accept(store, own, record, redo, b"", list(conditioned.values()))
        assert accepted == [store.history(obj) for obj in objects]
        seen.append([store.history(obj) for obj in OBJECTS])
    return seen, straight


@pytest.mark.parametrize("seed", range(20))
def test_the_straight_path_is_a_short_cut_and_no_other_rule(seed, monkeypatch):
    seen, straight = walk(seed)
    assert straight > 10
    monkeypatch.setattr(acceptance, "_usual", lambda *_: None)
    assert walk(seed) == (seen, 0)
