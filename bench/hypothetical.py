"""Replicas and clients as they would be if something cost nothing, for the paper's Figure 5.

``python -m bench.hypothetical replica DIR --server I --assume KIND`` and ``... client KIND DIR``.  They replace parts
of the protocol, so both ends must run the pure Python code (QUNFS_PURE=1), and are of no use but to be measured.
"""

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qunfs import native
from qunfs.protocol.errors import LocalError, QunfsError


def _free_authenticators(mac_bytes: int) -> None:
    """MACs of so many bytes that nobody computes or checks; before any module that knows their size is imported."""
    from qunfs.protocol import authenticator

    class Free:
        """Everything is authentic."""

        def __init__(self, _server: int, pair_keys: Mapping[int, bytes]) -> None:
            self._tags = authenticator.Tags(b"\1" * (mac_bytes * len(pair_keys)), b"")

        def tags(self, _obj: int, _history: object) -> authenticator.Tags:
            """The same for every history."""
            return self._tags

        def invalid(self, _obj: int, _history: object, _mask: int, _macs: bytes) -> list[int]:
            """None."""
            return []

    replaced: Any = authenticator
    replaced.MAC_BYTES = mac_bytes
    replaced.Authenticator = Free


class _RandomOrder:
    """A preference that asks another quorum each time, and shows the histories of the one that was asked last."""

    def __init__(self, ordinary: Any, quorum: int) -> None:
        self._order, self._quorum = tuple(ordinary.to_ask), quorum

    @property
    def to_ask(self) -> tuple[int, ...]:
        self._order = tuple(random.sample(self._order, len(self._order)))
        return self._order

    @property
    def to_show(self) -> tuple[int, ...]:
        return self._order

    @property
    def view(self) -> int:
        return sum(1 << server for server in self._order[: self._quorum])


def _random_quorums() -> None:
    """A client without preferred quorums."""
    from qunfs.protocol.trust import Trust

    ordinary = Trust.preference
    orders: dict[tuple[int, int], Any] = {}

    def preference(self: Trust, obj: int) -> Any:
        known = orders.get((id(self), obj))
        if known is None:
            known = orders[id(self), obj] = _RandomOrder(ordinary(self, obj), self._quorums.q)
        return known

    replaced: Any = Trust
    replaced.preference = preference


ASSUMPTIONS: Final[Mapping[str, Callable[[], None]]] = {
    "nothing": lambda: None,
    "zero-cost-authenticators": lambda: _free_authenticators(16),
    "no-authenticators": lambda: _free_authenticators(1),
    "random-quorums": _random_quorums,
}
"""What can be assumed; a vector of no bytes at all would count as one that is missing, hence one byte."""


def assume(kind: str) -> None:
    """Make it so in this process.  Raises LocalError where compiled code could not be replaced."""
    if native.active():
        raise LocalError("what-if code runs as pure Python only: set QUNFS_PURE=1")
    ASSUMPTIONS[kind]()


def _replica(given: argparse.Namespace) -> int:
    import logging

    from qunfs import cluster, processes

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    assume(given.assume)
    loaded = cluster.load(given.directory)
    loaded.data_directory(given.server)
    with processes.registered(loaded, given.server):
        from server import service

        return service.run(loaded, given.server, durability=given.durability)


def _client(given: argparse.Namespace) -> int:
    assume(given.assume)
    from bench import counter_client

    return counter_client.main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a replica until SIGTERM, or a client process; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.hypothetical",
        description="Run a replica or a client as if something cost nothing.",
        epilog="Example: QUNFS_PURE=1 python -m bench.hypothetical replica c --server 0 --assume no-authenticators",
    )
    roles = parser.add_subparsers(dest="role", required=True)
    replica = roles.add_parser("replica", help="be a replica")
    replica.add_argument("directory", type=Path, metavar="DIR", help="the cluster's directory")
    replica.add_argument("--server", type=int, required=True, metavar="I", help="the replica's number")
    replica.add_argument("--durability", choices=("sync", "async"), default="async")
    replica.add_argument("--assume", choices=ASSUMPTIONS, default="nothing", help="what is different")
    client = roles.add_parser("client", help="be a client process of the counter benchmark")
    client.add_argument("assume", choices=ASSUMPTIONS, help="what is different")
    client.add_argument("directory", type=Path, metavar="DIR", help="where its log is")
    given = parser.parse_args(arguments)
    try:
        return _replica(given) if given.role == "replica" else _client(given)
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
