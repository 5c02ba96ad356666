"""Procedures of the metadata service, run by several clients at once: some serial order of them explains all answers.

The update core is one without replication; between any two of its calls, and after the last one, others may act.
Clients die in the middle of procedures.  The protocol's own part is simulated in :mod:`tests.simulation.world`.
"""

from collections import Counter
from collections.abc import Coroutine, Generator, Iterator
from dataclasses import replace
from random import Random
from types import coroutine
from typing import Any

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Answer, Call, Credentials
from tests.simulation.linearizability import Operation, Verdict, check
from tests.simulation.reference import filesystem
from tests.support.file_work import FileWork, Procedure, TreeWork, make_tree
from tests.support.local_qu import START_NS, LocalQu, State

CRED = Credentials(0, 0)
CLIENTS = 4
OPERATIONS = 40
MAKING = ("create", "mkdir", "symlink")
"""Procedures of which nobody knows, when they are given up, which number the new object has got."""


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


class Workload:
    """Clients at work on a directory tree that one of them made."""

    def __init__(self, chance: Random, kind: type[FileWork] = FileWork) -> None:
        self.chance = chance
        first = Core(1, None)
        cores = [first, *[Core(i, first.state) for i in range(2, CLIENTS + 1)]]
        self.services = [MetadataService(core, 6, Random(i).getrandbits) for i, core in enumerate(cores)]
        tree = _alone(make_tree(self.services[0], CRED, ROOT))
        self.work = kind(chance, CRED, tree)
        self.history = [Operation("tree", "tree", ("fs",), -1.0, tree.initial(), -0.5)]

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
                    drawn = self.work.draw()
                    running = _coroutine(drawn.run, self.services[client])
                    busy[client] = (running, drawn.method, at, drawn.argument)
                continue
            running, method, began, argument = busy[client]
            if method not in MAKING and self.chance.random() < 0.01:
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


def _legal(work: Workload, seed: int) -> Iterator[tuple[str, str]]:
    """Run it; procedure and status of every operation of what must be a legal history."""
    work.run()
    found = check(filesystem, work.history)
    assert found.verdict is Verdict.LEGAL, f"seed {seed}: {found.verdict.value} {found.why}"
    for operation in work.history[1:]:
        status = operation.answer[0] if isinstance(operation.answer, tuple) else operation.answer
        yield operation.method, str(status)


def test_procedures_of_clients_at_work_together() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    pending = 0
    for seed in range(60):
        work = Workload(Random(seed))
        seen.update(_legal(work, seed))
        pending += sum(operation.answered is None for operation in work.history[1:])
    assert pending > 5
    for rare in (("remove", "STALE"), ("rename", "EXIST"), ("rmdir", "NOTEMPTY"), ("rmdir", "OK"), ("link", "EXIST")):
        assert seen[rare] > 0, f"no run saw: {rare}"
    assert not any(status == "JUKEBOX" for _, status in seen)


def test_procedures_in_a_tree_that_changes_its_shape() -> None:
    """Directories are made, moved, replaced and removed, too."""
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(70):
        work = Workload(Random(seed), TreeWork)
        seen.update(_legal(work, seed))
    refusals = {("rename", status) for status in ("STALE", "NOENT", "EXIST", "INVAL", "NOTEMPTY", "NOTDIR", "ISDIR")}
    rare = refusals | {
        ("create", "ISDIR"),
        ("create", "STALE"),
        ("link", "STALE"),
        ("readlink", "INVAL"),
        ("rmdir", "STALE"),
    }
    assert not {case for case in rare if not seen[case]}, "no run saw these"


def test_a_wrong_answer_is_noticed() -> None:
    """One REMOVE of all that found nothing is told that it removed something."""
    work = Workload(Random(1))
    work.run()
    index = next(i for i, o in enumerate(work.history) if o.method == "remove" and o.answer == ("NOENT", 0))
    work.history[index] = replace(work.history[index], answer=("OK", 7))
    assert check(filesystem, work.history).verdict is Verdict.ILLEGAL
