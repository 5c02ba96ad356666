"""The comparison of fault levels: every workload at each, and the baseline beside it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bench import contention, counter, mounted, service
from bench.baselines.pbft import runner as pbft
from bench.counter import Load
from bench.measuring.document import Figures
from bench.measuring.runs import ATTEMPTS, Servers, Timing
from bench.replicas import observed
from bench.system import System, mount, temporary_replicas

CONTENTION_FAULTS: Final = 1
"""Where the paper has its Table 2."""

_ALL_CONTENDING: Final = range(contention.CONTENDING_MAX + 1)

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    timing: Timing
    contention: Timing
    clients: Sequence[int]
    """Numbers of closed loops; the first one is for response times."""
    calls: int
    """Of each NFS procedure."""
    direct: tuple[int, int]
    """Files and transactions of PostMark straight at MetadataService."""
    through_fuse: tuple[int, int] | None
    """The same through FUSE; None to leave it out."""
    contending: Sequence[int] = _ALL_CONTENDING
    hurry_after_s: float = math.inf
    """From then on nothing is repeated."""
    skip_after_s: float = math.inf
    """From then on a level has counters only, and the baseline."""


QUICK: Final = Plan(
    timing=Timing(seconds=1.5, warm_up_s=0.5, repeat=2, attempts=2),
    contention=Timing(seconds=1.0, warm_up_s=0.3, repeat=1, attempts=1),
    clients=(1, 16),
    calls=60,
    direct=(50, 150),
    through_fuse=None,
    contending=(0, contention.CONTENDING_MAX),
    hurry_after_s=180.0,
    skip_after_s=300.0,
)
FULL: Final = Plan(
    timing=Timing(seconds=3.0, warm_up_s=0.7, repeat=5, attempts=ATTEMPTS),
    contention=Timing(seconds=3.0, warm_up_s=0.7, repeat=5, attempts=ATTEMPTS),
    clients=(1, 4, 16, 32, 64),
    calls=200,
    direct=(500, 2000),
    through_fuse=(500, 2000),
)


@dataclass(slots=True)
class Progress:
    """Whom to tell what: something new has begun, how far it is, a record is there."""

    step: Tell
    progress: Tell
    record: Callable[[Figures], object]


@dataclass(slots=True)
class Comparison:
    """The records so far, by workload."""

    plan: Plan
    durability: str
    place: Path | None
    tell: Progress
    records: dict[str, list[Figures]] = field(default_factory=dict)
    left_out: list[int] = field(default_factory=list)
    """Levels of which only counters have been measured, for want of time."""
    _began: float = field(default_factory=time.monotonic)

    def level(self, b: int) -> None:
        """Everything at one level of faults."""
        on_step = self._stepper(b)
        with (
            temporary_replicas(b, self.durability, self.place, on_step, clients=16) as system,
            observed(system) as servers,
        ):
            self._counter(system, servers, "increment", self.plan.clients)
            if self._elapsed_s() < self.plan.skip_after_s:
                self._counter(system, servers, "fetch", sorted({self.plan.clients[0], self.plan.clients[-1]}))
                self._service(system, on_step)
                if b == CONTENTION_FAULTS:
                    self._contention(system, servers, on_step)
                if self.plan.through_fuse is not None:
                    self._through_fuse(system, servers, on_step)
            else:
                self.left_out.append(b)
                on_step("short of time: queries, NFS procedures and PostMark are left out")
        self._baseline(b)

    def _counter(self, system: System, servers: Servers, operation: str, clients: Sequence[int]) -> None:
        for count in clients:
            load = Load(count, operation=operation)
            self._add(counter.measure(system, servers, load, self._timing(), self.tell.progress))

    def _stepper(self, b: int) -> Tell:
        return lambda text: self.tell.step(f"b={b}: {text}")

    def _add(self, one: Figures) -> None:
        self.records.setdefault(str(one["workload"]), []).append(one)
        self.tell.record(one)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def _timing(self) -> Timing:
        if self._elapsed_s() < self.plan.hurry_after_s:
            return self.plan.timing
        return replace(self.plan.timing, repeat=1, attempts=1)

    def _service(self, system: System, on_step: Tell) -> None:
        repeat, attempts = self._timing().repeat, self._timing().attempts
        on_step("calling the NFS procedures")
        self._add(service.nfs(system, self.plan.calls, repeat, attempts, self.tell.progress))
        on_step("PostMark's actions, without PostMark")
        files, transactions = self.plan.direct
        self._add(service.direct_postmark(system, files, transactions, 1, attempts, self.tell.progress))

    def _contention(self, system: System, servers: Servers, on_step: Tell) -> None:
        on_step("contending clients")
        for operation in ("fetch", "increment"):
            one = contention.measure(
                system, servers, operation, self.plan.contention, self.tell.progress, self.plan.contending
            )
            self._add(one)

    def _through_fuse(self, system: System, servers: Servers, on_step: Tell) -> None:
        on_step("mounting")
        mount(system)
        on_step("PostMark on the mount")
        self._add(
            mounted.on_mount(
                system,
                servers,
                size=self.plan.through_fuse,
                repeat=1,
                attempts=1,
                watch=lambda _: None,
                tell=self.tell.progress,
            )
        )

    def _baseline(self, f: int) -> None:
        """PBFT with as many faulty replicas; with none it is one server, and no protocol."""
        if f == 0:
            return
        on_step: Tell = lambda text: self.tell.step(f"PBFT, f={f}: {text}")  # noqa: E731 - the shape of _stepper
        with pbft.temporary_group(f, self.durability, self.place, on_step) as group:
            for clients in self.plan.clients:
                self._add(pbft.measure(group, Load(clients), self._timing(), self.tell.progress))


def rows(records: dict[str, list[Figures]], faults: Sequence[int]) -> list[Figures]:
    """The comparison at a glance: one row for each level of faults."""
    found = []
    for b in faults:
        row: Figures = {"b": b}
        for workload, operation in (("counter", "increment"), ("counter", "fetch"), ("pbft", "increment")):
            same = [one for one in records.get(workload, ()) if one["b"] == b and one["operation"] == operation]
            if same:
                name = "pbft" if workload == "pbft" else operation
                row[f"{name}_few"] = min(same, key=lambda one: int(one["clients"]))
                row[f"{name}_peak"] = counter.peak(same)
        for one in records.get("nfs", ()):
            if one["b"] == b:
                row |= {part["operation"]: part for part in one["parts"]}
        for one in records.get("postmark", ()):
            if one["b"] == b:
                row[f"postmark_{one['variant']}"] = one
        found.append(row)
    return found


def lost(records: Sequence[Figures], b_from: int, b_to: int) -> float | None:
    """The share of the projected capacity, at the fewest clients, that is lost between two levels of faults."""
    few: dict[int, Figures] = {}
    for one in records:
        if one["operation"] == "increment" and one["variant"] == "normal":
            known = few.get(one["b"])
            few[one["b"]] = one if known is None or one["clients"] < known["clients"] else known
    first, last = few.get(b_from), few.get(b_to)
    if first is None or last is None or not first["projected_ops_per_s"]:
        return None
    return 1 - float(last["projected_ops_per_s"] or 0) / float(first["projected_ops_per_s"])
