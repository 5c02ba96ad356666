"""A client process of the counter benchmarks: ``python -m bench.counter_client DIR``, told its task in JSON.

Each loop has a counter of its own, or all share one.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import trio

from bench.measuring import closed_loop
from qunfs import cluster, garbage
from qunfs.net.driver import QuClient, open_client
from qunfs.objects import REGISTRY
from qunfs.objects.ids import COUNTER_TYPE
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.packing import pack

PREPARING: Final = 16
"""Counters that are used for the first time at once."""
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
    spread: int = 1
    """How many counters each loop goes round, the first one's number and those after it."""
    lead: int = 0
    """How often each counter is incremented before anything is measured."""
    uncached: bool = False
    """Whether the client forgets what it holds of a counter before each operation."""


async def run(fields: dict[str, Any]) -> None:
    """Be ready, and run what comes."""
    task = Task(**fields)
    loaded = cluster.load(Path(task.cluster))
    async with open_client(loaded, task.client, REGISTRY) as core:
        loops = [_loop(core, counter, task) for counter in task.counters]
        await _prepare(core, task)  # which says what is wrong before anything is measured
        garbage.look_rarely()
        await closed_loop.serve(loops, core.statistics, lambda: core.waiting(0.0))


async def _prepare(core: QuClient, task: Task) -> None:
    """Have every counter used, several at a time."""
    left = iter([counter + i for counter in task.counters for i in range(task.spread)])

    async def work() -> None:
        for counter in left:
            for _ in range(1 + task.lead):
                await core.update(_call("increment", counter))

    async with trio.open_nursery() as nursery:
        for _ in range(PREPARING):
            nursery.start_soon(work)


def _call(operation: str, counter: int) -> Call:
    credentials = Credentials(os.getuid(), os.getgid())
    return Call(f"counter.{operation}", ((counter, COUNTER_TYPE),), pack(None), credentials, home=counter)


def _loop(core: QuClient, counter: int, task: Task) -> Callable[[], Awaitable[object]]:
    call = _call(task.operation, counter)
    if task.operation == "fetch":
        return lambda: core.query(call)
    if task.spread > 1:
        turn = cycle([_call(task.operation, counter + i) for i in range(task.spread)])
        return lambda: core.update(next(turn))
    if not task.uncached:
        return lambda: core.update(call)

    async def afresh() -> None:
        forget(core, counter)
        await core.update(call)

    return afresh


def forget(core: QuClient, obj: int) -> None:
    """Make a client what it would be had it never met an object."""
    core._client._means.cache._objects.pop(obj, None)


def main() -> int:
    """Be a client process."""
    return closed_loop.main(run)


if __name__ == "__main__":
    sys.exit(main())
