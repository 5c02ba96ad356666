"""The faults of the demonstration: crashes half-way through PostMark, then lies, and what came of them."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench.postmark import Phase, Progress
from bench.system import System
from qunfs import processes
from qunfs.protocol.errors import LocalError

CRASH_TENTH: Final = 6
"""The sixth tenth of the transactions begins half-way."""

RETURN_TENTH: Final = 7
LIE_TENTH: Final = 8

LIAR_MODULE: Final = "bench.malevolent"
LIE: Final = "wrong-answers"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the replicas, ``seconds`` after PostMark started."""

    seconds: float
    text: str


class Story:
    """Crashes and lies, one small step each time PostMark's progress is told, so that nothing waits for them.

    At no time are more than ``b`` replicas faulty: the liars come only when the crashed ones are back.
    """

    def __init__(self, system: System, on_event: Callable[[Event], None]) -> None:
        b = system.cluster.b
        self._system, self._on_event = system, on_event
        self._steps = self._play() if b else iter(())
        self._start = time.monotonic()
        self._tenths = 0
        self.crashing = list(range(1, 1 + b))
        self.lying = list(range(1 + b, 1 + 2 * b))
        self.doing = dict.fromkeys(range(system.cluster.n), "correct")
        """What each replica is at the moment, in a word or two."""
        self.roles = dict(self.doing)
        """What each replica was over the whole run."""
        self.finished = b == 0

    def advance(self, progress: Progress) -> None:
        """PostMark has come this far: do what is due."""
        self._tenths = progress.tenths if progress.phase is Phase.TRANSACTIONS else self._tenths
        next(self._steps, None)

    def complete(self) -> None:
        """PostMark has ended: finish what was begun, so that every replica can be asked what it did."""
        self._tenths = LIE_TENTH
        while not self.finished:
            next(self._steps, None)
            time.sleep(processes.POLL_SECONDS)

    def _play(self) -> Iterator[None]:
        cluster = self._system.cluster
        while self._tenths < CRASH_TENTH:
            yield
        for server in self.crashing:
            processes.kill(cluster, server)
            self._became(server, "killed")
        self._tell(f"{_name(self.crashing)} killed with SIGKILL; PostMark goes on")
        while self._tenths < RETURN_TENTH:
            yield
        began = time.monotonic()
        yield from self._started(self.crashing, {s: self._system.launch(s) for s in self.crashing})
        for server in self.crashing:
            self._became(server, "correct", "killed, then back")
        self._tell(f"{_name(self.crashing)} back after {time.monotonic() - began:.1f} s")
        while self._tenths < LIE_TENTH:
            yield
        for server in self.lying:
            processes.request_stop(cluster, server)
        while any(processes.replica_pid(cluster, server) is not None for server in self.lying):
            yield
        launched = {s: self._system.launch(s, module=LIAR_MODULE, arguments=("--kind", LIE)) for s in self.lying}
        yield from self._started(self.lying, launched)
        for server in self.lying:
            self._became(server, "lying", f"lied ({LIE})")
        self._tell(f"{_name(self.lying)} lying from now on ({LIE}); PostMark goes on")
        self.finished = True

    def _started(self, servers: list[int], pids: dict[int, int]) -> Iterator[None]:
        """Yields until replicas listen.  Raises LocalError when one dies instead."""
        cluster = self._system.cluster
        for server in servers:
            self._became(server, "starting")
            while not processes.listens(pids[server], cluster.servers[server].port):
                if not processes.arguments_of(pids[server]):
                    reason = processes.tail_of(processes.server_log(cluster, server))
                    raise LocalError(f"server {server} did not start: {reason}")
                yield

    def _became(self, server: int, doing: str, role: str | None = None) -> None:
        self.doing[server] = doing
        if role is not None:
            self.roles[server] = role

    def _tell(self, text: str) -> None:
        self._on_event(Event(time.monotonic() - self._start, text))


def _name(servers: list[int]) -> str:
    return ("replica " if len(servers) == 1 else "replicas ") + " and ".join(map(str, servers))
