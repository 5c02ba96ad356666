"""A namespace on rows in memory that a test may spoil, and replicas that all hold just that."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from qunfs.fsck.check import Check
from qunfs.fsck.findings import Report
from qunfs.nfs.service import MetadataService
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import new_id
from qunfs.objects.state import pack_entry, unpack_attributes, unpack_header
from qunfs.protocol.errors import OperationRefused
from qunfs.protocol.execution import Code
from qunfs.protocol.history import LogicalTimestamp
from qunfs.protocol.messages import Query, QueryReply, Roll, RollReply, Status
from qunfs.protocol.quorum import threshold
from qunfs.protocol.store import Listed
from tests.nfs.conftest import ROOT_USER, House, house_on
from tests.support.local_qu import START_NS, LocalQu, State

N = 6
VERSION = LogicalTimestamp(1, 0, 1, bytes(32))


class AllAlike:
    """Replicas that hold what the state says, all of them; ``told`` is changed by tests."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.told: dict[int, Callable[[Roll, RollReply], RollReply | None]] = {}
        self.rolls = 0

    async def ask(self, server, question, timeout_s):
        assert timeout_s > 0
        if isinstance(question, Query):
            return QueryReply(())
        self.rolls += 1
        present = self.state.dump()
        ids = sorted(obj for obj in self.state.rows if obj > question.after)
        listed = tuple(Listed(obj, VERSION, obj in present) for obj in ids[: question.most])
        reply = RollReply(Status.ANSWERED, listed, len(ids) > question.most)
        return self.told[server](question, reply) if server in self.told else reply

    def findings(self):
        return []


class Spoiler:
    """Direct changes of rows, as no method makes them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._chance = random.Random(5)

    def fresh(self, directory: bool = False) -> int:
        return new_id(1, N, directory, self._chance.getrandbits)

    def row(self, obj: int, key: bytes, value: bytes | None) -> None:
        self._state.put(obj, key, value)

    def absent(self, obj: int) -> None:
        for key in self._state.dump()[obj]:
            self._state.put(obj, key, None)

    def attribute(self, obj: int, name: str, value: int) -> None:
        """Change a field of the attribute row."""
        attributes = unpack_attributes(self._state.get(obj, b"a"))
        setattr(attributes, name, value)
        self._state.put(obj, b"a", attributes.pack())

    def header(self, obj: int, **changes: int) -> None:
        header = unpack_header(self._state.get(obj, b"d"))
        for name, value in changes.items():
            setattr(header, name, value)
        self._state.put(obj, b"d", header.pack())

    def enter(self, where: int, name: bytes, obj: int, kind: int, cookie: int | None = None) -> None:
        """A name that nobody has counted, in its place in the listing if a cookie is given."""
        header = unpack_header(self._state.get(where, b"d"))
        at = header.next_cookie if cookie is None else cookie
        self._state.put(where, b"e" + name, pack_entry(obj, kind, at))
        self._state.put(where, b"k" + at.to_bytes(8, "big"), name)
        self.header(where, next_cookie=max(header.next_cookie, at + 1), entries=header.entries + 1)
        if kind == 2:
            self._count(where, 1)

    def drop(self, where: int, name: bytes) -> None:
        """A name goes, and all that counts it in the directory; the object does not hear of it."""
        row = self._state.get(where, b"e" + name)
        self._state.put(where, b"e" + name, None)
        self._state.put(where, b"k" + row[9:], None)
        self.header(where, entries=unpack_header(self._state.get(where, b"d")).entries - 1)
        if row[8] == 2:
            self._count(where, -1)

    def _count(self, where: int, change: int) -> None:
        self.attribute(where, "nlink", unpack_attributes(self._state.get(where, b"a")).nlink + change)


class AsReplicas(LocalQu):
    """Answers as replicas do where a method cannot make sense of what it finds."""

    def _demand_sound(self, method, operation, execution) -> None:
        if execution.code is Code.BAD_ARGUMENT:
            raise OperationRefused("replicas refused the query: bad argument")
        super()._demand_sound(method, operation, execution)


class Bench(House):
    """A house with what a check needs."""

    spoil: Spoiler
    replicas: AllAlike
    meanwhile: list
    """What others do before the queries of a check, one each."""

    @property
    def state(self) -> State:
        return self.core.state

    def checker(self) -> AsReplicas:
        """The client that checks."""
        core = AsReplicas(REGISTRY, state=self.state)
        core.client, core.session = 9, bytes(15) + b"\x09"
        core.sequence = self.state.logical_time
        core.before_query = self.meanwhile
        return core

    async def check(self, *, repair: bool = False, contents: Path | None = None) -> Report:
        checker = self.checker()
        service = MetadataService(checker, N, random.Random(9).getrandbits)
        return await Check(checker, self.replicas, threshold(1), service, contents, repair).run()

    async def found(self) -> list[tuple[str, str]]:
        """What is wrong: kinds and paths."""
        return sorted((fault.kind.value, fault.path) for fault in (await self.check()).faults)

    async def mended(self) -> None:
        """Repair everything; nothing is wrong then, as another check says."""
        report = await self.check(repair=True)
        assert report.faults
        assert [fault for fault in report.faults if fault.fate.value == "left"] == []
        again = await self.check()
        assert again.faults == []


def bench_on(core: LocalQu) -> Bench:
    house = house_on(core)
    bench = Bench(house.core, house.service)
    bench.meanwhile = []
    bench.spoil, bench.replicas = Spoiler(core.state), AllAlike(core.state)
    return bench


@pytest.fixture
def bench() -> Bench:
    return bench_on(LocalQu(REGISTRY, genesis_rows(0, 0, 0o777, START_NS)))


@pytest.fixture
async def tree(bench: Bench) -> dict[str, int]:
    """A small tree, by name: /a /a/b /a/b/c directories, /f /a/g files, /a/h a second name of /f."""
    ids = {"a": await bench.make_dir(1, b"a")}
    ids["b"] = await bench.make_dir(ids["a"], b"b")
    ids["c"] = await bench.make_dir(ids["b"], b"c")
    ids["f"] = await bench.make(1, b"f")
    ids["g"] = await bench.make(ids["a"], b"g")
    await bench.service.link(ROOT_USER, ids["f"], ids["a"], b"h")
    return ids
