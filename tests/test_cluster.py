"""cluster.toml, keys and certificates on disk."""

import os
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from qunfs import cluster as cluster_package
from qunfs.cluster import Cluster, Genesis, create, load
from qunfs.cluster.file import text_of
from qunfs.net.tls import Peer, make_contexts
from qunfs.protocol.errors import LocalError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    return create(tmp_path_factory.mktemp("made") / "c", b=1, clients=["alice", "bob"])


@pytest.fixture
def copy(made: Cluster, tmp_path: Path) -> Cluster:
    """A cluster of the test's own to spoil."""
    shutil.copytree(made.directory, tmp_path / "copy")
    return load(tmp_path / "copy")


# Making


def test_what_is_made_is_what_is_loaded(tmp_path: Path) -> None:
    genesis = Genesis(uid=1000, gid=100, mode=0o1777, time_ns=1_234_567_890_123_456_789)
    addresses = [("10.0.0.1", 7000 + i) for i in range(12)]
    cluster = create(tmp_path / "deep" / "c", b=2, t=2, addresses=addresses, clients=2, genesis=genesis)
    assert load(str(tmp_path / "deep" / "c")) == cluster
    assert (cluster.b, cluster.t, cluster.n) == (2, 2, 12)
    assert [(server.index, server.host, server.port) for server in cluster.servers] == [
        (i, "10.0.0.1", 7000 + i) for i in range(12)
    ]
    assert [(client.index, client.name) for client in cluster.clients] == [(1, "client-1"), (2, "client-2")]
    assert cluster.genesis == genesis
    assert len(cluster.identity) == 16


def test_local_sockets_can_be_turned_off(made: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made.local_sockets
    assert made.local_directory(3) == made.directory / "servers" / "3"
    off = replace(made, local_sockets=False)
    assert off.local_directory(3) is None
    (tmp_path / "cluster.toml").write_text(text_of(off))
    assert load(tmp_path) == replace(off, directory=tmp_path)
    monkeypatch.setenv("QUNFS_TCP", "1")
    assert made.local_directory(3) is None


def test_defaults(tmp_path: Path) -> None:
    cluster = create(tmp_path)
    assert (cluster.b, cluster.t, cluster.n, cluster.quorums.q, cluster.quorums.r) == (1, 1, 6, 5, 3)
    assert [client.name for client in cluster.clients] == [f"client-{i}" for i in (1, 2, 3, 4)]
    client = cluster.client()
    assert (client.rights, client.squash) == ("rw", "none")
    assert client.uids == client.gids == (0, 2**32 - 2)
    assert (cluster.genesis.uid, cluster.genesis.gid, cluster.genesis.mode) == (os.getuid(), os.getgid(), 0o755)
    assert {server.host for server in cluster.servers} == {"127.0.0.1"}
    assert len({server.port for server in cluster.servers}) == 6
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for server in cluster.servers:
        assert server.port < max(ephemeral, 32768)
        with socket.create_server((server.host, server.port)):
            pass


def test_no_fault_tolerated_takes_one_server(tmp_path: Path) -> None:
    assert create(tmp_path, b=0, clients=1).n == 1


def test_private_files_are_private(made: Cluster) -> None:
    private = [made.directory / "servers" / "0", made.directory / "clients" / "bob"]
    for directory in private:
        assert directory.stat().st_mode & 0o777 == 0o700
        files = list(directory.iterdir())
        assert files
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (made.directory / "cluster.toml").stat().st_mode & 0o777 == 0o644
    public = (made.directory / "cluster.toml").read_text()
    assert "PRIVATE" not in public
    assert (made.directory / "servers" / "0" / "mac.key").read_text().strip() not in public


def test_an_existing_cluster_is_not_overwritten(copy: Cluster) -> None:
    with pytest.raises(LocalError, match="already holds a cluster"):
        create(copy.directory)
    assert load(copy.directory) == copy


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(LocalError, match="not empty; choose a new or empty directory"):
        create(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="file/c: Not a directory; choose a directory that you can write to"):
        create(tmp_path / "file" / "c")


def test_a_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cluster_package.making, "_create_client", full_disk)
    with pytest.raises(LocalError, match="No space left on device"):
        create(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"b": 2, "t": 1}, "b=2 malevolent servers cannot exceed t=1"),
        ({"b": 1, "addresses": [("h", 1)] * 5}, "5 servers are too few"),
        ({"b": 0, "addresses": [("h", 1), ("h", 1)]}, "same address"),
        ({"b": 0, "addresses": [("h", 0)]}, "h:0: give host:port"),
        ({"b": 0, "addresses": [("bad host", 1)]}, "give host:port"),
        ({"b": 13}, "66 servers are too many"),
        ({"clients": 0}, "needs 1 to 4096 clients"),
        ({"clients": ["a", "a"]}, "different names"),
        ({"clients": ["../up"]}, "client name '../up': use 1 to 64 letters"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(LocalError, match=re.escape(complaint)):
        create(tmp_path / "c", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


# Loading


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r"^format = 1", "format = 2", "format must be a whole number from 1 to 1"),
        (r"^identity = .*$", "", "identity must be 32 hex digits"),
        (r'^identity = ".', 'identity = "', "identity must be 32 hex digits"),
        (r"^b = 1", "b = true", "b must be a whole number"),
        (r"^b = 1", "b = 2", "b=2 malevolent servers cannot exceed t=1"),
        (r"^t = 1", "t = 2", "6 servers are too few for b=1, t=2"),
        (r"^\[genesis\]", "[other]", "genesis must be a table"),
        (r"^format = 1$", "format = 1\nlocal_sockets = 0", "local_sockets must be true or false"),
        (r"^mode = ", "local_sockets = false\nmode = ", "genesis.local_sockets must be at the top of the file"),
        (r"\Z", "local_sockets = false", "client[1].local_sockets must be at the top of the file"),
        (r"^mode = .*$", "mode = 0o10000", "genesis.mode must be a whole number"),
        (r"^uid = 0$", "uid = -1", "genesis.uid must be a whole number"),
        (r"^index = 5$", "index = 4", r"server[5].index must be a whole number from 5 to 5"),
        (r'^host = "127.0.0.1"$', 'host = "a b"', "server[0].host must be a host name or an address"),
        (r"^port = \d+$", 'port = "80"', "server[0].port must be a whole number"),
        (r'^mac_public = "..', 'mac_public = "zz', "server[0].mac_public must be 64 hex digits"),
        (r'^certificate = """\n-----', 'certificate = """\n----', "server[0].certificate must be a PEM certificate"),
        (r"^MII.{20}", "MIIAAAAAAAAAAAAAAAAAAAA", "server[0].certificate must be a PEM certificate"),
        (r'^name = "bob"', 'name = "alice"', "client[1].name must be unlike every other client's"),
        (r'^name = "bob"', 'name = ".."', "client[1].name must be 1 to 64 letters"),
        (r'^rights = "rw"', 'rights = "all"', 'client[0].rights must be one of "rw", "ro"'),
        (r'^squash = "none"', "squash = 0", "client[0].squash must be one of"),
        (r"^uids = .*$", "uids = [5, 4]", "client[0].uids must be [lowest, highest]"),
        (r"^gids = .*$", "gids = [0, 4294967295]", "client[0].gids must be [lowest, highest]"),
        (r"(?s)\[\[client\]\].*", "", "client must be given from 1 to 4096 times as [[client]]"),
        (r"\Z", "[", "not TOML"),
    ],
)
def test_bad_content_names_file_field_and_remedy(copy: Cluster, pattern: str, replacement: str, complaint: str) -> None:
    path = copy.directory / "cluster.toml"
    text, count = re.subn(pattern, lambda _: replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)
    with pytest.raises(LocalError, match=re.escape(f"{path}: {complaint}")):
        load(copy.directory)


def test_one_certificate_for_two_is_refused(copy: Cluster) -> None:
    path = copy.directory / "cluster.toml"
    certificates = re.findall(r'certificate = """.*?"""', path.read_text(), re.DOTALL)
    path.write_text(path.read_text().replace(certificates[1], certificates[0]))
    with pytest.raises(LocalError, match="same certificate"):
        load(copy.directory)


def test_two_servers_at_one_address_are_refused(copy: Cluster) -> None:
    path = copy.directory / "cluster.toml"
    first, second = copy.servers[0].port, copy.servers[1].port
    path.write_text(path.read_text().replace(f"port = {second}", f"port = {first}"))
    with pytest.raises(
        LocalError, match=rf"server\[1\].port must be free: another server already has 127.0.0.1:{first}"
    ):
        load(copy.directory)


def test_a_directory_without_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(
        LocalError, match="No such file or directory; name a cluster directory or make one with: qunfs init"
    ):
        load(tmp_path)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(LocalError, match="not TOML"):
        load(tmp_path)


def test_other_hosts_need_only_cluster_toml(made: Cluster, tmp_path: Path) -> None:
    shutil.copy(made.directory / "cluster.toml", tmp_path)
    elsewhere = load(tmp_path)
    assert elsewhere.servers == made.servers
    assert elsewhere.clients == made.clients
    with pytest.raises(LocalError, match=r"key\.pem: No such file or directory; copy it from where"):
        elsewhere.server_tls(0)


# Principals


def test_a_machine_has_the_servers_whose_directory_it_has_and_those_on_loopback(tmp_path: Path) -> None:
    hosts = ("127.0.0.2", "::1", "localhost", "10.0.0.1", "fe80::1%eth0", "elsewhere")
    cluster = create(tmp_path / "c", b=1, addresses=[(host, 9000) for host in hosts])
    assert [cluster.is_here(server) for server in range(6)] == [True] * 6
    shutil.rmtree(tmp_path / "c" / "servers")
    assert [cluster.is_here(server) for server in range(6)] == [True] * 3 + [False] * 3
    with pytest.raises(LocalError, match="no server 6"):
        cluster.is_here(6)


def test_a_machine_is_the_client_whose_directory_it_has(made: Cluster) -> None:
    clients = made.directory / "clients"
    assert made.client().name == "alice"
    (clients / "alice").rename(clients / "elsewhere")
    try:
        assert made.client().name == "bob"
    finally:
        (clients / "elsewhere").rename(clients / "alice")


def test_clients_by_name(made: Cluster) -> None:
    assert made.client().name == "alice"
    assert made.client("bob").index == 2
    with pytest.raises(LocalError, match="no client 'carol'; choose one of: alice, bob"):
        made.client("carol")
    with pytest.raises(LocalError, match="no client"):
        made.contents_directory("carol")


def test_directories(made: Cluster) -> None:
    assert made.data_directory(3) == made.directory / "servers" / "3" / "data"
    assert made.contents_directory("bob") == made.directory / "clients" / "bob" / "contents"
    assert made.run_directory == made.directory / "run"
    with pytest.raises(LocalError, match="no server 6; choose one from 0 to 5"):
        made.data_directory(6)


def test_identities_are_usable_and_pinned(made: Cluster) -> None:
    assert made.server_tls(2).peer == Peer("server", 2)
    assert made.client_tls("bob").peer == Peer("client", 2)
    for identity in (made.server_tls(2), made.client_tls()):
        make_contexts(identity, made.peers)
    assert made.peers.identify_untrusted(made.servers[4].certificate_der) == Peer("server", 4)
    assert made.peers.identify_untrusted(made.clients[0].certificate_der) == Peer("client", 1)


def test_a_certificate_that_is_not_the_pinned_one(copy: Cluster) -> None:
    servers = copy.directory / "servers"
    shutil.copy(servers / "1" / "cert.pem", servers / "0" / "cert.pem")
    with pytest.raises(LocalError, match=r"not the certificate of server 0 in cluster\.toml; restore the right one"):
        copy.server_tls(0)


def test_a_key_open_to_others_is_refused(copy: Cluster) -> None:
    key = copy.directory / "clients" / "alice" / "key.pem"
    key.chmod(0o640)
    with pytest.raises(LocalError, match=re.escape(f"{key}: open to other users; run: chmod 600 {key}")):
        copy.client_tls("alice")


# MAC keys


def test_pair_keys_are_shared_by_two_and_known_to_no_other(made: Cluster) -> None:
    keys = [made.pair_keys(i) for i in range(made.n)]
    for i in range(made.n):
        assert set(keys[i]) == set(range(made.n))
        for j in range(made.n):
            assert len(keys[i][j]) == 32
            assert keys[i][j] == keys[j][i]
    assert len({key for row in keys for key in row.values()}) == made.n * (made.n + 1) // 2


def test_pair_keys_are_bound_to_the_cluster(copy: Cluster) -> None:
    path = copy.directory / "cluster.toml"
    path.write_text(path.read_text().replace(copy.identity.hex(), bytes(16).hex()))
    assert load(copy.directory).pair_keys(0)[1] != copy.pair_keys(0)[1]


def test_a_public_key_of_small_order_is_refused(copy: Cluster) -> None:
    path = copy.directory / "cluster.toml"
    path.write_text(path.read_text().replace(copy.servers[3].mac_public.hex(), "00" * 32))
    with pytest.raises(LocalError, match=r"cluster\.toml: server\[3\]\.mac_public is no X25519 key"):
        load(copy.directory).pair_keys(0)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("00" * 32, "does not match server 0's mac_public"), ("xyz", "not 64 hexadecimal digits"), (None, "No such file")],
)
def test_a_bad_mac_key(copy: Cluster, content: str | None, complaint: str) -> None:
    path = copy.directory / "servers" / "0" / "mac.key"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(LocalError, match=complaint):
        copy.pair_keys(0)
