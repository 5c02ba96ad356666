"""``qunfs up``: start the replicas that do not run."""

import shlex
from itertools import pairwise
from typing import Annotated

import typer

from qunfs.cli.options import ClusterDirectory, Durability, DurabilityOption
from qunfs.cli.output import Status, counted, say


def up(
    directory: ClusterDirectory,
    durability: DurabilityOption = Durability.SYNC,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Start replicas whose newest operations a power cut may have undone.")
    ] = False,
) -> None:
    """Start a cluster's replicas.

    It starts all of them on this machine and returns when each one listens.  Replicas that run are left alone, so it
    also brings back those that died.  Their logs are in DIR/log.  For a cluster on several machines there is "serve".

    \b
    Example:
      qunfs up c
      qunfs up c --durability async

    Exit codes: 0 all listen, 1 one did not start (its log's last line says why), 2 wrong usage.
    """
    from qunfs import cluster, processes

    loaded = cluster.load(directory)
    missing = [server.index for server in loaded.servers if processes.replica_pid(loaded, server.index) is None]
    started: list[int] = []
    status = Status()

    def on_listening(server: int) -> None:
        started.append(server)
        if status.interactive:
            status.show(f"{len(started)} of {len(missing)} replicas listen")

    arguments = ["--durability", durability.value, *(["--accept-loss"] if accept_loss else [])]
    try:
        processes.start_and_wait(loaded, missing, arguments, on_listening=on_listening)
    finally:
        status.clear()
    before = [server.index for server in loaded.servers if server.index not in missing]
    listen = f"{counted(loaded.n, 'replica')} listen{'s' if loaded.n == 1 else ''}"
    say(listen + (f", {len(before)} of them did before" if before else ""))
    for server in before:
        if not _runs_with(processes.arguments_of(processes.replica_pid(loaded, server) or 0), durability):
            say(
                f"replica {server} and perhaps others run with another --durability than {durability.value}; "
                f"to change that: qunfs down {shlex.quote(str(directory))}, and up again"
            )
            break


def _runs_with(arguments: list[str], durability: Durability) -> bool:
    """Whether a running replica was started with a durability; one that has just ended has no arguments."""
    given = [after for word, after in pairwise(arguments) if word == "--durability"]
    return not arguments or (given or [Durability.SYNC.value])[-1] == durability.value
