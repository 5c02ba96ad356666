"""Results as one HTML page that needs nothing else: tables, plots, the machine, what the figures mean."""

import base64
import html
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.measuring.document import MEASURED
from bench.plots import plot

Figures = Mapping[str, Any]
Cell = Callable[[Figures], str]

_STYLE: Final = """
body { font: 15px/1.45 sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #111; }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; font-size: 13px; }
th, td { border: 1px solid #bbb; padding: .2rem .5rem; text-align: right; }
th { background: #eee; } td.text { text-align: left; }
img { max-width: 100%; height: auto; margin: .5rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; }
code { background: #f2f2f2; padding: 0 .2rem; } .small { color: #555; font-size: 13px; }
"""


def page_of(documents: Sequence[Figures]) -> str:
    """The page for some documents, with the plots that they make."""
    with tempfile.TemporaryDirectory(prefix="qunfs-report-") as made:
        return page(documents, plot(documents, Path(made)))


def page(documents: Sequence[Figures], plots: Sequence[Path]) -> str:
    """The page for some documents and files of :func:`bench.plots.plot`, of which it takes the SVG ones in."""
    images = [_image(path) for path in plots if path.suffix == ".svg"]
    parts = [
        f"<h1>qunfs: benchmark results</h1>{_conditions(documents)}",
        f'<div class="plots">{"".join(images)}</div>' if images else "",
        *map(_section, documents),
        _meanings(),
    ]
    title = html.escape(", ".join(dict.fromkeys(str(one["workload"]) for one in documents)))
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>qunfs bench: {title}</title>'
    )
    body = "".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n'


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(path.stem)}" src="data:image/svg+xml;base64,{data}">'


def _conditions(documents: Iterable[Figures]) -> str:
    """Where the documents were measured; once for each place."""
    seen: dict[str, None] = {}
    for one in documents:
        rows = [(name, value) for part in ("machine", "versions") for name, value in one.get(part, {}).items()]
        seen["; ".join(f"{name} {value}" for name, value in rows if value not in ("", None))] = None
    told = "".join(f"<p class='small'>{html.escape(text)}</p>" for text in seen)
    return (
        "<p>All servers and clients of a run share one machine. What servers would do with a machine each is "
        f"<em>projected</em> from their processor time, and called so.</p>{told}"
    )


def _section(document: Figures) -> str:
    workload = str(document["workload"])
    results = document["results"]
    blocks = [
        f"<h2>{html.escape(workload)}</h2><p class='small'><code>{html.escape(str(document['command']))}</code>, "
    ]
    blocks.append(f"finished {html.escape(str(document['finished']))}</p>{_table(results, _RESULT)}")
    rows = [{**one, **part} for one in results for part in one.get("parts", [])]
    if rows:
        blocks.append(_table(rows, _CONTENTION if workload == "contention" else _PART))
    if document.get("left_out"):
        levels = ", ".join(f"b={b}" for b in document["left_out"])
        blocks.append(f"<p class='small'>For want of time only counters were measured at {levels}.</p>")
    if any(one.get("disturbed") for one in results):
        blocks.append("<p class='small'>* others used more than 5 % of the processors at each attempt.</p>")
    return "".join(blocks)


def _table(rows: Sequence[Figures], columns: Sequence[tuple[str, Cell]]) -> str:
    shown = [(name, [cell(one) for one in rows]) for name, cell in columns]
    shown = [(name, cells) for name, cells in shown if any(cells)]
    head = "".join(f"<th>{html.escape(name)}</th>" for name, _ in shown)
    lines = []
    for place in range(len(rows)):
        lines.append("".join(_cell(cells[place]) for _, cells in shown))
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(text: str) -> str:
    kind = "" if not text or text[0].isdigit() else ' class="text"'
    return f"<td{kind}>{html.escape(text)}</td>"


def shown(value: Any) -> str:
    """A value for a reader."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool | str):
        return str(value)
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def at(*path: str) -> Cell:
    """A value of a record, by where it is."""

    def cell(one: Figures) -> str:
        value: Any = one
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return shown(value)

    return cell


def _ops_per_s(one: Figures) -> str:
    return shown(one["ops_per_s"]) + ("*" if one.get("disturbed") else "")


def _range(one: Figures) -> str:
    values = [run["ops_per_s"] for run in one.get("runs", [])]
    return f"{shown(min(values))} - {shown(max(values))}" if len(values) > 1 else ""


_COSTS: Final = (
    ("p50 us", at("latency_us", "p50")),
    ("p90", at("latency_us", "p90")),
    ("p99", at("latency_us", "p99")),
    ("p99.9", at("latency_us", "p99.9")),
    ("mean", at("latency_us", "mean")),
    ("server us/request", at("server_cpu_us_per_request", "median")),
    ("busiest", at("server_cpu_us_per_request", "max")),
    ("client us/op", at("client_cpu_us_per_op")),
    ("bytes/op", at("wire_bytes_per_op")),
    ("trips/op", at("round_trips_per_op")),
    ("repairs/op", at("repairs_per_op")),
    ("fsyncs/op", at("fsyncs_per_op")),
)
_RESULT: Final = (
    *((name, at(name)) for name in ("variant", "operation", "size", "b", "n", "clients", "durability")),
    ("ops/s", _ops_per_s),
    ("range", _range),
    *_COSTS,
    ("Unix sockets", at("unix_connections")),
    ("server MB", at("memory_mb", "server_max")),
    ("projected ops/s", at("projected_ops_per_s")),
    ("foreign CPU", at("foreign_cpu")),
)
_PART: Final = (*((name, at(name)) for name in ("b", "size", "operation", "type", "objects")), *_COSTS)
_CONTENTION: Final = (
    ("operation", at("operation")),
    ("contending", at("contending_clients")),
    *((f"{kind}, mean us", at(kind, "mean")) for kind in ("isolated", "contending", "shared")),
    *((f"{kind}, p99", at(kind, "p99")) for kind in ("isolated", "contending", "shared")),
    ("trips/op", at("round_trips_per_op")),
    ("repairs/op", at("repairs_per_op")),
)


def _meanings() -> str:
    rows = "".join(
        f"<tr><td class='text'>{name}</td><td class='text'>{html.escape(text)}</td></tr>"
        for name, text in MEASURED.items()
    )
    return f"<h2>What the figures mean</h2><table>{rows}</table>"
