"""The command on a real cluster of six, with real mounts before and beside it."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from qunfs import cluster, processes
from qunfs.cluster import Cluster
from qunfs.net.driver import open_client
from qunfs.nfs.calls import Reply
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3
from qunfs.objects import REGISTRY
from qunfs.objects.ids import ROOT
from qunfs.objects.state import unpack_attributes, unpack_header
from qunfs.protocol.operation import Credentials
from server.disk_rows import DiskRows

PATIENCE_S = 120.0
ASYNC = ("--durability", "async")
SUPERUSER = Credentials(0, 0)

Spoilt = Callable[[Mapping[bytes, bytes]], Mapping[bytes, bytes | None]]
"""From the rows of an object those that are to be otherwise."""


def qunfs(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qunfs.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def done(*words: str | Path) -> str:
    ended = qunfs(*words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def six(tmp_path: Path) -> Iterator[Cluster]:
    """Six replicas that run, and two clients."""
    done("init", tmp_path / "c", "-b", "1", "--clients", "2")
    made = cluster.load(tmp_path / "c")
    try:
        done("up", made.directory, *ASYNC)
        yield made
    finally:
        processes.stop(made, range(made.n))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of six of which four run: there is no quorum."""
    made = cluster.create(tmp_path_factory.mktemp("four") / "c")
    try:
        processes.start_and_wait(made, (0, 3, 4, 5), ASYNC)
        yield made
    finally:
        processes.stop(made, range(made.n))


class Mounted:
    """A mount, for as long as a ``with`` lasts."""

    def __init__(self, made: Cluster, *words: str) -> None:
        self._made, self._words = made, words
        self._at = made.directory.parent / f"m{''.join(words)}"

    def __enter__(self) -> Path:
        self._at.mkdir(exist_ok=True)
        done("mount", self._made.directory, self._at, *self._words)
        return self._at

    def __exit__(self, *_: object) -> None:
        done("umount", self._at, "-z")


def fsck(made: Cluster, *words: str) -> tuple[int, dict]:
    """Exit code, and what it says to programs."""
    ended = qunfs("fsck", made.directory, "--json", *words)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def kinds(told: dict) -> list[tuple[str, str]]:
    return sorted((fault["kind"], fault["path"]) for fault in told["faults"])


def spoil(made: Cluster, objects: Mapping[int, Spoilt]) -> None:
    """Have every replica that has any rows of an object have others."""
    processes.stop(made, range(made.n))
    for server in range(made.n):
        rows = DiskRows(made.data_directory(server), "async")
        try:
            for obj, change in objects.items():
                prefix = b"r" + obj.to_bytes(8, "big")
                held = {key[9:]: value for key, value in rows.scan(prefix, prefix + b"\xff" * 500)}
                if b"a" in held:
                    rows.apply([(prefix + key, value) for key, value in change(held).items()])
            rows.sync()
        finally:
            rows.close()
    done("up", made.directory, *ASYNC)


def with_links(value: int) -> Spoilt:
    """Another link count in the attribute row."""

    def change(rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes | None]:
        attributes = unpack_attributes(rows[b"a"])
        attributes.nlink = value
        return {b"a": attributes.pack()}

    return change


def without_name(name: bytes) -> Spoilt:
    """A file's name is gone, and whatever counts it here."""

    def change(rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes | None]:
        if b"e" + name not in rows:  # a replica that is behind
            return {}
        header = unpack_header(rows[b"d"])
        header.entries -= 1
        return {b"e" + name: None, b"k" + rows[b"e" + name][9:]: None, b"d": header.pack()}

    return change


def gone(rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes | None]:
    """Nothing is left that methods see."""
    return {key: None for key in rows if key >= b"\x01"}


def work(at: Path, seed: int, steps: int) -> None:
    """Make, move, link and remove at random."""
    chance = random.Random(seed)
    for step in range(steps):
        where, to = (at.joinpath(*[f"n{chance.randrange(4)}" for _ in range(chance.randrange(3))]) for _ in range(2))
        path, new = where / f"n{chance.randrange(4)}", to / f"n{chance.randrange(4)}"
        act = chance.randrange(7)
        try:
            if act == 0:
                path.mkdir()
            elif act == 1:
                path.write_bytes(b"x" * chance.randrange(9000))
            elif act == 2:
                os.link(path, new)
            elif act == 3:
                path.unlink()
            elif act == 4:
                path.rmdir()
            elif act == 5:
                path.symlink_to(f"to {step}")
            else:
                path.rename(new)
        except OSError:
            continue


def test_after_heavy_use_there_is_nothing_to_find(six: Cluster) -> None:
    with Mounted(six) as one, Mounted(six, "--client=client-2") as other:
        workers = [threading.Thread(target=work, args=(at, seed, 150)) for seed, at in enumerate((one, other))]
        for worker in workers:
            worker.start()
        code, told = fsck(six)
        for worker in workers:
            worker.join()
        assert (code, told["faults"]) == (0, [])
        assert any("contents were not looked at" in note for note in told["notes"])
    _, told = fsck(six)
    assert told["directories"] > 1
    assert told["contents"] > 0
    # Nobody tells one mount that the other has removed or taken over what it wrote.
    assert {fault["kind"] for fault in told["faults"]} <= {"contents-without-file"}
    code, told = fsck(six, "--repair")
    assert (code, told["left"]) == (1 if told["faults"] else 0, 0)
    ended = qunfs("fsck", six.directory)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1].endswith("names: no faults")


def test_faults_are_found_and_repaired(six: Cluster) -> None:
    with Mounted(six) as at:
        (at / "d").mkdir()
        for name in ("linked", "nothing", "lost", "kept"):
            (at / "d" / name).write_text(name)
        ids = {path.name: path.stat().st_ino for path in [at / "d", *(at / "d").iterdir()]}
    spoil(six, {ids["linked"]: with_links(5), ids["nothing"]: gone, ids["d"]: without_name(b"lost")})
    expected = [
        ("contents-without-file", str(_contents(six, ids["nothing"]))),
        ("dangling-entry", "/d/nothing"),
        ("orphan", f"#{ids['lost']:x}"),
        ("wrong-link-count", "/d/linked"),
    ]
    code, told = fsck(six)
    assert (code, kinds(told), told["left"]) == (4, expected, 4)
    ended = qunfs("fsck", six.directory)
    assert ended.returncode == 4
    assert f"/d/nothing: dangling-entry: names object {ids['nothing']:x}, which is not there [left]" in ended.stdout
    code, told = fsck(six, "--repair")
    assert (code, kinds(told), told["left"]) == (1, expected, 0)
    code, told = fsck(six)
    assert (code, told["faults"]) == (0, [])
    with Mounted(six) as at:
        assert (at / "lost+found" / f"#{ids['lost']:016x}").read_text() == "lost"
        assert sorted(os.listdir(at / "d")) == ["kept", "linked"]
        assert (at / "d" / "linked").stat().st_nlink == 1
    aside = _contents(six, ids["nothing"])
    assert (six.contents_directory("client-1") / "lost+found" / aside.name).read_text() == "nothing"


def test_beside_a_directory_that_cannot_be_read_nothing_gets_another_name(six: Cluster) -> None:
    with Mounted(six) as at:
        (at / "d" / "below").mkdir(parents=True)
        (at / "d" / "kept").write_text("kept")
        obj = (at / "d").stat().st_ino
        os.link(at / "d" / "kept", at / "besides")
    held: defaultdict[bytes, Counter[bytes]] = defaultdict(Counter)
    """By key how many replicas had which value: one of them may have missed the last update."""

    def malformed(key: bytes) -> Spoilt:
        def change(rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes | None]:
            held[key].update([rows[key]] if key in rows else [])
            return {key: b"\xc1"} if key in rows else {}

        return change

    def mended(rows: Mapping[bytes, bytes]) -> Mapping[bytes, bytes | None]:
        return {key: values.most_common(1)[0][0] for key, values in held.items() if key in rows}

    for key in (b"a", b"ekept"):
        spoil(six, {obj: malformed(key)})
        code, told = fsck(six, "--repair")
        assert (code, kinds(told)) == (4, [("unreadable", "/d")])
        assert "1 directory cannot be read: what it names cannot be judged" in told["notes"]
        spoil(six, {obj: mended})
        assert fsck(six)[1]["faults"] == []


def _contents(made: Cluster, obj: int) -> Path:
    return made.contents_directory("client-1") / "data" / f"{obj & 0xFF:02x}" / f"{obj:016x}"


def test_a_cycle_of_a_malevolent_client_is_found_and_opened(six: Cluster) -> None:
    with Mounted(six) as at:
        (at / "a" / "b" / "c").mkdir(parents=True)
        (at / "a" / "b" / "file").write_text("still here")
        ids = {name: (at / path).stat().st_ino for name, path in (("a", "a"), ("c", "a/b/c"))}

    async def rogue() -> None:
        async with open_client(six, "client-2", REGISTRY) as core:
            service = MetadataService(core, six.n, random.Random(1).getrandbits)

            async def blind(*_: object) -> Reply:
                return Reply(nfsstat3.NFS3_OK, False)

            service._climb = blind  # type: ignore[method-assign]
            got = await service.rename(SUPERUSER, ROOT, b"a", ids["c"], b"a")
            assert got.status is nfsstat3.NFS3_OK

    trio.run(rogue)
    code, told = fsck(six)
    assert (code, [kind for kind, _ in kinds(told)]) == (4, ["directory-cycle"])
    assert fsck(six, "--repair")[0] == 1
    assert fsck(six)[0] == 0
    with Mounted(six) as at:
        (found,) = at.rglob("file")
        assert found.read_text() == "still here"


def test_local_contents_that_are_gone_cannot_be_repaired(six: Cluster) -> None:
    with Mounted(six) as at:
        (at / "f").write_text("hello")
        obj = (at / "f").stat().st_ino
    _contents(six, obj).unlink()
    code, told = fsck(six, "--repair")
    assert (code, kinds(told), told["left"]) == (4, [("file-without-contents", "/f")], 1)
    code, told = fsck(six, "--client", "client-2")  # whose contents they are not
    assert (code, told["faults"]) == (0, [])


def test_a_replica_that_was_down_is_told_of_and_brought_up_to_date(six: Cluster) -> None:
    processes.kill(six, 3)
    with Mounted(six) as at:
        for number in range(30):
            (at / f"d{number}").mkdir()
    done("up", six.directory, *ASYNC)
    code, told = fsck(six)
    assert (code, told["faults"]) == (0, [])
    assert told["replicas"][3]["due"] >= 10
    code, told = fsck(six, "--repair")
    assert (code, told["faults"]) == (0, [])
    assert told["replicas"][3]["due"] == 0
    assert told["replicas"][3]["synchronised"] >= 10
    assert fsck(six)[1]["replicas"][3]["due"] == 0


def test_a_replica_that_was_down_hears_of_removals_too(six: Cluster) -> None:
    with Mounted(six) as at:
        for number in range(30):
            (at / f"d{number}").mkdir()
        processes.kill(six, 3)
        for number in range(30):
            (at / f"d{number}").rmdir()
    done("up", six.directory, *ASYNC)
    code, told = fsck(six, "--repair")
    assert (code, told["faults"]) == (0, [])
    assert told["replicas"][3]["synchronised"] >= 10
    assert told["replicas"][3]["due"] == 0


def test_a_replica_that_lies_is_a_fault_and_the_rest_is_seen_as_it_is(six: Cluster) -> None:
    with Mounted(six) as at:
        for number in range(10):
            (at / f"d{number}").mkdir()
    processes.stop(six, [2])
    processes.start_and_wait(six, [2], ["--kind", "wrong-answers", *ASYNC], module="bench.malevolent")
    code, told = fsck(six)
    assert code == 4
    assert {fault["kind"] for fault in told["faults"]} == {"replica-contradicts"}
    assert all("replica 2" in fault["text"] for fault in told["faults"])
    assert told["directories"] == 11


def test_without_a_quorum_it_says_so(four: Cluster) -> None:
    ended = qunfs("fsck", four.directory, "--wait", "2")
    assert ended.returncode == 8
    (line,) = ended.stderr.splitlines()[-1:]
    assert line.startswith("qunfs: ")
    assert "missing" in line
    assert "Traceback" not in ended.stderr


def test_an_interruption_is_no_traceback(four: Cluster) -> None:
    command = [sys.executable, "-m", "qunfs.cli.main", "fsck", str(four.directory), "--wait", "600"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        running.stderr.readline()  # it waits for answers
        end = time.monotonic() + PATIENCE_S
        while sockets(running.pid) < 2 + 4:  # trio has a pair of its own
            assert time.monotonic() < end, "it has not called the replicas"
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors


def sockets(pid: int) -> int:
    """How many sockets a process has."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(descriptor).startswith("socket:")
    return count


def test_who_may_not_act_for_root_is_told_so(six: Cluster) -> None:
    toml = six.directory / "cluster.toml"
    before = toml.read_text()
    assert before.count('squash = "none"') == 2
    toml.write_text(before.replace('squash = "none"', 'squash = "root"', 1))
    ended = qunfs("fsck", six.directory)
    assert ended.returncode == 8
    assert "client client-1 may not act for root" in ended.stderr
    assert qunfs("fsck", six.directory, "--client", "nobody").returncode == 8
