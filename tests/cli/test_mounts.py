import os
import subprocess
import sys
from pathlib import Path

import pytest

from qunfs import mounts
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError

TABLE = r"""proc /proc proc rw 0 0
/dev/vda / ext4 rw 0 0
qunfs /srv/a\040b fuse.qunfs rw 0 0
tmpfs /srv/a\040b/inner tmpfs rw 0 0
qunfs /srv/a\040b/inner fuse.qunfs rw 0 0
host:/ /srv/ssh fuse.sshfs rw 0 0
"""

DEVICES = r"""25 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
40 25 0:41 / /srv/a\040b rw,nosuid shared:2 - fuse.qunfs qunfs rw
41 25 0:42 / /srv/a\040b rw,nosuid - fuse.qunfs qunfs rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounts").write_text(TABLE)
    monkeypatch.setattr(mounts, "MOUNT_TABLE", tmp_path / "mounts")


@pytest.mark.usefixtures("table")
def test_the_topmost_file_system_counts() -> None:
    assert mounts.filesystem_at(Path("/srv/a b")) == "fuse.qunfs"
    assert mounts.filesystem_at(Path("/srv/a b/inner")) == "fuse.qunfs"
    assert mounts.filesystem_at(Path("/srv")) is None


@pytest.mark.usefixtures("table")
def test_mounts_below_a_directory_come_innermost_first() -> None:
    below = mounts.mounted_below(Path("/srv/a b"))
    assert [str(path) for path in below] == ["/srv/a b/inner", "/srv/a b/inner", "/srv/a b"]
    assert mounts.mounted_below(Path("/srv/a")) == []


@pytest.mark.usefixtures("table")
def test_only_our_own_mounts_are_unmounted() -> None:
    with pytest.raises(LocalError, match="nothing is mounted there"):
        mounts.unmount(Path("/srv"))
    with pytest.raises(LocalError, match="a proc file system"):
        mounts.unmount(Path("/proc"))
    with pytest.raises(LocalError, match=r"a fuse\.sshfs file system"):
        mounts.unmount(Path("/srv/ssh"))


@pytest.mark.usefixtures("table")
def test_what_ends_a_mount_depends_on_whose_it_is() -> None:
    assert mounts.ending(Path("/srv/a b")) == "qunfs umount '/srv/a b'"
    assert mounts.ending(Path("/srv/ssh")) == "umount /srv/ssh"


def test_the_topmost_device_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(DEVICES)
    monkeypatch.setattr(mounts, "MOUNT_DEVICES", tmp_path / "mountinfo")
    assert mounts.device_at(Path("/srv/a b")) == "0:42"
    assert mounts.device_at(Path("/")) == "254:0"
    assert mounts.device_at(Path("/srv")) is None


def test_records_of_processes_that_run_are_listed_and_others_cleared(made: Cluster) -> None:
    program = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(made.directory)]
    dead = 2**22 + 1  # above the largest process number
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alive:
        assert alive.stdout is not None
        alive.stdout.readline()  # before that its command line may still be empty
        record = mounts.MountRecord(alive.pid, "/m", "client-1", "/c", "/l", 5.0, "for 1 replica", {"operations": 7})
        mounts.write_record(made, record)
        mounts.write_record(made, mounts.MountRecord(dead, "/m2", "client-2", "/c", "/l", 5.0))
        (made.run_directory / "mount-77.json").write_text("{half")
        assert mounts.records(made) == [record]
        assert not (made.run_directory / f"mount-{dead}.json").exists()
        mounts.remove_record(made, alive.pid)
        assert mounts.records(made) == []
        alive.communicate()


def test_a_process_serves_a_mount_point_when_its_command_line_says_so(tmp_path: Path) -> None:
    program = tmp_path / "qunfs"
    program.write_text("import sys; print(flush=True); sys.stdin.read()")
    command = [sys.executable, str(program), "mount", "c", "m"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert mounts.daemons_of(tmp_path / "m") == [child.pid]
        assert mounts.daemons_of(tmp_path / "n") == []
        assert mounts.daemons_of(tmp_path / "c") == []
        child.communicate()


@pytest.mark.parametrize(
    "words",
    [
        ["mount", "c", "m"],
        ["mount", "-o", "nocto", "c", "--client", "x", "m", "-f"],
        ["mount", "/c", "m", "--client=x", "--foreground", "--report-to", "5"],
    ],
)
def test_a_mount_point_is_what_stands_behind_the_cluster_directory(words: list[str]) -> None:
    assert list(mounts._mountpoints_in(["qunfs", *words])) == ["m"]


def test_this_process_serves_nothing() -> None:
    assert os.getpid() not in mounts.daemons_of(Path.cwd())
