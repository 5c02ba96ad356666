"""cluster.toml: the text of a cluster, and reading it with complaints that say what to do."""

import re
import ssl
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from qunfs.cluster.model import CLIENTS_MAX, FILE_NAME, ID_MAX, Client, Cluster, Genesis, Rights, Server, Squash
from qunfs.paths import absolute
from qunfs.protocol.errors import LocalError
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.quorum import QuorumSystem, threshold
from qunfs.protocol.recursive_quorum import RecursiveThresholdQuorums, recursive_threshold

FORMAT: Final = 1
"""The version of cluster.toml's layout."""
LEVELS_MAX: Final = 3
_FAULTS_MAX: Final = 64

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE: Final = "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
_PEM: Final = re.compile(r"[\x20-\x7e\n]{1,16384}")


class _Table:
    """One table of cluster.toml, read field by field; every complaint names the file and the field."""

    def __init__(self, path: Path, where: str, fields: Any) -> None:
        self.path, self.where = path, where
        if not isinstance(fields, dict):
            raise LocalError(f"{path}: {where or 'the file'} must be a table")
        self._fields = cast("dict[str, Any]", fields)

    def error(self, field: str, must: str) -> LocalError:
        """A complaint about a field, to be raised."""
        name = f"{self.where}.{field}" if self.where else field
        return LocalError(f"{self.path}: {name} must be {must}; correct it or restore the file")

    def integer(self, field: str, low: int, high: int) -> int:
        value = self._fields.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(field, f"a whole number from {low} to {high}")
        return value

    def text(self, field: str, pattern: re.Pattern[str], must: str) -> str:
        value = self._fields.get(field)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.error(field, must)
        return value

    def quorums(self, n: int) -> QuorumSystem:
        """Of n servers: a threshold (b and t), or a recursive one (levels), never both."""
        if "levels" not in self._fields:
            return threshold(self.integer("b", 0, _FAULTS_MAX), self.integer("t", 0, _FAULTS_MAX), n)
        for field in ("b", "t"):
            if field in self._fields:
                raise self.error(field, "left out: levels say what is tolerated")
        value = self._fields["levels"]
        levels: list[tuple[int, int]] = []
        for level in value if isinstance(value, list) else ():
            match level:
                case [int(b), int(t)] if 0 <= b <= t <= _FAULTS_MAX and bool not in (type(b), type(t)):
                    levels.append((b, t))
        if not isinstance(value, list) or not 1 <= len(value) == len(levels) <= LEVELS_MAX:
            raise self.error("levels", f"1 to {LEVELS_MAX} pairs [b, t] with 0 <= b <= t <= {_FAULTS_MAX}")
        return recursive_threshold(levels, n)

    def choice(self, field: str, choices: Sequence[str]) -> str:
        value = self._fields.get(field)
        if value not in choices:
            raise self.error(field, "one of " + ", ".join(f'"{choice}"' for choice in choices))
        return cast(str, value)

    def hexadecimal(self, field: str, length: int) -> bytes:
        return bytes.fromhex(self.text(field, re.compile(f"[0-9a-f]{{{2 * length}}}"), f"{2 * length} hex digits"))

    def certificate(self, field: str) -> bytes:
        """A PEM certificate as DER."""
        pem = self.text(field, _PEM, "a PEM certificate")
        try:
            der = ssl.PEM_cert_to_DER_cert(pem)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
        except (ValueError, ssl.SSLError) as error:
            raise self.error(field, "a PEM certificate") from error
        return der

    def id_range(self, field: str) -> tuple[int, int]:
        value = self._fields.get(field)
        match value:
            case [int(low), int(high)] if 0 <= low <= high <= ID_MAX:
                return low, high
        raise self.error(field, f"[lowest, highest] with 0 <= lowest <= highest <= {ID_MAX}")

    def has(self, field: str) -> bool:
        return field in self._fields

    def boolean(self, field: str, default: bool) -> bool:
        """True or false; the default when it is left out."""
        value = self._fields.get(field, default)
        if not isinstance(value, bool):
            raise self.error(field, "true or false")
        return value

    def table(self, field: str) -> "_Table":
        return _Table(self.path, f"{self.where}.{field}" if self.where else field, self._fields.get(field))

    def tables(self, field: str, count_max: int) -> "list[_Table]":
        value = self._fields.get(field)
        if not isinstance(value, list) or not 1 <= len(value) <= count_max:
            raise self.error(field, f"given from 1 to {count_max} times as [[{field}]]")
        return [_Table(self.path, f"{field}[{i}]", entry) for i, entry in enumerate(value)]


def load(directory: Path | str) -> Cluster:
    """The cluster in a directory.  Raises LocalError naming file, field and remedy when something is wrong."""
    directory = absolute(Path(directory))
    path = directory / FILE_NAME
    try:
        top = _Table(path, "", tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}; name a cluster directory or make one with: qunfs init") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LocalError(f"{path}: not TOML ({error}); correct it or restore the file") from error
    top.integer("format", FORMAT, FORMAT)
    servers = _load_servers(top)
    try:
        quorums = top.quorums(len(servers))
    except LocalError as error:
        raise LocalError(f"{path}: {error}") from error
    root = top.table("genesis")
    cluster = Cluster(
        directory=directory,
        identity=top.hexadecimal("identity", 16),
        quorums=quorums,
        servers=servers,
        clients=_load_clients(top),
        genesis=Genesis(
            uid=root.integer("uid", 0, ID_MAX),
            gid=root.integer("gid", 0, ID_MAX),
            mode=root.integer("mode", 0, 0o7777),
            time_ns=root.integer("time_ns", 0, 2**63 - 1),
        ),
        local_sockets=_load_local_sockets(top),
    )
    try:
        _ = cluster.peers
    except LocalError as error:
        raise LocalError(f"{path}: {error}") from error
    return cluster


def _load_local_sockets(top: _Table) -> bool:
    """Whether Unix sockets are used; a line that TOML takes for part of a table would have no effect."""
    name = "local_sockets"
    for table in (
        top.table("genesis"),
        *top.tables("server", DEFAULT_LIMITS.servers_max),
        *top.tables("client", CLIENTS_MAX),
    ):
        if table.has(name):
            raise table.error(name, "at the top of the file, above [genesis]")
    return top.boolean(name, True)


def _load_servers(top: _Table) -> tuple[Server, ...]:
    servers: list[Server] = []
    for index, table in enumerate(top.tables("server", DEFAULT_LIMITS.servers_max)):
        server = Server(
            index=table.integer("index", index, index),
            host=table.text("host", HOST, "a host name or an address"),
            port=table.integer("port", 1, 65535),
            certificate_der=table.certificate("certificate"),
            mac_public=table.hexadecimal("mac_public", 32),
        )
        if any((server.host, server.port) == (other.host, other.port) for other in servers):
            raise table.error("port", f"free: another server already has {server.host}:{server.port}")
        servers.append(server)
    return tuple(servers)


def _load_clients(top: _Table) -> tuple[Client, ...]:
    clients: list[Client] = []
    for table in top.tables("client", CLIENTS_MAX):
        client = Client(
            index=table.integer("index", 1, 2**32 - 1),
            name=table.text("name", NAME, NAME_RULE),
            certificate_der=table.certificate("certificate"),
            rights=cast(Rights, table.choice("rights", ("rw", "ro"))),
            squash=cast(Squash, table.choice("squash", ("none", "root", "all"))),
            uids=table.id_range("uids"),
            gids=table.id_range("gids"),
        )
        if any(client.name == other.name or client.index == other.index for other in clients):
            raise table.error("name", "unlike every other client's, and so must be its index")
        clients.append(client)
    return tuple(clients)


def text_of(cluster: Cluster) -> str:
    """cluster.toml's text; :func:`load` reads it back."""
    lines = [
        "# A qunfs cluster: every server and client needs this file, and it must be the same everywhere.",
        f"format = {FORMAT}",
        f'identity = "{cluster.identity.hex()}"',
        *_quorum_lines(cluster.quorums),
        *([] if cluster.local_sockets else ["local_sockets = false"]),
        "",
        "# The root directory before the first operation.",
        "[genesis]",
        f"uid = {cluster.genesis.uid}",
        f"gid = {cluster.genesis.gid}",
        f"mode = 0o{cluster.genesis.mode:o}",
        f"time_ns = {cluster.genesis.time_ns}",
    ]
    for server in cluster.servers:
        lines += ["", "[[server]]", f"index = {server.index}", f'host = "{server.host}"', f"port = {server.port}"]
        lines += [f'mac_public = "{server.mac_public.hex()}"', _toml_certificate(server.certificate_der)]
    lines += [
        "",
        '# rights: "rw" or "ro"; squash: "none", "root" or "all"; uids and gids: [lowest, highest] it may act as.',
    ]
    for client in cluster.clients:
        lines += ["", "[[client]]", f"index = {client.index}", f'name = "{client.name}"']
        lines += [f'rights = "{client.rights}"', f'squash = "{client.squash}"']
        lines += [
            f"uids = {list(client.uids)}",
            f"gids = {list(client.gids)}",
            _toml_certificate(client.certificate_der),
        ]
    return "\n".join(lines) + "\n"


def _quorum_lines(quorums: QuorumSystem) -> list[str]:
    if not isinstance(quorums, RecursiveThresholdQuorums):
        lines = ["# b malevolent servers among t faulty ones are tolerated."]
        return [*lines, f"b = {quorums.b}", f"t = {quorums.t}"]
    levels: list[list[int]] = []
    system: QuorumSystem = quorums
    while isinstance(system, RecursiveThresholdQuorums):
        levels.append([system.outer.b, system.outer.t])
        system = system.groups[0]
    levels.append([system.b, system.t])
    return [
        "# Servers are divided into groups, in the order of their indices, and groups perhaps into smaller ones.",
        "# For each level, the outermost first: [malevolent, faulty] members that are tolerated.",
        f"levels = {levels}",
    ]


def _toml_certificate(der: bytes) -> str:
    return f'certificate = """\n{ssl.DER_cert_to_PEM_cert(der)}"""'
