"""Reading everything there is, from the cluster or from what lies on disks."""

import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from qunfs.nfs.service import MetadataService
from tests.faults.history import Told
from tests.faults.worker import COUNTERS, CRED, fetch
from tests.support.file_work import FileWork, Tree


async def read_all(core: Any, n: int, trees: Sequence[Tree], files: Mapping[int, int]) -> list[Told]:
    """Every directory, every file (``files``: number and tree) and every counter, as operations of the history."""
    service = MetadataService(core, n, Random(0).getrandbits)
    told = []
    for tree in trees:
        work = FileWork(Random(0), CRED, tree)
        mine = sorted(file for file, top in files.items() if top == tree.top)
        for drawn in [*map(work.readdir, tree.directories), *map(work.getattr, mine)]:
            invoked = time.monotonic()
            argument, answer = await drawn.run(service)
            told.append(Told(drawn.method, tree.top, argument, invoked, None, time.monotonic(), answer))
    for counter in COUNTERS:
        invoked = time.monotonic()
        value = await fetch(core, counter)
        told.append(Told("count", counter, None, invoked, None, time.monotonic(), value))
    return told


def answers(told: Sequence[Told]) -> list[tuple[str, Any, Any, Any]]:
    """What was read, whenever it was."""
    return [(read.method, read.obj, read.argument, read.answer) for read in told]
