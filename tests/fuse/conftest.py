import errno
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuse.namespace import Namespace

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Mount:
    """A mount served by a process of its own."""

    path: Path
    contents: Path
    log: Path
    process: subprocess.Popen
    ready: bool = False
    ended: int | None = None

    def unmount(self) -> int:
        """Unmount from outside; the exit status of the process."""
        subprocess.run(["fusermount3", "-u", self.path], check=True)
        return self.wait()

    def wait(self) -> int:
        self.ended = self.process.wait(timeout=120)
        self.process.stdout.close()
        return self.ended

    def content_files(self) -> list[Path]:
        return [path for path in (self.contents / "data").rglob("*") if path.is_file()]

    def text(self) -> str:
        return self.log.read_text()


def is_mounted(path: Path) -> bool:
    table = Path("/proc/self/mounts").read_text(errors="replace")  # what others have mounted may be called anything
    return any(line.split()[1] == str(path) for line in table.splitlines())


class Mounter:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.mounts: list[Mount] = []

    def __call__(
        self, namespace: Namespace | None, name: str = "m", *options: str, contents: str | None = None
    ) -> Mount:
        path = self.base / name
        if not is_mounted(path):
            path.mkdir(exist_ok=True)
        log = self.base / f"{name}.log"
        command = [sys.executable, "-m", "tests.fuse.served", path, self.base / (contents or f"{name}.contents")]
        command += [] if namespace is None else [namespace.path]
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                [*command, *options], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        mount = Mount(path, Path(command[4]), log, process)
        self.mounts.append(mount)
        mount.ready = process.stdout.readline() == "ready\n"
        if not mount.ready:
            mount.wait()
        return mount

    def close(self) -> None:
        for mount in self.mounts:
            if mount.ended is None:
                if mount.process.poll() is None:
                    mount.process.terminate()
                mount.wait()
            if is_mounted(mount.path):
                subprocess.run(["fusermount3", "-uz", mount.path], check=True)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that other users get to: whenever it is started anew, pytest shuts its own to them."""
    with tempfile.TemporaryDirectory(prefix="qunfs-fuse-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def mounter(tmp_path: Path) -> Iterator[Mounter]:
    made = Mounter(tmp_path)
    yield made
    made.close()


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    made = Namespace(tmp_path / "namespace")
    yield made
    made.close()


@pytest.fixture
def mount(mounter: Mounter, namespace: Namespace) -> Iterator[Mount]:
    """A mount, and the proof that it logged nothing bad and ended well."""
    made = mounter(namespace)
    assert made.ready, made.text()
    yield made
    if made.ended is None:
        assert made.unmount() == 0
    assert "Traceback" not in made.text()
    assert not is_mounted(made.path)


@pytest.fixture
def m(mount: Mount) -> Path:
    return mount.path


def in_child(body: Callable[[], None]) -> None:
    """Run a function in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0


def as_user(uid: int, body: Callable[[], None], groups: tuple[int, ...] = ()) -> None:
    """Run a function as an unprivileged user."""

    def as_somebody_else() -> None:
        os.setgroups(groups)
        os.setgid(uid)
        os.setuid(uid)
        body()

    in_child(as_somebody_else)


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block must fail with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number says which
        yield
    assert caught.value.errno == code, f"expected {errno.errorcode[code]}, got {caught.value}"
