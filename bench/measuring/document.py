"""What a benchmark leaves behind: one JSON schema for all of them, described in docs/benchmarks.md.

A *document* is what one command measured.  Its ``results`` are *records*, one per configuration: medians over the
*runs*, which are kept beside them.  A document with one record shows that record's fields at its top too.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.measuring import machine
from qunfs.protocol.errors import LocalError

SCHEMA: Final = "qunfs-bench"
SCHEMA_VERSION: Final = 1

FOREIGN_MAX: Final = 0.05
"""A run during which others had more than this share of the processor time counts as disturbed."""

Figures = dict[str, Any]
"""Names and values, as they go into JSON."""

PERCENTILE_FIELDS: Final = ("p50", "p90", "p99", "p99.9", "mean", "deviation", "max")

CONFIGURATION: Final[Mapping[str, str]] = {
    "workload": "which benchmark: counter, details, nfs, postmark, contention, scale, sync, pbft",
    "operation": "what is done in the loop: increment, fetch, transaction, all procedures, namespace",
    "variant": "what is measured differently from the ordinary: normal, or a name",
    "b": "malevolent servers tolerated; null where there are no servers",
    "t": "faulty servers tolerated",
    "n": "servers",
    "q": "servers in a quorum",
    "clients": "closed loops",
    "processes": "client processes that they run in",
    "durability": "async or sync",
}
"""Names and meanings of what says what a record is of."""

MEASURED: Final[Mapping[str, str]] = {
    "seconds": "length of the measured window, warm-up excluded",
    "operations": "operations that began and ended in it",
    "ops_per_s": "operations per second",
    "latency_us": "an object: p50, p90, p99, p99.9, mean, deviation, max, in microseconds",
    "server_cpu_us_per_request": "an object: median and max over the servers that had any, in microseconds",
    "server_cpu_us_per_op": "of all servers together",
    "client_cpu_us_per_op": "of the client processes together",
    "wire_bytes_per_op": "bytes that the clients sent and received, with TLS where there is any",
    "peer_bytes_per_op": "bytes that servers sent to each other",
    "round_trips_per_op": "rounds of requests to a quorum",
    "requests_per_op": "requests to single servers",
    "repairs_per_op": "barriers, copies and inline repairs",
    "retries_per_op": "updates that had to be issued again",
    "fsyncs_per_op": "of all servers together",
    "unix_connections": "share of the servers' connections that are Unix sockets, 0 to 1; the others are TCP with TLS",
    "memory_mb": "an object: resident memory, server_median, server_max, client_max",
    "projected_ops_per_s": "a projection, not a measurement: (n/q) / (the busiest server's CPU per request x round "
    "trips per operation), what servers would do with a machine each and enough clients",
    "foreign_cpu": "share of the machine's processor time that others used or the hypervisor stole, 0 to 1",
    "stolen_cpu": "the stolen part of it",
    "disturbed": "whether foreign_cpu was above 0.05 even in the least disturbed of all attempts",
}
"""Names and meanings of what is measured in each run; a record has the medians over its runs."""

_LATER: Final = frozenset({"unix_connections"})
"""What documents may lack that were made before it was told."""
REQUIRED: Final = (*CONFIGURATION, *(name for name in MEASURED if name not in _LATER), "runs")


def record(configuration: Figures, runs: Sequence[Figures], **more: Any) -> Figures:
    """One configuration's record: the medians over its runs, and the runs."""
    return {**configuration, **medians(runs), **more, "repeat": len(runs), "runs": list(runs)}


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of each figure, objects of figures inside too; one disturbed run makes the whole disturbed."""
    found: Figures = {}
    for name in runs[0]:
        values = [run[name] for run in runs if run.get(name) is not None]
        if not values:
            found[name] = None
        elif isinstance(values[0], bool):
            found[name] = any(values)
        elif isinstance(values[0], Mapping):
            found[name] = medians(values)
        elif isinstance(values[0], int | float):
            found[name] = significant(median(values))
    return found


def significant(value: float) -> float:
    """A figure without digits that mean nothing."""
    if not value or not math.isfinite(value):
        return value
    rounded = round(value, max(0, 4 - math.floor(math.log10(abs(value)))))
    return int(rounded) if rounded == int(rounded) else rounded


def document(workload: str, records: Sequence[Figures], **more: Any) -> Figures:
    """What a command leaves behind."""
    head = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "workload": workload,
        "command": machine.command(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.machine(),
        "versions": machine.versions(),
        **more,
    }
    if len(records) == 1:
        head |= {name: value for name, value in records[0].items() if name not in head and name != "runs"}
    return {**head, "results": list(records)}


def as_text(made: Figures) -> str:
    """A document as JSON."""
    return json.dumps(made, indent=2) + "\n"


def save(made: Figures, path: Path) -> None:
    """Write a document whole or not at all.  Raises LocalError."""
    draft = path.with_name(path.name + ".draft")
    try:
        if path.exists() and not path.is_file():  # such as /dev/stdout
            path.write_text(as_text(made))
            return
        draft.write_text(as_text(made))
        draft.replace(path)
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}; name another file") from error


def complaints(made: Any) -> list[str]:
    """What keeps something from being a document of this release; empty when it is one."""
    if not isinstance(made, Mapping) or made.get("schema") != SCHEMA:
        return ["not a result of qunfs bench"]
    if made.get("schema_version") != SCHEMA_VERSION:
        return [f"schema version {made.get('schema_version')}; this release reads {SCHEMA_VERSION}"]
    results = made.get("results")
    if not isinstance(results, list) or not results:
        return ["it has no results"]
    wrong = []
    for place, one in enumerate(results):
        missing = [name for name in REQUIRED if not isinstance(one, Mapping) or name not in one]
        if missing:
            wrong.append(f"result {place} lacks {', '.join(missing)}")
    return wrong


def read(path: Path) -> Figures:
    """A document from its file.  Raises LocalError when it is none."""
    try:
        made = json.loads(path.read_text())
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise LocalError(f"{path}: not JSON; name a file that qunfs bench has written with --json") from error
    wrong = complaints(made)
    if wrong:
        raise LocalError(f"{path}: {wrong[0]}; measure again, or take the file away")
    return dict(made)


def read_all(directory: Path) -> list[Figures]:
    """All documents in a directory, by name; other JSON files in it are left alone.  Raises LocalError for none."""
    try:
        files = sorted(directory.iterdir())
    except OSError as error:
        raise LocalError(f"{directory}: {error.strerror}; name a directory with results of qunfs bench") from error
    found = []
    for path in files:
        if path.suffix == ".json":
            with suppress(LocalError):
                found.append(read(path))
    if not found:
        raise LocalError(f"{directory}: no results there; make some with: qunfs bench compare --out {directory}")
    return found


def per(total: float, operations: float) -> float:
    """So much for each."""
    return significant(total / operations) if operations else 0.0


def values_of(records: Iterable[Figures], name: str) -> list[float]:
    """A figure of several records, those left out that do not have it."""
    return [one[name] for one in records if one.get(name) is not None]
