"""``qunfs serve``: run one replica."""

import sys
from typing import Annotated

import typer

from qunfs.cli.options import ClusterDirectory, Durability, DurabilityOption


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
    from qunfs.cli.serve_process import ServeRequest, be_replica

    sys.exit(be_replica(ServeRequest(directory, server, durability.value, accept_loss)))
