"""A namespace that outlives the mounts on it: LocalQu behind a Unix socket, in a thread of the test process."""

import pickle
import socket
import struct
import threading
import time
from pathlib import Path

import trio

from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.protocol.operation import Answer, Call, Credentials
from tests.support.local_qu import LocalQu

_LENGTH = struct.Struct(">I")


class PlainLocalQu(LocalQu):
    """LocalQu by the real clock and without its re-issues, which cost time for every object there is."""

    async def update(self, call: Call) -> bytes:
        self.state.now = max(self.state.now, time.time_ns())
        return await super().update(call)

    def issue(self, operation) -> bytes:
        return self._issue_once(operation).answer

    def other_client(self, client: int = 2) -> "PlainLocalQu":
        other = PlainLocalQu(self.state.registry, state=self.state)
        other.client, other.session = client, bytes(15) + bytes((client,))
        return other


def new_core() -> PlainLocalQu:
    core = PlainLocalQu(REGISTRY, genesis_rows(0, 0, 0o755, time.time_ns()))
    core.state.now = time.time_ns()
    return core


async def _receive(stream: trio.SocketStream, buffer: bytearray, size: int) -> bytes:
    while len(buffer) < size:
        data = await stream.receive_some()
        if not data:
            raise EOFError
        buffer += data
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken


async def _receive_frame(stream: trio.SocketStream, buffer: bytearray):
    (length,) = _LENGTH.unpack(await _receive(stream, buffer, _LENGTH.size))
    return pickle.loads(await _receive(stream, buffer, length))  # noqa: S301 - both ends are this test


async def _send_frame(stream: trio.SocketStream, lock: trio.Lock, frame) -> None:
    data = pickle.dumps(frame)
    async with lock:
        await stream.send_all(_LENGTH.pack(len(data)) + data)


def _plain(call: Call) -> tuple:
    """A call as it is sent: a process that runs compiled code has another class of this name."""
    return (
        call.method,
        call.objects,
        call.argument,
        tuple(call.credentials),
        call.home,
        call.fresh,
        call.large,
        call.version,
    )


def _call(plain: tuple) -> Call:
    method, objects, argument, credentials, *rest = plain
    return Call(method, objects, argument, Credentials(*credentials), *rest)


class Namespace:
    """Serves any number of mounts, each as a client of its own; what they call can be looked at, and held up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.core = new_core()
        self.clients: list[PlainLocalQu] = []
        self._answers_only = False
        self._asked = self._answered = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), name="namespace")
        self._thread.start()
        self._started.wait()

    def calls(self) -> dict[str, int]:
        """How often each method ran for the newest mount."""
        return dict(self.clients[-1].methods)

    def hold(self, *, answers_only: bool = False) -> None:
        """From now on nobody gets an answer, as without a quorum; ``answers_only``: although updates take effect."""
        self._answers_only = answers_only
        trio.from_thread.run_sync(self._set_held, True, trio_token=self._token)

    def go_on(self) -> None:
        trio.from_thread.run_sync(self._set_held, False, trio_token=self._token)

    def asked(self) -> int:
        """How many calls have arrived."""
        return self._asked

    def answered(self) -> int:
        """How many calls have an answer, whether it was sent or not."""
        return self._answered

    def close(self) -> None:
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
        self._thread.join()

    def _set_held(self, held: bool) -> None:
        if held:
            self._going = trio.Event()
        else:
            self._going.set()

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._going = trio.Event()
        self._going.set()
        with socket.socket(socket.AF_UNIX) as raw:
            raw.bind(str(self.path))
            raw.listen()
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))
            with trio.CancelScope() as self._scope:
                self._started.set()
                await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        core = self.core.other_client(len(self.clients) + 2)
        self.clients.append(core)
        buffer, lock = bytearray(), trio.Lock()
        try:
            async with stream, trio.open_nursery() as nursery:
                while True:
                    number, kind, plain = await _receive_frame(stream, buffer)
                    calls = [_call(call) for call in plain]
                    nursery.start_soon(self._answer, core, stream, lock, number, kind, calls)
        except* (EOFError, trio.BrokenResourceError):
            pass

    async def _answer(self, core, stream, lock, number, kind, calls) -> None:
        self._asked += 1
        if not self._answers_only:
            await self._going.wait()
        got = await (core.query(*calls) if kind == "query" else core.update(*calls))
        self._answered += 1
        await self._going.wait()
        await _send_frame(stream, lock, (number, kind, [tuple(a) for a in got] if kind == "query" else got))


class RemoteQu:
    """The update core of a mount process: QueryUpdate by way of a Namespace."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._waiting: dict[int, tuple[trio.Event, list]] = {}
        self._number = 0

    async def receive(self) -> None:
        buffer = bytearray()
        while True:
            number, kind, got = await _receive_frame(self._stream, buffer)
            event, box = self._waiting.pop(number)
            box.append([Answer(*answer) for answer in got] if kind == "query" else got)
            event.set()

    async def query(self, *calls: Call) -> list[Answer]:
        return await self._ask("query", calls)

    async def update(self, call: Call) -> bytes:
        return await self._ask("update", (call,))

    async def _ask(self, kind, calls):
        self._number += 1
        number, event, box = self._number, trio.Event(), []
        self._waiting[number] = (event, box)
        await _send_frame(self._stream, self._lock, (number, kind, [_plain(call) for call in calls]))
        await event.wait()
        return box[0]
