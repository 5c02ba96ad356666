"""Waiting for what most likely comes at once: look again and again for a moment before going to sleep.

Waking a sleeping processor takes longer than a replica needs for most requests, on virtual machines several times as
long, and whoever sends to a process that is awake need not wake it.  The processor is offered to others between looks.
"""

import os
import select
import time


def poll(ready: select.poll, timeout_s: float, awake_s: float) -> list[tuple[int, int]]:
    """What ``ready.poll`` finds within ``timeout_s`` seconds, of which at most ``awake_s`` are spent awake."""
    look, offer, now = ready.poll, os.sched_yield, time.monotonic
    asleep_from = now() + min(awake_s, timeout_s)
    while True:
        events = look(0)
        left = asleep_from - now()
        if events or left <= 0:
            break
        offer()
    rest = timeout_s - awake_s
    return events if events or rest <= 0 else look(rest * 1000)
