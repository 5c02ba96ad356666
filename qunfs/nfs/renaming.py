"""RENAME: one update, with what it was decided on in its argument.

When a directory gets another parent, the topology's generation is read first and then the new parent's ancestors: the
method compares the generation, so that no two moves by correct clients can make a cycle together.
"""

from dataclasses import dataclass, field
from typing import Final

from qunfs.nfs.calls import ATTEMPTS, Procedures, Reply, Unsendable, not_a_directory, parse_answer, query_call
from qunfs.nfs.types import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME3res, nfs_fh3, nfsstat3
from qunfs.objects.ids import ROOT, TOPOLOGY, is_directory, is_valid
from qunfs.protocol.operation import Credentials

_DEPTH_MAX: Final = 1 << 16
"""How far up to look for the root: reads stay bounded whatever a malevolent client has built."""

_REMEMBERED_MAX: Final = 128
"""Ancestors that are asked for their parents together when a move starts over."""


@dataclass(slots=True)
class _Move:
    """What the names are believed to be bound to; ``replaced`` 0 is nothing, None unknown."""

    from_dir: int
    from_name: bytes
    to_dir: int
    to_name: bytes
    flags: int
    moved: int | None
    replaced: int | None
    parents: dict[int, int] = field(default_factory=dict)
    """Directories and their parents, as last seen on a way up."""

    def way_up(self, at: int) -> list[int]:
        """The directories between one and the root, as last seen."""
        way: list[int] = []
        while at != ROOT and at in self.parents and len(way) < _REMEMBERED_MAX:
            way.append(at)
            at = self.parents[at]
        return way

    def climbs(self) -> list[tuple[int, int]]:
        """(directory that moves, its new parent) for every directory that gets another parent."""
        if self.from_dir == self.to_dir:
            return []
        moves = [(self.moved, self.to_dir)]
        if self.flags == RENAME_EXCHANGE:
            moves.append((self.replaced, self.from_dir))
        return [(obj, parent) for obj, parent in moves if obj and is_directory(obj)]


class RenameProcedures(Procedures):
    """RENAME."""

    async def rename(
        self,
        cred: Credentials,
        from_dir: nfs_fh3,
        from_name: bytes,
        to_dir: nfs_fh3,
        to_name: bytes,
        flags: int = 0,
        hint: nfs_fh3 | None = None,
        to_hint: nfs_fh3 | None = None,
    ) -> RENAME3res:
        """RENAME (RFC 1813, section 3.3.14); flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE.

        ``hint`` and ``to_hint``: the ids that the caller believes the names are bound to (``to_hint`` 0: to none).
        """
        move = _Move(from_dir, from_name, to_dir, to_name, flags, hint, to_hint)
        refused = _refuse(move)
        if refused is not None:
            return RENAME3res(refused)
        for _ in range(ATTEMPTS):
            reply = await self._attempt(cred, move)
            if reply.status is not nfsstat3.RETRY:
                return _renamed(reply, move)
            if reply.result is not None:
                move.moved, move.replaced = reply.result
        return RENAME3res(nfsstat3.NFS3ERR_JUKEBOX)

    async def _attempt(self, cred: Credentials, move: _Move) -> Reply:
        if move.moved is None or move.replaced is None:
            refusal = await self._look_up_both(cred, move)
            if refusal is not None:
                return refusal
        assert move.moved is not None and move.replaced is not None  # noqa: PT018 - looked up
        generation: int | None = None
        cycle = False
        climbs = move.climbs()
        if climbs:
            topology = parse_answer((await self._query_all([query_call(cred, "topo.fetch", TOPOLOGY)]))[0].value)
            generation = topology.result
            for obj, parent in climbs:
                climb = await self._climb(cred, move, obj, parent)
                if not climb.ok:
                    return climb
                cycle = cycle or climb.result
        argument = (
            move.from_dir,
            move.from_name,
            move.to_dir,
            move.to_name,
            move.moved,
            move.replaced,
            move.flags,
            generation,
            cycle,
        )
        objects = (move.from_dir, move.to_dir, move.moved, *[move.replaced] * bool(move.replaced))
        more = (TOPOLOGY,) if climbs else ()
        return await self._update(cred, "dir.rename", objects, argument, home=move.from_dir, more=more)

    async def _look_up_both(self, cred: Credentials, move: _Move) -> Reply | None:
        """Find out what both names are bound to; the refusal if that settles it."""
        try:
            calls = [
                query_call(cred, "dir.find", move.from_dir, move.from_name),
                query_call(cred, "dir.find", move.to_dir, move.to_name),
            ]
        except Unsendable as error:
            return Reply(error.status)
        source, target = (parse_answer(answer.value) for answer in await self._query_all(calls))
        if not source.ok:
            return source
        if not target.ok and target.status is not nfsstat3.NFS3ERR_NOENT:
            return target
        move.moved, move.replaced = source.result[0], target.result[0] if target.ok else 0
        return None

    async def _climb(self, cred: Credentials, move: _Move, obj: int, parent: int) -> Reply:
        """Whether a directory is the parent-to-be itself or an ancestor of it, as far as can be seen from outside.

        A move that starts over asks all that lay above the last time at once: or one with a long way to go would lose
        to those with a short one for ever.
        """
        way = move.way_up(parent)
        calls = [query_call(cred, "dir.parent", directory) for directory in way]
        replies = [parse_answer(answer.value) for answer in await self._query_all(calls)] if calls else []
        seen = dict(zip(way, replies, strict=True))
        at = parent
        for _ in range(_DEPTH_MAX):
            if at in (obj, ROOT):
                return Reply(nfsstat3.NFS3_OK, at == obj)
            reply = seen.get(at) or await self._query(cred, "dir.parent", at)
            if not reply.ok:  # an ancestor can only be gone when the tree has changed since it was one
                return reply if at == parent else Reply(nfsstat3.RETRY)
            move.parents[at] = reply.result
            at = reply.result
        return Reply(nfsstat3.NFS3ERR_SERVERFAULT)


def _refuse(move: _Move) -> nfsstat3 | None:
    """What needs no server to be refused."""
    if not_a_directory(move.from_dir, move.to_dir):
        return nfsstat3.NFS3ERR_NOTDIR
    if not (is_valid(move.from_dir) and is_valid(move.to_dir)):
        return nfsstat3.NFS3ERR_BADHANDLE
    dots = (b".", b"..")
    if move.from_name in dots or move.to_name in dots or move.flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        return nfsstat3.NFS3ERR_INVAL
    return None


def _renamed(reply: Reply, move: _Move) -> RENAME3res:
    moved, replaced = reply.result if reply.ok else (0, 0)
    return RENAME3res(
        reply.status,
        reply.wcc(move.from_dir),
        reply.wcc(move.to_dir),
        replaced,
        reply.attributes(replaced),
        moved,
        reply.attributes(moved),
    )
