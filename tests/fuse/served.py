"""The process behind a mount of the tests: ``python -m tests.fuse.served MOUNTPOINT CONTENTS [SOCKET] [OPTION=VALUE]``.

Writes "ready" when mounted.  Without a socket the namespace is in the process.  SIGTERM cancels, as Ctrl-C would.
"""

import logging
import random
import signal
import sys
from pathlib import Path

import trio

from fuse_client.mount import MountOptions, serve
from qunfs.nfs.service import MetadataService
from qunfs.protocol.errors import LocalError
from tests.fuse.namespace import RemoteQu, new_core

SERVERS = 6


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _run(mountpoint: Path, contents: Path, path: str | None, options: MountOptions) -> None:
    async with trio.open_nursery() as connection:
        if path is None:
            core = new_core()
        else:
            core = RemoteQu(await trio.open_unix_socket(path))
            connection.start_soon(core.receive)
        service = MetadataService(core, SERVERS, random.SystemRandom().getrandbits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
            await serve(service, mountpoint, contents, options, lambda: print("ready", flush=True))
            nursery.cancel_scope.cancel()
        connection.cancel_scope.cancel()


def main() -> int:
    mountpoint, contents, *rest = sys.argv[1:]
    path = next((word for word in rest if "=" not in word), None)
    options = {name: float(value) for name, value in (word.split("=") for word in rest if "=" in word)}
    logging.basicConfig(level=logging.INFO)
    status = 0
    try:
        trio.run(_run, Path(mountpoint), Path(contents), path, MountOptions(**options))
    except* LocalError as group:
        error = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(error, file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
