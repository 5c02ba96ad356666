"""``qunfs mount``: show a cluster's file system at a mount point."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qunfs.cli.mount_reports import ANY_PATH, await_word
from qunfs.cli.options import ClientName, ClusterDirectory
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from qunfs.cli.mount_request import MountRequest


def mount(
    directory: ClusterDirectory,
    mountpoint: Annotated[Path, typer.Argument(parser=Path, metavar="MOUNTPOINT", help="An existing directory.")],
    client: ClientName = None,
    contents: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Local directory for file contents; DIR/clients/NAME/contents by default."),
    ] = None,
    foreground: Annotated[bool, typer.Option("-f", "--foreground", help="Stay in the foreground.")] = False,
    options: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="OPTS", help="Mount options with commas between them, for example attr_timeout=0."),
    ] = None,
    wait: Annotated[float, typer.Option(min=1.0, metavar="SECONDS", help="How long to wait for a quorum.")] = 30.0,
    report_to: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Mount a cluster's file system.

    It returns when an operation through the mount point has worked.  A process of its own serves the mount, until
    "qunfs umount" or SIGTERM; with -f this process does, and Ctrl-C ends it.  Names and attributes live on the
    replicas, file contents in the local directory.

    Options: attr_timeout=SECONDS, entry_timeout=SECONDS (1 each; 0 = always ask the replicas), nocto (an open does not
    ask again; other mounts' changes show after attr_timeout), allow_other (the default when root mounts).

    \b
    Example:
      qunfs mount c m
      qunfs mount c m -o attr_timeout=0,entry_timeout=0

    Exit codes: 0 mounted (with -f: unmounted), 1 not mounted (one line says why), 2 wrong usage.
    """
    from qunfs.cli.mount_request import parse_options, prepare, typed_options

    try:
        typed_options(parse_options(options or []))
    except LocalError as error:
        raise typer.BadParameter(str(error)) from error
    request = prepare(directory, mountpoint, client, contents, options or [], wait)
    if foreground:
        from qunfs.cli.mount_process import serve

        serve(request, report_to)
    else:
        _start(request)


def _start(request: "MountRequest") -> None:
    """Start the process that serves the mount and wait for its word.  Raises LocalError with the reason and the log."""
    read_end, write_end = os.pipe()
    request.log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "qunfs.cli.main", *request.arguments(), "--report-to", str(write_end)]
    with request.log.open("ab") as log, open(read_end, errors=ANY_PATH) as reports:
        start = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[write_end],
            start_new_session=True,
            cwd="/",
        )
        os.close(write_end)
        try:
            reason = await_word(reports)
        except BaseException:
            child.send_signal(signal.SIGTERM)
            child.wait()
            raise
    if reason is None:
        child.returncode = 0  # it lives on as nobody's child
        return
    child.wait()
    if not reason:
        from qunfs.processes import tail_of

        reason = tail_of(request.log, start).removeprefix("qunfs: ")
    raise LocalError(f"{request.mountpoint}: not mounted: {reason} (log: {request.log})")
