"""Repairs of what is safe to repair; each says what was seen, and does nothing when that is no longer so.

Nothing is deleted but names that name nothing and second names of directories.  What no name leads to gets one in
``/lost+found``.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from qunfs.fsck.findings import Fate, Fault, Kind
from qunfs.fsck.walk import SUPERUSER, generation
from qunfs.nfs.calls import Reply, parse_answer
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import RENAME_NOREPLACE, ftype3, nfsstat3, sattr3
from qunfs.objects.checking import lost_name
from qunfs.objects.ids import ROOT, TOPOLOGY, is_directory, is_valid, type_of
from qunfs.protocol.errors import OperationRefused
from qunfs.protocol.operation import Call, QueryUpdate
from qunfs.protocol.packing import pack

LOST_AND_FOUND: Final = b"lost+found"

_ORDER: Final = (Kind.DANGLING, Kind.TYPE, Kind.PARENT, Kind.TWICE, Kind.LINKS, Kind.INDEX, Kind.ORPHAN, Kind.CYCLE)
"""Names first, then what is counted and ordered by them, then what has lost its name."""

_DONE: Final = {
    Kind.DANGLING: "the name was removed",
    Kind.TYPE: "the entry says the right type",
    Kind.PARENT: "it says the right parent",
    Kind.TWICE: "this name was removed",
    Kind.LINKS: "the link count was set",
    Kind.INDEX: "it was rebuilt",
    Kind.ORPHAN: "it is /lost+found/{name} now",
    Kind.CYCLE: "it is /lost+found/{name} now",
}

_ATTEMPTS: Final = 8
"""How often a repair starts over because some directory has moved meanwhile."""


class Repairs:
    """Repairs faults one after the other."""

    def __init__(self, core: QueryUpdate, service: MetadataService, on_progress: Callable[[str], None]) -> None:
        self._core, self._service, self._on_progress = core, service, on_progress
        self._lost_and_found: int | None = None

    async def run(self, faults: list[Fault]) -> None:
        """Repair what can be; each fault then says what became of it."""
        for kind in _ORDER:
            some = [fault for fault in faults if fault.kind is kind]
            for done, fault in enumerate(some):
                self._on_progress(f"repairing: {kind.value} {done + 1} of {len(some)}")
                try:
                    await self._settle(fault)
                except OperationRefused as error:
                    fault.why = str(error)

    async def _settle(self, fault: Fault) -> None:
        """Repair a fault, or say why not."""
        cannot = await self._obstacle(fault)
        if cannot is not None:
            fault.why = cannot
            return
        reply = await self._repair(fault)
        if reply.ok:
            fault.fate, fault.why = Fate.REPAIRED, _DONE[fault.kind].format(name=lost_name(fault.obj).decode())
        elif reply.status in (nfsstat3.RETRY, nfsstat3.NFS3ERR_STALE):
            fault.why = "it has changed meanwhile: check again"
        else:
            fault.why = f"refused: {reply.status.name}"

    async def _obstacle(self, fault: Fault) -> str | None:
        """Why a fault cannot be repaired, if that is known beforehand."""
        if fault.kind is Kind.TWICE and fault.keep is None:
            return "no name of the root directory can stay: somebody has to look at it"
        if fault.kind in (Kind.ORPHAN, Kind.CYCLE) and await self._find_lost_and_found() is None:
            return "/lost+found cannot be used: it is no directory of root's"
        return None

    async def _repair(self, fault: Fault) -> Reply:
        obj, where, name = fault.obj, fault.where, fault.name
        named = (where, obj) if is_valid(obj) else (where,)
        if fault.kind is Kind.DANGLING:
            return await self._update("fsck.unbind", named, (where, name, obj & (1 << 64) - 1, 0, b""))
        if fault.kind is Kind.TWICE and fault.keep is not None:
            return await self._update("fsck.unbind", (*named, fault.keep[0]), (where, name, obj, *fault.keep))
        if fault.kind is Kind.TYPE:
            return await self._update("fsck.retype", named, (where, name, obj))
        if fault.kind is Kind.LINKS:
            return await self._update("fsck.relink", (obj,), fault.seen)
        if fault.kind is Kind.INDEX:
            return await self._index(obj)
        if fault.kind is Kind.PARENT:
            said = fault.seen[0] & (1 << 64) - 1
            return await self._moving(
                lambda now: self._update("fsck.reparent", (*named, TOPOLOGY), (where, name, obj, said, now))
            )
        if fault.kind is Kind.CYCLE:
            return await self._open_cycle(fault)
        return await self._attach(fault)

    async def _index(self, obj: int) -> Reply:
        while True:
            reply = await self._update("fsck.index", (obj,), None)
            if not reply.ok or reply.result:
                return reply

    async def _attach(self, fault: Fault) -> Reply:
        target, obj, ctime = await self._find_lost_and_found(), fault.obj, fault.seen[0]
        assert target is not None
        if not is_directory(obj):
            return await self._update("fsck.attach", (target, obj), (target, obj, ctime, None))
        return await self._moving(
            lambda now: self._update("fsck.attach", (target, obj, TOPOLOGY), (target, obj, ctime, now))
        )

    async def _open_cycle(self, fault: Fault) -> Reply:
        """Move one directory of a cycle out of it, as anybody might."""
        target = await self._find_lost_and_found()
        assert target is not None
        new_name = lost_name(fault.obj)
        got = await self._service.rename(
            SUPERUSER, fault.where, fault.name, target, new_name, RENAME_NOREPLACE, hint=fault.obj, to_hint=0
        )
        return Reply(got.status)

    async def _moving(self, attempt: Callable[[int], Awaitable[Reply]]) -> Reply:
        """Try with the topology's generation, and again when that has moved on meanwhile."""
        now = await generation(self._core)
        for _ in range(_ATTEMPTS):
            reply = await attempt(now)
            then, now = now, await generation(self._core)
            if reply.status is not nfsstat3.RETRY or now == then:
                break
        return reply

    async def _find_lost_and_found(self) -> int | None:
        """The directory, made if there is none; None when the name is taken by something else.

        That is also a directory of somebody who is neither superuser nor owner of the root directory: what is put there
        is its owner's to take away.
        """
        if self._lost_and_found is None:
            got = await self._service.lookup(SUPERUSER, ROOT, LOST_AND_FOUND)
            obj, attributes, root = got.object, got.obj_attributes, got.dir_attributes
            if got.status is nfsstat3.NFS3ERR_NOENT:
                made = await self._service.mkdir(SUPERUSER, ROOT, LOST_AND_FOUND, sattr3(mode=0o700))
                obj, attributes = made.obj, made.obj_attributes
            if attributes is None or attributes.type is not ftype3.NF3DIR:
                return None
            if attributes.uid != 0 and (root is None or attributes.uid != root.uid):
                return None
            self._lost_and_found = obj
        return self._lost_and_found

    async def _update(self, method: str, objects: tuple[int, ...], argument: object) -> Reply:
        named = tuple((obj, type_of(obj)) for obj in set(objects))
        call = Call(method, named, pack(argument), SUPERUSER, home=objects[0])
        return parse_answer(await self._core.update(call))
