"""What costs how much: the counter benchmark with one thing changed at a time (paper section 4.3, Figure 5).

All of it runs as pure Python, the ordinary protocol too, so that the variants can be compared with each other.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.counter import Load, Tell, measure
from bench.measuring.document import Figures, significant
from bench.measuring.runs import Timing
from bench.replicas import observed
from bench.system import temporary_replicas
from qunfs.native import PURE

REPLICA: Final = "bench.hypothetical replica"
CLIENT: Final = "bench.hypothetical client"

NORMAL: Final = "Q/U"
ON_ORDINARY_REPLICAS: Final = {
    NORMAL: ("nothing", False),
    "uncached OHS": ("nothing", True),
    "random quorums": ("random-quorums", False),
}
"""What clients do differently: what is assumed, and whether they forget histories."""

WITH_OTHER_REPLICAS: Final = {
    "0-compute authenticators": "zero-cost-authenticators",
    "no authenticators": "no-authenticators",
}


def level(
    b: int,
    clients: Sequence[int],
    processes: int,
    durability: str,
    timing: Timing,
    place: Path | None,
    on_step: Tell,
    tell: Tell,
    on_record: Callable[[Figures], object],
) -> list[Figures]:
    """The records of all variants at one level of faults."""
    records: list[Figures] = []
    loads = [Load(count, processes, workload="details") for count in clients]
    with pure_python():
        for assumption in ("nothing", *WITH_OTHER_REPLICAS.values()):
            arguments = ("--assume", assumption)
            with (
                temporary_replicas(
                    b, durability, place, on_step, clients=16, module=REPLICA, arguments=arguments
                ) as system,
                observed(system) as servers,
            ):
                for load in loads:
                    for variant in _variants(assumption, load):
                        records.append(_spread(measure(system, servers, variant, timing, tell)))
                        on_record(records[-1])
    return records


def _spread(one: Figures) -> Figures:
    """A record whose projection counts what servers do for each other too, evenly spread."""
    runs = [_spread(run | {"n": one["n"], "runs": []}) for run in one["runs"]]
    cpu_us = one["server_cpu_us_per_op"]
    projected = significant(one["n"] * 1e6 / cpu_us) if cpu_us else None
    return {**one, "runs": runs, "projected_ops_per_s": projected, "compiled": False}


def _variants(assumption: str, load: Load) -> Iterator[Load]:
    """What to measure on replicas under an assumption."""
    if assumption == "nothing":
        for name, (kind, uncached) in ON_ORDINARY_REPLICAS.items():
            yield replace(load, variant=name, uncached=uncached, module=f"{CLIENT} {kind}")
        return
    for name, kind in WITH_OTHER_REPLICAS.items():
        if kind == assumption:
            yield replace(load, variant=name, module=f"{CLIENT} {kind}")


@contextlib.contextmanager
def pure_python() -> Iterator[None]:
    """Processes that are started in the block do not use compiled code."""
    before = os.environ.get(PURE)
    os.environ[PURE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PURE]
        else:
            os.environ[PURE] = before
