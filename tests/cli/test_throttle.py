import io
import logging
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from qunfs import cluster, processes
from qunfs.cli.throttle import LINES_MAX, Throttle
from tests.cli.test_end_to_end import done, qunfs

TIMES = 50
STRICT = "attr_timeout=0,entry_timeout=0"


class Throttled:
    """A throttle on a handler of this package's log, and what comes out; the clock is the test's."""

    def __init__(self) -> None:
        self.clock, self.out, self.log = 0.0, io.StringIO(), logging.getLogger("qunfs")
        self.throttle = Throttle(lambda: self.clock)
        self.handler = logging.StreamHandler(self.out)
        self.handler.addFilter(self.throttle)

    def write(self, at: float, text: str, *args: object) -> None:
        self.clock = at
        self.log.warning(text, *args)

    def tell(self, at: float) -> None:
        self.clock = at
        self.throttle.tell()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def throttled() -> Iterator[Throttled]:
    made = Throttled()
    made.log.addHandler(made.handler)
    yield made
    made.log.removeHandler(made.handler)


def test_a_line_comes_once_within_the_time_and_then_with_the_count(throttled: Throttled) -> None:
    for at in (0.0, 1.0, 9.9):
        throttled.write(at, "object %x", 16)
        throttled.write(at, "object %x", 17)
    assert throttled.lines == ["object 10", "object 11"]
    throttled.write(10.0, "object %x", 16)
    assert throttled.lines[2:] == ["object 10 (2 more like this)"]
    throttled.write(20.0, "object %x", 16)
    assert throttled.lines[3:] == ["object 10"]


def test_a_count_comes_out_when_the_cause_is_gone(throttled: Throttled) -> None:
    for _ in range(3):
        throttled.write(0.0, "100%")
    throttled.write(5.0, "other")
    throttled.tell(9.0)
    assert throttled.lines == ["100%", "other"]
    throttled.tell(10.0)
    throttled.tell(30.0)
    assert throttled.lines == ["100%", "other", "100% (2 more like this)"]
    for _ in range(2):
        throttled.write(31.0, "100%")
    throttled.throttle.tell(at_the_end=True)
    assert throttled.lines[3:] == ["100%", "100% (1 more like this)"]


def test_every_traceback_is_written(throttled: Throttled) -> None:
    for _ in range(3):
        try:
            math.sqrt(-1)
        except ValueError:
            throttled.log.exception("write failed")
    assert throttled.out.getvalue().count("Traceback") == 3


def test_it_remembers_a_bounded_number_of_lines(throttled: Throttled) -> None:
    for number in range(2 * LINES_MAX):
        throttled.write(0.0, "object %d", number)
    assert len(throttled.throttle._lines) == LINES_MAX
    assert len(throttled.lines) == 2 * LINES_MAX


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Two mounts of a cluster, the contents of the second on a small disk; and where their logs are."""
    small = tmp_path / "small"
    small.mkdir()
    done("init", tmp_path / "c", "-b", "0", "--clients", "2")
    made = cluster.load(tmp_path / "c")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    places = [tmp_path / "m1", tmp_path / "m2"]
    try:
        done("up", tmp_path / "c", "--durability", "async")
        for number, place in enumerate(places, 1):
            place.mkdir()
            contents = ["--contents", small / "contents"] if number == 2 else []
            done("mount", tmp_path / "c", place, "--client", f"client-{number}", "-o", STRICT, *contents)
        yield places[0], places[1], tmp_path / "c" / "log"
    finally:
        for place in places:
            qunfs("umount", "-z", place)
        processes.stop(made, range(made.n))
        subprocess.run(["umount", "-l", small], check=True)


def test_a_mount_says_once_that_its_disk_is_full_or_that_contents_are_elsewhere(two) -> None:
    one, other, logs = two
    (one / "f").write_bytes(b"of one")
    for _ in range(TIMES):
        with pytest.raises(OSError, match="Object is remote"):
            (other / "f").read_bytes()
    with (other / "g").open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(65536))
        for _ in range(TIMES):
            with pytest.raises(OSError, match="No space left"):
                file.write(bytes(65536))
        number = os.fstat(file.fileno()).st_ino
    done("umount", other)
    (text,) = [path.read_text() for path in logs.glob("mount-*m2.log")]
    for words in ("use it there", "No space left"):
        lines = [line for line in text.splitlines() if words in line]
        assert len(lines) == 2, text  # one when it began, one with the count when the mount ended
        assert f"({TIMES if words == 'No space left' else TIMES - 1} more like this)" in lines[1]
    assert f"contents of object {number:x}'" in text
