"""Operations that end together: what their tasks ask next leaves in one message for each server."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from qunfs.net.driver import QuClient
from qunfs.net.tls import TlsChannel
from qunfs.objects import REGISTRY
from qunfs.protocol.client import Client, Completion
from qunfs.protocol.operation import Call

TASKS, ROUNDS = 8, 50


class Echoes:
    """A client's protocol where each operation is one request to server 0 and its reply."""

    def __init__(self) -> None:
        self.rpc = SimpleNamespace(outgoing=[], counters={})
        self.completions: list[Completion] = []
        self.wall_ns = 0
        self._last = 0

    def submit_update(self, call: object, now: float) -> int:
        self._last += 1
        self.rpc.outgoing.append((0, b"%d" % self._last))
        return self._last

    def receive(self, server: int, payload: bytes, now: float) -> None:
        self.completions.append(Completion(int(payload), result=b"", error=None))

    def overdue(self, before: float) -> list[float]:
        return []

    def next_tick(self) -> None:
        return None

    def connected(self, server: int, now: float) -> None:
        """The driver tells."""

    disconnected = connected


@pytest.mark.pure
def test_tasks_that_are_answered_together_ask_together(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    seal = TlsChannel.seal

    def counted(self: TlsChannel, plaintext: bytes) -> bytes:
        sizes.append(len(plaintext))
        return seal(self, plaintext)

    servers = [bench.server(index) for index in range(bench.cluster.n)]
    servers[0].react = servers[0].echo
    entries = [
        dataclasses.replace(entry, host="127.0.0.1", port=bench.ports[server.peer])
        for entry, server in zip(bench.cluster.servers, servers, strict=True)
    ]
    client = QuClient(dataclasses.replace(bench.cluster, servers=tuple(entries)), None, REGISTRY)
    client._client = cast(Client, Echoes())
    call = cast(Call, None)

    async def loop() -> None:
        for _ in range(ROUNDS):
            await client.update(call)

    async def serve() -> None:
        while True:
            for server in servers:
                server.poll()
            await trio.sleep(0.001)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.pump)
            nursery.start_soon(serve)
            await client.first_connections(30.0)
            monkeypatch.setattr(TlsChannel, "seal", counted)
            async with trio.open_nursery() as loops:
                for _ in range(TASKS):
                    loops.start_soon(loop)
            nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    finally:
        client.close()
    # Were every request sent for itself, there would be TASKS * ROUNDS writes of them, and some replies.
    assert len(sizes) < TASKS * ROUNDS // 2
