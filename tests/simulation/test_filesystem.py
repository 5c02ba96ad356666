"""Procedures of the metadata service, run by several clients at once: some serial order of them explains all answers.

The update core is one without replication; between any two of its calls, and after the last one, others may act.
Clients die in the middle of procedures.  The protocol's own part is simulated in :mod:`tests.simulation.world`.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import replace
from random import Random
from types import coroutine
from typing import Any

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, nfsstat3, sattr3
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Answer, Call, Credentials
from tests.simulation.linearizability import Operation, Verdict, check
from tests.simulation.reference import States, filesystem
from tests.support.local_qu import START_NS, LocalQu, State

CRED = Credentials(0, 0)
CLIENTS = 4
OPERATIONS = 40
HOW = ("replace", "noreplace", "exchange")


@coroutine
def _others_act() -> Generator[None, None, None]:
    yield


async def _checkpoint() -> None:
    await _others_act()


class Core(LocalQu):
    """An update core whose calls take time before and after they take effect, each query of a batch for itself."""

    def __init__(self, client: int, state: State | None) -> None:
        super().__init__(REGISTRY, genesis_rows(0, 0, 0o777, START_NS), state)
        self.client, self.session = client, bytes(15) + bytes((client,))

    async def query(self, *calls: Call) -> list[Answer]:
        answers = []
        for call in calls:
            answers += await super().query(call)
        await _others_act()
        return answers

    async def update(self, call: Call) -> bytes:
        answer = await super().update(call)
        await _others_act()
        return answer


Procedure = Callable[[MetadataService], Awaitable[tuple[Any, Any]]]
"""Runs and says the argument and the answer as the model has them."""


def _status(status: nfsstat3) -> str:
    return "OK" if status is nfsstat3.NFS3_OK else status.name.removeprefix("NFS3ERR_")


class Workload:
    """Clients at work on a directory tree that one of them made."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        first = Core(1, None)
        cores = [first, *[Core(i, first.state) for i in range(2, CLIENTS + 1)]]
        self.services = [MetadataService(core, 6, Random(i).getrandbits) for i, core in enumerate(cores)]
        self.stays = _alone(self.services[0].mkdir(CRED, ROOT, b"stays")).obj
        self.goes = _alone(self.services[0].mkdir(CRED, ROOT, b"goes")).obj
        self.directories = (ROOT, self.stays, self.goes)
        self.files: set[int] = set()
        names = frozenset({(ROOT, "stays", self.stays), (ROOT, "goes", self.goes)})
        tree: States = (frozenset(self.directories), names, frozenset())
        self.history = [Operation("tree", "tree", ("fs",), -1.0, tree, -0.5)]

    def run(self) -> None:
        """Let them work, one step of one client at a time."""
        busy: dict[int, tuple[Coroutine[None, None, tuple[Any, Any]], str, float, Any]] = {}
        begun = at = 0
        while busy or begun < OPERATIONS:
            at += 1
            client = self.chance.randrange(CLIENTS)
            if client not in busy:
                if begun < OPERATIONS:
                    begun += 1
                    method, argument, procedure = self._any()
                    busy[client] = (_coroutine(procedure, self.services[client]), method, at, argument)
                continue
            running, method, began, argument = busy[client]
            if argument is not None and self.chance.random() < 0.01:
                running.close()
                del busy[client]
                self.history.append(Operation(f"p{at}", method, ("fs",), began, argument))
                continue
            try:
                running.send(None)
            except StopIteration as done:
                del busy[client]
                argument, answer = done.value
                self.history.append(Operation(f"p{at}", method, ("fs",), began, argument, at, answer))

    def _any(self) -> tuple[str, Any, Procedure]:
        """A procedure: what it is in the model, its argument if that is known before its answer, how to run it."""
        chance = self.chance
        where, name = chance.choice(self.directories), chance.choice("ab")
        file = chance.choice(sorted(self.files)) if self.files else 0
        mode = chance.randrange(0o1000)
        dice = chance.random()
        if dice < 0.25 or not file:
            return "create", None, self._create(where, name, mode, chance.random() < 0.6)
        if dice < 0.4:
            return self._simple("lookup", (where, name), lambda s: s.lookup(CRED, where, name.encode()), "object")
        if dice < 0.55:
            return self._simple("remove", (where, name), lambda s: s.remove(CRED, where, name.encode()), "object")
        if dice < 0.7:
            source, target = ((chance.choice(self.directories[:2]), chance.choice("ab")) for _ in range(2))
            how = chance.choice(HOW)
            ends = (source[0], source[1].encode(), target[0], target[1].encode())
            return self._simple("rename", (source, target, how), lambda s: s.rename(CRED, *ends, HOW.index(how)))
        if dice < 0.78:
            return self._simple("link", (file, where, name), lambda s: s.link(CRED, file, where, name.encode()))
        if dice < 0.84:
            return self._simple("setattr", (file, mode), lambda s: s.setattr(CRED, file, sattr3(mode=mode)))
        if dice < 0.9:
            return "getattr", file, self._getattr(file)
        if dice < 0.97:
            return "readdir", where, self._readdir(where)
        return self._simple("rmdir", (ROOT, "goes"), lambda s: s.rmdir(CRED, ROOT, b"goes"))

    def _simple(
        self, method: str, argument: Any, call: Callable[[MetadataService], Awaitable[Any]], field: str = ""
    ) -> tuple[str, Any, Procedure]:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await call(service)
            return argument, (_status(got.status), getattr(got, field)) if field else _status(got.status)

        return method, argument, procedure

    def _create(self, where: int, name: str, mode: int, guarded: bool) -> Procedure:
        how = createmode3.GUARDED if guarded else createmode3.UNCHECKED

        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.create(CRED, where, name.encode(), how, sattr3(mode=mode))
            if got.obj:
                self.files.add(got.obj)
            return (where, name, mode, guarded, got.obj), (_status(got.status), got.obj)

        return procedure

    def _getattr(self, file: int) -> Procedure:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.getattr(CRED, file)
            found = got.obj_attributes
            return file, (_status(got.status), found.mode if found else 0, found.nlink if found else 0)

        return procedure

    def _readdir(self, where: int) -> Procedure:
        async def procedure(service: MetadataService) -> tuple[Any, Any]:
            got = await service.readdir(CRED, where, 0, COOKIE_VERIFIER, 4096)
            assert got.eof or got.status is not nfsstat3.NFS3_OK
            names = sorted((entry.name.decode(), entry.fileid) for entry in got.entries)
            return where, (_status(got.status), tuple(entry for entry in names if entry[0] not in (".", "..")))

        return procedure


async def _coroutine(procedure: Procedure, service: MetadataService) -> tuple[Any, Any]:
    return await procedure(service)


def _alone(call: Coroutine[None, None, Any]) -> Any:
    """Run one call while nobody else acts."""
    while True:
        try:
            call.send(None)
        except StopIteration as done:
            return done.value


@pytest.fixture(autouse=True)
def _stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio.lowlevel.checkpoint", _checkpoint)


def test_procedures_of_clients_at_work_together() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    pending = 0
    for seed in range(60):
        work = Workload(Random(seed))
        work.run()
        found = check(filesystem, work.history)
        assert found.verdict is Verdict.LEGAL, f"seed {seed}: {found.verdict.value} {found.why}"
        for operation in work.history[1:]:
            status = operation.answer[0] if isinstance(operation.answer, tuple) else operation.answer
            seen[operation.method, str(status)] += 1
            pending += operation.answered is None
    assert pending > 5
    for rare in (("remove", "STALE"), ("rename", "EXIST"), ("rmdir", "NOTEMPTY"), ("rmdir", "OK"), ("link", "EXIST")):
        assert seen[rare] > 0, f"no run saw: {rare}"
    assert not any(status == "JUKEBOX" for _, status in seen)


def test_a_wrong_answer_is_noticed() -> None:
    """One REMOVE of all that found nothing is told that it removed something."""
    work = Workload(Random(1))
    work.run()
    index = next(i for i, o in enumerate(work.history) if o.method == "remove" and o.answer == ("NOENT", 0))
    work.history[index] = replace(work.history[index], answer=("OK", 7))
    assert check(filesystem, work.history).verdict is Verdict.ILLEGAL
