"""What speaks against replicas, from everybody who has something to say: mounts, and the replicas themselves.

Mounts of this machine are believed.  A replica may lie about others: what it tells is proof only when more replicas
tell it than can lie.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from qunfs.protocol.evidence import Finding, Ground, is_vouched_for, text_of

if TYPE_CHECKING:
    from rich.table import Table

    from qunfs.cluster import Cluster
    from qunfs.mounts import MountRecord

Suspect = dict[str, Any]
_LATEST_NS: Final = 1 << 62


def as_suspect(finding: Finding) -> Suspect:
    """A finding as mounts publish it; times in seconds since the epoch."""
    return {
        "server": finding.server,
        "evidence": finding.ground.value,
        "proof": finding.proof,
        "count": finding.times,
        "first": finding.first_ns / 1e9,
        "last": finding.last_ns / 1e9,
        "text": finding.text,
    }


def suspects(loaded: "Cluster", records: "Sequence[MountRecord]", rows: Sequence[Mapping[str, Any]]) -> list[Suspect]:
    """What mounts and replicas hold against replicas, by replica, each with who tells it; proof comes first."""
    told = [{**suspect, "told_by": record.mountpoint} for record in records for suspect in record.suspects]
    told += _told_by_replicas(loaded, rows)
    return sorted(told, key=lambda suspect: (suspect["server"], not suspect["proof"]))


def _told_by_replicas(loaded: "Cluster", rows: Sequence[Mapping[str, Any]]) -> Iterator[Suspect]:
    stories: dict[tuple[int, Ground], dict[int, Finding]] = {}
    for row in rows:
        for finding in _findings_untrusted(row.get("suspects"), loaded.n):
            stories.setdefault((finding.server, finding.ground), {})[row["server"]] = finding
    for (server, ground), by_teller in stories.items():
        proof = is_vouched_for(loaded.quorums, server, by_teller)
        times = max(finding.times for finding in by_teller.values())
        first = min(finding.first_ns for finding in by_teller.values())
        last = max(finding.last_ns for finding in by_teller.values())
        text = text_of(ground, times, (), "")
        if not proof:
            text += "; unless who tells it lies"
        several = "s" if len(by_teller) > 1 else ""
        tellers = f"replica{several} {', '.join(map(str, sorted(by_teller)))}"
        yield {**as_suspect(Finding(server, ground, proof, times, first, last, text)), "told_by": tellers}


def _findings_untrusted(value: object, n: int) -> Iterator[Finding]:
    """What a replica says that it holds against others, as far as it makes sense."""
    known = {ground.value: ground for ground in (Ground.WRONG_DATA, Ground.MALFORMED)}
    for told in value if isinstance(value, tuple | list) else ():
        if not isinstance(told, tuple | list) or [type(field) for field in told] != [int, str, int, int, int]:
            continue
        server, name, times, first, last = told
        if name in known and 0 <= server < n and times > 0 and 0 <= first <= last < _LATEST_NS:
            yield Finding(server, known[name], False, times, first, last, "")


def table(found: Sequence[Suspect]) -> "Table":
    """The suspects for people."""
    from rich.table import Table
    from rich.text import Text

    shown = Table("replica", "", "evidence", "since", "last", "told by")
    for suspect in found:
        verdict = Text("proof", "bold red") if suspect["proof"] else Text("suspicion", "yellow")
        times = (_clock(suspect["first"]), _clock(suspect["last"]))
        shown.add_row(str(suspect["server"]), verdict, Text(suspect["text"]), *times, Text(suspect["told_by"]))
    return shown


def _clock(seconds: float) -> str:
    """A time of today, or the date and the time."""
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)
