"""One measured run of closed loops against servers, and runs that are repeated when others disturbed them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bench.measuring.clients import Clients, Progress, Together
from bench.measuring.document import FOREIGN_MAX, Figures, per, significant
from bench.measuring.latencies import summary
from bench.measuring.processor import Moment, foreign, moment
from bench.measuring.servers import Counters, ServerMoment, Work, look_at, projected_ops_per_s

ATTEMPTS: Final = 3
"""How often a run is made at most because others disturbed it."""

SHORTEST_S: Final = 0.001
"""The output of a tiny PostMark comes in one piece: its phases have no length that could be seen."""

REPAIRS: Final = ("barrier", "copy", "inline_repair")


class Servers(Protocol):
    """The servers that are measured."""

    @property
    def n(self) -> int:
        """How many."""

    @property
    def q(self) -> int:
        """How many of them an operation goes to."""

    def pids(self) -> Sequence[int]:
        """Their process numbers, in order; 0 for one that does not run."""

    def ask(self) -> Sequence[Counters | None]:
        """What each of them counts."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a run is, how many make a record, and how often one is made again because of others."""

    seconds: float
    warm_up_s: float = 1.0
    repeat: int = 1
    attempts: int = ATTEMPTS


@dataclass(frozen=True, slots=True)
class Look:
    """Servers and machine at one moment."""

    at: Moment
    servers: list[ServerMoment]


def look(pids: Sequence[int], told: Sequence[Counters | None], others: Sequence[int] = ()) -> Look:
    """Servers and machine now, with what the servers have just said of themselves.

    ``others``: processes besides the servers and this one that belong to the measurement.
    """
    return Look(moment([*pids, *others]), look_at(pids, told))


class Window:
    """The time between two looks."""

    def __init__(self, n: int, q: int, before: Look) -> None:
        self._n, self._q, self._before = n, q, before

    def figures(
        self,
        after: Look,
        latencies_ns: Sequence[int],
        seconds: float | None,
        client_cpu_s: float,
        client_mb: float,
        counters: Mapping[str, float],
        unknown_cpu_s: float = 0.0,
    ) -> Figures:
        """All figures of a run, at the end of the window.

        ``seconds`` is the time that the operations took, None for the window's own length; ``unknown_cpu_s`` that of
        processes of ours that the window did not know of.
        """
        began, ended = self._before.at, after.at
        work = Work(self._before.servers, after.servers)
        done, length = len(latencies_ns), max(SHORTEST_S, ended.at - began.at)
        seconds = length if seconds is None else max(SHORTEST_S, seconds)
        scale = length / seconds  # the servers' counters are asked for a moment later, at full load many milliseconds
        others = foreign(began, ended, unknown_cpu_s)
        rounds = per(counters.get("round_trips", 0), done)
        busiest = work.cpu_us_per_request()["max"]
        clients_bytes = counters.get("wire_bytes", 0)
        return {
            "seconds": round(seconds, 3),
            "operations": done,
            "ops_per_s": per(done, seconds),
            "latency_us": summary(latencies_ns),
            **work.figures(done * scale),
            "client_cpu_us_per_op": per(client_cpu_s * 1e6, done),
            "wire_bytes_per_op": per(clients_bytes, done),
            "peer_bytes_per_op": per(max(0.0, work.wire_bytes / scale - clients_bytes) / 2, done),
            "round_trips_per_op": rounds,
            "requests_per_op": per(counters.get("requests", 0), done),
            "repairs_per_op": per(sum(counters.get(name, 0) for name in REPAIRS), done),
            "retries_per_op": per(counters.get("retries", 0), done),
            "unix_connections": per(work.local_connections, work.connections) if work.connections else None,
            "memory_mb": _memory(work, client_mb),
            "projected_ops_per_s": projected_ops_per_s(self._n, self._q, busiest, rounds),
            "foreign_cpu": significant(others.share),
            "stolen_cpu": significant(others.stolen),
            "disturbed": others.share > FOREIGN_MAX,
        }


def _memory(work: Work, client_mb: float) -> dict[str, float]:
    ordered = sorted(work.rss_mb)
    return {
        "server_median": significant(ordered[len(ordered) // 2]) if ordered else 0,
        "server_max": significant(ordered[-1]) if ordered else 0,
        "client_max": significant(client_mb),
    }


def loops(
    servers: Servers, clients: Clients, timing: Timing, on_progress: Progress | None = None
) -> tuple[Figures, Together]:
    """One run of clients that are ready; the warm-up is cut off."""
    schedule = clients.begin(timing.warm_up_s, timing.seconds)
    clients.follow(schedule.measured_from, schedule.begin, on_progress)
    window = Window(servers.n, servers.q, look(servers.pids(), servers.ask(), clients.pids))
    clients.follow(schedule.until, schedule.begin, on_progress)
    ended = Together(clients.reports())
    after = look(servers.pids(), servers.ask(), clients.pids)
    figures = window.figures(after, ended.latencies_ns, timing.seconds, ended.cpu_s, ended.rss_mb, ended.counters)
    return figures, ended


def undisturbed(once: Callable[[], Figures], attempts: int, tell: Callable[[str], object]) -> Figures:
    """A run that others did not disturb, or the least disturbed of so many."""
    best: Figures | None = None
    for attempt in range(attempts):
        run = once()
        if best is None or run["foreign_cpu"] < best["foreign_cpu"]:
            best = run
        if not run["disturbed"]:
            break
        if attempt + 1 < attempts:
            tell(f"others used {run['foreign_cpu']:.0%} of the processors; once more")
    assert best is not None
    return best


def combined(parts: Sequence[Figures], latencies_ns: Sequence[int], n: int, q: int) -> Figures:
    """One run that was measured in parts: what is per operation is weighted with the operations of each part."""
    done = sum(part["operations"] for part in parts)
    seconds = sum(part["seconds"] for part in parts)

    def mean(*path: str) -> float:
        total = 0.0
        for part in parts:
            value = part
            for name in path:
                value = value[name]
            total += float(value) * part["operations"]  # type: ignore[arg-type]  # a figure, at the end of the path
        return per(total, done)

    rounds, busiest = mean("round_trips_per_op"), mean("server_cpu_us_per_request", "max")
    made: Figures = {name: mean(name) for name in parts[0] if name.endswith("_per_op")}
    return {
        "seconds": round(seconds, 3),
        "operations": done,
        "ops_per_s": per(done, seconds),
        "latency_us": summary(latencies_ns),
        "server_cpu_us_per_request": {"median": mean("server_cpu_us_per_request", "median"), "max": busiest},
        **made,
        "unix_connections": parts[-1]["unix_connections"],
        "memory_mb": parts[-1]["memory_mb"],
        "projected_ops_per_s": projected_ops_per_s(n, q, busiest, rounds),
        "foreign_cpu": mean("foreign_cpu"),
        "stolen_cpu": mean("stolen_cpu"),
        "disturbed": mean("foreign_cpu") > FOREIGN_MAX,
    }
