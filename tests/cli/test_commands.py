import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qunfs import cluster
from qunfs.cli import main
from qunfs.cli.init import parse_addresses
from qunfs.cli.program import program
from qunfs.cli.status import replica_rows, what_is_missing
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError

BENCHMARKS = ("counter", "nfs", "postmark", "contention", "scale", "sync", "compare", "report")
COMMANDS = [
    *("init", "up", "down", "serve", "mount", "umount", "status", "fsck", "demo", "bench"),
    *(f"bench {name}" for name in BENCHMARKS),
]


@pytest.fixture
def qunfs(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the program in this process: exit code, standard output, standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qunfs", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        output, errors = capfd.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, output, errors

    return run


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example_and_the_exit_codes(command: str) -> None:
    words = [*command.split(), "--help"]
    done = CliRunner().invoke(program(words), words)
    assert done.exit_code == 0
    assert "Example:\n" in done.output
    assert "Exit codes: 0 " in done.output
    assert CliRunner().invoke(program([]), words).output == done.output, "it depends on which commands are loaded"


def test_init_makes_a_cluster_and_does_not_overwrite_it(
    qunfs: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, output, errors = qunfs("init", tmp_path / "c", "-b", "1")
    assert (code, output) == (0, "")
    assert "6 replicas (b=1, t=1)" in errors
    before = (tmp_path / "c" / "cluster.toml").read_bytes()
    code, _, errors = qunfs("init", tmp_path / "c", "-b", "1")
    assert code == 1
    assert errors.startswith("qunfs: ")
    assert len(errors.splitlines()) == 1
    assert (tmp_path / "c" / "cluster.toml").read_bytes() == before


def test_init_takes_sizes_addresses_and_names(qunfs: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    addresses = ",".join(f"10.0.0.{i}:9000" for i in range(1, 5))
    code, _, _ = qunfs("init", tmp_path / "c", "-b", "0", "-t", "1", "--servers", addresses, "--clients", "ann,bob")
    made = cluster.load(tmp_path / "c")
    assert (code, made.n, made.b, made.t) == (0, 4, 0, 1)
    assert [client.name for client in made.clients] == ["ann", "bob"]
    assert made.servers[3].host == "10.0.0.4"


def test_addresses_may_be_ipv6() -> None:
    assert parse_addresses("[::1]:9000, host.example:1") == [("::1", 9000), ("host.example", 1)]


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:x", "a:1,,b:1"])
def test_wrong_addresses_are_named(text: str) -> None:
    with pytest.raises(LocalError, match=r"--servers: .* is not HOST:PORT"):
        parse_addresses(text)


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_a_directory_without_a_cluster_gives_one_line(
    qunfs: Callable[..., tuple[int, str, str]], tmp_path: Path, command: str
) -> None:
    code, output, errors = qunfs(command, tmp_path)
    assert (code, output) == (1, "")
    assert errors.startswith(f"qunfs: {tmp_path}/cluster.toml: ")
    assert len(errors.splitlines()) == 1


def test_wrong_usage_is_code_2(qunfs: Callable[..., tuple[int, str, str]]) -> None:
    assert qunfs("up")[0] == 2
    assert qunfs("up", "c", "--durability", "perhaps")[0] == 2
    assert qunfs("nonsense")[0] == 2


def test_serve_refuses_a_number_that_the_cluster_does_not_have(
    qunfs: Callable[..., tuple[int, str, str]], made: Cluster
) -> None:
    code, _, errors = qunfs("serve", made.directory, "--server", "6")
    assert code == 1
    assert "no server 6; choose one from 0 to 5" in errors


def test_down_with_nothing_running_is_done(qunfs: Callable[..., tuple[int, str, str]], made: Cluster) -> None:
    assert qunfs("down", made.directory) == (0, "", "0 replicas stopped\n")


def test_mount_says_what_is_wrong_before_it_starts_anything(
    qunfs: Callable[..., tuple[int, str, str]], made: Cluster, tmp_path: Path
) -> None:
    code, _, errors = qunfs("mount", made.directory, tmp_path / "absent")
    assert code == 1
    assert "no such directory; make it with: mkdir -p" in errors
    code, _, errors = qunfs("mount", made.directory, tmp_path, "--client", "zoe")
    assert code == 1
    assert "choose one of: client-1, client-2" in errors
    code, _, errors = qunfs("mount", made.directory, tmp_path, "-o", "atr_timeout=1")
    assert code == 2
    assert "-o atr_timeout: unknown; the options are attr_timeout, entry_timeout, allow_other" in errors


def test_umount_of_an_ordinary_directory_says_so(qunfs: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, errors = qunfs("umount", tmp_path)
    assert code == 1
    assert "nothing is mounted there" in errors


def test_status_counts_who_answers(made: Cluster) -> None:
    answers: list[dict[str, object] | None] = [{"operations": 3, "durability": "sync"} for _ in range(6)]
    rows = replica_rows(made, answers)
    assert what_is_missing(made, rows) is None
    assert rows[0]["state"] == "running"
    assert rows[0]["operations"] == 3
    answers[2] = None
    assert what_is_missing(made, replica_rows(made, answers)) is None
    answers[4] = None
    rows = replica_rows(made, answers)
    assert rows[4]["state"] == "not running"
    assert what_is_missing(made, rows) == "for 1 of the replicas 2, 4"


def test_status_names_replicas_that_would_make_a_quorum(tmp_path: Path) -> None:
    """Of four groups of four, three in each of three: any replica of the right group, or such as would do together."""
    sites = cluster.create(tmp_path / "c", levels=[(0, 1), (0, 1)], clients=1)
    answers: list[dict[str, object] | None] = [{} for _ in range(16)]
    for server in (0, 1, 2, 4):
        answers[server] = None
    assert what_is_missing(sites, replica_rows(sites, answers)) is None
    answers[5] = None
    assert what_is_missing(sites, replica_rows(sites, answers)) == "for 1 of the replicas 4, 5"
    answers[8] = answers[9] = None
    assert what_is_missing(sites, replica_rows(sites, answers)) == "for 2 of the replicas 4, 5, 8, 9, such as 4, 8"


def test_bench_in_a_plain_directory_writes_json(qunfs: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, output, _ = qunfs(
        "bench", "postmark", "--directory", tmp_path, "--files", "20", "--transactions", "40", "--json", "-"
    )
    assert code == 0
    fields = json.loads(output)
    assert fields["transactions"] == 40
    assert fields["transactions_per_s"] > 0
    assert {"b", "n", "durability", "created", "read", "appended", "deleted", "creation_s"} <= fields.keys()
    assert list(tmp_path.iterdir()) == []


def test_bench_refuses_an_unwritable_json_file_before_it_runs(
    qunfs: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, errors = qunfs("bench", "postmark", "--directory", tmp_path, "--json", tmp_path / "no" / "file")
    assert code == 1
    assert errors.startswith(f"qunfs: {tmp_path}/no/file: ")
