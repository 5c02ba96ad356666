"""A client process of the baseline's counter benchmark: ``python -m bench.baselines.pbft.loops DIR``, told its task.

The same loops as those of :mod:`bench.counter_client`, on the same driver.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.baselines.pbft.core.tuning import Tuning
from bench.baselines.pbft.driver import PbftDriver, open_client
from bench.measuring import closed_loop
from qunfs import cluster, garbage
from qunfs.objects.ids import COUNTER_TYPE
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.packing import pack


@dataclass(frozen=True, slots=True)
class Task:
    """What one client process does."""

    cluster: str
    client: str
    counters: tuple[int, ...]
    """The counter of each loop."""
    operation: str
    tuning: dict[str, Any]


async def run(fields: dict[str, Any]) -> None:
    """Be ready, and run what comes."""
    task = Task(**fields)
    loaded = cluster.load(Path(task.cluster))
    async with open_client(loaded, task.client, Tuning(**task.tuning)) as core:
        loops = [_loop(core, counter, task.operation) for counter in task.counters]
        for loop in loops:
            await loop()  # which says what is wrong before anything is measured
        garbage.look_rarely()
        await closed_loop.serve(loops, core.statistics, lambda: core.waiting(0.0))


def _loop(core: PbftDriver, counter: int, operation: str) -> Callable[[], Awaitable[object]]:
    credentials = Credentials(os.getuid(), os.getgid())
    call = Call(f"counter.{operation}", ((counter, COUNTER_TYPE),), pack(None), credentials, home=counter)
    if operation == "fetch":
        return lambda: core.query(call)
    return lambda: core.update(call)


def main() -> int:
    """Be a client process."""
    return closed_loop.main(run)


if __name__ == "__main__":
    sys.exit(main())
