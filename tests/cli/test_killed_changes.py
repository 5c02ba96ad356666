"""What a mount shows of changes that it gave up waiting for, when they took effect all the same."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_end_to_end import PATIENCE_S, done, eventually
from tests.cli.test_killed_while_waiting import OneReplica, waits


@pytest.fixture(scope="module")
def believing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneReplica]:
    """A mount that believes attributes and names for long."""
    made = OneReplica(tmp_path_factory.mktemp("one"))
    try:
        made.start()
        done("umount", made.m)
        done("mount", made.directory, made.m, "-o", "attr_timeout=1000,entry_timeout=1000")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def strict(believing: OneReplica, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Another mount, which believes nothing."""
    path = tmp_path_factory.mktemp("strict")
    done("mount", believing.directory, path, "--client", "client-2", "-o", "attr_timeout=0,entry_timeout=0")
    yield path
    done("umount", path, "-z")


CHANGES: dict[str, tuple[list[str], Callable[[Path], bool]]] = {
    "chmod": (["chmod", "604", "f"], lambda m: (m / "f").stat().st_mode & 0o777 == 0o604),
    "truncate": ([sys.executable, "-c", "import os; os.truncate('f', 3)"], lambda m: (m / "f").stat().st_size == 3),
    "ln": (["ln", "f", "other"], lambda m: (m / "f").stat().st_nlink == 2 and (m / "other").exists()),
    "rm": (["rm", "second"], lambda m: (m / "f").stat().st_nlink == 1 and not (m / "second").exists()),
    "mv": (["mv", "-T", "third", "second"], lambda m: (m / "f").stat().st_nlink == 1 and not (m / "third").exists()),
    "mkdir": (["mkdir", "d"], lambda m: (m / "d").is_dir()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_was_given_up_shows_if_it_took_effect(believing: OneReplica, strict: Path, change: str) -> None:
    m = believing.m / change
    m.mkdir()
    (m / "f").write_bytes(b"0123456789")
    if change in ("rm", "mv"):
        os.link(m / "f", m / "second")
        (m / "third").touch()
    for path in m.iterdir():
        path.stat()
    words, shows = CHANGES[change]
    assert not shows(m)
    believing.stop_answering()
    try:
        with subprocess.Popen(words, cwd=m) as program:
            eventually(lambda: waits(program))
            program.send_signal(signal.SIGKILL)
            assert program.wait(PATIENCE_S) == -signal.SIGKILL
    finally:
        believing.answer()
    (believing.m / f"after {change}").touch()  # the replica has had its chance
    assert shows(m) == shows(strict / change)
