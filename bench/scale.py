"""What an operation costs as things grow: names in a directory, objects, clients, updates of one object.

A directory of a million names is not made by a million operations: its rows are written into each replica's database
while it is stopped, the same at all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from bench import counter
from bench.counter import Load, configuration
from bench.growing import OLD
from bench.measuring.clients import single_run
from bench.measuring.document import Figures, record
from bench.measuring.runs import Servers, Timing
from bench.service import MODULE, medians_of_parts, runs_of, task_of
from bench.system import System
from qunfs import processes
from qunfs.objects.codes import ftype3
from qunfs.objects.state import (
    DIRECTORY_ROW,
    FIRST_COOKIE,
    cookie_key,
    entry_key,
    pack_entry,
    unpack_header,
)
from qunfs.protocol.errors import LocalError
from server.lmdb_rows import LmdbRows

BATCH_ROWS: Final = 50_000
NAMED: Final = (1 << 61) + 12345
"""What all names that were there before are bound to; nobody asks for it."""

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that grows."""

    sizes: tuple[int, ...]
    meaning: str


QUANTITIES: Final[Mapping[str, Quantity]] = {
    "names": Quantity((10, 1_000, 100_000, 1_000_000), "names in the directory"),
    "objects": Quantity((1, 100, 10_000), "counters that one client goes round"),
    "clients": Quantity((1, 4, 16, 64), "closed loops"),
    "updates": Quantity((1, 100, 10_000), "updates that the counter has had"),
}


def names(system: System, size: int, count: int, timing: Timing, tell: Tell) -> Figures:
    """The record of a directory with so many names; its ``parts`` are the procedures."""
    made = single_run(MODULE, asdict(task_of(system, "mkdir")), system.scratch, tell)
    directory = int(made["directory"])
    tell(f"{size} names: writing them")
    processes.stop(system.cluster, range(system.cluster.n))
    filled = 0
    for server in range(system.cluster.n):
        tell(f"{size} names: writing them, replica {server}")
        filled += fill(system.cluster.data_directory(server), directory, size)
    if filled < system.cluster.quorums.q:
        raise LocalError(f"only {filled} replicas have stored the directory")
    processes.start_and_wait(system.cluster, range(system.cluster.n), system.arguments)
    task = task_of(system, "names", count=count, directory=directory)
    runs = runs_of(system, task, timing.repeat, timing.attempts, tell)
    parts = medians_of_parts([run.pop("parts") for run in runs])
    head = configuration(system, "scale", operation="namespace", variant="names", clients=1, processes=1)
    return record(head, runs, size=size, parts=parts)


def fill(data: Path, directory: int, size: int) -> bool:
    """Put names into the rows of a directory, in the database of a replica that does not run; False if it has none."""
    rows = LmdbRows(data, "async")
    try:
        prefix = b"r" + directory.to_bytes(8, "big")
        row = rows.get(prefix + DIRECTORY_ROW)
        if row is None:
            return False
        header = unpack_header(row)
        header.next_cookie += size
        header.entries += size
        new = _rows(prefix, header.next_cookie - size, size)
        while batch := list(islice(new, BATCH_ROWS)):
            rows.apply(batch)
        rows.apply([(prefix + DIRECTORY_ROW, header.pack())])
        rows.sync()
    finally:
        rows.close()
    return True


def _rows(prefix: bytes, first_cookie: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the names, in the order of their keys."""
    assert first_cookie >= FIRST_COOKIE
    kind = int(ftype3.NF3REG)
    for i in range(size):
        yield prefix + entry_key(OLD + b"%08d" % i), pack_entry(NAMED, kind, first_cookie + i)
    for i in range(size):
        yield prefix + cookie_key(first_cookie + i), OLD + b"%08d" % i


def loops(system: System, servers: Servers, variant: str, size: int, timing: Timing, tell: Tell) -> Figures:
    """The record of increments with so many objects, clients or updates before."""
    load = {
        "objects": Load(1, spread=size, variant=variant, workload="scale"),
        "clients": Load(size, variant=variant, workload="scale"),
        "updates": Load(1, lead=size, variant=variant, workload="scale"),
    }[variant]
    return {**counter.measure(system, servers, load, timing, tell), "size": size}


def sizes_of(variant: str, given: Sequence[int]) -> Sequence[int]:
    """What to measure of a quantity: what was asked for, or its own sizes."""
    return given or QUANTITIES[variant].sizes
