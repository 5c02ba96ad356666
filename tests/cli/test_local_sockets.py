"""Real replicas of one machine are reached at their Unix sockets, and by TCP where that is not to be."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from qunfs import cluster, processes
from qunfs.cli.status import ask
from qunfs.cluster import Cluster
from qunfs.cluster.model import TCP_ONLY
from qunfs.net.driver import open_client
from qunfs.net.local import NAME
from qunfs.objects import REGISTRY
from qunfs.objects.ids import COUNTER_TYPE
from qunfs.protocol.operation import Call, Credentials
from qunfs.protocol.packing import pack

PATIENCE_S = 120.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Cluster]:
    made = cluster.create(tmp_path / "c", b=1, clients=2)
    processes.start_and_wait(made, range(made.n), ["--durability", "async"])
    yield made
    processes.stop(made, range(made.n))


def local_of(made: Cluster) -> list[bool]:
    """Of each replica whether it is reached at its Unix socket, going by what it says."""
    answers = ask(made, "client-2")
    assert None not in answers
    return [answer["local_connections"] == answer["connections"] for answer in answers if answer is not None]


def socket_of(made: Cluster, server: int) -> Path:
    return made.data_directory(server).parent / NAME


def test_replicas_are_reached_at_their_sockets_until_they_stop(up: Cluster) -> None:
    assert local_of(up) == [True] * 6
    assert {socket_of(up, server).stat().st_mode & 0o777 for server in range(6)} == {0o600}
    processes.stop(up, range(6))
    assert not any(socket_of(up, server).exists() for server in range(6))


def test_who_may_not_come_near_comes_by_tcp(up: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    socket_of(up, 2).parent.chmod(0o770)
    socket_of(up, 3).unlink()
    assert local_of(up) == [True, True, False, False, True, True]
    assert local_of(replace(up, local_sockets=False)) == [False] * 6
    monkeypatch.setenv(TCP_ONLY, "1")
    assert local_of(up) == [False] * 6


def test_a_cluster_without_local_sockets(tmp_path: Path) -> None:
    made = cluster.create(tmp_path / "c", b=0, clients=2)
    path = made.directory / cluster.FILE_NAME
    path.write_text("local_sockets = false\n" + path.read_text())
    made = cluster.load(made.directory)
    processes.start_and_wait(made, [0])
    try:
        assert not socket_of(made, 0).exists()
        assert local_of(made) == [False]
    finally:
        processes.stop(made, [0])


def test_a_killed_replica_leaves_a_stale_socket_and_comes_back(up: Cluster) -> None:
    counter, credentials = 1 << 32, Credentials(os.getuid(), os.getgid())
    call = Call("counter.increment", ((counter, COUNTER_TYPE),), pack(None), credentials, home=counter)

    async def work() -> None:
        async with open_client(up, "client-1", REGISTRY) as core:
            counted = [await core.update(call)]
            for server in (0, 1):  # one at a time: five are a quorum
                processes.kill(up, server)
                assert socket_of(up, server).is_socket()
                counted.append(await core.update(call))
                processes.start_and_wait(up, [server], ["--durability", "async"])
                await core.server_status(server, PATIENCE_S)
            assert counted == [pack(count) for count in (1, 2, 3)]

    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            await work()

    trio.run(main)
    assert local_of(up) == [True] * 6
