"""Who may talk to whom: both ends pin the other's certificate."""

import socket
import ssl
from typing import Any

import pytest

from qunfs.cluster import Cluster
from qunfs.net.frames import frame_header
from qunfs.net.limits import NetworkLimits
from qunfs.net.tls import Peer, PeerDirectory, TlsChannel, TlsIdentity, make_contexts
from qunfs.protocol.errors import LocalError, MalformedMessage
from qunfs.protocol.limits import DEFAULT_LIMITS
from tests.net.conftest import shake_hands


def test_both_ends_know_the_other(bench: Any) -> None:
    at_client, at_server = bench.connect(bench.client("client-2"), bench.server(3))
    assert at_client.peer == Peer("server", 3)
    assert at_server.peer == Peer("client", 2)


def test_servers_connect_to_servers(bench: Any) -> None:
    at_dialler, at_listener = bench.connect(bench.node(bench.cluster.server_tls(5)), bench.server(0))
    assert (at_dialler.peer, at_listener.peer) == (Peer("server", 0), Peer("server", 5))


def test_an_unknown_certificate_is_refused(bench: Any, other_cluster: Cluster) -> None:
    server = bench.server(0)
    known = PeerDirectory({Peer("server", 0): bench.cluster.servers[0].certificate_der})
    stranger = bench.node(other_cluster.client_tls(), peers=known)
    stranger.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer])
    bench.until(lambda: stranger.dial_failures and server.reactor.strangers_refused, stranger, server)
    assert "TLS: tlsv1 alert unknown ca" in stranger.dial_failures[0][1]
    assert stranger.connected == server.connected == server.closed == []


def test_a_certificate_signed_with_a_members_key_is_refused(bench: Any, tmp_path: Any) -> None:
    """A pinned certificate is no authority: what its key signs is a stranger's."""
    tls = _certificate_issued_by(bench.cluster.client_tls("client-1"), tmp_path)
    server, stranger = bench.server(0), bench.node(tls)
    stranger.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer])
    bench.until(lambda: stranger.dial_failures and server.reactor.strangers_refused, stranger, server)
    assert server.connected == []


def test_no_certificate_is_refused(bench: Any) -> None:
    server = bench.server(0)
    raw = bench.raw(server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw.channel = TlsChannel(context, accepting=False)
    raw._shake(b"")
    with pytest.raises(MalformedMessage, match="certificate required"):
        bench.until(lambda: raw.hung_up, raw, server)
    assert server.reactor.strangers_refused == 1
    assert server.connected == []


def test_older_tls_is_refused(bench: Any) -> None:
    server = bench.server(0)
    raw = bench.raw(server)
    context, _ = make_contexts(bench.cluster.client_tls(), bench.cluster.peers)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    raw.channel = TlsChannel(context, accepting=False)
    raw._shake(b"")
    with pytest.raises(MalformedMessage, match="protocol version"):
        bench.until(lambda: raw.hung_up, raw, server)
    assert server.connected == []


@pytest.mark.parametrize("impostor", ["server 1", "client 1"])
def test_another_principals_certificate_is_refused_when_dialled(bench: Any, impostor: str) -> None:
    cluster = bench.cluster
    tls = cluster.server_tls(1) if impostor == "server 1" else cluster.client_tls("client-1")
    liar, client = bench.node(tls), bench.client("client-2")
    port = liar.reactor.listen("127.0.0.1", 0)
    client.reactor.dial(Peer("server", 0), "127.0.0.1", port)
    bench.until(lambda: client.dial_failures and liar.reactor.strangers_refused, client, liar)
    assert client.dial_failures == [
        (Peer("server", 0), f"server 0 at 127.0.0.1:{port}: shows the certificate of {impostor}")
    ]
    assert liar.connected == client.connected == []


def test_a_server_of_another_release_is_called_that(bench: Any) -> None:
    client = bench.client()
    channel = TlsChannel(make_contexts(bench.cluster.server_tls(0), bench.cluster.peers)[1], accepting=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.reactor.dial(Peer("server", 0), *listener.getsockname())
        with listener.accept()[0] as accepted:
            shake_hands(accepted, channel, client)
            accepted.sendall(channel.seal(frame_header(7, DEFAULT_LIMITS.frame_bytes_max) + b"qunfs 1"))
            bench.until(lambda: client.dial_failures, client)
    assert "speaks another protocol (qunfs 1; this is qunfs 2)" in client.dial_failures[0][1]
    assert client.connected == []


def test_connections_per_peer_are_bounded(bench: Any) -> None:
    server, client = bench.server(0, NetworkLimits(connections_per_peer_max=2)), bench.client("client-1")
    first, _ = bench.connect(client, server)
    bench.connect(client, server)
    client.reactor.dial(server.peer, "127.0.0.1", bench.ports[server.peer])
    bench.until(lambda: client.dial_failures, client, server)
    assert "refuses us: too many connections of client 1" in client.dial_failures[0][1]
    first.close("make room")
    bench.until(lambda: server.closed, client, server)
    bench.connect(client, server)
    bench.connect(bench.client("client-2"), server)


def test_a_certificate_without_its_key_is_our_own_error(cluster: Cluster) -> None:
    one, two = cluster.server_tls(1), cluster.server_tls(2)
    with pytest.raises(LocalError, match="unusable as TLS certificate and key"):
        make_contexts(TlsIdentity(one.peer, one.certificate, two.key), cluster.peers)


def test_a_shared_certificate_is_our_own_error() -> None:
    with pytest.raises(LocalError, match="same certificate"):
        PeerDirectory({Peer("server", 0): b"x", Peer("client", 1): b"x"})


def _certificate_issued_by(issuer: TlsIdentity, directory: Any) -> TlsIdentity:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    authority = x509.load_pem_x509_certificate(issuer.certificate.read_bytes())
    issuer_key = load_pem_private_key(issuer.key.read_bytes(), None)
    assert isinstance(issuer_key, Ed25519PrivateKey)
    key = Ed25519PrivateKey.generate()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(authority.not_valid_before_utc)
        .not_valid_after(authority.not_valid_after_utc)
        .sign(issuer_key, None)
    )
    (directory / "cert.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (directory / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return TlsIdentity(issuer.peer, directory / "cert.pem", directory / "key.pem")
