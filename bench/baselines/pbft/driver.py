"""The baseline's client over the network: our own driver, with another protocol's client in it."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import trio

from bench.baselines.pbft import keys
from bench.baselines.pbft.core.client import NAME_BYTES, PbftClient
from bench.baselines.pbft.core.tuning import DEFAULT_TUNING, Tuning
from qunfs.cluster import Cluster
from qunfs.net.driver import QuClient
from qunfs.objects import REGISTRY
from qunfs.protocol.client import Client

CONNECT_S = 10.0


class PbftDriver(QuClient):
    """Operations for one client process; made by :func:`open_client` under trio.  Implements QueryUpdate."""

    def __init__(self, cluster: Cluster, name: str | None, tuning: Tuning = DEFAULT_TUNING) -> None:
        super().__init__(cluster, name, REGISTRY)
        principal = cluster.client(name)
        core = PbftClient(
            principal.index,
            os.urandom(NAME_BYTES),
            secrets.randbits(62),
            keys.faults_of(cluster),
            keys.client_macs(cluster, principal.name),
            tuning,
        )
        self._client = cast(Client, core)  # it has what the driver asks of one


@asynccontextmanager
async def open_client(
    cluster: Cluster, name: str | None = None, tuning: Tuning = DEFAULT_TUNING
) -> AsyncIterator[PbftDriver]:
    """A client of a cluster that :func:`keys.create` made, under one of its names (None: the first)."""
    client = PbftDriver(cluster, name, tuning)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.pump)
            await client.first_connections(CONNECT_S)
            yield client
            nursery.cancel_scope.cancel()
    finally:
        client.close()
