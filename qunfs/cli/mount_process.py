"""The process behind a mount: client, service and FUSE loop together, and what it reports meanwhile."""

import contextlib
import dataclasses
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from qunfs import garbage, mounts
from qunfs.cli.mount_reports import ANY_PATH, FAILED, READY, WAITING, Announcer
from qunfs.cli.mount_request import MountRequest, typed_options
from qunfs.cli.output import log_to_standard_error, ways_out
from qunfs.cli.suspects import as_suspect
from qunfs.cli.throttle import QUIET_SECONDS, Throttle
from qunfs.cluster import FILE_NAME
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3
from qunfs.objects.ids import ROOT
from qunfs.protocol.errors import LocalError, OperationRefused
from qunfs.protocol.evidence import Finding, Ground
from qunfs.protocol.operation import Credentials

if TYPE_CHECKING:
    from fuse_client.mount import MountOptions
    from qunfs.net.driver import QuClient

RECORD_SECONDS: Final = 1.0
"""How often the record is brought up to date: what operations wait for is known within this time."""

log = logging.getLogger("qunfs.mount")
Announce = Callable[..., None]


def serve(request: MountRequest, report_to: int) -> None:
    """Serve a mount and tell the descriptor ``report_to`` how it goes; the terminal if it is negative."""
    if report_to < 0:
        serve_here(request, Announcer(None))
        return
    with open(report_to, "w", buffering=1, errors=ANY_PATH) as pipe:
        serve_here(request, Announcer(pipe))


def serve_here(request: MountRequest, announce: Announce) -> None:
    """Serve a mount until it is unmounted, SIGTERM or SIGINT.  Raises LocalError when it could not be mounted."""
    throttle = log_to_standard_error()
    try:
        if not trio.run(_serve, request, announce, throttle):
            raise LocalError(f"{request.mountpoint}: a signal came before it was mounted")
    except BaseExceptionGroup as group:  # except* would wrap the LocalError in a group again
        expected, others = group.split((LocalError, OSError))
        if expected is None or others is not None:
            raise
        error = _first(expected)
        announce(FAILED, str(error))
        raise LocalError(str(error)) from error
    finally:
        throttle.tell(at_the_end=True)
        mounts.remove_record(request.cluster, os.getpid())
    log.info("unmounted %s", request.mountpoint)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _fuse_options(given: dict[str, str | None]) -> "MountOptions":
    from fuse_client.mount import MountOptions

    typed = typed_options(given)
    believe_cache = typed.pop("nocto", False)
    return MountOptions(**typed, revalidate=not believe_cache)  # type: ignore[arg-type]  # typed_options has checked


async def _serve(request: MountRequest, announce: Announce, throttle: Throttle) -> bool:
    """Whether it was mounted at all before a signal ended it."""
    import fuse_client.mount
    import fuse_client.reading
    from qunfs.net.driver import open_client
    from qunfs.objects import REGISTRY

    options = _fuse_options(request.options)
    mounted = False
    async with open_client(request.cluster, request.client, REGISTRY) as core, trio.open_nursery() as nursery:
        service = MetadataService(core, request.cluster.n, secrets.randbits)
        nursery.start_soon(_stop_on_signals, nursery.cancel_scope)
        nursery.start_soon(_keep_record, request, core)
        nursery.start_soon(_tell_counts, throttle)
        await _await_quorum(request, core, service, announce)
        fuse_client.reading.enable(core.fileno())
        garbage.look_rarely()

        def on_ready() -> None:
            nonlocal mounted
            mounted = True
            core.yield_to(_fuse_descriptor())
            nursery.start_soon(_try_mountpoint, request, core, announce)

        await fuse_client.mount.serve(service, request.mountpoint, request.contents, options, on_ready, core.give_up)
        nursery.cancel_scope.cancel()
    return mounted


def _fuse_descriptor() -> int | None:
    """On which this process, having one mount, gets its requests from the kernel."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(link.readlink()) == "/dev/fuse":
                return int(link.name)
    return None


async def _stop_on_signals(scope: trio.CancelScope) -> None:
    """Unmount at the first signal; others that follow, as from a terminal that closes, must not cut that short."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # it does not under nohup(1)
    ending = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hangs_up else ()))
    for number in ending:  # what the receiver restores when it is done
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*ending) as signals:
        async for number in signals:
            log.info("%s: unmounting", signal.Signals(number).name)
            scope.cancel()
            return


async def _keep_record(request: MountRequest, core: "QuClient") -> None:
    """Publish what operations wait for, whom the client suspects and its counters.

    The client logs the waiting itself.
    """
    since, shown, recorded = time.time(), None, True
    logged: set[tuple[int, Ground, bool]] = set()
    record = mounts.MountRecord(
        os.getpid(), str(request.mountpoint), request.client, str(request.contents), str(request.log), since
    )
    while True:
        findings = core.findings()
        _log_suspects(findings, logged)
        suspects = list(map(as_suspect, findings))
        now = dataclasses.replace(record, waiting=core.waiting(), statistics=core.statistics(), suspects=suspects)
        if now != shown:
            try:
                mounts.write_record(request.cluster, now)
            except OSError as error:  # a full disk must not end the mount
                if recorded:
                    log.warning("%s: status will show what was so before: %s", request.cluster.run_directory, error)
                recorded = False
            else:
                recorded = True
        shown = now
        await trio.sleep(RECORD_SECONDS)


async def _tell_counts(throttle: Throttle) -> None:
    """How often it came since, of each line that has not come for a while."""
    while True:
        await trio.sleep(QUIET_SECONDS)
        throttle.tell()


def _log_suspects(findings: Sequence[Finding], logged: set[tuple[int, Ground, bool]]) -> None:
    """Say once of each replica what kind of thing speaks against it, and once more when it has become proof."""
    for finding in findings:
        kind = (finding.server, finding.ground, finding.proof)
        if kind not in logged:
            logged.add(kind)
            verdict = "is malevolent" if finding.proof else "is under suspicion"
            log.warning("server %d %s (%s): %s", finding.server, verdict, finding.ground.value, finding.text)


async def _await_quorum(
    request: MountRequest, core: "QuClient", service: "MetadataService", announce: Announce
) -> None:
    """One operation straight to the replicas: without a quorum nothing is mounted that would hang."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_report_waiting, core, announce)
        nursery.start_soon(_give_up, request, core)
        uid, gid = os.getuid(), os.getgid()
        try:
            result = await service.getattr(Credentials(uid, gid), ROOT)
        except OperationRefused as error:
            raise LocalError(
                f"client {request.client} may not act for user {uid} and group {gid} "
                f"(squash, uids and gids in {FILE_NAME}): mount as a user for whom it may, or choose another --client"
            ) from error
        nursery.cancel_scope.cancel()
    if result.status != nfsstat3.NFS3_OK:
        raise LocalError(f"the root directory cannot be read: {result.status.name}")


async def _give_up(request: MountRequest, core: "QuClient") -> None:
    """Raises LocalError when the time is over: what an operation waits for is known only while it waits."""
    await trio.sleep(request.wait_seconds)
    reason = core.waiting(0.0) or "no answer from the replicas"
    raise LocalError(f"{reason}, after {request.wait_seconds:.0f} s; {ways_out(request.cluster.directory)}")


async def _report_waiting(core: "QuClient", announce: Announce) -> None:
    while True:
        await trio.sleep(2 * RECORD_SECONDS)
        announce(WAITING, core.waiting() or "waiting for the replicas' answers")


async def _try_mountpoint(request: MountRequest, core: "QuClient", announce: Announce) -> None:
    """An operation through the kernel.  Raises LocalError, which unmounts, when it fails or takes too long."""

    def look() -> None:
        os.stat(request.mountpoint)
        with contextlib.suppress(PermissionError), os.scandir(request.mountpoint) as entries:
            next(entries, None)

    with trio.move_on_after(request.wait_seconds) as scope:
        await trio.to_thread.run_sync(look, abandon_on_cancel=True)
    if scope.cancelled_caught:
        raise LocalError(f"no answer through the mount point: {core.waiting() or 'the reason is unknown'}")
    log.info("mounted %s as %s, contents in %s", request.mountpoint, request.client, request.contents)
    announce(READY)
