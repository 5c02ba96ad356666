"""How a process that serves in a loop of its own is told to stop."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

from qunfs.net.reactor import Reactor


class Stopping:
    """Whether SIGTERM or SIGINT has come."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def listen(self) -> None:
        """Take these signals as orders to stop from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.signal = signal.Signals(number)

    @contextlib.contextmanager
    def waking(self, reactor: Reactor) -> Iterator[None]:
        """Have signals wake a reactor from its sleep within the block, and close it afterwards."""
        wake, ring = socket.socketpair()
        for end in (wake, ring):
            end.setblocking(False)
        before = signal.set_wakeup_fd(ring.fileno(), warn_on_full_buffer=False)
        reactor.add_reader(wake.fileno(), lambda: _drain(wake))
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            reactor.remove_reader(wake.fileno())
            reactor.close()
            wake.close()
            ring.close()


def _drain(wake: socket.socket) -> None:
    wake.recv(4096)


def finish_requests_first() -> None:
    """For replicas that share cores: let a request finish before another process's next begins."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
