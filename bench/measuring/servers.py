"""What servers did between two moments, from the kernel's accounts and from their own counters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from bench.measuring.document import Figures, per, significant
from bench.measuring.processor import cpu_s, rss_bytes

Counters = Mapping[str, Any]

FEW: Final = 0.02
"""A server with less than this share of the busiest one's requests was only asked how it is."""


@dataclass(frozen=True, slots=True)
class ServerMoment:
    """One server at one moment; of its counters those that :class:`Work` names are looked at, if it has them."""

    cpu_s: float
    rss_bytes: int
    counters: Counters


def look_at(pids: Sequence[int], counters: Sequence[Counters | None]) -> list[ServerMoment]:
    """All servers now."""
    return [ServerMoment(cpu_s(pid), rss_bytes(pid), told or {}) for pid, told in zip(pids, counters, strict=True)]


class Work:
    """What each server did between two moments, the two questions how it is left out of the count."""

    def __init__(self, before: Sequence[ServerMoment], after: Sequence[ServerMoment]) -> None:
        pairs = list(zip(before, after, strict=True))
        self.cpu_s = [late.cpu_s - early.cpu_s for early, late in pairs]
        self.requests = [max(0.0, _grown(early, late, "frames") - 1) for early, late in pairs]
        self.wire_bytes = sum(_grown(early, late, "wire_bytes") for early, late in pairs)
        self.fsyncs = sum(_grown(early, late, "fsyncs") for early, late in pairs)
        self.connections = sum(int(late.counters.get("connections", 0)) for late in after)
        self.local_connections = sum(int(late.counters.get("local_connections", 0)) for late in after)
        self.rss_mb = [late.rss_bytes / 1e6 for late in after]

    def cpu_us_per_request(self) -> dict[str, float]:
        """Over the servers that had requests, in microseconds."""
        busy = FEW * max(self.requests, default=0.0)
        each = [cpu * 1e6 / n for cpu, n in zip(self.cpu_s, self.requests, strict=True) if n > busy]
        if not each:
            return {"median": 0.0, "max": 0.0}
        return {"median": significant(median(each)), "max": significant(max(each))}

    def figures(self, operations: float) -> Figures:
        """Those of a run that servers have a part in."""
        return {
            "server_cpu_us_per_request": self.cpu_us_per_request(),
            "server_cpu_us_per_op": per(sum(self.cpu_s) * 1e6, operations),
            "fsyncs_per_op": per(self.fsyncs, operations),
        }


def projected_ops_per_s(n: int, q: int, busiest_us: float, round_trips: float) -> float | None:
    """What n servers with a machine each would do, going by the busiest one's time per request: a projection.

    Each round trip of an operation is a request to q of the n servers.
    """
    time_s = busiest_us * 1e-6 * round_trips
    return significant(n / q / time_s) if time_s > 0 else None


def _grown(early: ServerMoment, late: ServerMoment, name: str) -> float:
    return float(late.counters.get(name, 0)) - float(early.counters.get(name, 0))
