"""The mounts of a cluster on this machine: who serves which mount point, what it waits for, how it is taken down.

A mount keeps ``DIR/run/mount-PID.json`` up to date.  Nothing here touches a file below a mount point: operations on
a mount wait for a quorum, and looking at a mount must not.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qunfs.processes import arguments_of, canonical, followed, names_path, path_in, wait_gone
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from qunfs.cluster import Cluster

MOUNT_TABLE: Final = Path("/proc/self/mounts")
MOUNT_DEVICES: Final = Path("/proc/self/mountinfo")
OURS: Final = ("fuse.qunfs", "fuse")
UNMOUNT_STEP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class MountRecord:
    """What a mount says about itself; ``since`` in seconds since the epoch, ``statistics`` counters of its client.

    ``suspects`` is what it has seen that speaks against replicas, as :mod:`qunfs.cli.suspects` writes it.
    """

    pid: int
    mountpoint: str
    client: str
    contents: str
    log: str
    since: float
    waiting: str | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    suspects: Sequence[Mapping[str, Any]] = field(default_factory=list)


def write_record(cluster: "Cluster", record: MountRecord) -> None:
    """Publish a mount's record, replacing its earlier one in one step."""
    path = _record_file(cluster, record.pid)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(record)))
    draft.replace(path)


def remove_record(cluster: "Cluster", pid: int) -> None:
    """Take a mount's record away."""
    _record_file(cluster, pid).unlink(missing_ok=True)


def records(cluster: "Cluster") -> list[MountRecord]:
    """The records of mounts that run."""
    return running_and_abandoned(cluster)[0]


def running_and_abandoned(cluster: "Cluster") -> tuple[list[MountRecord], list[MountRecord]]:
    """The records of mounts that run, and of those whose process was killed and that nobody has unmounted since.

    What those that were unmounted have left behind is removed.
    """
    running: list[MountRecord] = []
    left: list[tuple[Path, MountRecord]] = []
    for path in sorted(cluster.run_directory.glob("mount-*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # gone meanwhile, or of another release
            record = MountRecord(**json.loads(path.read_text()))
            if names_path(record.pid, cluster.directory):
                running.append(record)
            else:
                left.append((path, record))
    served = {record.mountpoint for record in running}
    dead = []
    for path, record in left:
        if record.mountpoint not in served and filesystem_at(Path(record.mountpoint)) in OURS:
            dead.append(record)
        else:
            path.unlink(missing_ok=True)
    return running, dead


def filesystem_at(mountpoint: Path) -> str | None:
    """The type of the file system that is mounted at a path, the topmost if several are; None for none."""
    wanted, kind = str(canonical(mountpoint)), None
    for where, mounted in _mount_table():
        if where == wanted:
            kind = mounted
    return kind


def device_at(mountpoint: Path) -> str | None:
    """The device number of what is mounted at a path, as ``major:minor``: no two that are in use have the same."""
    wanted, device = str(canonical(mountpoint)), None
    for row in MOUNT_DEVICES.read_text(errors="surrogateescape").splitlines():
        _, _, number, _, where, *_ = row.split(" ")
        if _plain(where) == wanted:
            device = number
    return device


def mounted_below(directory: Path) -> list[Path]:
    """Every mount point in or at a directory, the innermost first."""
    top = canonical(directory)
    found = [Path(where) for where, _ in _mount_table() if Path(where).is_relative_to(top)]
    return list(reversed(found))


_OPTIONS_WITH_VALUES: Final = ("--client", "--contents", "--wait", "-o", "--report-to")


def daemons_of(mountpoint: Path) -> list[int]:
    """The processes that serve a mount point or are about to: none, or one."""
    found = []
    for name in os.listdir("/proc"):
        words = arguments_of(int(name)) if name.isdigit() and int(name) != os.getpid() else []
        ours = any(word == "qunfs.cli.main" or Path(word).name == "qunfs" for word in words)
        if ours and "mount" in words and path_in(int(name), _mountpoints_in(words), mountpoint):
            found.append(int(name))
    return found


def _mountpoints_in(words: Sequence[str]) -> Iterator[str]:
    """What a mount's command line has behind the cluster's directory, less options and their values."""
    before, seen = "", 0
    for word in words[words.index("mount") + 1 :]:
        if not word.startswith("-") and before not in _OPTIONS_WITH_VALUES:
            seen += 1
            if seen > 1:
                yield word
        before = word


def unmount(
    mountpoint: Path,
    *,
    lazy: bool = False,
    seconds_max: float = 60.0,
    on_wait: Callable[[int], None] | None = None,
) -> None:
    """Unmount a qunfs mount point and wait until the process that served it is gone.

    ``lazy`` detaches a mount that is in use.  ``on_wait`` is called with the process about once a second meanwhile.
    Raises LocalError when nothing of ours is mounted there, when it is in use, or when the process does not end.
    """
    mountpoint = followed(mountpoint)
    kind = filesystem_at(mountpoint)
    pids = daemons_of(mountpoint)
    if kind is None and not pids:
        raise LocalError(f"{mountpoint}: nothing is mounted there; see: findmnt -t fuse.qunfs,fuse")
    if kind is not None and kind not in OURS:
        raise LocalError(f"{mountpoint}: a {kind} file system is mounted there, not qunfs; use umount")
    if kind is not None:
        detach(mountpoint, lazy=lazy)
    end = time.monotonic() + seconds_max
    while pids := wait_gone(pids, UNMOUNT_STEP_SECONDS):
        if time.monotonic() > end:
            raise LocalError(
                f"{mountpoint}: unmounted, but process {pids[0]} still serves programs that use the detached tree, or "
                f"writes the last changes; end those programs, or: kill {pids[0]}"
            )
        if on_wait is not None:
            on_wait(pids[0])


def ending(mountpoint: Path) -> str:
    """The command that ends a mount, to be copied from an error message."""
    command = "qunfs umount" if filesystem_at(mountpoint) in OURS else "umount"
    return f"{command} {shlex.quote(str(mountpoint))}"


def detach(mountpoint: Path, *, lazy: bool = False) -> None:
    """Remove a FUSE file system from the mount table.  Raises LocalError when it is in use (not when ``lazy``)."""
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(canonical(mountpoint))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LocalError("fusermount3 is missing; install the package fuse3") from error
    if done.returncode == 0 or filesystem_at(mountpoint) is None:
        return
    if "busy" in done.stderr:
        raise LocalError(f"{mountpoint}: in use; leave it (see: fuser -vm {mountpoint}) or give --lazy")
    raise LocalError(f"{mountpoint}: {done.stderr.strip() or 'fusermount3 failed'}")


def _record_file(cluster: "Cluster", pid: int) -> Path:
    return cluster.run_directory / f"mount-{pid}.json"


def _mount_table() -> Iterator[tuple[str, str]]:
    """Mount points and file system types, oldest first; the kernel writes blanks as octal escapes."""
    for row in MOUNT_TABLE.read_text(errors="surrogateescape").splitlines():
        _, where, kind, *_ = row.split(" ")
        yield _plain(where), kind


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
