"""On whose behalf a request runs: uid and gid from the kernel, supplementary groups from /proc."""

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyfuse3

from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Credentials

GROUPS_LIFETIME_S: Final = 1.0
"""How long the groups of a process are believed: reading them costs more than the rest of a cached request."""

PROCESSES_MAX: Final = 1024
"""Processes whose credentials are remembered."""

SUPERUSER: Final = Credentials(0, 0)
"""What most requests of uid 0 come with."""


class CredentialCache:
    """Credentials of the processes that lately made requests."""

    def __init__(
        self, proc: Path = Path("/proc"), now: Callable[[], float] = time.monotonic, capacity: int = PROCESSES_MAX
    ) -> None:
        self._proc = proc
        self._now = now
        self._capacity = capacity
        self._known: OrderedDict[tuple[int, int, int], tuple[float, Credentials]] = OrderedDict()

    def of(self, context: pyfuse3.RequestContext) -> Credentials:
        """The credentials of the process behind a request."""
        uid, gid = context.uid, context.gid
        return SUPERUSER if uid == 0 == gid else self.of_process(context.pid, uid, gid)

    def of_process(self, pid: int, uid: int, gid: int) -> Credentials:
        """The credentials of a process.

        The superuser's groups decide nothing and are not read.  A process that changes its user or group is looked
        at afresh; one that only changes its supplementary groups within GROUPS_LIFETIME_S.
        """
        if uid == 0:
            return SUPERUSER if gid == 0 else Credentials(0, gid)
        key = (pid, uid, gid)
        now = self._now()
        held = self._known.get(key)
        if held is not None and held[0] > now:
            return held[1]
        credentials = Credentials(uid, gid, self._groups(pid))
        self._known[key] = (now + GROUPS_LIFETIME_S, credentials)
        self._known.move_to_end(key)
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return credentials

    def _groups(self, pid: int) -> tuple[int, ...]:
        """Supplementary groups; none for a process that is gone or that the kernel does not name (pid 0)."""
        try:
            with (self._proc / str(pid) / "status").open("rb") as status:
                line = next((line for line in status if line.startswith(b"Groups:")), b"")
        except OSError:
            return ()
        return tuple(sorted({int(group) for group in line.split()[1:]}))[: DEFAULT_LIMITS.groups_max]
