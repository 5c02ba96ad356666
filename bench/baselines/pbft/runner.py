"""Measuring the baseline as ``qunfs bench counter`` measures ours: the same harness, figures and schema of results."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.baselines.pbft import driver, keys
from bench.baselines.pbft.core.tuning import DEFAULT_TUNING, Tuning
from bench.baselines.pbft.loops import Task
from bench.baselines.pbft.options import arguments_of
from bench.counter import Load
from bench.counter_client import FIRST_COUNTER
from bench.measuring.clients import client_processes
from bench.measuring.document import Figures, record
from bench.measuring.runs import Timing, loops, undisturbed
from bench.measuring.servers import Counters
from bench.replicas import Replicas, observed
from bench.system import System, temporary_directory
from qunfs import processes
from qunfs.protocol.errors import LocalError

SERVE: Final = "bench.baselines.pbft.serve"
CLIENT: Final = "bench.baselines.pbft.loops"
LABEL: Final = "failure-free"
"""In every record: this baseline is no more than the normal case."""
MEET_SECONDS_MAX: Final = 60.0

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Group:
    """A group that runs, as the measuring code sees it."""

    system: System
    tuning: Tuning
    replicas: Replicas

    @property
    def n(self) -> int:
        """How many replicas."""
        return self.replicas.n

    @property
    def q(self) -> int:
        """How many of them an operation goes to: all, which is what projections divide by."""
        return self.replicas.n

    def pids(self) -> Sequence[int]:
        """Their process numbers."""
        return self.replicas.pids()

    def ask(self) -> Sequence[Counters | None]:
        """What each counts."""
        return self.replicas.ask()


@contextlib.contextmanager
def temporary_group(
    faults: int,
    durability: str,
    where: Path | None,
    tell: Tell,
    tuning: Tuning = DEFAULT_TUNING,
    *,
    clients: int = 16,
) -> Iterator[Group]:
    """A fresh group of 3f+1 replicas for the block, all connected to each other; nothing is left of it."""
    with temporary_directory(where, tell) as directory:
        mountpoint, scratch = directory / "mnt", directory / "scratch"
        scratch.mkdir()
        tell("making keys and certificates")
        made = keys.create(directory / "cluster", faults, clients)
        tell(f"starting the replicas, {made.n} of them")
        system = System(directory, made, mountpoint, scratch, durability)
        arguments = [*system.arguments, *arguments_of(tuning)]
        processes.start_and_wait(made, range(made.n), arguments, module=SERVE)
        with observed(system, driver.open_client(made, None, tuning)) as replicas:
            _wait_connected(replicas)
            yield Group(system, tuning, replicas)


def _wait_connected(replicas: Replicas) -> None:
    end = time.monotonic() + MEET_SECONDS_MAX
    while True:
        told = replicas.ask()
        if all(one is not None and one["replicas_connected"] == replicas.n - 1 for one in told):
            return
        if time.monotonic() > end:
            raise LocalError(f"the replicas have not reached each other after {MEET_SECONDS_MAX:.0f} s")
        time.sleep(0.1)


def measure(group: Group, load: Load, timing: Timing, tell: Tell) -> Figures:
    """The record of one load on a group that runs; ``tell`` is told how far it is."""
    what = f"PBFT, f={group.system.cluster.t}, {load.clients} clients, {load.operation}"
    tell(f"{what}: starting")
    runs: list[Figures] = []
    with client_processes(CLIENT, [asdict(task) for task in _tasks(group, load)], group.system.scratch) as clients:

        def once() -> Figures:
            before = group.ask()
            figures, _ = loops(
                group, clients, timing, lambda done, at: tell(f"{what}, run {len(runs) + 1}: {at:.1f} s, {done} done")
            )
            return {**figures, **_agreement(before, group.ask())}

        while len(runs) < timing.repeat:
            runs.append(undisturbed(once, timing.attempts, tell))
    return record(_configuration(group, load), runs, label=LABEL, tuning=asdict(group.tuning))


def _tasks(group: Group, load: Load) -> list[Task]:
    counters = [FIRST_COUNTER + i for i in range(load.clients)]
    made, count = group.system.cluster, load.process_count
    if count >= len(made.clients):  # the first name is the observer's
        raise LocalError(f"{count} client processes need {count + 1} names, and there are {len(made.clients)}")
    shares = [tuple(counters[first::count]) for first in range(count)]
    # replies go to the newest connection of a name
    names = [client.name for client in reversed(made.clients)]
    return [
        Task(str(made.directory), names[i], share, load.operation, asdict(group.tuning))
        for i, share in enumerate(shares)
    ]


def _configuration(group: Group, load: Load) -> Figures:
    made = group.system.cluster
    return {
        "workload": "pbft",
        "operation": load.operation,
        "variant": load.variant,
        "b": made.t,
        "t": made.t,
        "n": made.n,
        "q": made.quorums.q,
        "clients": load.clients,
        "processes": load.process_count,
        "durability": group.system.durability,
    }


def _agreement(before: Sequence[Counters | None], after: Sequence[Counters | None]) -> Figures:
    """What batching made of it, from the primary's counters over a whole run, warm-up included."""
    if before[0] is None or after[0] is None:
        return {}
    early, late = before[0]["agreement"], after[0]["agreement"]

    def grown(name: str) -> float:
        return float(late.get(name, 0) - early.get(name, 0))

    batches = grown("batches")
    messages = float(after[0]["messages"] - before[0]["messages"])
    statuses = sum(one["agreement"].get("statuses", 0) for one in after if one is not None)
    made: dict[str, Any] = {
        "requests_per_batch": round(grown("requests") / batches, 2) if batches else 0.0,
        "messages_to_primary_per_batch": round(messages / batches, 2) if batches else 0.0,
        "statuses": statuses,
    }
    return made
