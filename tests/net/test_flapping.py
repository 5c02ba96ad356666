"""A server that accepts calls and hangs up again costs its clients no more than one that cannot be reached."""

import math
from typing import Any
from unittest.mock import Mock

import pytest
import trio

from qunfs.net import driver
from qunfs.net.driver import REDIAL_FIRST_S, REDIAL_MAX_S, QuClient
from qunfs.net.tls import Peer
from qunfs.objects import REGISTRY


@pytest.fixture
def client(bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client whose clock stands still and whose calls go nowhere."""
    monkeypatch.setattr(driver.time, "monotonic", Mock(return_value=1000.0))

    async def make() -> QuClient:
        return QuClient(bench.cluster, None, REGISTRY)

    made = trio.run(make)
    monkeypatch.setattr(made, "_dial", Mock())
    yield made
    made.close()


def connection() -> Any:
    return Mock(peer=Peer("server", 0), fileno=lambda: 0, bytes_in=0, bytes_out=0)


def pass_time(seconds: float) -> None:
    driver.time.monotonic.return_value += seconds  # type: ignore[attr-defined]


def test_who_hangs_up_at_once_is_called_less_and_less_often(client: Any) -> None:
    waits = []
    for _ in range(10):
        there = connection()
        client.on_connected(there)
        client.on_closed(there, "lost")
        at, _ = client._redial[0]
        waits.append(at - driver.time.monotonic())
        pass_time(waits[-1])
        client._let_time_pass()
    assert waits[0] == pytest.approx(REDIAL_FIRST_S)
    assert waits[-1] == pytest.approx(REDIAL_MAX_S)


def test_who_was_there_for_a_while_is_called_again_at_once(client: Any) -> None:
    for _ in range(10):
        there = connection()
        client.on_connected(there)
        pass_time(60.0)
        client.on_closed(there, "lost")
        at, _ = client._redial[0]
        assert at - driver.time.monotonic() == pytest.approx(REDIAL_FIRST_S)
        pass_time(REDIAL_MAX_S)
        client._let_time_pass()


def test_nothing_is_due_for_a_server_that_is_connected(client: Any) -> None:
    """However long it stays: the pump sleeps until the next call is due."""
    there = connection()
    client.on_connected(there)
    client.on_closed(there, "lost")
    pass_time(REDIAL_MAX_S)
    client._let_time_pass()
    client.on_connected(connection())
    assert min((at for at, _ in client._redial.values()), default=math.inf) == math.inf
