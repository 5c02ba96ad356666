"""``qunfs umount``: end a mount."""

from pathlib import Path
from typing import Annotated

import typer

from qunfs.cli.output import Status


def umount(
    mountpoint: Annotated[
        Path, typer.Argument(parser=Path, metavar="MOUNTPOINT", help="Where the file system is mounted.")
    ],
    lazy: Annotated[bool, typer.Option("--lazy", "-z", help="Detach it even while programs use it.")] = False,
    wait: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long its process may take to end.")
    ] = 60.0,
) -> None:
    """End a mount.

    It returns when the process that served the mount has written everything and is gone.  With -z that process stays
    until the last program has left the detached tree; only then can its client mount again.

    \b
    Example:
      qunfs umount m

    Exit codes: 0 unmounted, 1 not mounted, in use, or its process is still there, 2 wrong usage.
    """
    from qunfs import mounts

    status = Status()
    try:
        mounts.unmount(
            mountpoint,
            lazy=lazy,
            seconds_max=wait,
            on_wait=lambda pid: status.show(f"unmounted; process {pid} finishes, or programs still use the mount"),
        )
    finally:
        status.clear()
