"""A client process of the sync benchmark: ``python -m bench.sync_client DIR``, told its task in JSON.

Each counter is worked on once per part: what it costs the first time is what is measured.
"""

import os
import sys
import time
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from bench.counter_client import forget
from bench.measuring import closed_loop
from bench.measuring.document import Figures
from bench.measuring.runs import combined
from bench.replicas import ask_all
from bench.service_client import Bench
from bench.service_client import Task as ServiceTask
from qunfs import cluster
from qunfs.net.driver import QuClient, open_client
from qunfs.objects import REGISTRY
from qunfs.objects.ids import COUNTER_TYPE
from qunfs.protocol.errors import LocalError
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.packing import pack

CUT_OFF: Final = "cut off"
"""What the process says when it wants replicas killed; it goes on when it is told anything."""
POLL_S: Final = 0.02
PARTIAL_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Task:
    """``work``: increment all counters, leave partial updates of them, or measure the first access to each."""

    cluster: str
    client: str
    work: str
    counters: tuple[int, ...]
    running: tuple[int, ...] = ()
    """The replicas that are to accept partial updates."""


async def run(fields: dict[str, Any]) -> None:
    """Do the task."""
    task = Task(**fields)
    loaded = cluster.load(Path(task.cluster))
    async with open_client(loaded, task.client, REGISTRY) as core:
        result: Figures = {}
        if task.work == "increment":
            await _together([_increment(core, counter) for counter in task.counters])
        elif task.work == "partial":
            await _leave_partial(core, task, loaded.n)
        else:
            bench = Bench(loaded, core, ServiceTask(task.cluster, task.client, task.work))
            result = await _measure(bench, core, task)
        closed_loop.say({"result": result})


def _increment(core: QuClient, counter: int) -> Callable[[], Awaitable[object]]:
    credentials = Credentials(os.getuid(), os.getgid())
    call = Call("counter.increment", ((counter, COUNTER_TYPE),), pack(None), credentials, home=counter)

    async def increment() -> None:
        forget(core, counter)
        await core.update(call)

    return increment


async def _together(operations: Sequence[Callable[[], Awaitable[object]]]) -> None:
    async with trio.open_nursery() as nursery:
        for operation in operations:
            nursery.start_soon(operation)


async def _leave_partial(core: QuClient, task: Task, n: int) -> None:
    """Have updates accepted by the replicas that run, too few for a quorum, and give up."""
    await _together([_increment(core, counter) for counter in task.counters])
    before = await ask_all(core, n)
    closed_loop.say({"step": CUT_OFF})
    await trio.to_thread.run_sync(sys.stdin.readline)
    credentials = Credentials(os.getuid(), os.getgid())
    async with trio.open_nursery() as nursery:
        for counter in task.counters:
            call = Call("counter.increment", ((counter, COUNTER_TYPE),), pack(None), credentials, home=counter)
            nursery.start_soon(core.update, call)
        with trio.move_on_after(PARTIAL_SECONDS_MAX) as waiting:
            while not _all_accepted(before, await ask_all(core, n), task):  # noqa: ASYNC110 - they are elsewhere
                await trio.sleep(POLL_S)
        if waiting.cancelled_caught:
            raise LocalError(f"the replicas have not accepted the updates after {PARTIAL_SECONDS_MAX:.0f} s")
        nursery.cancel_scope.cancel()


def _all_accepted(before: Sequence[Any], now: Sequence[Any], task: Task) -> bool:
    for server in task.running:
        early, late = before[server], now[server]
        if early is None or late is None or late["method"] - early["method"] < len(task.counters):
            return False
    return True


async def _measure(bench: Bench, core: QuClient, task: Task) -> Figures:
    """The first increment of each counter, and another one as it is when nothing is amiss."""
    parts: list[Figures] = []
    every: array[int] = array("Q")
    for name in ("first", "again"):
        latencies: array[int] = array("Q")
        start = await bench.begin()
        for counter in task.counters:
            increment = _increment(core, counter)
            began = time.monotonic_ns()
            await increment()
            latencies.append(time.monotonic_ns() - began)
        parts.append({"operation": name, **await bench.end(start, latencies)})
        every.extend(latencies)
    return {**combined(parts, every, bench.n, bench.q), "parts": parts}


def main() -> int:
    """Be a client process."""
    return closed_loop.main(run)


if __name__ == "__main__":
    sys.exit(main())
