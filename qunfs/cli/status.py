"""``qunfs status``: what each replica and mount does."""

import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qunfs.cli.options import ClientName, ClusterDirectory
from qunfs.cli.output import Status, console, counted

if TYPE_CHECKING:
    from rich.table import Table

    from qunfs.cluster import Cluster
    from qunfs.mounts import MountRecord

ANSWER_SECONDS_MAX: Final = 3.0

NOT_RUNNING: Final = "not running"
"""The state of a replica of this machine that has no process; one elsewhere that does not answer is silent."""


def status(
    directory: ClusterDirectory,
    client: ClientName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the tables.")] = False,
) -> None:
    """Tell how replicas and mounts are.

    It asks every replica, and says whether operations run or what they wait for.  A replica that does not answer
    within three seconds counts as silent.  If mounts or replicas have seen something that speaks against a replica,
    it says what, since when, and whether that is proof of a lie or may have an honest reason.

    \b
    Example:
      qunfs status c
      qunfs status c --json

    Exit codes: 0 told, whatever the state; 1 could not be told (one line says why), 2 wrong usage.
    """
    from qunfs import cluster, mounts
    from qunfs.cli.suspects import suspects, table

    loaded = cluster.load(directory)
    progress = Status()
    if progress.interactive:
        progress.show("asking the replicas")
    try:
        replicas = replica_rows(loaded, ask(loaded, client))
    finally:
        progress.clear()
    records, abandoned = mounts.running_and_abandoned(loaded)
    waiting = what_is_missing(loaded, replicas)
    suspected = suspects(loaded, records, replicas)
    for row in replicas:
        row.pop("suspects", None)  # which is as the replica made it
    if as_json:
        print(json.dumps(_as_object(loaded, replicas, records, abandoned, waiting, suspected), indent=2))
        return
    out = console()
    out.print(_table(replicas))
    answering = sum(row["state"] == "running" for row in replicas)
    answer = f"{answering} of {counted(loaded.n, 'replica')} answer{'s' if loaded.n == 1 else ''}"
    out.print(f"{answer}; operations " + (f"wait: {waiting}" if waiting else "run"))
    if any(row["state"] == NOT_RUNNING for row in replicas):
        out.print(f"start what does not run: qunfs up {shlex.quote(str(loaded.directory))}", soft_wrap=True)
    for record in records:
        out.print(
            f"{record.mountpoint} (process {record.pid}, {record.client}) {_doing(record, waiting)}", soft_wrap=True
        )
    for record in abandoned:
        point = Path(record.mountpoint)
        out.print(
            f"{point} (process {record.pid}, {record.client}) was killed; first: {mounts.ending(point)}", soft_wrap=True
        )
    if suspected:
        out.print(table(suspected))


def _doing(record: "MountRecord", waiting: str | None) -> str:
    """What a mount does, for its line."""
    if _is_detached(record):
        ends = "is detached and ends when the last program has left it"
        return f"{ends}; waits: {record.waiting}" if record.waiting else ends
    if record.waiting:
        return f"waits: {record.waiting}"
    return "works" if waiting is None else "would wait, too"


def _is_detached(record: "MountRecord") -> bool:
    """Whether a mount has left its mount point and serves those that still work in it."""
    from qunfs import mounts

    return mounts.filesystem_at(Path(record.mountpoint)) not in mounts.OURS


def ask(loaded: "Cluster", client: str | None) -> list[dict[str, Any] | None]:
    """What each replica says about itself, in order; None for one that does not answer in time."""
    import trio

    from qunfs.net.driver import open_client
    from qunfs.objects import REGISTRY

    answers: list[dict[str, Any] | None] = [None] * loaded.n

    async def run() -> None:
        async with open_client(loaded, client, REGISTRY) as core, trio.open_nursery() as nursery:

            async def one(server: int) -> None:
                with trio.move_on_after(ANSWER_SECONDS_MAX):
                    answers[server] = await core.server_status(server)

            for server in range(loaded.n):
                nursery.start_soon(one, server)

    trio.run(run)
    return answers


def replica_rows(loaded: "Cluster", answers: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """One row per replica: its place, process and state, and whatever it says about itself."""
    from qunfs.processes import replica_pid

    rows = []
    for server, answer in zip(loaded.servers, answers, strict=True):
        pid = replica_pid(loaded, server.index)
        silent = NOT_RUNNING if pid is None and loaded.is_here(server.index) else "silent"
        row = {"server": server.index, "address": f"{server.host}:{server.port}", "pid": pid}
        rows.append({**_sound(answer or {}), **row, "state": silent if answer is None else "running"})
    return rows


def _sound(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a replica says about itself, as far as it makes sense: it may lie, or be of another release.

    Figures are numbers, and ``suspects`` is left to who reads it.
    """
    sound: dict[str, Any] = {}
    for name, value in answer.items():
        is_figure = name == "uptime_s" or any(name in keys for keys in FIGURES.values())
        if isinstance(value, int | float):
            if math.isfinite(value) and (value >= 0 or not is_figure):
                sound[name] = value
        elif not is_figure and isinstance(value, str) and value.isprintable():
            sound[name] = value
    told = answer.get("suspects")
    return {**sound, "suspects": told} if isinstance(told, tuple | list) else sound


def what_is_missing(loaded: "Cluster", rows: Sequence[dict[str, Any]]) -> str | None:
    """What operations wait for, judged by who answers; None when a quorum does."""
    from qunfs.protocol.quorum import ThresholdQuorums, mask_of

    answering = mask_of([row["server"] for row in rows if row["state"] == "running"])
    needed = loaded.quorums.lacking(answering)
    if not needed:
        return None
    waiting = f"for {needed} of the replicas {_listed(loaded.quorums.helping(answering))}"
    if needed == 1 or isinstance(loaded.quorums, ThresholdQuorums):
        return waiting
    return f"{waiting}, such as {_listed(loaded.quorums.completion(answering))}"


def _listed(servers: Sequence[int]) -> str:
    return ", ".join(map(str, servers))


def _as_object(
    loaded: "Cluster",
    rows: Sequence[dict[str, Any]],
    records: "Sequence[MountRecord]",
    abandoned: "Sequence[MountRecord]",
    waiting: str | None,
    suspected: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    import dataclasses

    return {
        "directory": str(loaded.directory),
        "b": loaded.b,
        "t": loaded.t,
        "n": loaded.n,
        "quorum": waiting is None,
        "waiting": waiting,
        "replicas": list(rows),
        "suspects": list(suspected),
        "mounts": [{**dataclasses.asdict(record), "detached": _is_detached(record)} for record in records],
        "killed_mounts": [record.mountpoint for record in abandoned],
    }


FIGURES: Final = {
    "updates": ("method", "answered"),
    "queries": ("queries",),
    "repairs": ("barrier", "copy", "adopted"),
    "object syncs": ("syncs",),
}
"""What a replica's counters add up to, since it started."""


def figures(row: Mapping[str, Any]) -> dict[str, str]:
    """What a replica did since it started, by name; dashes when it does not answer."""
    if row["state"] != "running":
        return dict.fromkeys(FIGURES, "-")
    return {name: f"{sum(row.get(key, 0) for key in keys):,}" for name, keys in FIGURES.items()}


def _table(rows: Sequence[dict[str, Any]]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for name in ("replica", "address", "process", "state", "durability", "up"):
        table.add_column(name, overflow="fold")
    for name in FIGURES:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        known = ("server", "address", "pid", "state", "durability")
        cells = ["-" if row.get(key) is None else escape(str(row[key])) for key in known]
        style = None if row["state"] == "running" else "red"
        table.add_row(*cells, _duration(row.get("uptime_s")), *figures(row).values(), style=style)
    return table


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 86400:.1f} days"
