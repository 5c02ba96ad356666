"""What it costs a replica to catch up, and a client to complete what another one left (paper sections 3.5 and 4.3).

Object sync: a replica of the preferred quorum was down while each counter was incremented; the next increment has it
fetch the version.  Inline repair: a client has had increments accepted by too few replicas and is gone; the next
increment completes each.  Both are compared with the increment after that, histories being read first each time.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from bench.counter import configuration
from bench.counter_client import FIRST_COUNTER
from bench.measuring.clients import client_processes, single_run
from bench.measuring.document import Figures, record
from bench.measuring.runs import Timing
from bench.service import medians_of_parts
from bench.sync_client import CUT_OFF, Task
from bench.system import System
from qunfs import processes
from qunfs.protocol.errors import LocalError

MODULE: Final = "bench.sync_client"
LATE: Final = 1
"""The replica that is down meanwhile; the counters' preferred quorum begins with replica 0."""

Tell = Callable[[str], object]


def measure(system: System, variant: str, count: int, timing: Timing, tell: Tell) -> Figures:
    """The record of "object sync" or "inline repair"; its ``parts`` are the first increments and those after them."""
    if system.cluster.b == 0:
        raise LocalError("with b=0 no replica may be down: choose --faults 1 or more")
    spoil = {"object sync": _fall_behind, "inline repair": _leave_partial}[variant]
    runs: list[Figures] = []
    for number in range(timing.repeat):
        n = system.cluster.n
        first = (FIRST_COUNTER // n + 1 + number * count) * n
        counters = tuple(first + i * n for i in range(count))
        tell(f"{variant}, run {number + 1} of {timing.repeat}")
        spoil(system, counters, tell)
        task = _task(system, "measure", counters)
        runs.append(dict(single_run(MODULE, asdict(task), system.scratch, tell)))
    parts = medians_of_parts([run.pop("parts") for run in runs])
    made = configuration(system, "sync", operation="increment", variant=variant, clients=1, processes=1)
    return record(made, runs, count=count, parts=parts)


def _task(system: System, work: str, counters: tuple[int, ...], running: Sequence[int] = ()) -> Task:
    return Task(str(system.cluster.directory), system.cluster.clients[-1].name, work, counters, tuple(running))


def _fall_behind(system: System, counters: tuple[int, ...], tell: Tell) -> None:
    """One replica misses an increment of each counter."""
    task = asdict(_task(system, "increment", counters))
    single_run(MODULE, task, system.scratch, tell)
    processes.stop(system.cluster, [LATE])
    single_run(MODULE, task, system.scratch, tell)
    processes.start_and_wait(system.cluster, [LATE], system.arguments)


def _leave_partial(system: System, counters: tuple[int, ...], tell: Tell) -> None:
    """Each counter has an increment that too few replicas have accepted."""
    n, q = system.cluster.n, system.cluster.quorums.q
    running = range(q - 1)
    stopped = range(q - 1, n)
    task: Any = asdict(_task(system, "partial", counters, running))
    with client_processes(MODULE, [task], system.scratch, wait=False) as clients:

        def on_step(said: str) -> None:
            nonlocal task
            if said == CUT_OFF and task is not None:
                processes.stop(system.cluster, stopped)
                clients.tell({})
                task = None
            tell(said or "increments that stay partial")

        clients.result(on_step)
    processes.start_and_wait(system.cluster, stopped, system.arguments)
