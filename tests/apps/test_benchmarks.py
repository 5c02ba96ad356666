"""File system benchmarks on a mount, as exercise: what they measure does not matter here."""

import re
from pathlib import Path

from tests.apps.test_programs import needs, run

DBENCH_LOAD = Path("/usr/share/dbench/client.txt")


@needs("dbench")
def test_dbench(m: Path) -> None:
    said = run("dbench", "-t", "5", "-x", "-D", m, "-c", DBENCH_LOAD, "4")
    assert re.search(r"^Throughput \S+ MB/sec .* 4 procs", said, re.MULTILINE), said
    assert not re.search(r"fail|error|No such|denied", said.replace("failed to create barrier semaphore", "")), said


@needs("bonnie++")
def test_bonnie(m: Path) -> None:
    said = run("bonnie++", "-d", m, "-s", "0", "-n", "1", "-u", "root", "-q")
    latencies = said.strip().splitlines()[-1].split(",")[-6:]
    assert all(re.fullmatch(r"\d+(us|ms|s)", latency) for latency in latencies), said
    assert list(m.iterdir()) == []


@needs("fs_mark")
def test_fs_mark(m: Path) -> None:
    """Threads that write and sync files in subdirectories; then once more without keeping them."""
    sizes = ["-n", "50", "-s", "4096", "-t", "2", "-D", "4", "-N", "10"]
    said = run("fs_mark", "-d", "a", "-d", "b", *sizes, "-k", cwd=m)
    assert re.search(r"^\s+\d+\s+100\s+4096 ", said, re.MULTILINE), said
    files = [path for path in m.rglob("*") if path.is_file() and path.stat().st_size == 4096]
    assert len(files) == 100
    run("fs_mark", "-d", "c", "-d", "d", *sizes, "-S", "4", cwd=m)
    assert [path for path in (m / "c").rglob("*") if path.is_file()] == []
