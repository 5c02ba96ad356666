"""Clients that contend for one counter (paper section 4.3, Table 2).

Five clients run.  One increments a shared counter; of the other four, none to all use the shared one too, the rest
counters of their own.  Whoever increments reads the histories first, as clients would that had never been there.

Response times are of all operations that began in time, whenever they ended: one that others keep from getting on for
the rest of the window would not count otherwise.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from bench.counter import MODULE, Tell, configuration
from bench.counter_client import FIRST_COUNTER, Task
from bench.measuring.clients import client_processes
from bench.measuring.document import Figures, medians, record
from bench.measuring.latencies import summary
from bench.measuring.runs import Servers, Timing, combined, loops, undisturbed
from bench.system import System

CLIENTS: Final = 5
CONTENDING_MAX: Final = CLIENTS - 1
GROUPS: Final = ("shared", "contending", "isolated")


def tasks_of(system: System, operation: str, contending: int) -> list[Task]:
    """What each client does; the first increments the shared counter, the last ones stay apart."""
    names = [client.name for client in system.cluster.clients]
    tasks = [Task(str(system.cluster.directory), names[0], (FIRST_COUNTER,), "increment", uncached=True)]
    for i in range(CONTENDING_MAX):
        counter = FIRST_COUNTER if i < contending else FIRST_COUNTER + 1 + i
        uncached = operation == "increment"
        tasks.append(
            Task(str(system.cluster.directory), names[(1 + i) % len(names)], (counter,), operation, uncached=uncached)
        )
    return tasks


def measure(
    system: System,
    servers: Servers,
    operation: str,
    timing: Timing,
    tell: Tell,
    numbers: Sequence[int] = range(CONTENDING_MAX + 1),
) -> Figures:
    """The record of one operation; each of its ``parts`` is one of the numbers of contending clients."""
    runs: list[Figures] = []
    cells: dict[int, list[Figures]] = {contending: [] for contending in numbers}
    for _ in range(timing.repeat):
        parts, every = [], []
        for contending in numbers:
            tell(f"{operation}: {contending} contending, run {len(runs) + 1} of {timing.repeat}")
            part, latencies = _cell(system, servers, operation, contending, timing, tell)
            cells[contending].append(part)
            parts.append(part)
            every += latencies
        runs.append(combined(parts, every, servers.n, servers.q))
    made = configuration(system, "contention", operation=operation, clients=CLIENTS, processes=CLIENTS)
    return record(made, runs, parts=[_medians_of_cell(same) for same in cells.values()])


def _cell(
    system: System, servers: Servers, operation: str, contending: int, timing: Timing, tell: Tell
) -> tuple[Figures, list[int]]:
    latencies: list[int] = []

    def once() -> Figures:
        nonlocal latencies
        tasks = [asdict(task) for task in tasks_of(system, operation, contending)]
        with client_processes(MODULE, tasks, system.scratch) as clients:
            figures, together = loops(servers, clients, timing)
        first, *others = [done + late for done, late in zip(together.each_ns, together.overdue_ns, strict=True)]
        latencies = together.latencies_ns
        groups = {"shared": [first], "contending": others[:contending], "isolated": others[contending:]}
        told = {
            name: summary([one for each in some for one in each]) if some else None for name, some in groups.items()
        }
        return {"contending_clients": contending, **figures, **told}

    return undisturbed(once, timing.attempts, tell), latencies


def _medians_of_cell(same: Sequence[Figures]) -> Figures:
    return {**medians(same), "contending_clients": same[0]["contending_clients"]}
