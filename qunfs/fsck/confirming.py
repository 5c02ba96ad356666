"""The second look: whether a suspicion is so at one moment, as a quorum shows it.

Where two or three objects contradict each other, one joint query shows them as they are together.  Where names are
missing, the walk is made once more: when its object has not changed from before that walk until after it, and no
directory has moved, the names that the second walk found are all there are.  A directory that cannot be read may name
anything: while there is one, no name is known to be missing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from qunfs.fsck.book import Book
from qunfs.fsck.checks import OF_THE_WALK, suspicions
from qunfs.fsck.findings import Fault, Kind
from qunfs.fsck.walk import SUPERUSER, Walk, attributes_in, generation, replies
from qunfs.nfs.calls import Reply, query_call
from qunfs.objects.ids import ROOT, is_directory, is_valid, type_of
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Call, QueryUpdate
from qunfs.protocol.packing import pack

WALKS_MAX: Final = 3
"""Walks that are made to confirm something while directories move."""

_TOGETHER: Final = 64
_LOOSE: Final = "SELECT id FROM object WHERE via = 0 AND state IN (1, 3)"
_UNREAD: Final = "SELECT count(*) FROM object WHERE directory AND (state = 3 OR id = ? AND state != 1)"


async def confirmed(core: QueryUpdate, faults: Iterable[Fault]) -> list[Fault]:
    """Those of the faults that are so, of the kinds that one look can confirm."""
    wanted = [fault for fault in faults if fault.kind not in OF_THE_WALK]
    found: list[Fault] = []
    for start in range(0, len(wanted), _TOGETHER):
        some = wanted[start : start + _TOGETHER]
        calls = [_look(fault) for fault in some]
        for fault, reply in zip(some, await replies(core, calls), strict=True):
            if _holds(fault, reply):
                found.append(fault)
    return found


def _look(fault: Fault) -> Call:
    """What shows everything that a fault is about at one moment."""
    if fault.kind in (Kind.INDEX, Kind.UNREADABLE):
        method, argument = ("fsck.rows", (b"", 1)) if is_directory(fault.obj) else ("attr.getattr", None)
        return query_call(SUPERUSER, method, fault.obj, argument)
    pairs = [(fault.where, fault.name)]
    if fault.keep is not None:
        pairs.append(fault.keep)
    return names_call(fault.obj if is_valid(fault.obj) else fault.where, pairs)


def names_call(obj: int, pairs: Sequence[tuple[int, bytes]]) -> Call:
    """An object and some names, at one moment."""
    objects = {obj, *[where for where, _ in pairs]}
    assert len(objects) <= DEFAULT_LIMITS.objects_per_operation_max
    return Call("fsck.names", tuple((o, type_of(o)) for o in objects), pack((obj, tuple(pairs))), SUPERUSER)


def _holds(fault: Fault, reply: Reply | None) -> bool:
    """Whether what was seen is still so."""
    if reply is None:
        return True  # what it is about makes no sense, so that nothing speaks against it
    if fault.kind in (Kind.INDEX, Kind.UNREADABLE):
        # it was seen in one object alone, as that was at one moment, and the object is still there
        return reply.ok or fault.obj == ROOT
    if not reply.ok:
        return False
    bound, present, parent = reply.result
    if any(entry is None or entry[0] != fault.obj & (1 << 64) - 1 for entry in bound):
        return False
    if fault.kind is Kind.DANGLING:
        return not present or not is_valid(fault.obj)
    if not present:
        return False
    if fault.kind is Kind.TYPE:
        attributes = attributes_in(reply, fault.obj)
        return attributes is not None and bound[0][1] != attributes.type
    if fault.kind is Kind.PARENT:
        return bool(parent == fault.seen[0] & (1 << 64) - 1 and parent != fault.where)
    return True


class SecondWalk:
    """Confirms what only another walk can.

    ``unsettled`` counts what kept changing, ``unread`` the directories that keep anything from being confirmed.
    """

    def __init__(self, core: QueryUpdate, n: int, on_progress: Callable[[str], None]) -> None:
        self._core, self._n, self._on_progress = core, n, on_progress
        self.unsettled = self.unread = 0

    async def confirmed(self, first: Book, faults: Iterable[Fault]) -> list[Fault]:
        """Those of the faults that are so, as the last walk saw them."""
        suspected = {fault.key: fault for fault in faults if fault.kind in OF_THE_WALK}
        before = {obj: ctime for obj, ctime in await self._ctimes(suspected.values()) if ctime is not None}
        for attempt in range(WALKS_MAX):
            suspected = {key: fault for key, fault in suspected.items() if fault.obj in before}
            if not suspected:
                return []
            self._on_progress(f"walking again for {len(suspected)} suspicions")
            moved = await generation(self._core)
            with Book(self._n) as book:
                walk = Walk(self._core, book, self._n, self._on_progress)
                await walk.from_root()
                await walk.from_ids(row[0] for row in first.each(_LOOSE))
                torn = book.number("SELECT count(*) FROM object WHERE torn")
                again = {fault.key: fault for fault in suspicions(book) if fault.key in suspected}
                if again and (unread := book.number(_UNREAD, ROOT)):
                    self.unread = unread
                    return []
                for fault in again.values():
                    fault.path = book.path(fault.obj)
            after = {obj: ctime for obj, ctime in await self._ctimes(again.values()) if ctime is not None}
            still = not torn and await generation(self._core) == moved
            same = [fault for fault in again.values() if after.get(fault.obj) == before[fault.obj]]
            if still or attempt == WALKS_MAX - 1:
                self.unsettled = len(again) - len(same) if still else len(again)
                return same if still else []
            suspected, before = again, after
        return []

    async def _ctimes(self, faults: Iterable[Fault]) -> list[tuple[int, Any]]:
        """The ctime of each object, None of what is not there."""
        objects = sorted({fault.obj for fault in faults})
        found: list[tuple[int, Any]] = []
        for start in range(0, len(objects), _TOGETHER):
            some = objects[start : start + _TOGETHER]
            calls = [query_call(SUPERUSER, "attr.getattr", obj) for obj in some]
            for obj, reply in zip(some, await replies(self._core, calls), strict=True):
                attributes = None if reply is None else attributes_in(reply, obj)
                found.append((obj, None if attributes is None else attributes.ctime))
        return found
