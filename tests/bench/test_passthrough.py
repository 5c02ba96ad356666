import os
from pathlib import Path

import pytest

from bench import mounted
from qunfs import mounts
from qunfs.protocol.errors import LocalError


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    source, mountpoint = tmp_path / "source", tmp_path / "mountpoint"
    source.mkdir()
    mountpoint.mkdir()
    return source, mountpoint


def test_what_is_done_there_is_done_to_the_directory(places: tuple[Path, Path]) -> None:
    source, mountpoint = places
    with mounted.passed_through(source, mountpoint, 0.0):
        (mountpoint / "d").mkdir(mode=0o700)
        file = mountpoint / "d" / "f"
        file.write_bytes(b"hello")
        with file.open("ab") as end:
            end.write(b", world")
        assert (source / "d" / "f").read_bytes() == file.read_bytes() == b"hello, world"
        os.truncate(file, 5)
        file.chmod(0o640)
        assert (source / "d" / "f").stat().st_size == 5
        assert (source / "d" / "f").stat().st_mode & 0o777 == 0o640
        assert sorted(os.listdir(mountpoint / "d")) == ["f"]
        file.unlink()
        (mountpoint / "d").rmdir()
        with pytest.raises(FileNotFoundError):
            file.read_bytes()
    assert list(source.iterdir()) == []
    assert mounts.filesystem_at(mountpoint) is None


def test_a_mount_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(LocalError, match="cannot be mounted"),
        mounted.passed_through(tmp_path, tmp_path / "absent", 1.0),
    ):
        pytest.fail("was mounted")
