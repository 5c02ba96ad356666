"""Three mounts of one cluster, each with an identity of its own, at work in the same directories at the same time.

Replicas and mounts are real processes.  The mounts believe nothing without asking, so that what they answer must be
what some order of all operations, one after the other, gives.
"""

import contextlib
import ctypes
import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from qunfs import cluster, mounts, processes

CLIENTS = 3
PATIENCE_S = 120.0
HANG_S = 400.0
RENAME_EXCHANGE = 2

ROUNDS = 12
DIRECTORIES = 20
MOVES = 80
"""Of each mount."""

STAY = 360
CHURN = 40

FROM_THE_KERNEL = ("ENOTEMPTY", "ESTALE", "ELOOP")
"""What the kernel answers by itself where it still has one of the directories, held open, at an old place."""

libc = ctypes.CDLL(None, use_errno=True)


def qunfs(*words: str | Path) -> None:
    command = [sys.executable, "-m", "qunfs.cli.main", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """The mount points of three clients."""
    base = tmp_path_factory.mktemp("many")
    qunfs("init", base / "c", "-b", "1", "--clients", str(CLIENTS))
    made, mountpoints = cluster.load(base / "c"), []
    try:
        qunfs("up", base / "c", "--durability", "async")
        for client in made.clients:
            mountpoint = base / client.name
            mountpoint.mkdir()
            qunfs("mount", base / "c", mountpoint, "--client", client.name, "-o", "attr_timeout=0,entry_timeout=0")
            mountpoints.append(mountpoint)
        yield mountpoints
        for log in (base / "c" / "log").glob("mount-*"):
            assert "Traceback" not in log.read_text()
    finally:
        for mountpoint in mountpoints:
            qunfs("umount", "-z", mountpoint)
        processes.stop(made, range(made.n))


@pytest.fixture
def places(three: list[Path], request: pytest.FixtureRequest) -> Iterator[list[Path]]:
    """A new directory as each mount sees it; system calls that hang end with the mounts, and the test fails."""
    made = cluster.load(three[0].parent / "c")
    watchdog = threading.Timer(HANG_S, lambda: [os.kill(record.pid, 9) for record in mounts.records(made)])
    watchdog.start()
    (three[0] / request.node.name).mkdir()
    yield [mountpoint / request.node.name for mountpoint in three]
    watchdog.cancel()


def at_once(bodies: list[Callable[[], object]]) -> list[object]:
    """Start all at the same moment; what each gives, or the errno that it fails with."""
    start = threading.Barrier(len(bodies))

    def run(body: Callable[[], object]) -> object:
        start.wait()
        try:
            return body()
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(run, bodies))


def test_exclusive_creation_has_one_winner(places: list[Path]) -> None:
    for number in range(ROUNDS):
        name = f"f{number}"

        def create(place: Path, name: str = name) -> object:
            os.close(os.open(place / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return "made"

        def make_directory(place: Path, name: str = name) -> object:
            (place / name).mkdir()
            return "made"

        body = make_directory if number % 3 == 2 else create
        outcomes = at_once([lambda place=place, body=body: body(place) for place in places])
        assert sorted(map(str, outcomes)) == ["EEXIST", "EEXIST", "made"]
        assert len({(place / name).stat().st_ino for place in places}) == 1
    assert [len(os.listdir(place)) for place in places] == [ROUNDS] * CLIENTS


def test_creation_without_exclusion_opens_the_same_file(places: list[Path]) -> None:
    for number in range(ROUNDS // 2):
        fds = at_once([lambda p=place, n=number: os.open(p / f"f{n}", os.O_CREAT | os.O_RDONLY) for place in places])
        assert all(isinstance(fd, int) for fd in fds), fds
        assert len({os.fstat(fd).st_ino for fd in fds}) == 1
        for fd in fds:
            os.close(fd)


def test_an_extended_attribute_is_created_once_and_then_replaced(places: list[Path]) -> None:
    (places[0] / "f").touch()
    for number in range(ROUNDS):

        def set_(place: Path, flag: int, number: int = number) -> object:
            os.setxattr(place / "f", f"user.{number}", str(place).encode(), flag)
            return "set"

        outcomes = at_once([lambda place=place: set_(place, os.XATTR_CREATE) for place in places])
        assert sorted(map(str, outcomes)) == ["EEXIST", "EEXIST", "set"]
        winner = str(places[outcomes.index("set")]).encode()
        assert [os.getxattr(place / "f", f"user.{number}") for place in places] == [winner] * CLIENTS
        gone = lambda place=places[0], number=number: os.removexattr(place / "f", f"user.{number}")  # noqa: E731
        outcomes = at_once([gone, lambda: set_(places[1], os.XATTR_REPLACE)])
        assert outcomes[0] is None
        left = f"user.{number}" in os.listxattr(places[2] / "f")
        assert (outcomes[1], left) in (("set", False), ("ENODATA", False))


def test_a_name_is_taken_away_once(places: list[Path]) -> None:
    for number in range(ROUNDS):
        source = f"f{number}"
        (places[0] / source).touch()
        inode = (places[0] / source).stat().st_ino
        moves = [
            lambda p=place, s=source, to=f"to{number}.{i}": os.rename(p / s, p / to) for i, place in enumerate(places)
        ]
        if number % 2:
            moves[0] = lambda p=places[0], s=source: os.unlink(p / s)
        outcomes = at_once(moves)
        assert sorted(map(str, outcomes)) == ["ENOENT", "ENOENT", "None"]
        left = [name for name in os.listdir(places[1]) if name.startswith(f"to{number}.") or name == source]
        if number % 2 and outcomes[0] is None:
            assert left == []
        else:
            assert left == [f"to{number}.{outcomes.index(None)}"]
            assert (places[2] / left[0]).stat().st_ino == inode


def test_renames_onto_one_name_leave_one_of_them(places: list[Path]) -> None:
    for _ in range(ROUNDS):
        inodes = []
        for i, place in enumerate(places):
            (place / f"from{i}").touch()
            inodes.append((place / f"from{i}").stat().st_ino)
        outcomes = at_once([lambda p=p, i=i: os.replace(p / f"from{i}", p / "to") for i, p in enumerate(places)])
        assert outcomes == [None] * CLIENTS
        assert [os.listdir(place) for place in places] == [["to"]] * CLIENTS
        assert (places[0] / "to").stat().st_ino in inodes
        assert (places[0] / "to").stat().st_nlink == 1


def test_a_directory_is_removed_or_filled(places: list[Path]) -> None:
    seen = Counter[str]()
    for number in range(ROUNDS):
        directory = f"d{number}"
        (places[0] / directory).mkdir()
        for place in places:
            os.listdir(place / directory)
        removed, made, linked = at_once(
            [
                lambda d=directory: (places[0] / d).rmdir(),
                lambda d=directory: (places[1] / d / "sub").mkdir(),
                lambda d=directory: (places[2] / d / "file").touch(),
            ]
        )
        left = sorted(os.listdir(places[1] / directory)) if (places[1] / directory).exists() else None
        seen["removed" if removed is None else str(removed)] += 1
        if removed is None:
            assert left is None
            assert {made, linked} <= {"ENOENT", "ESTALE"}
        else:
            assert removed == "ENOTEMPTY"
            assert left == [name for name, outcome in (("file", linked), ("sub", made)) if outcome is None]
            assert left
    assert places[0].stat().st_nlink == 2 + sum(p.is_dir() for p in places[0].iterdir())
    assert sum(seen.values()) == ROUNDS


def test_listings_while_others_create_remove_and_rename(places: list[Path]) -> None:
    """Several pages of READDIR and of the kernel's own: what stays is shown once, whatever becomes of the rest."""
    stay = {f"stay{i:03}".ljust(200, "-") for i in range(STAY)}
    churning = [f"go{i}".ljust(200, "-") for i in range(CHURN)]
    each = [sorted(stay)[i::CLIENTS] + churning[i::CLIENTS] for i in range(CLIENTS)]
    at_once([lambda p=p, names=names: [(p / n).mkdir() for n in names] for p, names in zip(places, each, strict=True)])
    assert set(os.listdir(places[0])) == stay | set(churning)
    stop, changes = threading.Event(), count()

    def churn() -> int:
        """Every name is new, so that none can rightly be shown twice."""
        chance, alive = random.Random(5), list(churning)
        while not stop.is_set():
            number = next(changes)
            old, new = alive.pop(chance.randrange(len(alive))), f"new{number}".ljust(200, "-")
            if number % 3:
                os.rename(places[2] / old, places[2] / new)
            else:
                (places[2] / old).rmdir()
                (places[2] / new).mkdir()
            alive.append(new)
        return number

    def lists(place: Path) -> list[list[str]]:
        listings = []
        for _ in range(4):
            with os.scandir(place) as entries:
                listings.append([(entry.name, time.sleep(0.001))[0] for entry in entries])
        return listings

    with ThreadPoolExecutor(CLIENTS) as pool:
        churned = pool.submit(churn)
        try:
            found = [listing for lister in pool.map(lists, places[:2]) for listing in lister]
        finally:
            stop.set()
    assert churned.result() > 20
    for names in found:
        shown = Counter(names)
        assert max(shown.values()) == 1, "shown twice"
        assert stay <= shown.keys(), "skipped"
    assert any(name.startswith("new") for names in found for name in names)


class Tree:
    """Directories that everybody moves about, held open by every mount; each has a file of its own in it.

    A swap leaves both names where they are, bound to the other directory: names and files tell what went where.
    """

    def __init__(self, places: list[Path]) -> None:
        chance = random.Random(11)
        self.parents: dict[str, str] = {}
        """In which directory (by its first name) each name was last seen: a guess, as soon as others move it."""
        paths = {"top": Path()}
        for number in range(DIRECTORIES):
            name, parent = f"d{number}", chance.choice(list(paths))
            paths[name] = paths[parent] / name
            (places[0] / paths[name]).mkdir()
            (places[0] / paths[name] / f"mark-{name}").touch()
            self.parents[name] = parent
        self.names = sorted(self.parents)
        self.fds = [{name: os.open(place / path, os.O_RDONLY) for name, path in paths.items()} for place in places]

    def close(self) -> None:
        for fds in self.fds:
            for fd in fds.values():
                os.close(fd)

    def move(self, mount: int, chance: random.Random) -> str:
        """Move some directory into some other, or swap two; the outcome."""
        fds, (moved, other) = self.fds[mount], chance.sample(self.names, 2)
        source, target, flags = self.parents[moved], chance.choice([*self.names, "top"]), 0
        to = moved
        if chance.random() < 0.15:
            to, target, flags = other, self.parents[other], RENAME_EXCHANGE
        for name, directory in ((moved, source), (to, target)):  # or the kernel has it at an old place: ESTALE
            with contextlib.suppress(OSError):
                os.stat(name, dir_fd=fds[directory])
        if libc.renameat2(fds[source], moved.encode(), fds[target], to.encode(), flags):
            return errno.errorcode[ctypes.get_errno()]
        if not flags:
            self.parents[moved] = target
        return "swapped" if flags else "moved"


@pytest.fixture
def tree(places: list[Path]) -> Iterator[Tree]:
    made = Tree(places)
    yield made
    made.close()


def look_through(top: Path) -> dict[str, str]:
    """Everything in a tree: which directory, told by its file, is at which path.  All of it must fit together."""
    found: dict[str, str] = {}
    todo = [top]
    while todo:
        directory = todo.pop()
        names = os.listdir(directory)
        below = [name for name in names if not name.startswith("mark-")]
        marks = [name for name in names if name.startswith("mark-")]
        assert len(marks) == (directory != top), f"{directory}: {names}"
        assert directory.stat().st_nlink == 2 + len(below)
        for mark in marks:
            assert mark not in found, "a directory with two names"
            assert (directory / mark).stat().st_nlink == 1
            found[mark] = str(directory.relative_to(top))
        for name in below:
            assert (directory / name / "..").stat().st_ino == directory.stat().st_ino
            todo.append(directory / name)
        assert len(found) + len(todo) <= DIRECTORIES, "more than was made: a cycle"
    return found


def test_conflicting_renames_of_directories_keep_the_tree_whole(places: list[Path], tree: Tree) -> None:
    """No cycle, nothing lost, nothing twice, whoever moves what into what at the same time."""

    def mover(mount: int) -> Counter[str]:
        chance = random.Random(mount)
        return Counter(tree.move(mount, chance) for _ in range(MOVES))

    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = sum(pool.map(mover, range(CLIENTS)), Counter[str]())
    assert outcomes["moved"] > MOVES / 2, outcomes
    assert outcomes["swapped"], outcomes
    assert outcomes["EINVAL"], "nobody ever tried to move a directory into itself"
    assert outcomes.keys() <= {"moved", "swapped", "ENOENT", "EINVAL", *FROM_THE_KERNEL}, outcomes
    found = [look_through(place) for place in places]
    assert found[0].keys() == {f"mark-d{number}" for number in range(DIRECTORIES)}
    assert sorted(path.split("/")[-1] for path in found[0].values()) == tree.names
    assert found == [found[0]] * CLIENTS
