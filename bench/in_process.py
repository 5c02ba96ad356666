"""What requests take without network, waiting and other processes: ``python -m bench.in_process``.

A client and all replicas, each with a store on the disk, take turns in one process.  What that leaves out is what
sockets cost, and processors that have to be woken and find their caches full of others' data.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import trio

from bench.nfs_parts import Result, make_places, make_target, parts
from bench.service_client import WARM_UP, sound
from qunfs import native
from qunfs.nfs.service import MetadataService
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import COUNTER_TYPE
from qunfs.protocol.admission import Rights, Squash
from qunfs.protocol.authenticator import Authenticator
from qunfs.protocol.client import Client
from qunfs.protocol.operation import Answer, Call, Credentials
from qunfs.protocol.packing import pack
from qunfs.protocol.planning import Identity
from qunfs.protocol.quorum import threshold
from qunfs.protocol.replica import Origin, Replica
from server.store import open_store

CLIENT: Final = 1
CHANCE: Final = Random(2)  # noqa: S311 - ids of objects
ROOT_USER: Final = Credentials(0, 0)
COUNTER: Final = 1 << 32
EVERYBODY: Final = Rights(True, Squash.NONE, (0, 2**32 - 2), (0, 2**32 - 2))


class InProcess:
    """QueryUpdate over replicas that are called; ``spent_ns`` is what each request took one of them."""

    def __init__(self, directory: Path, b: int, stack: ExitStack) -> None:
        quorums, chance = threshold(b), Random(1)  # noqa: S311 - nobody attacks this
        n = quorums.n
        keys = {(i, j): chance.randbytes(32) for i in range(n) for j in range(i, n)}
        genesis = genesis_rows(0, 0, 0o755, time.time_ns())
        self._stores = [open_store(directory / str(i), genesis, "async") for i in range(n)]
        self._replicas: list[Replica] = []
        for i, store in enumerate(self._stores):
            stack.callback(store.close)
            authenticator = Authenticator(i, {j: keys[min(i, j), max(i, j)] for j in range(n)})
            self._replicas.append(Replica(i, quorums, authenticator, REGISTRY, store, {CLIENT: EVERYBODY}))
        self._client = Client(Identity(CLIENT, bytes(16)), quorums, REGISTRY, chance.random)
        for server in range(n):
            self._client.connected(server, time.monotonic())
        self.spent_ns: list[int] = []

    async def query(self, *calls: Call) -> list[Answer]:
        """Answers in the order of the calls."""
        self._client.wall_ns = time.time_ns()
        self._client.submit_query(calls, time.monotonic())
        answers: list[Answer] = self._finish()
        return answers

    async def update(self, call: Call) -> bytes:
        """The answer of an update."""
        self._client.wall_ns = time.time_ns()
        self._client.submit_update(call, time.monotonic())
        answer: bytes = self._finish()
        return answer

    def _finish(self) -> Any:
        client, rpc, origin = self._client, self._client.rpc, Origin(False, CLIENT, 1)
        while not client.completions:
            outgoing, rpc.outgoing = rpc.outgoing, []
            assert outgoing, "nobody contends and nothing is lost"
            for server, payload in outgoing:
                self._deliver(server, origin, payload)
        done = client.completions.pop()
        if done.error is not None:
            raise done.error
        return done.result

    def _deliver(self, server: int, origin: Origin, payload: bytes) -> None:
        start = time.perf_counter_ns()
        sends = self._replicas[server].step(origin, payload, time.monotonic(), time.time_ns())
        self._stores[server].commit()
        self.spent_ns.append(time.perf_counter_ns() - start)
        for send in sends:
            if send.origin is None:
                self._deliver(send.server, Origin(True, server, 0), send.payload)
            elif send.origin.is_server:
                self._deliver(send.origin.principal, Origin(True, server, 0), send.payload)
            else:
                self._client.receive(server, send.payload, time.monotonic())


class Root:
    """Who calls the procedures."""

    def __init__(self, core: InProcess, n: int) -> None:
        self.service, self.credentials = MetadataService(core, n, CHANCE.getrandbits), ROOT_USER


@contextmanager
def in_process(b: int) -> Iterator[InProcess]:
    """Replicas and a client of theirs, for as long as the block takes."""
    with tempfile.TemporaryDirectory(prefix="qunfs-bench-") as directory, ExitStack() as stack:
        yield InProcess(Path(directory), b, stack)


async def measure(
    core: InProcess, call: Callable[[int], Awaitable[Any]], count: int, check: Callable[[Any], object]
) -> tuple[float, float]:
    """Medians in microseconds: a request at a replica, and an operation at the client; ``check`` sees the results."""
    client_ns: list[int] = []
    requests: list[int] = []
    for i in range(count):
        core.spent_ns.clear()
        start = time.perf_counter_ns()
        result = await call(i)
        if i >= WARM_UP * count:
            client_ns.append(time.perf_counter_ns() - start - sum(core.spent_ns))
            requests += core.spent_ns
        check(result)
    return median(requests) / 1000, median(client_ns) / 1000


def _counter(name: str) -> Call:
    return Call(f"counter.{name}", ((COUNTER, COUNTER_TYPE),), pack(None), ROOT_USER, home=COUNTER)


async def run(core: InProcess, n: int, count: int, tell: Callable[[str], None]) -> None:
    """Increments, fetches and procedures, a line of a table for each."""

    def is_sound(result: Result) -> None:
        sound(result.status, "a procedure")

    async def tell_of(
        name: str, call: Callable[[int], Awaitable[Any]], check: Callable[[Any], object] = is_sound
    ) -> None:
        at_replica, at_client = await measure(core, call, count, check)
        tell(f"| {name} | {at_replica:.0f} | {at_client:.0f} |")

    await tell_of("increment", lambda _: core.update(_counter("increment")), len)
    await tell_of("fetch", lambda _: core.query(_counter("fetch")), len)
    caller = Root(core, n)
    places = await make_places(caller)
    for part in parts(caller, places):
        if part.name == "rename":
            for i in range(count):
                await make_target(caller, places, i)
        if part.name != "readdirplus":  # two questions, one of them about all names
            await tell_of(part.name.upper(), part.call)


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.in_process", description=__doc__)
    parser.add_argument("-b", type=int, default=1, metavar="N", help="malevolent replicas to tolerate (default 1)")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="operations of each kind (default 2000)")
    asked = parser.parse_args(argv)
    print(f"b={asked.b}, medians of {asked.count} operations, us; {'compiled' if native.active() else 'pure Python'}\n")
    print("| | a request at a replica | an operation at the client |\n| --- | --- | --- |")
    with in_process(asked.b) as core:
        trio.run(run, core, threshold(asked.b).n, asked.count, print)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
