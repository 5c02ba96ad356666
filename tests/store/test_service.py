"""The service loop: what one peer sends in one wake-up costs the others neither memory nor the log."""

import logging
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from qunfs.net.tls import Peer
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.replica import Origin, Send
from server.service import REPLY_BYTES_AT_ONCE, Service

ORIGIN = Origin(False, 1, 1)


def service_with(step: Any) -> tuple[Any, Any]:
    """A service that hears of frames and nothing else, and its only connection."""
    connection = Mock(peer=Peer("client", 1), closed=False)
    made = Service.__new__(Service)
    made.__dict__.update(
        _replica=SimpleNamespace(step=step),
        _store=Mock(),
        _reactor=Mock(),
        _origins={connection: ORIGIN},
        _links={1: connection},
        _complained={},
        _batches=0,
        _frames=0,
    )
    return made, connection


def test_large_answers_leave_before_the_whole_wakeup_is_answered() -> None:
    large = bytes(REPLY_BYTES_AT_ONCE // 4)
    waiting = 0
    most = 0

    def step(*_arguments: object) -> list[Send]:
        nonlocal waiting, most
        waiting += len(large)
        most = max(most, waiting)
        return [Send(ORIGIN, -1, large)]

    def sent(payload: bytes) -> None:
        nonlocal waiting
        assert service._store.commit.called
        waiting -= len(payload)

    service, connection = service_with(step)
    connection.send.side_effect = sent
    service.on_frames([(connection, b"question")] * 100)
    assert connection.send.call_count == 100
    assert most <= 2 * REPLY_BYTES_AT_ONCE


def test_who_is_cut_off_for_not_reading_gets_no_more_answers() -> None:
    step = Mock(return_value=[Send(ORIGIN, -1, bytes(REPLY_BYTES_AT_ONCE // 4))])
    service, connection = service_with(step)

    def too_slow(_payload: bytes) -> None:
        connection.closed = True

    connection.send.side_effect = too_slow
    service.on_frames([(connection, b"question")] * 100)
    assert step.call_count < 10


def test_a_malformed_message_is_the_last_that_is_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    step = Mock(side_effect=MalformedMessage("nonsense"))
    service, connection = service_with(step)
    with caplog.at_level(logging.WARNING, "qunfs.server"):
        service.on_frames([(connection, b"?")] * 1000)
    assert step.call_count == 1
    assert len(caplog.records) == 1
    assert connection.close.call_count == 1


def test_who_calls_again_to_send_nonsense_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    service, _ = service_with(Mock(side_effect=MalformedMessage("nonsense")))
    with caplog.at_level(logging.WARNING, "qunfs.server"):
        for _ in range(100):
            again = Mock(peer=Peer("client", 1), closed=False)
            service._origins[again] = ORIGIN
            service.on_frames([(again, b"?")])
            assert again.close.called
    assert len(caplog.records) == 1
