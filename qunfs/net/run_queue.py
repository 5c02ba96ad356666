"""How many of trio's tasks could run now: what somebody who keeps trio waiting must ask before each time."""

from collections.abc import Sized

import trio


class _Counted:
    """By trio's statistics, which count everything else too: a dozen calls for one number."""

    def __len__(self) -> int:
        return trio.lowlevel.current_statistics().tasks_runnable


def run_queue() -> Sized:
    """What has the length of the run queue of the present trio run; the queue itself where this trio has it there."""
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT

        queue: object = GLOBAL_RUN_CONTEXT.runner.runq
    except (ImportError, AttributeError):
        return _Counted()
    return queue if isinstance(queue, Sized) else _Counted()
