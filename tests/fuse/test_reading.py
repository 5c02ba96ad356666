"""The wait for the kernel's next request, with a pipe for the kernel's device."""

import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from fuse_client import reading
from fuse_client.reading import ReadLock, RequestWait


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_the_lock_keeps_others_out_and_lets_all_of_them_in() -> None:
    lock, inside, most, entered = ReadLock(), 0, 0, 0

    async def enter() -> None:
        nonlocal inside, most, entered
        async with lock:
            inside += 1
            most = max(most, inside)
            await trio.lowlevel.checkpoint()
            inside -= 1
            entered += 1

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(enter)
    assert (most, entered) == (1, 10)


async def test_whoever_gives_the_lock_up_may_take_it_again() -> None:
    lock, order = ReadLock(), []

    async def other() -> None:
        async with lock:
            order.append("other")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            async with lock:
                nursery.start_soon(other)
                await trio.testing.wait_all_tasks_blocked()
            async with lock:
                order.append("again")
    assert order == ["again", "other"]


async def test_a_cancelled_wait_for_the_lock_leaves_it_usable() -> None:
    lock = ReadLock()
    async with lock:
        with trio.move_on_after(0.01):
            async with lock:
                raise AssertionError("two inside")
    with trio.fail_after(30):
        async with lock:
            pass


async def test_it_returns_once_for_each_request(pipe: tuple[int, int]) -> None:
    kernel = RequestWait(None)
    with trio.fail_after(30):
        for _ in range(100):
            os.write(pipe[1], b"x")
            await kernel.readable(pipe[0])
            assert os.read(pipe[0], 10) == b"x"


async def test_requests_in_a_row_do_not_keep_other_tasks_waiting(pipe: tuple[int, int]) -> None:
    kernel, turns = RequestWait(None), 0

    async def clock() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    os.write(pipe[1], b"x")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock)
            while turns < 5:
                await kernel.readable(pipe[0])
            nursery.cancel_scope.cancel()


async def test_the_other_descriptor_goes_first(pipe: tuple[int, int]) -> None:
    replies_read, replies_write = os.pipe()
    kernel, taken = RequestWait(replies_read), trio.Event()

    async def take_replies() -> None:
        await trio.lowlevel.wait_readable(replies_read)
        os.read(replies_read, 10)
        taken.set()

    os.write(pipe[1], b"x")
    with trio.fail_after(30):
        await kernel.readable(pipe[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_replies)
            await trio.testing.wait_all_tasks_blocked()
            os.write(replies_write, b"r")
            while not taken.is_set():
                await kernel.readable(pipe[0])
    os.close(replies_read)
    os.close(replies_write)


async def test_it_can_be_cancelled(pipe: tuple[int, int]) -> None:
    kernel = RequestWait(None)
    os.write(pipe[1], b"x")
    await kernel.readable(pipe[0])
    os.read(pipe[0], 10)
    with trio.move_on_after(0.05) as scope:
        await kernel.readable(pipe[0])
    assert scope.cancelled_caught


async def test_what_else_there_is_to_do_is_asked_once_in_a_row_of_requests(pipe, monkeypatch) -> None:
    asked = []

    def nothing() -> bool:
        asked.append(trio.lowlevel.current_task().name)
        return True

    async def read(times: int) -> None:
        for _ in range(times):
            await kernel.readable(pipe[0])

    monkeypatch.setattr(reading, "_nothing_else_to_do", nothing)
    monkeypatch.setattr(reading, "TURN_S", 60.0)
    kernel = RequestWait(None)
    os.write(pipe[1], b"x")
    with trio.fail_after(30):
        await read(1)
        assert len(asked) == 0, "trio comes first"
        await read(10)
        assert len(asked) == 1
        for reader in ("a", "b"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, 5, name=reader)
        await read(10)
    assert asked[1:3] == ["a", "b"]
    assert len(asked) == 4


async def test_after_a_wait_in_trio_it_is_asked_again(pipe, monkeypatch) -> None:
    answers = [True, False, True]
    monkeypatch.setattr(reading, "_nothing_else_to_do", lambda: answers.pop(0))
    monkeypatch.setattr(reading, "TURN_S", 60.0)
    kernel = RequestWait(None)
    os.write(pipe[1], b"x")
    with trio.fail_after(30):
        await kernel.readable(pipe[0])
        await kernel.readable(pipe[0])
        os.read(pipe[0], 10)
        with trio.move_on_after(0.05):
            await kernel.readable(pipe[0])
        assert len(answers) == 2, "nothing came, so trio waited"
        os.write(pipe[1], b"x")
        await kernel.readable(pipe[0])
        await kernel.readable(pipe[0])
    assert answers == []
