"""The process of one replica."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qunfs.cli.output import log_to_standard_error


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """Which replica of which cluster to be, and how."""

    directory: Path
    server: int
    durability: Literal["sync", "async"] = "sync"
    accept_loss: bool = False


def read_back(words: Sequence[str]) -> ServeRequest | None:
    """The plain command line of "up" and of most people, understood without the parser; None for any other."""
    match words:
        case [directory, "--server", server, *rest] if not directory.startswith("-") and _is_number(server):
            where, number = Path(directory), int(server)
        case _:
            return None
    match rest:
        case []:
            return ServeRequest(where, number)
        case ["--durability", ("sync" | "async") as durability]:
            return ServeRequest(where, number, durability)
        case ["--durability", ("sync" | "async") as durability, "--accept-loss"]:
            return ServeRequest(where, number, durability, True)
    return None


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) < 10


def be_replica(request: ServeRequest) -> int:
    """Be a replica until SIGTERM or SIGINT; the exit code."""
    from qunfs import cluster, processes

    loaded = cluster.load(request.directory)
    loaded.data_directory(request.server)  # refuses a number that the cluster does not have
    with processes.registered(loaded, request.server):
        from server import service

        throttle = log_to_standard_error()
        try:
            return service.run(loaded, request.server, durability=request.durability, accept_loss=request.accept_loss)
        finally:
            throttle.tell(at_the_end=True)
