"""Waits that begin awake."""

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from qunfs import eager


@pytest.fixture
def pipe() -> Iterator[tuple[select.poll, int, int]]:
    reader, writer = os.pipe()
    ready = select.poll()
    ready.register(reader, select.POLLIN)
    yield ready, reader, writer
    os.close(reader)
    os.close(writer)


def test_what_is_there_is_found_at_once(pipe: tuple[select.poll, int, int]) -> None:
    ready, reader, writer = pipe
    os.write(writer, b"x")
    assert eager.poll(ready, 0.0, 0.01) == [(reader, select.POLLIN)]


@pytest.mark.parametrize("awake_s", [0.0, 0.001, 10.0])
def test_the_time_ends(pipe: tuple[select.poll, int, int], awake_s: float) -> None:
    ready, _, _ = pipe
    began = time.monotonic()
    assert eager.poll(ready, 0.02, awake_s) == []
    assert time.monotonic() - began >= 0.019


@pytest.mark.parametrize("awake_s", [0.0, 10.0])
def test_what_comes_later_is_found_awake_or_asleep(pipe: tuple[select.poll, int, int], awake_s: float) -> None:
    ready, reader, writer = pipe
    later = threading.Timer(0.02, os.write, (writer, b"x"))
    later.start()
    assert eager.poll(ready, 30.0, awake_s) == [(reader, select.POLLIN)]
    later.join()
