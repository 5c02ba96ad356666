"""Which plots there are, and what each shows of which records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bench import paper
from bench.plots import Line, bars_plot, lines_plot, paper_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = Mapping[str, Any]
Getter = Callable[[Figures], float | None]

FAULTS: Final = "malevolent servers tolerated, b"
PROTOCOLS: Final = {"counter": "Q/U", "pbft": "PBFT"}


def figure(*path: str, scale: float = 1.0) -> Getter:
    """Reads a figure off a record, by where it is; None where the record has none."""

    def get(one: Figures) -> float | None:
        value: Any = one
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else float(value) * scale

    return get


ops_per_s: Final = figure("ops_per_s")
projected: Final = figure("projected_ops_per_s")
p50_us: Final = figure("latency_us", "p50")
server_us: Final = figure("server_cpu_us_per_request", "max")
kilobytes: Final = figure("wire_bytes_per_op", scale=1e-3)


def by_faults(label: str, records: Iterable[Figures], get: Getter, *, best: bool = False) -> Line:
    """One line over b; where several records are of one b, the peak throughput's, or that of the fewest clients."""
    chosen: dict[int, Figures] = {}
    for one in records:
        if one["b"] is None:
            continue
        known = chosen.get(one["b"])
        better = known is None or (one["ops_per_s"] > known["ops_per_s"] if best else one["clients"] < known["clients"])
        if better:
            chosen[one["b"]] = one
    line = Line(label)
    for b, one in sorted(chosen.items()):
        line.add(b, get(one), [value for run in one["runs"] if (value := get(run)) is not None])
    return line


def _loops(records: Sequence[Figures], operation: str) -> list[tuple[str, list[Figures]]]:
    """The ordinary records of closed loops of an operation, by protocol."""
    found = []
    for workload, label in PROTOCOLS.items():
        ours = [
            one for one in records
            if (one["workload"], one["operation"], one["variant"]) == (workload, operation, "normal")
        ]  # fmt: skip
        found.append((label, ours))
    return found


def throughput(records: Sequence[Figures]) -> "Figure | None":
    """Figure 4 as it is on one machine."""
    lines = [
        by_faults(f"{label}, {operation}", ours, ops_per_s, best=True)
        for operation in ("increment", "fetch")
        for label, ours in _loops(records, operation)
    ]
    return lines_plot(
        lines, "Peak throughput, all servers and clients on one machine", FAULTS, "operations/s", log_y=True
    )


def capacity(records: Sequence[Figures]) -> "Figure | None":
    """Figure 4 as it would be with a machine per server."""
    lines = [
        by_faults(f"{label}, projected", ours, projected, best=True) for label, ours in _loops(records, "increment")
    ]
    lines += [paper_line(f"{label}, paper (measured, 2005)", points) for label, points in paper.THROUGHPUT.items()]
    return lines_plot(
        lines, "Projected capacity with a machine per server, increments at peak load", FAULTS, "increments/s"
    )


def latency(records: Sequence[Figures]) -> "Figure | None":
    """Response time of the smallest number of clients, one as a rule."""
    lines = [
        by_faults(f"{label}, {operation}", ours, p50_us)
        for operation in ("increment", "fetch")
        for label, ours in _loops(records, operation)
    ]
    lines.append(paper_line("Q/U, increment, paper (mean)", {1: paper.RESPONSE_US["preferred"]}))
    return lines_plot(lines, "Median response time, fewest clients", FAULTS, "microseconds")


def server_cpu(records: Sequence[Figures]) -> "Figure | None":
    """Processor time of the busiest server per request."""
    lines = []
    for label, ours in _loops(records, "increment"):
        lines.append(by_faults(f"{label}, fewest clients", ours, server_us))
        if len({one["clients"] for one in ours}) > 1:
            lines.append(by_faults(f"{label}, peak", ours, server_us, best=True))
    return lines_plot(lines, "Processor time per increment request, busiest server", FAULTS, "microseconds")


def wire(records: Sequence[Figures]) -> "Figure | None":
    """Bytes on the wire."""
    lines = [
        by_faults(f"{label}, {operation}", ours, kilobytes)
        for operation in ("increment", "fetch")
        for label, ours in _loops(records, operation)
    ]
    return lines_plot(lines, "Bytes of a client per operation, sent and received", FAULTS, "kilobytes")


def details(records: Sequence[Figures]) -> "Figure | None":
    """Figure 5."""
    ours = [one for one in records if one["workload"] == "details"]
    variants = list(dict.fromkeys(one["variant"] for one in ours))
    lines = [
        by_faults(name, [one for one in ours if one["variant"] == name], projected, best=True) for name in variants
    ]
    return lines_plot(lines, "Projected capacity, what costs how much (increments)", FAULTS, "increments/s")


def contention(records: Sequence[Figures]) -> "Figure | None":
    """Table 2."""
    lines = []
    for one in records:
        if one["workload"] == "contention":
            for kind in ("isolated", "contending"):
                line = Line(f"{one['operation']}, {kind}")
                for part in one["parts"]:
                    if part[kind] is not None:
                        line.add(part["contending_clients"], part[kind]["mean"])
                lines.append(line)
                points = paper.CONTENTION_US[one["operation"]][kind]
                lines.append(paper_line(f"{one['operation']}, {kind}, paper", points))
    return lines_plot(
        lines,
        "Response time under contention, b=1, five clients",
        "contending clients",
        "microseconds (mean)",
        log_y=True,
    )


def nfs(records: Sequence[Figures]) -> "Figure | None":
    """Table 3."""
    ours = [one for one in records if one["workload"] == "nfs"]
    if not ours:
        return None
    names = [part["operation"] for part in ours[0]["parts"]]
    groups: list[tuple[str, Sequence[float | None]]] = []
    for one in ours[:4]:
        values = {part["operation"]: part["latency_us"]["p50"] for part in one["parts"]}
        groups.append((f"b={one['b']}, median", [values.get(name) for name in names]))
    groups.append(("paper, b=1, mean", [paper.NFS_US.get(name) for name in names]))
    return bars_plot(names, groups, "NFS procedures, response time", "microseconds")


def postmark(records: Sequence[Figures]) -> "Figure | None":
    """Table 4."""
    lines = []
    for variant, label in (("fuse", "through FUSE"), ("direct", "straight at MetadataService")):
        ours = [one for one in records if (one["workload"], one["variant"]) == ("postmark", variant)]
        lines.append(by_faults(label, ours, ops_per_s))
    lines.append(paper_line("paper (a machine per server)", paper.POSTMARK_PER_S))
    return lines_plot(lines, "PostMark", FAULTS, "transactions/s")


def scale(quantity: str, label: str) -> "Callable[[Sequence[Figures]], Figure | None]":
    """The plot of one quantity that grows."""

    def draw(records: Sequence[Figures]) -> "Figure | None":
        ours = [one for one in records if (one["workload"], one["variant"]) == ("scale", quantity)]
        lines: dict[str, Line] = {}
        for one in ours:
            for part in one.get("parts") or [one]:
                line = lines.setdefault(part["operation"], Line(part["operation"]))
                spread = [value for run in part.get("runs", []) if (value := p50_us(run)) is not None]
                line.add(one["size"], p50_us(part), spread)
        return lines_plot(
            lines.values(), f"Response time as the number of {label} grows", label, "microseconds (median)", log_x=True
        )

    return draw


def sync(records: Sequence[Figures]) -> "Figure | None":
    """Object sync and inline repair."""
    ours = [one for one in records if one["workload"] == "sync"]
    groups = [(name, [p50_us(part) for one in ours for part in one["parts"] if part["operation"] == name])
              for name in ("first", "again")]  # fmt: skip
    names = [f"{one['variant']}, b={one['b']}" for one in ours]
    return bars_plot(names, groups, "The next increment, and one more when nothing is amiss", "microseconds (median)")


ALL: Final[Mapping[str, "Callable[[Sequence[Figures]], Figure | None]"]] = {
    "throughput": throughput,
    "capacity": capacity,
    "latency": latency,
    "server-cpu": server_cpu,
    "wire": wire,
    "details": details,
    "contention": contention,
    "nfs": nfs,
    "postmark": postmark,
    "sync": sync,
    "scale-names": scale("names", "names in a directory"),
    "scale-objects": scale("objects", "objects"),
    "scale-clients": scale("clients", "clients"),
    "scale-updates": scale("updates", "updates of an object before"),
}
"""Every plot, by the name of its file."""
