"""``qunfs fsck``: check the whole namespace, and repair it."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qunfs.cli.options import ClientName, ClusterDirectory
from qunfs.cli.output import Status, console, say, ways_out

if TYPE_CHECKING:
    from qunfs.cluster import Client, Cluster
    from qunfs.fsck.findings import Report

EXIT_REPAIRED: Final = 1
EXIT_LEFT: Final = 4
EXIT_NOT_DONE: Final = 8
EXIT_INTERRUPTED: Final = 130

PROGRESS_AFTER_S: Final = 1.0
PROGRESS_EVERY_S: Final = 1.0
PROGRESS_LINES_EVERY_S: Final = 10.0
"""Where each is a line of its own."""


def fsck(
    directory: ClusterDirectory,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what is safe to repair.")] = False,
    client: ClientName = None,
    contents: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Local directory for file contents; DIR/clients/NAME/contents by default."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the text.")] = False,
    wait: Annotated[float, typer.Option(min=1.0, metavar="SECONDS", help="How long to wait for a quorum.")] = 30.0,
) -> None:
    """Check the namespace, the replicas and the local contents.

    Names, link counts, directories and their order, objects that no name leads to: all of it is read through quorums,
    and looked at again before it is called a fault, so that mounts may go on working meanwhile.  Replicas that are
    behind are normal, and are told of; one that contradicts the others is a fault.  Local contents are those of
    the client that this runs as, while nobody mounts with it.

    With --repair: names of nothing go, counts and directories are set right, what has no name gets one in
    /lost+found, contents without a file are moved aside to PATH/lost+found, and replicas that are asked first but
    are behind are brought up to date.

    \b
    Example:
      qunfs fsck c
      qunfs fsck c --repair

    Exit codes: 0 no faults, 1 faults found and all of them repaired, 4 faults are left, 8 not checked to the end
    (one line says why, or a traceback), 2 wrong usage, 130 interrupted (what was repaired by then stays repaired).
    """
    from qunfs import cluster
    from qunfs.paths import absolute

    progress = Status()
    try:
        loaded = cluster.load(directory)
        principal = _superuser_of(loaded, client, repair)
        folder = loaded.contents_directory(principal.name) if contents is None else absolute(contents)
        report = _run(loaded, principal.name, folder, repair, wait, _rarely(progress))
        progress.clear()
        if report is None:
            raise KeyboardInterrupt
        if as_json:
            print(json.dumps(as_object(report), indent=2))
        else:
            _tell(report)
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        # all of them: the code of what nobody has caught would say that everything is repaired
        progress.clear()
        raise typer.Exit(_not_done(error)) from error
    if report.faults:
        raise typer.Exit(EXIT_LEFT if report.left else EXIT_REPAIRED)


def _superuser_of(loaded: "Cluster", name: str | None, repair: bool) -> "Client":
    """The client to appear as, if it may read everything.  Raises LocalError."""
    from qunfs.protocol.errors import LocalError

    principal = loaded.client(name)
    if principal.squash != "none" or principal.uids[0] > 0 or principal.gids[0] > 0:
        raise LocalError(
            f"client {principal.name} may not act for root (squash, uids and gids in cluster.toml): "
            "choose one that may with --client"
        )
    if repair and principal.rights != "rw":
        raise LocalError(f"client {principal.name} may only read: choose one that may write with --client")
    return principal


def _run(
    loaded: "Cluster", name: str, folder: Path, repair: bool, wait: float, on_progress: Callable[[str], None]
) -> "Report | None":
    """The report; None when somebody has interrupted it.  Raises QunfsError, in groups too."""
    import secrets

    import trio

    from qunfs.fsck.census import PATIENCE_S
    from qunfs.fsck.check import Check
    from qunfs.fsck.walk import SUPERUSER
    from qunfs.net.driver import QuClient, open_client
    from qunfs.nfs.service import MetadataService
    from qunfs.objects import REGISTRY
    from qunfs.objects.ids import ROOT
    from qunfs.protocol.errors import LocalError

    def no_answer(core: QuClient) -> LocalError:
        waiting = core.waiting(0.0) or "no answer from the replicas"
        return LocalError(f"{waiting}; {ways_out(loaded.directory)}")

    async def expect_quorum(core: QuClient, service: MetadataService) -> None:
        """One operation that needs one: what it waits for is known only while it waits."""

        async def give_up() -> None:
            until = trio.current_time() + wait
            while trio.current_time() < until:
                await trio.sleep(PROGRESS_EVERY_S)
                on_progress(core.waiting() or "waiting for the replicas' answers")
            raise no_answer(core)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            await service.getattr(SUPERUSER, ROOT)
            nursery.cancel_scope.cancel()

    async def give_up_later(core: QuClient) -> None:
        while True:
            await trio.sleep(0.5)
            if core.waiting(max(wait, 2 * PATIENCE_S)) is not None:
                raise no_answer(core)

    async def stop_on_signals(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def run() -> "Report | None":
        report: Report | None = None
        async with open_client(loaded, name, REGISTRY) as core, trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signals, nursery.cancel_scope)
            service = MetadataService(core, loaded.n, secrets.randbits)
            await expect_quorum(core, service)
            nursery.start_soon(give_up_later, core)
            check = Check(core, core, loaded.quorums, service, folder, repair, on_progress)
            report = await check.run()
            nursery.cancel_scope.cancel()
        return report

    return trio.run(run)


def _rarely(progress: Status) -> Callable[[str], None]:
    """Show not every step, and none of what takes a moment only."""
    next_at = time.monotonic() + PROGRESS_AFTER_S
    every = PROGRESS_EVERY_S if progress.interactive else PROGRESS_LINES_EVERY_S

    def on_progress(text: str) -> None:
        nonlocal next_at
        now = time.monotonic()
        if now >= next_at:
            next_at = now + every
            progress.show(text)

    return on_progress


def _not_done(error: BaseException) -> int:
    """Say why a check has not come to its end; the exit code for that."""
    import sqlite3
    import traceback

    from qunfs.protocol.errors import QunfsError

    inner = error
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    if isinstance(inner, KeyboardInterrupt):
        say("interrupted")
        return EXIT_INTERRUPTED
    if isinstance(inner, QunfsError | OSError | sqlite3.Error):
        say(f"qunfs: {inner}")
    else:
        traceback.print_exception(error)
    return EXIT_NOT_DONE


def as_object(report: "Report") -> dict[str, Any]:
    """The report for programs."""
    import dataclasses

    faults = [
        {
            "kind": fault.kind.value,
            "object": f"{fault.obj & (1 << 64) - 1:x}",
            "path": fault.path,
            "text": fault.text,
            "fate": fault.fate.value,
            "why": fault.why,
        }
        for fault in report.faults
    ]
    return {
        "directories": report.directories,
        "files": report.files,
        "entries": report.entries,
        "contents": report.contents,
        "faults": faults,
        "left": report.left,
        "notes": report.notes,
        "replicas": [dataclasses.asdict(state) for state in report.replicas],
    }


def _tell(report: "Report") -> None:
    for fault in report.faults:
        fate = f"{fault.fate.value}: {fault.why}" if fault.why else fault.fate.value
        print(f"{fault.path or 'replicas'}: {fault.kind.value}: {fault.text} [{fate}]")
    for note in report.notes:
        print(f"note: {note}")
    if any(state.behind or state.ahead for state in report.replicas):
        _tell_replicas(report)
    counted = f"{report.directories} directories, {report.files} other objects, {report.entries} names"
    repaired = len(report.faults) - report.left
    found = f"{repaired} of {len(report.faults)} faults repaired, {report.left} left" if report.faults else "no faults"
    print(f"{counted}: {found}")


def _tell_replicas(report: "Report") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "replica", "objects", "older or lacking", "of these due", "unfinished", "brought up to date", "such as"
    )
    for state in report.replicas:
        figures = [state.objects, state.behind, state.due, state.ahead, state.synchronised]
        table.add_row(str(state.server), *[f"{figure:,}" for figure in figures], Text(", ".join(state.examples[:2])))
    console().print(table)
