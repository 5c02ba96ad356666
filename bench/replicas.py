"""The replicas of a system as the measuring code sees them: process numbers, and what each says of itself."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import trio

from bench.measuring.closed_loop import expected_error
from bench.system import System
from qunfs import processes
from qunfs.net.driver import QuClient, open_client
from qunfs.objects import REGISTRY
from qunfs.protocol.errors import LocalError

ANSWER_SECONDS_MAX: Final = 10.0
START_SECONDS_MAX: Final = 30.0

Opened = contextlib.AbstractAsyncContextManager[QuClient]


class Replicas:
    """Made by :func:`observed`; asks through a client of its own, in a thread."""

    def __init__(self, system: System, core: QuClient, token: trio.lowlevel.TrioToken) -> None:
        self._system, self._core, self._token = system, core, token

    @property
    def n(self) -> int:
        """How many."""
        return self._system.cluster.n

    @property
    def q(self) -> int:
        """How many of them an operation goes to."""
        return self._system.cluster.quorums.q

    def pids(self) -> list[int]:
        """Their process numbers; 0 for one that does not run."""
        return [processes.replica_pid(self._system.cluster, server) or 0 for server in range(self.n)]

    def ask(self) -> list[dict[str, Any] | None]:
        """What each counts; None for one that does not answer in time."""
        return trio.from_thread.run(ask_all, self._core, self.n, trio_token=self._token)


async def ask_all(core: QuClient, n: int) -> list[dict[str, Any] | None]:
    """What each replica says of itself; None for one that does not answer in time."""
    told: list[dict[str, Any] | None] = [None] * n

    async def ask(server: int) -> None:
        told[server] = await core.server_status(server, ANSWER_SECONDS_MAX)

    async with trio.open_nursery() as nursery:
        for server in range(n):
            nursery.start_soon(ask, server)
    return told


@contextlib.contextmanager
def observed(system: System, opened: Opened | None = None) -> Iterator[Replicas]:
    """The replicas of a system that runs, for the block.  Raises LocalError when they cannot be asked.

    ``opened`` is the client to ask with; by default one of ours.
    """
    started = threading.Event()
    made: list[Replicas] = []
    failed: list[BaseException] = []
    ended: list[trio.Event] = []

    async def observe() -> None:
        async with opened or open_client(system.cluster, None, REGISTRY) as core:
            made.append(Replicas(system, core, trio.lowlevel.current_trio_token()))
            ended.append(trio.Event())
            started.set()
            await ended[0].wait()

    def run() -> None:
        try:
            trio.run(observe)
        except BaseException as error:
            failed.append(expected_error(error) or error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="observer", daemon=True)
    thread.start()
    try:
        if not started.wait(START_SECONDS_MAX) or not made:
            raise LocalError(f"the replicas cannot be asked how they are: {failed[0] if failed else 'no answer'}")
        yield made[0]
    finally:
        if made:
            with contextlib.suppress(trio.RunFinishedError):
                made[0]._token.run_sync_soon(ended[0].set)
        thread.join(START_SECONDS_MAX)


def running(system: System) -> Sequence[int]:
    """Process numbers of the replicas that run."""
    found = (processes.replica_pid(system.cluster, server) for server in range(system.cluster.n))
    return [pid for pid in found if pid is not None]
