"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Durability(StrEnum):
    """What an acknowledged operation survives."""

    SYNC = "sync"
    ASYNC = "async"


ClusterDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the cluster, made by: qunfs init")]

DurabilityOption = Annotated[
    Durability,
    typer.Option(help="sync: acknowledged operations survive a power cut; async: they survive killed processes."),
]

ClientName = Annotated[
    str | None,
    typer.Option(
        "--client", metavar="NAME", help="Client to appear as; by default the first whose keys this machine has."
    ),
]
