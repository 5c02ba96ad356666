"""How the mount waits for the kernel's next request: in trio only when trio has something else to do.

pyfuse3's tasks take turns with a lock and wait in trio, which costs two rounds of trio's loop for each request: more
than most requests take to answer.  Most of the time one program makes one request after the other, so the task that
has answered one can just as well read the next.  :func:`enable` gives pyfuse3 a lock and a wait that know this, by the
same seam that its asyncio mode uses.

A task that reads on keeps trio waiting.  It stops as soon as anything else can run, when the other descriptor (that of
the connections to the replicas) has something, and at the latest after TURN_S.
"""

import select
import time
from types import SimpleNamespace, TracebackType
from typing import Final

import pyfuse3
import trio

from qunfs import eager
from qunfs.net.run_queue import run_queue

TURN_S: Final = 0.01
"""How long trio may be kept waiting: its timers here are of 50 ms and more."""

IDLE_S: Final = 0.001
"""How long to wait for a next request before trio does it: programs in a loop make theirs sooner."""

AWAKE_S: Final = 0.0001
"""How much of that without sleeping: what most programs need between two requests."""

_NEXT_READER: Final = 1
"""The one runnable task that does not count: pyfuse3's next reader, woken when this one gave up the lock."""


class ReadLock:
    """A lock that whoever gives it up may take again before the task that was woken gets to it."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held = False
        self._waiting.unpark()


class RequestWait:
    """Waits for requests; ``other``: a descriptor that has precedence, if any."""

    def __init__(self, other: int | None) -> None:
        self._other = other
        self._polls: dict[int, select.poll] = {}
        self._turn_ends = 0.0
        self._last: trio.lowlevel.Task | None = None
        """Who came last, if trio has not been waited in since."""

    def _poll_of(self, fd: int) -> select.poll:
        ready = self._polls.get(fd)
        if ready is None:
            ready = self._polls[fd] = select.poll()
            ready.register(fd, select.POLLIN)
            if self._other is not None:
                ready.register(self._other, select.POLLIN)
        return ready

    async def readable(self, fd: int) -> None:
        """Return when the kernel's descriptor has a request.

        A task that comes twice in a row has answered its request without waiting for anything, or the next reader
        would have come: what was runnable still is, and trio need not be asked.
        """
        task = trio.lowlevel.current_task()
        if time.monotonic() < self._turn_ends and (task is self._last or _nothing_else_to_do()):
            self._last = task
            events = eager.poll(self._poll_of(fd), IDLE_S, AWAKE_S)
            if len(events) == 1 and events[0] == (fd, select.POLLIN):
                return
        self._last = None
        await trio.lowlevel.wait_readable(fd)
        self._turn_ends = time.monotonic() + TURN_S


def _nothing_else_to_do() -> bool:
    return len(run_queue()) <= _NEXT_READER


def enable(other: int | None) -> None:
    """Have pyfuse3 wait so from now on in this process."""
    wait = RequestWait(other)
    lowlevel = SimpleNamespace(
        current_trio_token=trio.lowlevel.current_trio_token,
        current_task=trio.lowlevel.current_task,
        notify_closing=trio.lowlevel.notify_closing,
        wait_readable=wait.readable,
    )
    pyfuse3.trio = SimpleNamespace(  # type: ignore[attr-defined]  # a global of its, not part of its interface
        Lock=ReadLock, ClosedResourceError=trio.ClosedResourceError, open_nursery=trio.open_nursery, lowlevel=lowlevel
    )
