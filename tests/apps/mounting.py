"""A real cluster and a mount of it, made with the commands that users have."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

PATIENCE_S = 300.0
"""When to give up on a command: machines may be busy."""


def qunfs(*words: str | Path) -> None:
    """Run a command of qunfs that must succeed."""
    command = [sys.executable, "-m", "qunfs.cli.main", *map(str, words)]
    this_code = {**os.environ, "PYTHONPATH": os.fspath(REPOSITORY)}  # also in processes that leave the directory
    done = subprocess.run(command, env=this_code, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, f"{command}: {done.stderr}"


@dataclass(frozen=True)
class Places:
    """Where to compare: two directories whose names are equally long, and short, for some programs count bytes."""

    mount: Path
    plain: Path


@contextmanager
def mounted(faults: int = 1) -> Iterator[Places]:
    """A mount of a new cluster, and a plain directory beside it.

    At the end the mount must not be in use, and must not have logged an error.
    """
    with tempfile.TemporaryDirectory(prefix="qunfs-") as base:
        Path(base).chmod(0o755)  # other users must get there
        yield from _mounted(Path(base), faults)


def _mounted(base: Path, faults: int) -> Iterator[Places]:
    made, mountpoint, plain = base / "c", base / "m", base / "p"
    mountpoint.mkdir()
    plain.mkdir()
    qunfs("init", made, "-b", str(faults))
    lazily = ["-z"]
    try:
        qunfs("up", made, "--durability", "async")
        qunfs("mount", made, mountpoint)
        try:
            yield Places(mountpoint, plain)
            lazily = []
        finally:
            qunfs("umount", mountpoint, *lazily)
    finally:
        qunfs("down", made)
    (log,) = (made / "log").glob("mount-*.log")
    text = log.read_text()
    assert "Traceback" not in text, text
    assert "ERROR" not in text, text
