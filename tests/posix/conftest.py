"""Every test here runs twice with the same assertions: in a plain directory of the machine, and on a mount.

The mount is what users have: six replicas as processes, a client of theirs, the default options.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.posix.differences import DIFFERENCES

HERE: Final = Path(__file__).parent
PLAIN, MOUNT = "plain", "mount"
START_S: Final = 120

_numbers: Final = count()


def qunfs(*words: str | Path) -> None:
    """Run a command that must succeed."""
    command = [sys.executable, "-m", "qunfs.cli.main", *map(str, words)]
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False, timeout=START_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A directory that everybody may enter."""
    if os.geteuid() != 0:
        pytest.skip("acts as several users, which only root may")
    made = Path(tempfile.mkdtemp(prefix="qunfs-posix-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture(scope="session", params=[PLAIN, MOUNT])
def place(request: pytest.FixtureRequest, base: Path) -> Iterator[Path]:
    """Where the tests work; the mount has to end well and to have logged nothing bad."""
    number = next(_numbers)
    where = base / f"{request.param}{number}"
    where.mkdir()
    if request.param == PLAIN:
        yield where
        return
    cluster = base / f"cluster{number}"
    qunfs("init", cluster, "-b", "1")
    try:
        qunfs("up", cluster, "--durability", "async")
        qunfs("mount", cluster, where)
        try:
            yield where
        finally:
            qunfs("umount", where, "-z")
    finally:
        qunfs("down", cluster)
    said = "".join(log.read_text() for log in (cluster / "log").glob("mount-*.log"))
    assert "Traceback" not in said, said


@pytest.fixture(autouse=True)
def here(place: Path) -> Iterator[Path]:
    """The test's own directory, in which everybody may write; it is the working directory, and the umask is 022."""
    made = place / f"test{next(_numbers)}"
    made.mkdir()
    made.chmod(0o777)
    before, mask = os.getcwd(), os.umask(0o022)
    os.chdir(made)
    try:
        yield made
    finally:
        os.chdir(before)
        os.umask(mask)


def _on_the_mount(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.callspec.params["place"] == MOUNT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On the mount, what is listed as different must be different."""
    listed = {test: difference for difference in DIFFERENCES for test in difference.tests}
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == HERE and _on_the_mount(item):
            difference = listed.get((item.path.stem.removeprefix("test_"), item.originalname.removeprefix("test_")))
            if difference is not None:
                reason = f"{difference.here} {difference.reason}"
                item.add_marker(pytest.mark.xfail(strict=True, raises=(AssertionError, OSError), reason=reason))


@pytest.fixture
def program() -> Callable[[str], AbstractContextManager[None]]:
    """Makes a path a program that runs for the length of a block."""

    @contextmanager
    def running(path: str) -> Iterator[None]:
        if not os.path.exists(path):
            shutil.copy("/bin/sleep", path)
            os.chmod(path, 0o755)  # noqa: S103 - a program
        process = os.posix_spawn(path, [path, "100"], os.environ)
        try:
            yield
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

    return running
