"""``qunfs up``: start the replicas that do not run."""

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import typer

from qunfs.cli.options import ClusterDirectory, Durability, DurabilityOption
from qunfs.cli.output import Status, counted, say
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from qunfs.cluster import Cluster


def up(
    directory: ClusterDirectory,
    durability: DurabilityOption = Durability.SYNC,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Start replicas whose newest operations a power cut may have undone.")
    ] = False,
) -> None:
    """Start a cluster's replicas.

    It starts those whose directory DIR/servers/I this machine has, which are all unless the cluster is on several
    machines, and returns when each one listens.  Replicas that run are left alone, so it also brings back those that
    died.  Their logs are in DIR/log.

    \b
    Example:
      qunfs up c
      qunfs up c --durability async

    Exit codes: 0 all of this machine listen, 1 one did not start (its log's last line says why) or none is of this
    machine, 2 wrong usage.
    """
    from qunfs import cluster, processes

    loaded = cluster.load(directory)
    running = [server for server in range(loaded.n) if processes.replica_pid(loaded, server) is not None]
    here = [server for server in range(loaded.n) if server in running or loaded.is_here(server)]
    if not here:
        raise LocalError(
            f"{loaded.directory}: no replica's keys are on this machine: bring its directory servers/I here, or use "
            "up on the machines that have them"
        )
    missing = [server for server in here if server not in running]
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
    listen = f"{counted(len(here), 'replica')} listen{'s' if len(here) == 1 else ''}"
    say(listen + (f", {len(running)} of them did before" if running else ""))
    _tell_of_others(loaded, [server for server in range(loaded.n) if server not in here])
    for server in running:
        if not _runs_with(processes.arguments_of(processes.replica_pid(loaded, server) or 0), durability):
            say(
                f"replica {server} and perhaps others run with another --durability than {durability.value}; "
                f"to change that: qunfs down {shlex.quote(str(directory))}, and up again"
            )
            break


def _tell_of_others(loaded: "Cluster", others: Sequence[int]) -> None:
    """Say which replicas are not this machine's, and how that is known."""
    if others:
        listed = f"replica{'s' if len(others) > 1 else ''} {', '.join(map(str, others))}"
        say(
            f"not started: {listed}, whose keys are not in {loaded.directory / 'servers'}; "
            f"on the machines that have them: qunfs up, or qunfs serve --server {others[0]}"
        )


def _runs_with(arguments: list[str], durability: Durability) -> bool:
    """Whether a running replica was started with a durability; one that has just ended has no arguments."""
    given = [after for word, after in pairwise(arguments) if word == "--durability"]
    return not arguments or (given or [Durability.SYNC.value])[-1] == durability.value
