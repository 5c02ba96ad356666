"""RENAME: one atomic update of up to two directories, the moved and the replaced object, and the topology object."""

from typing import Any, Final, NamedTuple

from qunfs.objects.codes import ftype3, nfsstat3
from qunfs.objects.directory import Directory, is_dot, open_directory, parse_name
from qunfs.objects.ids import TOPOLOGY, is_directory
from qunfs.objects.invocation import Invocation, Node, Refusal, update
from qunfs.objects.naming import require_new
from qunfs.objects.permissions import WRITE, require, require_unlink
from qunfs.objects.shapes import Nothing, fields
from qunfs.objects.state import Entry
from qunfs.objects.topology import bump

NOREPLACE: Final = 1
EXCHANGE: Final = 2


class _Rename(NamedTuple):
    """The argument: ``moved`` and ``replaced`` are what the caller saw the names bound to (0: to nothing).

    ``generation`` is the topology's when a directory changes its parent, else None; ``cycle`` says that the caller,
    looking up from the new parent at that generation, came upon the directory that is to move.
    """

    from_dir: int
    from_name: bytes
    to_dir: int
    to_name: bytes
    moved: int
    replaced: int
    flags: int
    generation: int | None
    cycle: bool


@update("dir.rename", fields(int, bytes, int, bytes, int, int, int, (Nothing, int), bool))
def rename(call: Invocation) -> tuple[int, int]:
    """RENAME: (moved, replaced or 0); RETRY tells the ids that the names are bound to now."""
    want = _parse(call)
    source = open_directory(call, want.from_dir)
    target = source if want.to_dir == want.from_dir else open_directory(call, want.to_dir)
    entry, other = _find(want, source, target)
    if other is not None and other.obj == entry.obj:
        raise Refusal(nfsstat3.NFS3_OK, (entry.obj, 0))
    moved = call.node(entry.obj)
    replaced = None if other is None else call.node(other.obj)
    _check(call, want, source, target, moved, replaced)
    if (other is None or replaced is None) and target is source:
        source.rename(want.from_name, entry, want.to_name)
    elif other is None or replaced is None:
        source.drop(want.from_name, entry)
        target.enter(want.to_name, entry.obj, entry.type)
    elif want.flags == EXCHANGE:
        source.rebind(want.from_name, entry, other.obj, other.type)
        target.rebind(want.to_name, other, entry.obj, entry.type)
        _moved(call, replaced, source, target)
    else:
        source.drop(want.from_name, entry)
        target.rebind(want.to_name, other, entry.obj, entry.type)
        _replaced(call, replaced)
    _moved(call, moved, target, source)
    source.node.modify(call.now)
    if target is not source:
        target.node.modify(call.now)
    return entry.obj, 0 if other is None else other.obj


def _parse(call: Invocation) -> _Rename:
    want = _Rename(*call.argument)
    moves = [obj for obj in (want.moved, want.replaced if want.flags == EXCHANGE else 0) if is_directory(obj)]
    reparents = want.from_dir != want.to_dir and bool(moves)
    if reparents != (want.generation is not None):
        raise ValueError("the topology generation belongs to moves of directories between parents")
    named = [want.from_dir, want.to_dir, want.moved]
    call.expect(*named, *[want.replaced] * bool(want.replaced), *[TOPOLOGY] * reparents)
    if want.flags not in (0, NOREPLACE, EXCHANGE):
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    for name in (want.from_name, want.to_name):
        if is_dot(parse_name(name)):
            raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return want


def _find(want: _Rename, source: Directory, target: Directory) -> tuple[Entry, Entry | None]:
    """The entries, when they are the ones that the caller means."""
    entry, other = source.find(want.from_name), target.find(want.to_name)
    if entry is None or (want.flags == EXCHANGE and other is None):
        raise Refusal(nfsstat3.NFS3ERR_NOENT)
    if want.flags == NOREPLACE and other is not None:
        raise Refusal(nfsstat3.NFS3ERR_EXIST)
    bound: Any = (entry.obj, 0 if other is None else other.obj)
    if bound != (want.moved, want.replaced):
        raise Refusal(nfsstat3.RETRY, bound)
    return entry, other


def _check(
    call: Invocation, want: _Rename, source: Directory, target: Directory, moved: Node, replaced: Node | None
) -> None:
    """Refuse what may not be, and claim the topology when a directory gets another parent."""
    cred = call.credentials
    swaps = want.flags == EXCHANGE
    if want.generation is not None:
        bump(call, want.generation)
    swallows_itself = moved.obj == want.to_dir or (swaps and replaced is not None and replaced.obj == want.from_dir)
    if want.cycle or swallows_itself:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if replaced is not None and replaced.obj == want.from_dir:
        raise Refusal(nfsstat3.NFS3ERR_NOTEMPTY)
    require_unlink(source.attributes, cred, moved.attributes)
    if replaced is None:
        require_new(target, call)
    else:
        require_unlink(target.attributes, cred, replaced.attributes)
    if target is not source:
        for node in (moved, replaced) if swaps else (moved,):
            if node is not None and node.attributes.is_directory:
                require(node.attributes, cred, WRITE)  # its ".." changes
    if replaced is not None and not swaps:
        if moved.attributes.is_directory and not replaced.attributes.is_directory:
            raise Refusal(nfsstat3.NFS3ERR_NOTDIR)
        if replaced.attributes.is_directory:
            if not moved.attributes.is_directory:
                raise Refusal(nfsstat3.NFS3ERR_ISDIR)
            Directory(replaced).require_empty()


def _moved(call: Invocation, node: Node, to: Directory, origin: Directory) -> None:
    """The ctime of what got another name; and a directory's parent."""
    node.touch(call.now)
    if to is not origin and node.attributes.type == ftype3.NF3DIR:
        Directory(node).move_to(to.node.obj)


def _replaced(call: Invocation, node: Node) -> None:
    """What lost its name loses a link; an empty directory goes away."""
    if node.attributes.is_directory:
        node.touch(call.now)
        node.remove()
    else:
        node.unlink(call.now)
