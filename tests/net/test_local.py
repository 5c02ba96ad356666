"""Unix sockets: who is called there, what is believed there, and TCP in every other case."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qunfs.net.connection import Connection
from qunfs.net.frames import frame_header
from qunfs.net.handshake import _LOCAL_GREETING, _PLAIN
from qunfs.net.limits import NetworkLimits
from qunfs.net.local import NAME, LocalListener, call_locally, is_trusted
from qunfs.net.tls import TlsChannel, TlsIdentity, make_contexts
from qunfs.protocol.errors import LocalError
from qunfs.protocol.limits import DEFAULT_LIMITS
from tests.net.conftest import received_now, shake_hands

SOMEBODY = 12345
"""A user other than the tests'."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

pytestmark = pytest.mark.parametrize("bench", ["local"], indirect=True)


def frame(payload: bytes) -> bytes:
    return frame_header(len(payload), DEFAULT_LIMITS.frame_bytes_max) + payload


def bind_in(sock: socket.socket, directory: Path) -> None:
    """Bind a socket in a directory whose path may be too long for an address."""
    opened = os.open(directory, os.O_PATH)
    sock.bind(f"/proc/self/fd/{opened}/{NAME}")
    os.close(opened)


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that everybody can enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp(prefix="qunfs-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


class LocalCaller:
    """A caller under the test's control that is through with TLS and has been greeted."""

    def __init__(self, bench: Any, server: Any, name: str = "client-1") -> None:
        self.server, self.until = server, bench.until
        made = call_locally(bench.directory(server.peer))
        assert made is not None
        self.socket = made
        bench.stack.callback(made.close)
        self.channel = TlsChannel(
            make_contexts(bench.cluster.client_tls(name), bench.cluster.peers)[0], accepting=False
        )
        self.heard = b""
        self.hung_up = False
        self.through = self.channel.handshake_untrusted(b"")
        self.socket.sendall(self.channel.outgoing())
        self.until(lambda: self.heard or self.hung_up, self, server)

    def poll(self) -> None:
        data = received_now(self.socket)
        if data is None:
            return
        if not data:
            self.hung_up = True
        elif self.through:
            self.heard += self.channel.open_untrusted(data)
        else:
            self.through = self.channel.handshake_untrusted(data)
            self.socket.sendall(self.channel.outgoing())


def dial(bench: Any, client: Any, server: Any, directory: Path | None = None) -> Connection:
    """A connection to a server by whatever way the dial finds."""
    directory = directory or bench.directory(server.peer)
    client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], directory)
    bench.until(lambda: client.connected and server.connected, client, server)
    made: Connection = client.connected[-1]
    return made


# Frames


def test_what_passes_is_plain_and_counted(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, at_server = bench.connect(client, server)
    server.react = server.echo
    payloads = [b"", os.urandom(DEFAULT_LIMITS.frame_bytes_max), b"x" * 600]
    for payload in payloads:
        at_client.send(payload)
    bench.until(lambda: len(client.payloads) == 3, client, server)
    assert client.payloads == payloads
    expected = sum(4 + len(payload) for payload in payloads)
    assert [at_client.bytes_out, at_client.bytes_in, at_server.bytes_out, at_server.bytes_in] == [expected] * 4


def test_a_peer_that_is_lost_inside_a_frame_is_told_from_one_that_left(bench: Any) -> None:
    server = bench.server()
    for sent, reason in ((frame(b"whole"), "closed by the peer"), (frame(b"broken")[:-1], "lost inside a frame")):
        caller = LocalCaller(bench, server)
        caller.socket.sendall(caller.channel.seal(frame(_PLAIN)) + sent)
        caller.socket.close()
        server.closed.clear()
        bench.until(lambda: server.closed, server)
        assert server.closed[0][1] == reason
    assert server.payloads == [b"whole"]


def test_what_a_peer_said_before_it_left_is_heard_by_who_is_just_asking(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, at_server = bench.connect(client, server)
    at_server.send(b"the answer")
    at_server.close("shutting down")
    at_client.send(b"a question")
    client.reactor.flush()
    at_client.send(b"another")
    bench.until(lambda: client.closed, client, server)
    assert client.payloads == [b"the answer"]
    assert client.closed[0][1] == "closed by the peer"


# Who is called, and where


def test_an_address_that_cannot_be_had_leaves_nothing_in_the_directory(bench: Any, open_directory: Path) -> None:
    taken = bench.server()
    with pytest.raises(LocalError, match="in use"):
        bench.client().reactor.listen("127.0.0.1", bench.ports[taken.peer], open_directory)
    assert list(open_directory.iterdir()) == []


def test_a_server_that_does_not_listen_locally_is_called_by_tcp(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    assert not dial(bench, client, server, bench.local / "not there").local
    at_client = client.connected[0]
    at_client.send(b"by TCP")
    bench.until(lambda: server.payloads, client, server)


def test_both_transports_side_by_side(bench: Any) -> None:
    server, near, far = bench.server(), bench.client("client-1"), bench.client("client-2")
    at_near, near_at_server = bench.connect(near, server)
    far.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer])
    bench.until(lambda: far.connected and len(server.connected) == 2, far, server)
    assert [c.local for c in server.connected] == [True, False]
    server.react = server.echo
    at_near.send(b"near")
    far.connected[0].send(b"far")
    bench.until(lambda: near.payloads and far.payloads, near, far, server)
    assert (near.payloads, far.payloads) == ([b"near"], [b"far"])
    assert near_at_server.bytes_in == 8 < server.connected[1].bytes_in


def test_a_stale_socket_is_passed_over_and_then_replaced(bench: Any) -> None:
    server, client = bench.server(0), bench.client()
    directory = bench.directory(server.peer)
    (directory / NAME).unlink()
    with socket.socket(socket.AF_UNIX) as killed:
        bind_in(killed, directory)
        killed.listen()
    assert not dial(bench, client, server).local
    again = bench.server(0)
    assert dial(bench, bench.client("client-2"), again).local


def test_the_socket_goes_with_its_server_but_not_with_another(bench: Any) -> None:
    first, second = bench.server(0), bench.server(0)
    place = bench.directory(first.peer) / NAME
    first.reactor.close()
    assert place.is_socket()
    assert place.stat().st_mode & 0o777 == 0o600
    second.reactor.close()
    assert not os.listdir(place.parent)


def test_a_directory_with_a_long_name_will_do(bench: Any) -> None:
    bench.local = bench.local / ("x" * 200)
    bench.local.mkdir()
    bench.connect(bench.client(), bench.server())


def test_no_socket_in_a_directory_that_others_may_write(bench: Any, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    with pytest.raises(PermissionError):
        LocalListener(shared)
    client = bench.client()
    client.reactor.listen_locally(shared)  # which goes without
    assert not os.listdir(shared)
    server = bench.server()
    bench.directory(server.peer).chmod(0o702)
    assert not dial(bench, client, server).local


@needs_root
def test_a_directory_of_another_user_is_not_trusted(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    os.chown(bench.directory(server.peer), SOMEBODY, SOMEBODY)
    assert call_locally(bench.directory(server.peer)) is None
    assert not dial(bench, client, server).local


def test_a_link_to_a_directory_is_not_followed(bench: Any, tmp_path: Path) -> None:
    server, client = bench.server(), bench.client()
    (tmp_path / "link").symlink_to(bench.directory(server.peer))
    assert not dial(bench, client, server, tmp_path / "link").local


@needs_root
def test_a_listener_of_another_user_is_not_trusted(bench: Any, tmp_path: Path) -> None:
    server, client = bench.server(), bench.client()
    place = bench.directory(server.peer) / NAME
    place.unlink()
    with socket.socket(socket.AF_UNIX) as foreign:
        bind_in(foreign, place.parent)
        with somebody_else():
            foreign.listen()
        assert not dial(bench, client, server).local


@needs_root
def test_a_caller_who_is_another_user_is_turned_away(bench: Any, open_directory: Path) -> None:
    server = bench.server()
    server.reactor.listen_locally(open_directory)
    (open_directory / NAME).chmod(0o777)
    with socket.socket(socket.AF_UNIX) as caller:
        with somebody_else():
            caller.connect(str(open_directory / NAME))
        assert is_trusted(caller)  # the listener is root's
        bench.until(lambda: server.reactor.strangers_refused, server)
        with contextlib.suppress(ConnectionError):
            assert caller.recv(1) == b""


def test_a_listener_that_hangs_up_leaves_tcp(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    place = bench.directory(server.peer) / NAME
    place.unlink()
    with socket.socket(socket.AF_UNIX) as rude:
        bind_in(rude, place.parent)
        rude.listen()
        client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], place.parent)
        rude.accept()[0].close()
        bench.until(lambda: client.connected, client, server)
    assert not client.connected[0].local
    assert client.calls == ["connected"]


def test_neither_way_open_fails_the_dial_once(bench: Any) -> None:
    client = bench.client()
    server = bench.server()
    server.reactor.close()
    client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], bench.directory(server.peer))
    bench.until(lambda: client.dial_failures, client)
    assert [reason.endswith("Connection refused") for _, reason in client.dial_failures] == [True]


def test_a_listener_that_never_answers_fails_the_dial_in_time(bench: Any) -> None:
    client, server = bench.client(), bench.server()
    client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], bench.directory(server.peer))
    client.poll()
    bench.now += 11
    bench.until(lambda: client.dial_failures, client)
    assert client.dial_failures[0][1].endswith("no answer within 10 s")


def test_a_reactor_that_closes_calls_nobody(bench: Any) -> None:
    client, server = bench.client(), bench.server()
    client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], bench.directory(server.peer))
    client.reactor.close()
    assert not client.reactor._handshakes


# Who is believed, and when


def test_a_peer_that_hands_on_to_another_server_is_found_out(bench: Any) -> None:
    """Server 1 owns what the client calls and relays all of it to server 0."""
    victim, client = bench.server(0), bench.client()
    with relay(bench, bench.directory(victim.peer)) as (directory, pump):
        dialled = bench.cluster.server_tls(1).peer
        client.reactor.dial(dialled, "127.0.0.1", 1, directory)
        bench.until(lambda: client.dial_failures, client, victim, pump)
    assert client.connected == victim.connected == []
    bench.until(lambda: victim.reactor.strangers_refused, victim)


def test_a_relay_to_a_servers_tcp_port_is_found_out(bench: Any) -> None:
    """The server says through TLS how it was reached."""
    server, client = bench.server(0), bench.client()
    with relay(bench, None, bench.ports[server.peer]) as (directory, pump):
        client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], directory)
        bench.until(lambda: client.connected, client, server, pump)
    assert [c.local for c in client.connected] == [False]  # called again, without the relay
    assert server.batches == []


@pytest.mark.parametrize(
    "made",
    [
        lambda channel: frame(b"plain"),
        lambda channel: frame(_PLAIN),
        lambda channel: channel.seal(frame(b"through TLS")),
        lambda channel: channel.seal(frame(_PLAIN) + frame(b"more")),
        lambda channel: channel.seal(frame(_PLAIN) + b"\0"),
        lambda channel: channel.seal(frame(_PLAIN)[:-1]),
        lambda channel: channel.seal_end(),
    ],
    ids=["plain", "plain switch", "through TLS", "more", "inside a frame", "half a switch", "end"],
)  # fmt: skip
def test_nothing_is_believed_before_the_switch(bench: Any, made: Callable[[TlsChannel], bytes]) -> None:
    server = bench.server()
    caller = LocalCaller(bench, server)
    caller.socket.sendall(made(caller.channel) + frame(b"believe this"))
    bench.until(lambda: caller.hung_up, caller, server)
    assert server.connected == server.batches == []
    assert server.reactor.strangers_refused == 1


def test_plain_bytes_in_place_of_tls_are_refused(bench: Any) -> None:
    server = bench.server()
    sock = call_locally(bench.directory(server.peer))
    assert sock is not None
    with sock:
        sock.sendall(frame(_PLAIN) + frame(b"believe this"))
        bench.until(lambda: server.reactor.strangers_refused, server)
    assert server.connected == server.batches == []


@pytest.mark.parametrize("together", [True, False], ids=["at once", "byte by byte"])
def test_the_switch_and_what_follows_arrive_however_they_like(bench: Any, together: bool) -> None:
    server = bench.server()
    caller = LocalCaller(bench, server)
    stream = caller.channel.seal(frame(_PLAIN)) + frame(b"one") + frame(b"two" * 10_000) + frame(b"th")[:5]
    for piece in [stream] if together else [stream[i : i + 1] for i in range(200)] + [stream[200:]]:
        caller.socket.sendall(piece)
        server.poll()
    caller.socket.sendall(frame(b"th")[5:])
    bench.until(lambda: len(server.payloads) == 3, server)
    assert server.payloads == [b"one", b"two" * 10_000, b"th"]
    assert server.connected[0].local


def test_who_is_greeted_and_waits_counts_when_the_switch_comes(bench: Any) -> None:
    server = bench.server(0, NetworkLimits(connections_per_peer_max=1))
    callers = [LocalCaller(bench, server) for _ in range(2)]
    for caller in callers:
        caller.socket.sendall(caller.channel.seal(frame(_PLAIN)))
    bench.until(lambda: callers[1].hung_up, *callers, server)
    assert len(server.connected) == 1
    assert not callers[0].hung_up


@pytest.mark.parametrize("sealed", [True, False], ids=["through TLS", "plain"])
@pytest.mark.parametrize("early", [frame(b"believe this"), b"\x17\x03\x03\x40\x00partial"], ids=["frame", "record"])
def test_more_than_a_greeting_is_not_believed(bench: Any, sealed: bool, early: bytes) -> None:
    """An acceptor may send nothing before it has been told that what follows is plain."""
    server, client = bench.server(), bench.client()
    place = bench.directory(server.peer) / NAME
    place.unlink()
    tls: TlsIdentity = bench.cluster.server_tls(0)
    channel = TlsChannel(make_contexts(tls, bench.cluster.peers)[1], accepting=True)
    with socket.socket(socket.AF_UNIX) as listener:
        bind_in(listener, place.parent)
        listener.listen()
        client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer], place.parent)
        with listener.accept()[0] as accepted:
            shake_hands(accepted, channel, client)
            accepted.sendall(channel.seal(frame(_LOCAL_GREETING) + (early if sealed else b"")) + early)
            bench.until(lambda: client.connected, client, server)
    assert not client.connected[0].local
    assert client.batches == []


@contextlib.contextmanager
def relay(bench: Any, target: Path | None, port: int = 0) -> Iterator[tuple[Path, Any]]:
    """A directory whose socket hands bytes on, to a server's directory or its port, and what to poll for it."""
    directory: Path = bench.local / "relay"
    directory.mkdir(mode=0o700)

    class Pump:
        def __init__(self) -> None:
            self.ends: list[socket.socket] = []

        def poll(self) -> None:
            with contextlib.suppress(BlockingIOError):
                near, _ = listener.socket.accept()
                far = call_locally(target) if target is not None else socket.create_connection(("127.0.0.1", port))
                assert far is not None
                self.ends = [near, far]
                for end in self.ends:
                    end.setblocking(False)
            for source, sink in (self.ends, self.ends[::-1]) if self.ends else ():
                with contextlib.suppress(BlockingIOError, OSError):
                    data = source.recv(65536)
                    if data:
                        sink.sendall(data)
                    else:
                        sink.shutdown(socket.SHUT_WR)

    listener, pump = LocalListener(directory), Pump()
    try:
        yield directory, pump
    finally:
        listener.close()
        for end in pump.ends:
            end.close()
