"""One measured run of closed loops against servers, and runs that are repeated when others disturbed them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bench.measuring.clients import Clients, Progress, Together
from bench.measuring.document import FOREIGN_MAX, Figures, per, significant
from bench.measuring.latencies import summary
from bench.measuring.processor import Moment, foreign, moment
from bench.measuring.servers import Counters, ServerMoment, Work, look, projected_ops_per_s

ATTEMPTS: Final = 3
"""How often a run is made at most because others disturbed it."""

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


class Window:
    """The time between two looks at servers and machine."""

    def __init__(self, servers: Servers, others: Sequence[int] = ()) -> None:
        """``others``: processes besides the servers that belong to the measurement for all of the window."""
        self._servers, self._others = servers, tuple(others)
        self.began, self._before = self._look()

    def _look(self) -> tuple[Moment, list[ServerMoment]]:
        pids = self._servers.pids()
        told = self._servers.ask()
        return moment([*pids, *self._others]), look(pids, told)

    def figures(
        self,
        latencies_ns: Sequence[int],
        seconds: float | None,
        client_cpu_s: float,
        client_mb: float,
        counters: Mapping[str, float],
        unknown_cpu_s: float = 0.0,
    ) -> Figures:
        """The end of the window; all figures of a run.

        ``seconds`` is the time that the operations took, None for the window's own length; ``unknown_cpu_s`` that of
        processes of ours that the window did not know of.
        """
        ended, after = self._look()
        work = Work(self._before, after)
        done, length = len(latencies_ns), ended.at - self.began.at
        seconds = length if seconds is None else seconds
        scale = length / seconds  # the servers' counters are asked for a moment later, at full load many milliseconds
        others = foreign(self.began, ended, unknown_cpu_s)
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
            "memory_mb": _memory(work, client_mb),
            "projected_ops_per_s": projected_ops_per_s(self._servers.n, self._servers.q, busiest, rounds),
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
    window = Window(servers, clients.pids)
    clients.follow(schedule.until, schedule.begin, on_progress)
    ended = Together(clients.reports())
    figures = window.figures(ended.latencies_ns, timing.seconds, ended.cpu_s, ended.rss_mb, ended.counters)
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
