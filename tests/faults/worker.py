"""A client process: ``python -m tests.faults.worker DIR --name NAME ...`` works on trees and counters in several tasks.

It tells on standard output what :mod:`tests.faults.history` hears.  On standard input it is told ``go NUMBER``, up to
which operation it may go, and asked ``ask TOKEN SERVER``, which it answers as soon as that server has told it which
process it is; ``how`` has it write to standard error how it is.  It works no longer than its input is open.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import trio

from qunfs import cluster
from qunfs.net.driver import QuClient, open_client
from qunfs.nfs.service import MetadataService
from qunfs.objects import REGISTRY
from qunfs.protocol.operation import Call, Credentials
from tests.faults.history import tell
from tests.support.file_work import FileWork, Tree

COUNTERS = (6007, 6008, 6011)
NOTHING = msgpack.packb(None)
CRED = Credentials(os.getuid(), os.getgid())
TASKS = 3
IMPATIENT = 0.05
"""How often a client gives up, ..."""
PATIENCE_S = 0.008
"""... and within what time: about that of an operation."""

tell_all = partial(tell, 1)


def tell_new(number: int, new: int) -> None:
    tell_all(op=number, new=new)


class Service(MetadataService):
    """Tells the number of a file before anybody makes it."""

    on_new: Callable[[int], object]

    def _new_file(self, directory: int) -> int:
        new = super()._new_file(directory)
        self.on_new(new)
        return new


async def increment(core: QuClient, counter: int) -> int:
    call = Call("counter.increment", ((counter, "counter"),), NOTHING, CRED, home=counter)
    return int(msgpack.unpackb(await core.update(call)))


async def fetch(core: Any, counter: int) -> int:
    (answer,) = await core.query(Call("counter.fetch", ((counter, "counter"),), NOTHING, CRED))
    return int(msgpack.unpackb(answer.value))


class Worker:
    """The work of one process."""

    def __init__(self, core: QuClient, given: argparse.Namespace) -> None:
        self.core, self.n, self.operations = core, given.n, given.operations
        self.chance = Random(given.seed)
        self.trees = [FileWork(self.chance, CRED, Tree(*numbers)) for numbers in json.loads(given.trees)]
        self.numbers: Iterator[int] = count(given.first)
        self.end = given.first
        """The first operation that is not allowed yet."""
        self.waiting = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(self._work)
        tell_all(done=True)

    async def _work(self) -> None:
        service = Service(self.core, self.n, self.chance.getrandbits)
        for number in self.numbers:
            if number >= self.operations:
                return
            while number >= self.end:
                await self.waiting.park()
            if self.chance.random() < 0.15:
                await self._count(number)
                continue
            work = self.trees[number * len(self.trees) // self.operations]
            drawn = work.draw()
            service.on_new = partial(tell_new, number)
            await self._one(number, drawn.method, work.tree.top, drawn.argument, partial(drawn.run, service))

    async def _count(self, number: int) -> None:
        counter = self.chance.choice(COUNTERS)
        method, ask = ("increment", increment) if self.chance.random() < 0.7 else ("count", fetch)

        async def run() -> tuple[None, int]:
            return None, await ask(self.core, counter)

        await self._one(number, method, counter, None, run)

    async def _one(
        self, number: int, method: str, obj: int, argument: Any, run: Callable[[], Awaitable[tuple[Any, Any]]]
    ) -> None:
        """An operation, which an impatient client gives up."""
        patience = self.chance.random() * PATIENCE_S if self.chance.random() < IMPATIENT else float("inf")
        tell_all(op=number, method=method, object=obj, argument=argument, at=time.monotonic())
        with trio.move_on_after(patience):
            argument, answer = await run()
            tell_all(op=number, argument=argument, answer=answer, at=time.monotonic())
            return
        tell_all(op=number)

    # ---- what it is told and asked

    async def listen(self, until: trio.CancelScope) -> None:
        """Do as is told, until there is no more to come."""
        kept = b""
        async with trio.lowlevel.FdStream(os.dup(0)) as lines, trio.open_nursery() as nursery:
            async for data in lines:
                *whole, kept = (kept + data).split(b"\n")
                for line in whole:
                    word, *numbers = line.split()
                    if word == b"go":
                        self.end = int(numbers[0])
                        self.waiting.unpark_all()
                    elif word == b"how":
                        print(self.core.statistics(), self.core.waiting(), file=sys.stderr, flush=True)
                    else:
                        nursery.start_soon(self._ask, *map(int, numbers))
            until.cancel()

    async def _ask(self, token: int, server: int) -> None:
        told = None
        while told is None:
            told = await self.core.server_status(server, 0.5)
        tell_all(token=token, pid=told["pid"])


async def main(given: argparse.Namespace) -> None:
    made = cluster.load(given.directory)
    given.n = made.n
    async with open_client(made, given.name, REGISTRY) as core, trio.open_nursery() as nursery:
        worker = Worker(core, given)
        nursery.start_soon(worker.listen, nursery.cancel_scope)
        await worker.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.faults.worker", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--name", required=True, help="a client of the cluster")
    parser.add_argument("--seed", required=True, help="of what it does")
    parser.add_argument("--trees", required=True, help="JSON: the directories of each tree")
    parser.add_argument("--first", type=int, default=0, help="the number of its first operation")
    parser.add_argument("--operations", type=int, required=True, help="... and how many there are from 0 on")
    sys.exit(trio.run(main, parser.parse_args()))
