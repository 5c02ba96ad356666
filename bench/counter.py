"""The counter benchmark: closed loops on counters of their own (paper section 4.2, Figure 4)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench.counter_client import FIRST_COUNTER, Task
from bench.measuring.clients import client_processes
from bench.measuring.document import Figures, record
from bench.measuring.runs import Servers, Timing, loops, undisturbed
from bench.system import System

MODULE: Final = "bench.counter_client"
LOOPS_PER_PROCESS: Final = 32
"""More loops than this go to further processes: one that is always busy measures itself."""

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Load:
    """What clients do: so many closed loops, in so many processes."""

    clients: int
    processes: int = 0
    """0: as few as :data:`LOOPS_PER_PROCESS` allows."""
    operation: str = "increment"
    uncached: bool = False
    spread: int = 1
    lead: int = 0
    variant: str = "normal"
    workload: str = "counter"
    module: str = MODULE
    """What each client process runs."""

    @property
    def process_count(self) -> int:
        """In how many processes the loops run."""
        return min(self.clients, self.processes or -(-self.clients // LOOPS_PER_PROCESS))


def counters_of(load: Load, n: int) -> list[int]:
    """The first counter of each loop; their preferred quorums are spread over the servers as evenly as it goes."""
    first, apart = (FIRST_COUNTER // n + 1) * n, (load.spread // n + 2) * n
    return [first + i * apart + i * n // load.clients % n for i in range(load.clients)]


def tasks_of(system: System, load: Load) -> list[Task]:
    """What each client process is told."""
    counters = counters_of(load, system.cluster.n)
    names = [client.name for client in system.cluster.clients]
    shares = [tuple(counters[first :: load.process_count]) for first in range(load.process_count)]
    return [
        Task(
            str(system.cluster.directory), names[i % len(names)], share, load.operation,
            load.spread, load.lead, load.uncached,
        )
        for i, share in enumerate(shares)
    ]  # fmt: skip


def configuration(system: System, workload: str, **more: object) -> Figures:
    """What a record of a system is of."""
    quorums = system.cluster.quorums
    levels = {"b": quorums.b, "t": quorums.t, "n": quorums.n, "q": quorums.q}
    return {
        "workload": workload,
        "operation": "",
        "variant": "normal",
        **levels,
        **more,
        "durability": system.durability,
    }


def measure(system: System, servers: Servers, load: Load, timing: Timing, tell: Tell) -> Figures:
    """The record of one load on a system that runs; ``tell`` is told how far it is."""
    what = f"b={system.cluster.b}, {load.clients} {'client' if load.clients == 1 else 'clients'}, {load.operation}"
    tell(f"{what}: starting")
    runs: list[Figures] = []
    tasks = [asdict(task) for task in tasks_of(system, load)]
    with client_processes(load.module, tasks, system.scratch) as clients:

        def once() -> Figures:
            where, whole = f"{what}, run {len(runs) + 1} of {timing.repeat}", timing.warm_up_s + timing.seconds

            def on_progress(done: int, at: float) -> None:
                tell(f"{where}: {min(at, whole):.1f} of {whole:.1f} s, {done} done")

            return loops(servers, clients, timing, on_progress)[0]

        while len(runs) < timing.repeat:
            runs.append(undisturbed(once, timing.attempts, tell))
    made = configuration(
        system, load.workload, operation=load.operation, variant=load.variant,
        clients=load.clients, processes=load.process_count,
    )  # fmt: skip
    return record(made, runs)


def peak(records: Sequence[Figures]) -> Figures:
    """The record of the number of clients that got most done."""
    return max(records, key=lambda one: float(one["ops_per_s"]))


def tell_of(one: Figures) -> str:
    """A record in a line."""
    return (
        f"b={one['b']}, {one['clients']} clients: {one['ops_per_s']:,.0f} {one['operation']}s/s, "
        f"p50 {one['latency_us']['p50']:,.0f} us, "
        f"busiest server {one['server_cpu_us_per_request']['max']:,.0f} us/request"
    )
