"""The run queue's length is what trio's own statistics say."""

import trio

from qunfs.net.run_queue import run_queue


async def _runnable() -> list[int]:
    queue, seen = run_queue(), []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.sleep, 0)
            assert len(queue) == trio.lowlevel.current_statistics().tasks_runnable
            seen.append(len(queue))
    return seen


def test_the_run_queue_is_as_long_as_trio_says() -> None:
    assert trio.run(_runnable) == [1, 2, 3]
