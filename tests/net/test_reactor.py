"""The reactor: coalescing, bounds, ends of connections, wake-ups."""

import contextlib
import os
import resource
import select
import socket
import struct
import threading
from typing import Any

import pytest

from qunfs.net import reactor as reactor_module
from qunfs.net.connection import send_each
from qunfs.net.limits import NetworkLimits
from qunfs.net.tls import Peer, TlsChannel
from qunfs.protocol.errors import LocalError
from qunfs.protocol.limits import DEFAULT_LIMITS

FRAME_MAX = DEFAULT_LIMITS.frame_bytes_max


def wait_readable(*fds: int) -> None:
    for fd in fds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(30_000), "nothing arrives"


@pytest.fixture
def seals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all TLS writes from now on."""
    sizes: list[int] = []
    seal = TlsChannel.seal

    def counted(self: TlsChannel, plaintext: bytes) -> bytes:
        sizes.append(len(plaintext))
        return seal(self, plaintext)

    monkeypatch.setattr(TlsChannel, "seal", counted)
    return sizes


# Frames


@pytest.mark.pure
@pytest.mark.parametrize("bench", ["tcp"], indirect=True)
def test_frames_of_one_wakeup_come_in_one_call_and_answers_leave_in_one_write(bench: Any, seals: list[int]) -> None:
    server, client = bench.server(), bench.client()
    at_client, at_server = bench.connect(client, server)
    server.react = server.echo
    seals.clear()
    payloads = [bytes([i]) * 30 for i in range(50)]
    for payload in payloads:
        at_client.send(payload)
    client.reactor.flush()
    assert seals == [50 * 34]
    wait_readable(at_server._fd)
    server.poll()
    assert server.batches == [[(at_server, payload) for payload in payloads]]
    assert seals == [50 * 34] * 2
    bench.until(lambda: client.batches, client)
    assert client.payloads == payloads
    assert len(client.batches) == 1


@pytest.mark.pure
@pytest.mark.parametrize("bench", ["tcp"], indirect=True)
def test_frames_of_several_peers_come_in_one_call(bench: Any, seals: list[int]) -> None:
    server, clients = bench.server(), [bench.client(f"client-{i}") for i in (1, 2, 3)]
    ends = [bench.connect(client, server) for client in clients]
    server.react = server.echo
    for i, (at_client, _) in enumerate(ends):
        at_client.send(b"a%d" % i)
        at_client.send(b"b%d" % i)
        at_client.flush()
    wait_readable(*(at_server._fd for _, at_server in ends))
    seals.clear()
    server.poll()
    assert len(server.batches) == 1
    assert sorted(server.payloads) == [b"a0", b"a1", b"a2", b"b0", b"b1", b"b2"]
    assert seals == [12, 12, 12]
    bench.until(lambda: all(len(client.payloads) == 2 for client in clients), *clients)
    assert [client.payloads for client in clients] == [[b"a%d" % i, b"b%d" % i] for i in range(3)]


def test_payloads_for_several_peers_go_to_those_that_are_connected(bench: Any) -> None:
    client, servers = bench.client(), [bench.server(index) for index in (0, 1)]
    ends = {server.peer.index: bench.connect(client, server)[0] for server in servers}
    assert send_each(ends, [(0, b"a"), (1, b"b"), (0, b"c"), (2, b"d")]) == 0
    assert send_each(ends, [(2, b"e")]) == -1
    client.reactor.flush()
    bench.until(lambda: servers[0].payloads and servers[1].payloads, client, *servers)
    assert [server.payloads for server in servers] == [[b"a", b"c"], [b"b"]]


def test_a_frame_can_be_sent_in_parts(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    bench.connect(client, server)[0].send(b"body", b"", b"column")
    bench.until(lambda: server.payloads, client, server)
    assert server.payloads == [b"bodycolumn"]


def test_large_and_empty_frames_both_ways_in_order(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, at_server = bench.connect(client, server)
    server.react = server.echo
    payloads = [b"", os.urandom(FRAME_MAX), b"x", os.urandom(100_000), b"", os.urandom(FRAME_MAX), b"end"]
    for payload in payloads:
        at_client.send(payload)
    bench.until(lambda: len(client.payloads) == len(payloads), client, server)
    assert server.payloads == payloads
    assert client.payloads == payloads
    sent = sum(map(len, payloads))
    assert sent < at_client.bytes_out == at_server.bytes_in < sent * 1.01
    assert sent < at_server.bytes_out == at_client.bytes_in < sent * 1.01


def test_a_busy_peer_yields_to_the_others(bench: Any) -> None:
    server = bench.server(network=NetworkLimits(receive_bytes=4096, receive_bytes_per_wakeup_max=8192))
    client, other = bench.client("client-1"), bench.client("client-2")
    at_client, at_server = bench.connect(client, server)
    at_other, other_at_server = bench.connect(other, server)
    for _ in range(100):
        at_client.send(bytes(1000))
    at_other.send(b"me too")
    at_client.flush()
    at_other.flush()
    wait_readable(at_server._fd, other_at_server._fd)
    server.poll()
    assert b"me too" in server.payloads
    assert len(server.payloads) < 20
    bench.until(lambda: len(server.payloads) == 101, client, server)


def test_a_peer_has_no_more_turns_for_having_more_connections(bench: Any) -> None:
    server = bench.server(network=NetworkLimits(receive_bytes=20_000, receive_bytes_per_wakeup_max=16 * 20_000))
    client = bench.client("client-1")
    ends = [bench.connect(client, server) for _ in range(16)]
    for at_client, _ in ends:
        for _ in range(64):
            at_client.send(bytes(1000))
        at_client.flush()
    wait_readable(*(at_server._fd for _, at_server in ends))
    server.poll()
    assert 0 < len(server.payloads) <= 16 * 20
    bench.until(lambda: len(server.payloads) == 16 * 64, client, server)


def test_small_frames_are_taken_in_by_and_by(bench: Any) -> None:
    server = bench.server(network=NetworkLimits(receive_bytes=1024, frames_per_wakeup=100))
    at_client, at_server = bench.connect(client := bench.client(), server)
    for _ in range(10_000):
        at_client.send(b"")
    at_client.flush()
    wait_readable(at_server._fd)
    server.poll()
    assert 0 < len(server.payloads) <= 2 * 16 * 1024 // 4  # records are opened whole
    bench.until(lambda: len(server.payloads) == 10_000, client, server)


def test_a_peer_has_no_more_unsent_output_for_having_more_connections(bench: Any) -> None:
    server, client = bench.server(network=NetworkLimits(output_batch_bytes=64 * 1024)), bench.client()
    slow = [bench.connect(client, server)[1] for _ in range(8)]
    sent = 0
    while not slow[0].closed:
        assert sent < 40 * 1024 * 1024, "as much as for the only connection of a peer"
        slow[0].send(bytes(64 * 1024))
        sent += 64 * 1024
        server.poll()
    assert sent > 2 * FRAME_MAX
    assert not any(connection.closed for connection in slow[1:])


def test_too_large_a_frame_is_the_senders_own_error(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, _ = bench.connect(client, server)
    with pytest.raises(LocalError, match="exceeds the limit"):
        at_client.send(bytes(FRAME_MAX), b"x")
    at_client.send(b"goes on")
    bench.until(lambda: server.payloads, client, server)
    assert server.payloads == [b"goes on"]


# Peers that misbehave


@pytest.mark.parametrize("how", ["oversized frame", "garbage ciphertext", "truncated record"])
def test_malformed_input_costs_only_its_connection(bench: Any, how: str) -> None:
    server, client = bench.server(), bench.client("client-2")
    at_client, _ = bench.connect(client, server)
    raw = bench.raw(server, "client-1")
    assert raw.received == b"\0\0\0\x07qunfs 2"
    if how == "oversized frame":
        raw.send_plaintext(struct.pack(">I", FRAME_MAX + 1))
    elif how == "garbage ciphertext":
        raw.socket.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))
    else:
        raw.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    bench.until(lambda: server.closed and raw.hung_up, server, raw)
    assert [connection.peer for connection, _ in server.closed] == [Peer("client", 1)]
    server.react = server.echo
    at_client.send(b"still here")
    bench.until(lambda: client.payloads == [b"still here"], client, server)


def test_garbage_instead_of_tls_is_turned_away(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, _ = bench.connect(client, server)
    raw = bench.raw(server)
    raw.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    bench.until(lambda: raw.hung_up, server, raw)
    assert server.reactor.strangers_refused == 1
    assert not at_client.closed


@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_killed_inside_a_frame(bench: Any, reset: bool) -> None:
    server = bench.server()
    raw = bench.raw(server, "client-1")
    raw.send_plaintext(b"\0\0\0\x03one" + b"\0\0\0\x09half")
    bench.until(lambda: server.payloads, server)
    if reset:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()
    bench.until(lambda: server.closed, server)
    assert server.payloads == [b"one"]
    assert server.closed == [
        (server.connected[0], "lost: Connection reset by peer" if reset else "lost inside a frame")
    ]


def test_a_peer_that_does_not_read_is_closed_and_the_others_are_served(bench: Any) -> None:
    network = NetworkLimits(output_batch_bytes=64 * 1024, output_bytes_max=1024 * 1024)
    server, client = bench.server(network=network), bench.client("client-2")
    at_client, _ = bench.connect(client, server)
    bench.raw(server, "client-1")
    slow = server.connected[-1]
    sent = 0
    while not slow.closed:
        assert sent < 256 * 1024 * 1024, "unbounded"
        slow.send(bytes(64 * 1024))
        sent += 64 * 1024
        server.poll()
    bench.until(lambda: server.closed, server)
    assert "too slow" in server.closed[0][1]
    server.react = server.echo
    at_client.send(b"served")
    bench.until(lambda: client.payloads == [b"served"], client, server)


def test_a_peer_that_reads_late_gets_everything_in_order(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, at_server = bench.connect(client, server)
    count = 400
    for i in range(count):
        at_server.send(i.to_bytes(4, "big"), bytes(64 * 1024))
        server.poll()
    assert at_server._unsent is not None
    at_server.send(b"last")
    bench.until(lambda: len(client.payloads) == count + 1, client, server)
    assert [payload[:4] for payload in client.payloads] == [i.to_bytes(4, "big") for i in range(count)] + [b"last"]
    assert at_server._unsent is None
    assert not at_client.closed


# Handshakes


def test_half_open_handshakes_are_bounded_and_the_oldest_goes(bench: Any) -> None:
    server, client = bench.server(network=NetworkLimits(handshakes_inbound_max=3)), bench.client()
    silent = []
    for _ in range(5):
        silent.append(bench.raw(server))
        bench.until(lambda: len(server.reactor._inbound) + server.reactor.strangers_refused == len(silent), server)
    bench.until(lambda: silent[0].hung_up and silent[1].hung_up, *silent, server)
    assert [raw.hung_up for raw in silent] == [True, True, False, False, False]
    bench.connect(client, server)


def test_half_open_handshakes_time_out(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, _ = bench.connect(client, server)
    silent = bench.raw(server)
    silent.socket.sendall(b"\x16\x03\x01")
    bench.until(lambda: server.reactor._inbound, server)
    bench.now += 9.9
    server.poll()
    assert server.reactor._inbound
    bench.now += 0.2
    bench.until(lambda: silent.hung_up, server, silent)
    assert server.reactor.strangers_refused == 1
    assert not at_client.closed


def test_a_listener_that_never_answers_fails_the_dial_in_time(bench: Any) -> None:
    client = bench.client()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client.reactor.dial(Peer("server", 0), "127.0.0.1", port)
        client.poll()
        assert client.dial_failures == []
        bench.now += 11
        bench.until(lambda: client.dial_failures, client)
    assert client.dial_failures == [(Peer("server", 0), f"server 0 at 127.0.0.1:{port}: no answer within 10 s")]


def test_poll_returns_at_a_handshakes_deadline(bench: Any) -> None:
    client = bench.client()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.reactor.dial(Peer("server", 0), "127.0.0.1", listener.getsockname()[1])
        client.poll()
        bench.now += 11
        client.reactor.poll(-1)
    assert client.dial_failures


def test_many_handshakes_at_once(bench: Any) -> None:
    server, clients = bench.server(), [bench.client(f"client-{i % 3 + 1}") for i in range(30)]
    for client in clients:
        client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer])
    bench.until(lambda: all(client.connected for client in clients), *clients, server)
    assert len(server.connected) == 30
    assert not server.reactor._handshakes


# Dialling


def test_a_dead_port_fails_the_dial_and_dialling_again_connects(bench: Any) -> None:
    client = bench.client()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client.reactor.dial(Peer("server", 0), "127.0.0.1", port)
    bench.until(lambda: client.dial_failures, client)
    assert client.dial_failures == [(Peer("server", 0), f"server 0 at 127.0.0.1:{port}: Connection refused")]
    bench.connect(client, bench.server(0, port=port))


def test_reconnect_after_the_server_restarts(bench: Any) -> None:
    client, server = bench.client(), bench.server(0)
    bench.connect(client, server)
    port = bench.ports[server.peer]
    server.reactor.close()
    bench.until(lambda: client.closed, client)
    assert client.closed == [(client.connected[0], "closed by the peer")]
    again = bench.server(0, port=port)
    at_client, _ = bench.connect(client, again)
    at_client.send(b"hello again")
    bench.until(lambda: again.payloads == [b"hello again"], client, again)


def test_a_host_name_is_looked_up_beside_the_loop(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numeric look-ups fail for names; all addresses of a name are called in turn."""
    look_up, answered = reactor_module._look_up, threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as dead:
        dead_port = dead.getsockname()[1]

    def slow_look_up(host: str, port: int, flags: int) -> Any:
        if not flags:
            assert answered.wait(120)
            return look_up("127.0.0.1", dead_port, 0) + look_up("127.0.0.1", port, 0)
        return look_up(host, port, flags)

    monkeypatch.setattr(reactor_module, "_look_up", slow_look_up)
    server, client = bench.server(0), bench.client()
    client.reactor.dial(server.peer, "replica.example", bench.ports[server.peer])
    client.poll()
    assert client.calls == []
    answered.set()
    bench.until(lambda: client.connected, client, server)


def test_an_unknown_host_name_fails_the_dial(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_look_up(host: str, port: int, flags: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(reactor_module, "_look_up", no_look_up)
    client = bench.client()
    client.reactor.dial(Peer("server", 0), "nowhere.example", 1)
    bench.until(lambda: client.dial_failures, client)
    assert "cannot look up the name (Name or service not known)" in client.dial_failures[0][1]


def test_an_address_in_use_says_what_to_do(bench: Any) -> None:
    server = bench.server(0)
    port = bench.ports[server.peer]
    with pytest.raises(LocalError, match=rf"cannot listen on 127.0.0.1:{port}: the address is in use; stop what"):
        bench.server(1, port=port)


# Ends


def test_close_sends_what_is_queued_and_is_told_once(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, at_server = bench.connect(client, server)

    def answer_and_close(batch: list[tuple[Any, bytes]]) -> None:
        at_server.send(b"goodbye")
        at_server.close("had enough")
        at_server.close("twice")
        at_server.send(b"nobody hears this")

    server.react = answer_and_close
    at_client.send(b"hello")
    bench.until(lambda: client.closed and server.closed, client, server)
    assert client.payloads == [b"goodbye"]
    assert client.closed == [(at_client, "closed by the peer")]
    assert server.closed == [(at_server, "had enough")]
    assert client.calls == ["connected", "frames", "closed"]
    server.poll()
    assert server.calls == ["connected", "frames", "closed"]


def test_an_end_outside_poll_wakes_the_loop(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, _ = bench.connect(client, server)
    at_client.close("not needed")
    wait_readable(client.reactor.fileno())
    client.reactor.poll(-1)
    assert client.closed == [(at_client, "not needed")]


def test_a_failed_dial_inside_a_handler_is_told_in_the_next_wakeup(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that dials again at once must not starve the rest."""
    client = bench.client()
    monkeypatch.setattr(reactor_module, "_look_up", lambda host, port, flags: [])
    redial = client.on_dial_failed

    def on_dial_failed(peer: Peer, reason: str) -> None:
        redial(peer, reason)
        client.reactor.dial(peer, "", 0)

    monkeypatch.setattr(client, "on_dial_failed", on_dial_failed)
    client.reactor.dial(Peer("server", 0), "", 0)
    for count in (1, 2, 3):
        client.reactor.poll(-1)
        assert len(client.dial_failures) == count


# Wake-ups


def test_wake_from_a_thread_ends_an_endless_poll(bench: Any) -> None:
    client = bench.client()
    polling = threading.Thread(target=client.reactor.poll, args=(-1,), daemon=True)
    polling.start()
    client.reactor.wake()
    polling.join(30)
    assert not polling.is_alive()


def test_a_wake_before_poll_is_not_lost(bench: Any) -> None:
    client = bench.client()
    client.reactor.wake()
    client.reactor.wake()
    wait_readable(client.reactor.fileno())
    client.reactor.poll(-1)
    assert select.select([client.reactor.fileno()], [], [], 0)[0] == []


def test_wake_after_close_does_nothing(bench: Any) -> None:
    client = bench.client()
    client.reactor.close()
    client.reactor.wake()
    client.reactor.close()


def test_the_descriptor_is_readable_when_a_frame_arrives(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, _ = bench.connect(client, server)
    server.poll()
    assert select.select([server.reactor.fileno()], [], [], 0)[0] == []
    at_client.send(b"ding")
    client.reactor.flush()
    wait_readable(server.reactor.fileno())
    server.poll()
    assert server.payloads == [b"ding"]


def test_other_descriptors_are_watched_too(bench: Any) -> None:
    client = bench.client()
    end, other_end = os.pipe()
    heard: list[bytes] = []
    client.reactor.add_reader(end, lambda: heard.append(os.read(end, 100)))
    os.write(other_end, b"signal")
    client.reactor.poll(-1)
    assert heard == [b"signal"]
    client.reactor.remove_reader(end)
    os.write(other_end, b"more")
    client.poll()
    assert heard == [b"signal"]
    os.close(end)
    os.close(other_end)


def test_out_of_descriptors_callers_are_turned_away(bench: Any) -> None:
    server, client = bench.server(), bench.client()
    at_client, _ = bench.connect(client, server)
    raw = bench.raw(server)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        bench.until(lambda: raw.hung_up, server, raw)
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not at_client.closed
    bench.connect(bench.client("client-2"), server)
