"""Replicas start by the hundred: without the parser of the command line, and as if it had been there."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qunfs.cli import serve_process
from qunfs.cli.program import program
from qunfs.cli.serve_process import ServeRequest, read_back
from qunfs.cluster import Cluster

PLAIN = [
    "c --server 0",
    "/a/c --server 12",
    "c --server 1 --durability sync",
    "c --server 1 --durability async",
    "c --server 1 --durability sync --accept-loss",
    "c --server 007",
]


def as_parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> ServeRequest:
    asked: list[ServeRequest] = []

    def note(request: ServeRequest) -> int:
        asked.append(request)
        return 0

    monkeypatch.setattr(serve_process, "be_replica", note)
    done = CliRunner().invoke(program(["serve"]), ["serve", *words])
    assert done.exit_code == 0, done.output
    (request,) = asked
    return request


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_line_means_what_the_parser_makes_of_it(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    understood = read_back(line.split())
    assert understood is not None
    parsed = as_parsed(line.split(), monkeypatch)
    assert understood == parsed
    assert [type(value) for value in (understood.directory, understood.server)] == [type(Path()), int]


@pytest.mark.parametrize(
    "line",
    ["", "c", "--help", "c --help", "--server 0 c", "c --server", "c --server x", "c --server -1", "c --server=0",
     "-c --server 0", "c --server \u0663", "c --server 0 --durability perhaps", "c --server 0 --durability",
     "c --server 0 --accept-loss", "c --server 0 --durability async -h", "c d --server 0", "c --server 1_0",
     "c --server 0 --accept-loss --durability sync"],
)  # fmt: skip
def test_any_other_line_is_left_to_the_parser(line: str) -> None:
    assert read_back(line.split()) is None


def loaded_by(code: str, *words: str) -> set[str]:
    """The modules in a fresh process after it has run some code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


MAIN = """
from qunfs.cli.main import main
try:
    main()
except SystemExit:
    pass
"""
HEAVY = {"typer", "pydantic", "rich", "trio", "pyfuse3"}


def test_a_replica_loads_nothing_that_it_does_not_need(made: Cluster) -> None:
    loaded = loaded_by(f"{MAIN}\nimport server.service", "serve", str(made.directory), "--server", "99")
    assert {"qunfs.cluster", "server.service"} <= loaded
    assert not HEAVY & loaded


def test_a_command_loads_no_other(made: Cluster) -> None:
    loaded = loaded_by(MAIN, "down", str(made.directory))
    assert "qunfs.cli.down" in loaded
    assert not {"qunfs.cli.up", "qunfs.cli.mount", "qunfs.cli.bench", "trio", "pyfuse3", "matplotlib"} & loaded
