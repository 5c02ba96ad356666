"""``qunfs init``: make a cluster."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from qunfs.cli.output import counted, say
from qunfs.protocol.errors import LocalError


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory for the cluster.")],
    malevolent: Annotated[int, typer.Option("-b", min=0, metavar="N", help="Malevolent replicas to tolerate.")] = 1,
    faulty: Annotated[
        int | None,
        typer.Option(
            "-t", min=0, metavar="N", help="Faulty replicas to tolerate, malevolent ones included; -b's value."
        ),
    ] = None,
    servers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,...", help="Where the replicas listen; free loopback ports by default."),
    ] = None,
    clients: Annotated[
        str, typer.Option(metavar="NAMES", help="How many clients, or their names with commas between them.")
    ] = "4",
) -> None:
    """Make a cluster.

    DIR gets cluster.toml, keys and certificates.  The cluster has 3t+2b+1 replicas unless --servers lists more.
    Private keys are readable by their owner alone.

    \b
    Example:
      qunfs init c -b 1
      qunfs init c -b 1 --servers a:9000,b:9000,c:9000,d:9000,e:9000,f:9000

    Exit codes: 0 made, 1 not made (DIR is in use, or the numbers make no cluster), 2 wrong usage.
    """
    from qunfs import cluster

    made = cluster.create(
        directory,
        b=malevolent,
        t=faulty,
        addresses=None if servers is None else parse_addresses(servers),
        clients=int(clients) if clients.isdecimal() else [name.strip() for name in clients.split(",")],
    )
    names = ", ".join(client.name for client in made.clients[:4]) + (", ..." if len(made.clients) > 4 else "")
    where = f"{made.servers[0].host}:{made.servers[0].port}" + (" and following" if made.n > 1 else "")
    say(f"{directory}: {counted(made.n, 'replica')} (b={made.b}, t={made.t}) at {where}; clients {names}")
    say(f"next: qunfs up {shlex.quote(str(directory))}")


def parse_addresses(text: str) -> list[tuple[str, int]]:
    """``host:port,host:port``, with IPv6 hosts in brackets.  Raises LocalError naming the wrong one."""
    addresses = []
    for part in text.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or not host or not port.isdecimal():
            raise LocalError(
                f"--servers: {part.strip()!r} is not HOST:PORT; give for example 10.0.0.1:9000,10.0.0.2:9000"
            )
        addresses.append((host.removeprefix("[").removesuffix("]"), int(port)))
    return addresses
