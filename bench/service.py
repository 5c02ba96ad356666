"""Benchmarks of MetadataService, seen from the side that starts them (paper section 4.4)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from bench import mail
from bench.counter import configuration
from bench.measuring.clients import single_run
from bench.measuring.document import Figures, medians, record
from bench.measuring.runs import undisturbed
from bench.service_client import Task
from bench.system import System
from qunfs.protocol.errors import LocalError

MODULE: Final = "bench.service_client"

Tell = Callable[[str], object]


def nfs(system: System, count: int, repeat: int, attempts: int, tell: Tell) -> Figures:
    """The record of all procedures, ``count`` times each; ``parts`` has each by itself."""
    runs = runs_of(system, task_of(system, "nfs", count=count), repeat, attempts, tell)
    parts = medians_of_parts([run.pop("parts") for run in runs])
    made = configuration(system, "nfs", operation="all procedures", clients=1, processes=1)
    return record(made, runs, count=count, parts=parts)


def direct_postmark(system: System, files: int, transactions: int, repeat: int, attempts: int, tell: Tell) -> Figures:
    """The record of PostMark's transactions without PostMark.  Raises LocalError when the counts are wrong."""
    task = task_of(system, "postmark", files=files, transactions=transactions)
    runs = runs_of(system, task, repeat, attempts, tell)
    expected = asdict(mail.counts(files, transactions))
    for run in runs:
        counted = {name: run[name] for name in expected}
        if counted != expected:
            raise LocalError(f"counts are {counted}; expected {expected}")
    made = configuration(system, "postmark", operation="transaction", variant="direct", clients=1, processes=1)
    more = {"files": files, "transactions": transactions}
    made = record(made, runs, **more)
    return {**made, "transactions_per_s": made["ops_per_s"]}


def task_of(system: System, work: str, **numbers: int) -> Task:
    """What a client process at MetadataService is told."""
    return Task(str(system.cluster.directory), system.cluster.clients[-1].name, work, **numbers)


def runs_of(system: System, task: Task, repeat: int, attempts: int, tell: Tell) -> list[Figures]:
    """So many runs, each by a client process of its own."""
    runs: list[Figures] = []

    def once() -> Figures:
        def on_step(text: str) -> None:
            tell(f"b={system.cluster.b}, run {len(runs) + 1} of {repeat}: {text or 'starting'}")

        result: Any = single_run(MODULE, asdict(task), system.scratch, on_step)
        return dict(result)

    while len(runs) < repeat:
        runs.append(undisturbed(once, attempts, tell))
    return runs


def medians_of_parts(runs: Sequence[Sequence[Figures]]) -> list[Figures]:
    """Part by part the medians over the runs; what a part is called stays."""
    found = []
    for same in zip(*runs, strict=True):
        names = {name: value for name, value in same[0].items() if isinstance(value, str)}
        found.append({**names, **medians(same)})
    return found
