"""Latencies: every single one is kept, in nanoseconds, and percentiles are read off the sorted array."""

import base64
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

PERCENTILES: Final = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9))


def percentile(ordered: Sequence[int], percent: float) -> float:
    """The smallest latency that so many per cent do not exceed (nearest rank); 0 of none."""
    if not ordered:
        return 0.0
    return float(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)])


def summary(latencies_ns: Iterable[int]) -> dict[str, float]:
    """Mean, deviation, percentiles and maximum, in microseconds."""
    ordered = sorted(latencies_ns)
    count = max(1, len(ordered))
    mean = sum(ordered) / count
    deviation = math.sqrt(sum((one - mean) ** 2 for one in ordered) / count)
    told = {name: percentile(ordered, percent) for name, percent in PERCENTILES}
    told |= {"mean": mean, "deviation": deviation, "max": float(ordered[-1] if ordered else 0)}
    return {name: round(value / 1000, 1) for name, value in told.items()}


def packed(latencies_ns: "array[int]") -> str:
    """As text, for a pipe between two processes of one machine."""
    return base64.b64encode(latencies_ns.tobytes()).decode("ascii")


def unpacked(text: str) -> "array[int]":
    """What :func:`packed` gave."""
    latencies: array[int] = array("Q")
    latencies.frombytes(base64.b64decode(text))
    return latencies
