"""``qunfs serve``: run one replica."""

import sys
from typing import Annotated

import typer

from qunfs.cli.options import ClusterDirectory, Durability, DurabilityOption
from qunfs.cli.output import log_to_standard_error


def serve(
    directory: ClusterDirectory,
    server: Annotated[int, typer.Option("--server", min=0, metavar="I", help="Number of the replica, from 0.")],
    durability: DurabilityOption = Durability.SYNC,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Start although a power cut may have undone the newest operations.")
    ] = False,
) -> None:
    """Run one replica.

    It stays in the foreground until SIGTERM or Ctrl-C.  This is what "up" starts for each replica, and what to run
    on each machine of a cluster on several.

    \b
    Example:
      qunfs serve c --server 0

    Exit codes: 0 stopped on request, 1 could not start or had to stop (one line says why), 2 wrong usage.
    """
    from qunfs import cluster, processes

    loaded = cluster.load(directory)
    loaded.data_directory(server)  # refuses a number that the cluster does not have
    with processes.registered(loaded, server):
        from server import service

        throttle = log_to_standard_error()
        try:
            sys.exit(service.run(loaded.directory, server, durability=durability.value, accept_loss=accept_loss))
        finally:
            throttle.tell(at_the_end=True)
