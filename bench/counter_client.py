"""A client process of the counter benchmarks: ``python -m bench.counter_client DIR``, told its task in JSON.

Each loop has a counter of its own, or all share one.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.measuring import closed_loop
from qunfs import cluster, garbage
from qunfs.net.driver import QuClient, open_client
from qunfs.objects import REGISTRY
from qunfs.objects.ids import COUNTER_TYPE
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.packing import pack

FIRST_COUNTER: Final = 1 << 32
"""The id of the first counter; ids that follow each other spread over all preferred quorums."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one client process does."""

    cluster: str
    client: str
    counters: tuple[int, ...]
    """The counter of each loop."""
    operation: str = "increment"
    uncached: bool = False
    """Whether the client forgets what it holds of a counter before each operation."""


async def run(fields: dict[str, Any]) -> None:
    """Be ready, and run what comes."""
    task = Task(**fields)
    loaded = cluster.load(Path(task.cluster))
    async with open_client(loaded, task.client, REGISTRY) as core:
        loops = [_loop(core, counter, task) for counter in task.counters]
        for loop in loops:
            await loop()  # which says what is wrong before anything is measured
        if len(loops) > 1:
            share_fairly(core)
        garbage.look_rarely()
        await closed_loop.serve(loops, core.statistics, lambda: core.waiting(0.0))


def _loop(core: QuClient, counter: int, task: Task) -> Callable[[], Awaitable[object]]:
    credentials = Credentials(os.getuid(), os.getgid())
    call = Call(f"counter.{task.operation}", ((counter, COUNTER_TYPE),), pack(None), credentials, home=counter)
    if task.operation == "fetch":
        return lambda: core.query(call)
    if not task.uncached:
        return lambda: core.update(call)

    async def afresh() -> None:
        forget(core, counter)
        await core.update(call)

    return afresh


def share_fairly(core: QuClient) -> None:
    """Have several loops of a process work at the same time.

    A task that finds itself alone keeps its process until its operation is complete, unless there is other work, which
    it knows by a descriptor.
    """
    core.yield_to(os.eventfd(1))


def forget(core: QuClient, obj: int) -> None:
    """Make a client what it would be had it never met an object."""
    core._client._means.cache._objects.pop(obj, None)


def main() -> int:
    """Be a client process."""
    return closed_loop.main(run)


if __name__ == "__main__":
    sys.exit(main())
