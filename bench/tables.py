"""The tables of a comparison for a document: ``python -m bench.tables DIR`` prints Markdown from the JSON files in DIR.

An asterisk stands beside the median of runs of which some were disturbed by others.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.counter import peak
from bench.measuring.document import Figures, read

Row = Sequence[str]

_WORKLOADS = ("counter", "pbft", "nfs", "postmark")
"""What `qunfs bench compare` calls its files; others may lie beside them."""


def markdown(documents: Iterable[Figures]) -> str:
    """Counters, the baseline, and what a file system does, by the faults that are tolerated."""
    records = [one for document in documents for one in document["results"]]
    counters = [one for one in records if one["workload"] == "counter" and one["operation"] == "increment"]
    baseline = [one for one in records if one["workload"] == "pbft"]
    tables = [
        _table(("increments", *_LOADS), [(f"`b={b}`", *_loads(same)) for b, same in _levels(counters)]),
        _table(("PBFT, failure-free", *_LOADS), [(f"`f={b}`", *_loads(same)) for b, same in _levels(baseline)]),
        _table(_FILES, [(f"`b={b}`", *_files(same)) for b, same in _levels(records) if _of(same, "nfs")]),
    ]
    return "\n\n".join(table for table in tables if table)


_LOADS = (
    "n",
    "1 client, p50 us",
    "busiest server, us/request",
    "peak, /s",
    "clients at it",
    "busiest server, us/request",
    "KB each",
    "projected/s, 1 client",
    "at the peak",
)
_FILES = (
    "",
    "fetch, 1 client, p50 us",
    "fetches at peak, /s",
    "getattr, p50 us",
    "create",
    "rename",
    "PostMark's actions, transactions/s",
    "PostMark through FUSE, transactions/s",
)


def beside_the_baseline(documents: Iterable[Figures], faults: Sequence[int], clients: Sequence[int]) -> str:
    """Increments by Q/U and by the baseline, a column for each at every level, a row for each figure."""
    records = [one for document in documents for one in document["results"] if one["operation"] == "increment"]
    columns = [
        (label, b, same)
        for b in faults
        for name, label in (("counter", "Q/U"), ("pbft", "PBFT"))
        if (same := _of(records, name, b=b))
    ]
    rows: list[Row] = [("servers, quorum or certificate", *(f"{same[0]['n']}, {same[0]['q']}" for *_, same in columns))]
    for count in clients:
        for what, cell in (("p50, us", _latency), *_COSTS) if count == 1 else (("operations/s", _rate), *_COSTS):
            rows.append((f"{count} loop{'s' * (count > 1)}: {what}", *(_at(same, count, cell) for *_, same in columns)))
    return _table(("", *(f"{label} f={b}" for label, b, _ in columns)), rows if columns else ())


def _at(same: Sequence[Figures], clients: int, cell: Callable[[Figures], str]) -> str:
    return _each([one for one in same if one["clients"] == clients], cell)


def _levels(records: Iterable[Figures]) -> list[tuple[int, list[Figures]]]:
    by_level: dict[int, list[Figures]] = {}
    for one in records:
        if one["b"] is not None:
            by_level.setdefault(one["b"], []).append(one)
    return sorted(by_level.items())


def _of(records: Iterable[Figures], workload: str, **more: object) -> list[Figures]:
    return [one for one in records if one["workload"] == workload and all(one[k] == v for k, v in more.items())]


def _loads(same: Sequence[Figures]) -> Row:
    alone, most = [one for one in same if one["clients"] == 1], peak(same)
    return (
        str(most["n"]),
        _each(alone, _latency),
        _each(alone, _processor),
        _rate(most),
        str(most["clients"]),
        _processor(most),
        _each(alone, _kilobytes),
        _each(alone, _projected),
        _projected(most),
    )


def _files(same: Sequence[Figures]) -> Row:
    fetches = _of(same, "counter", operation="fetch")
    calls = _of(same, "nfs")[0]
    part = {one["operation"]: one for one in calls["parts"]}
    return (
        _each([one for one in fetches if one["clients"] == 1], _latency),
        _each([peak(fetches)] if fetches else [], _rate),
        *(f"{part[name]['latency_us']['p50']:,.0f}{_mark(calls)}" for name in ("getattr", "create", "rename")),
        _each(_of(same, "postmark", variant="direct"), _rate),
        _each(_of(same, "postmark", variant="fuse"), _rate),
    )


def _each(records: Sequence[Figures], cell: Callable[[Figures], str]) -> str:
    return ", ".join(map(cell, records)) or "-"


def _latency(one: Figures) -> str:
    return f"{one['latency_us']['p50']:,.0f}{_mark(one)}"


def _rate(one: Figures) -> str:
    return f"{one['ops_per_s']:,.0f}{_mark(one)}"


def _processor(one: Figures) -> str:
    return f"{one['server_cpu_us_per_request']['max']:.0f}{_mark(one)}"


def _all_servers(one: Figures) -> str:
    return f"{one['server_cpu_us_per_op']:,.0f}{_mark(one)}"


def _client(one: Figures) -> str:
    return f"{one['client_cpu_us_per_op']:,.0f}{_mark(one)}"


def _between_servers(one: Figures) -> str:
    return f"{one['peer_bytes_per_op'] / 1000:.1f}"


def _projected(one: Figures) -> str:
    return f"{one['projected_ops_per_s']:,.0f}{_mark(one)}"


def _kilobytes(one: Figures) -> str:
    return f"{one['wire_bytes_per_op'] / 1000:.1f}"


_COSTS: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("busiest server's CPU per request, us", _processor),
    ("all servers' CPU per operation, us", _all_servers),
    ("client CPU per operation, us", _client),
    ("projected operations/s with a machine per server", _projected),
    ("KB of clients per operation", _kilobytes),
    ("KB between servers per operation", _between_servers),
)


def _mark(one: Figures) -> str:
    return "*" if one["disturbed"] else ""


def _table(head: Row, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where `qunfs bench compare --out DIR` wrote")
    directory = parser.parse_args(argv).directory
    files = [directory / f"{name}.json" for name in _WORKLOADS]
    documents = [read(file) for file in files if file.exists()]
    print("\n\n".join(filter(None, (markdown(documents), beside_the_baseline(documents, (1, 5), (1, 16, 32))))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
