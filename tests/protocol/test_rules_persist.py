"""Persist before send: no history that is not yet durable may leave a server, not even in a FAIL reply."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from qunfs.protocol.errors import StorageError
from qunfs.protocol.replica import Origin, Send
from server.service import Service


@pytest.fixture
def done() -> list[str]:
    """What the service did, in order."""
    return []


@pytest.fixture
def service(done: list[str]) -> Any:
    """A service whose replica, store and connections only say when they were used."""
    origin, connection = Origin(False, 1, 1), Mock()
    connection.send.side_effect = lambda _payload: done.append("send")
    made = Service.__new__(Service)
    sends = [Send(origin, -1, b"reply"), Send(origin, -1, b"another")]

    def act(*_arguments: object) -> list[Send]:
        done.append("step")
        return sends

    made.__dict__.update(
        _replica=SimpleNamespace(step=act, tick=act),
        _store=SimpleNamespace(commit=lambda: done.append("commit")),
        _reactor=SimpleNamespace(flush=lambda: done.append("flush")),
        _origins={connection: origin},
        _links={1: connection},
        _batches=0,
        _frames=0,
        _last_tick=0.0,
        frames=[(connection, b"one"), (connection, b"two")],
    )
    return made


def test_a_batch_is_durable_before_any_of_it_is_answered(service: Any, done: list[str]) -> None:
    service.on_frames(service.frames)
    assert done == ["step", "step", "commit", *["send"] * 4, "flush"]


def test_what_time_brings_about_is_durable_before_it_is_told(service: Any, done: list[str]) -> None:
    service._tick()
    assert done == ["step", "commit", "send", "send", "flush"]


@pytest.mark.parametrize("what", ["on_frames", "_tick"])
def test_nothing_is_told_when_it_cannot_be_stored(service: Any, done: list[str], what: str) -> None:
    service._store.commit = Mock(side_effect=StorageError("disk full"))
    with pytest.raises(StorageError):
        service.on_frames(service.frames) if what == "on_frames" else service._tick()
    assert "send" not in done
