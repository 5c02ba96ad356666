"""What a mount is asked for: checked before anything starts, and written for the process that serves it."""

import math
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qunfs import cluster, mounts, processes
from qunfs.cluster import Cluster
from qunfs.paths import absolute
from qunfs.protocol.errors import LocalError

TIMEOUT_SECONDS_MAX: Final = 86400.0


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What to mount where; ``options`` are the values given with -o, by name, still as text (None: no value)."""

    cluster: Cluster
    mountpoint: Path
    client: str
    contents: Path
    options: dict[str, str | None]
    wait_seconds: float

    @property
    def log(self) -> Path:
        """The log of the mount when it runs in a process of its own."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", str(self.mountpoint)).strip("-")[-100:]
        return processes.log_directory(self.cluster) / f"mount-{slug}.log"

    def arguments(self) -> list[str]:
        """The command line that serves this mount in the foreground, independent of the current directory."""
        pairs = [name if value is None else f"{name}={value}" for name, value in self.options.items()]
        return [
            "mount",
            str(self.cluster.directory),
            str(self.mountpoint),
            f"--client={self.client}",
            f"--contents={self.contents}",
            f"--wait={self.wait_seconds}",
            *(["-o", ",".join(pairs)] if pairs else []),
            "--foreground",
        ]


def prepare(
    directory: Path,
    mountpoint: Path,
    client: str | None,
    contents: Path | None,
    options: Sequence[str],
    wait_seconds: float,
) -> MountRequest:
    """Check all that can be checked before a mount is tried.  Raises LocalError."""
    loaded = cluster.load(directory)
    name = loaded.client(client).name
    mountpoint = processes.followed(mountpoint)
    kind = mounts.filesystem_at(mountpoint)  # before anything looks at it: a dead mount would answer with an error
    if kind is not None and kind.startswith("fuse"):
        raise LocalError(f"{mountpoint}: something is mounted there; first: {mounts.ending(mountpoint)}")
    _require_directory(mountpoint)
    if processes.followed(loaded.directory).is_relative_to(mountpoint):
        raise LocalError(f"{mountpoint}: the cluster's directory would be covered by the mount; choose another place")
    if not os.path.exists("/dev/fuse"):
        raise LocalError("/dev/fuse: not there; load it (modprobe fuse), in a container allow it (--device /dev/fuse)")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise LocalError("/dev/fuse: this user may not use it; allow it (chmod 666 /dev/fuse), or mount as root")
    where = loaded.contents_directory(name) if contents is None else absolute(contents)
    given = parse_options(options)
    typed_options(given)
    return MountRequest(loaded, mountpoint, name, where, given, wait_seconds)


def _require_directory(mountpoint: Path) -> None:
    try:
        status = mountpoint.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LocalError(f"{mountpoint}: no such directory; make it with: mkdir -p {mountpoint}") from error
    except OSError as error:  # it lies in a dead mount, or where this user may not look
        raise LocalError(f"{mountpoint}: {error.strerror}; choose another place") from error
    if not stat.S_ISDIR(status.st_mode):
        raise LocalError(f"{mountpoint}: not a directory; choose another place or make one with: mkdir -p PATH")


def parse_options(texts: Sequence[str]) -> dict[str, str | None]:
    """``-o a=1,b -o c`` by name; a later value replaces an earlier one."""
    given: dict[str, str | None] = {}
    for text in texts:
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            given[name] = value if equals else None
    return given


OPTION_TYPES: Final = {"attr_timeout": float, "entry_timeout": float, "allow_other": bool, "nocto": bool}


def typed_options(given: dict[str, str | None]) -> dict[str, float | bool]:
    """The values of -o options.  Raises LocalError for an unknown name or a bad value."""
    typed: dict[str, float | bool] = {}
    for name, value in given.items():
        kind = OPTION_TYPES.get(name)
        if kind is None:
            raise LocalError(f"-o {name}: unknown; the options are {', '.join(OPTION_TYPES)}")
        if kind is bool:
            if value is not None:
                raise LocalError(f"-o {name}: takes no value")
            typed[name] = True
            continue
        try:
            seconds = float(value or "")
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= TIMEOUT_SECONDS_MAX:
            raise LocalError(f"-o {name}={value}: give seconds from 0 to {TIMEOUT_SECONDS_MAX:.0f}")
        typed[name] = seconds
    return typed


def read_back(words: Sequence[str]) -> tuple[MountRequest, int] | None:
    """What :meth:`MountRequest.arguments` has written and where to report, checked anew; None for other words.

    Raises LocalError like :func:`prepare`.
    """
    match words:
        case ["mount", directory, mountpoint, client, contents, wait, *options, "--foreground", "--report-to", pipe]:
            named = dict(word.split("=", 1) for word in (client, contents, wait) if "=" in word)
        case _:
            return None
    if list(named) != ["--client", "--contents", "--wait"] or not pipe.isdecimal():
        return None
    if options and (len(options) != 2 or options[0] != "-o"):
        return None
    seconds = float(named["--wait"])
    where = Path(named["--contents"])
    return prepare(Path(directory), Path(mountpoint), named["--client"], where, options[1:], seconds), int(pipe)
