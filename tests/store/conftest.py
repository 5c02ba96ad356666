import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qunfs.protocol.store import MemoryRows
from server.disk_rows import DiskRows

AnyRows = MemoryRows | DiskRows


class Medium:
    """Somewhere rows live, and die without warning."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.rows = self._open()

    def _open(self) -> AnyRows:
        if self.kind == "memory":
            return MemoryRows()
        if self.kind == "small":  # a checkpoint every few rows, and batches that the log has no room for
            return DiskRows(self.directory, "async", rows_max=5, journal_bytes=6_000)
        return DiskRows(self.directory, "sync" if self.kind == "sync" else "async")

    def crash(self) -> AnyRows:
        """The rows as a new process finds them."""
        if isinstance(self.rows, DiskRows):
            self.rows.close()
            self.rows = self._open()
        return self.rows

    def close(self) -> None:
        if isinstance(self.rows, DiskRows):
            self.rows.close()


@pytest.fixture(params=["memory", "sync", "async", "small"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Medium]:
    medium = Medium(request.param, tmp_path / "data")
    yield medium
    medium.close()


@pytest.fixture
def rows(medium: Medium) -> AnyRows:
    return medium.rows


@pytest.fixture
def medium_of() -> Callable[[str, Path], Medium]:
    return Medium


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none", disk]).returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
