"""Methods for checking and mending the namespace as a whole; only the superuser may call them.

What is mended is what no other method leaves behind: something else went wrong before.  A method therefore believes
nothing that it can see for itself, and what it cannot see is bound to the ctime of the object, which every change of
its names moves on: RETRY when somebody has been there since the caller looked.
"""

from typing import Any, Final

from qunfs.objects.codes import COOKIE_MAX, LINK_MAX, ftype3, nfsstat3
from qunfs.objects.directory import Directory, parse_name
from qunfs.objects.ids import ROOT, TOPOLOGY, is_directory, is_valid
from qunfs.objects.invocation import Invocation, Refusal, query, update
from qunfs.objects.permissions import is_superuser
from qunfs.objects.shapes import NO_ARGUMENT, Nothing, fields, shape_of
from qunfs.objects.state import (
    ATTRIBUTES_ROW,
    COOKIE_ROWS,
    DIRECTORY_ROW,
    ENTRY_ROWS,
    FIRST_COOKIE,
    TARGET_ROW,
    Entry,
    cookie_key,
    cookie_of,
    entry_key,
    pack_entry,
    unpack_entry,
    unpack_header,
)
from qunfs.objects.topology import bump
from qunfs.protocol.execution import TYPE_KEY
from qunfs.protocol.operation import ObjectView

MENDS_MAX: Final = 4096
"""Entries and cookies that one ``fsck.index`` mends: the version that it makes stays small."""

_ROWS_BYTES_MAX: Final = 512 * 1024
"""Half of Limits.answer_bytes_max."""
_AFTER_ENTRY_ROWS: Final = bytes((ENTRY_ROWS[0] + 1,))
_AFTER_COOKIE_ROWS: Final = bytes((COOKIE_ROWS[0] + 1,))
_DIRECTORY: Final = int(ftype3.NF3DIR)
_NAME: Final = fields(int, bytes)


def lost_name(obj: int) -> bytes:
    """What an object without a name is called in ``/lost+found``."""
    return b"#%016x" % obj


def _require_superuser(call: Invocation) -> None:
    if not is_superuser(call.credentials):
        raise Refusal(nfsstat3.NFS3ERR_PERM)


@query("fsck.rows", fields(bytes, int))
def rows(call: Invocation) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Of (key, bytes at most): the rows behind the key that make a directory, and whether there are more.

    Those are attributes, header, entries and cookies, as they are; at least one if there is one.  A directory whose
    attributes are missing is absent to everybody else, but not here: what it names must not seem to have no name.
    """
    after, bytes_max = call.argument
    _require_superuser(call)
    view = call.views[call.only]
    if view.get(ATTRIBUTES_ROW) is not None or not any(True for _ in view.scan(ATTRIBUTES_ROW, TARGET_ROW)):
        call.node(call.only)
    room = min(bytes_max, _ROWS_BYTES_MAX)
    start = after + b"\0" if after >= ATTRIBUTES_ROW else ATTRIBUTES_ROW
    page: list[tuple[bytes, bytes]] = []
    if start >= TARGET_ROW:
        return page, False
    for key, value in view.scan(start, TARGET_ROW):
        if page and room <= 0:
            return page, True
        room -= len(key) + len(value)
        page.append((key, value))
    return page, False


@query("fsck.names", fields(int, tuple))
def names(call: Invocation) -> tuple[list[tuple[int, int, int] | None], bool, int | None]:
    """Of (id, (directory, name) ...), at one moment: what the names are bound to (id, type, cookie), and of the object
    whether it is there and its parent.  Its attributes are in the answer."""
    obj, wanted = call.argument
    _require_superuser(call)
    pairs: tuple[Any, ...] = wanted
    for pair in pairs:
        if shape_of(pair) not in _NAME:
            raise TypeError("not a name in a directory")
    call.expect(obj, obj, *[where for where, _ in pairs])
    found: list[tuple[int, int, int] | None] = []
    for where, name in pairs:
        row = call.views[where].get(entry_key(parse_name(name)))
        entry = None if row is None else unpack_entry(row)
        found.append(None if entry is None else (entry.obj, entry.type, entry.cookie))
    view = call.views[obj]
    if view.get(ATTRIBUTES_ROW) is None:
        return found, False, None
    call.node(obj)
    header = view.get(DIRECTORY_ROW)
    return found, True, None if header is None else unpack_header(header).parent


def _bound(call: Invocation, where: int, name: bytes, obj: int) -> tuple[Directory, Entry]:
    """A directory and its entry of that name, if it names the object; RETRY otherwise."""
    directory = Directory(call.node(where))
    entry = directory.find(parse_name(name))
    if entry is None or entry.obj != obj:
        raise Refusal(nfsstat3.RETRY)
    return directory, entry


@update("fsck.unbind", fields(int, bytes, int, int, bytes))
def unbind(call: Invocation) -> None:
    """Take away a name too many: (directory, name, id, directory to keep it in, name there), 0 and nothing for none.

    That is the name of an object that is not there, or a second one of a directory which its parent has.
    """
    where, name, obj, keep_dir, keep_name = call.argument
    _require_superuser(call)
    call.expect(where, obj if is_valid(obj) else where, *[keep_dir] * bool(keep_dir))
    directory, entry = _bound(call, where, name, obj)
    if keep_dir:
        _bound(call, keep_dir, keep_name, obj)
        if (where, name) == (keep_dir, keep_name) or Directory(call.node(obj)).header.parent != keep_dir:
            raise Refusal(nfsstat3.RETRY)
    elif is_valid(obj) and call.views[obj].get(ATTRIBUTES_ROW) is not None:
        raise Refusal(nfsstat3.RETRY)
    directory.drop(name, entry)
    directory.node.modify(call.now)


@update("fsck.retype", fields(int, bytes, int))
def retype(call: Invocation) -> None:
    """Have the entry of (directory, name, id) say the type that the object has."""
    where, name, obj = call.argument
    _require_superuser(call)
    call.expect(where, obj)
    directory, entry = _bound(call, where, name, obj)
    kind = call.node(obj).attributes.type
    if kind == entry.type:
        raise Refusal(nfsstat3.RETRY)
    directory.rebind(name, entry, obj, kind)
    directory.node.modify(call.now)


@update("fsck.reparent", fields(int, bytes, int, int, int))
def reparent(call: Invocation) -> None:
    """Have a directory say the parent that has its name: (that, name, id, the parent it says, topology generation)."""
    where, name, obj, said, generation = call.argument
    _require_superuser(call)
    call.expect(where, obj, TOPOLOGY)
    _bound(call, where, name, obj)
    directory = Directory(call.node(obj))
    if directory.header.parent != said or said == where or obj in (ROOT, where):
        raise Refusal(nfsstat3.RETRY)
    bump(call, generation)
    directory.move_to(where)
    directory.node.touch(call.now)


@update("fsck.relink", fields(int, int))
def relink(call: Invocation) -> None:
    """Set the link count of a file that has this (ctime, number of names)."""
    ctime, links = call.argument
    _require_superuser(call)
    node = call.node(call.only)
    if node.attributes.is_directory or not 0 < links <= LINK_MAX:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if node.attributes.ctime != ctime or node.attributes.nlink == links:
        raise Refusal(nfsstat3.RETRY)
    node.attributes.nlink = links
    node.touch(call.now)


@update("fsck.attach", fields(int, int, int, (Nothing, int)))
def attach(call: Invocation) -> bytes:
    """Give an object without a name one: (directory right below the root, id, ctime, topology generation).

    The last is for directories only, which get another parent.  Says the name.
    """
    where, obj, ctime, generation = call.argument
    _require_superuser(call)
    if is_directory(obj) != (generation is not None) or obj in (ROOT, where):
        raise ValueError("the topology generation belongs to directories that get another parent")
    call.expect(where, obj, *[TOPOLOGY] * is_directory(obj))
    directory, node = Directory(call.node(where)), call.node(obj)
    if directory.header.parent != ROOT:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if node.attributes.ctime != ctime:
        raise Refusal(nfsstat3.RETRY)
    name = lost_name(obj)
    if directory.find(name) is not None:
        raise Refusal(nfsstat3.NFS3ERR_EXIST)
    if generation is None:
        node.attributes.nlink = 1
    else:
        bump(call, generation)
        Directory(node).move_to(where)
    directory.enter(name, obj, node.attributes.type)
    directory.node.modify(call.now)
    node.touch(call.now)
    return name


@update("fsck.index", NO_ARGUMENT)
def index(call: Invocation) -> bool:
    """Make the cookies, the counters and the link count of a directory agree with its entries; whether all now do.

    An entry keeps its cookie where it can, and gets a new one otherwise, as if it had just been made.  This reads the
    whole directory: nothing else does, and nobody needs it often.
    """
    _require_superuser(call)
    directory = Directory(call.node(call.only))
    view, header = directory.node.view, directory.header
    names_by_cookie = {cookie_of(key): name for key, name in view.scan(COOKIE_ROWS, _AFTER_COOKIE_ROWS)}
    header.next_cookie = max([header.next_cookie, FIRST_COOKIE])
    mends, entries, subdirectories, lost = 0, 0, 0, []
    for key, row in view.scan(ENTRY_ROWS, _AFTER_ENTRY_ROWS):
        name, entry = key[len(ENTRY_ROWS) :], unpack_entry(row)
        entries += 1
        subdirectories += int(entry.type == _DIRECTORY)
        if names_by_cookie.get(entry.cookie) == name and FIRST_COOKIE <= entry.cookie < COOKIE_MAX:
            del names_by_cookie[entry.cookie]
            header.next_cookie = max([header.next_cookie, entry.cookie + 1])
        else:
            lost.append((name, entry))
    for cookie in list(names_by_cookie)[:MENDS_MAX]:
        view.delete(cookie_key(cookie))
        mends += 1
    for name, entry in lost[: MENDS_MAX - mends]:
        _give_cookie(directory, view, name, entry)
        mends += 1
    whole = mends == len(lost) + len(names_by_cookie)
    directory.attributes.nlink = 2 + subdirectories
    header.entries = entries
    directory.write_header()
    directory.node.modify(call.now)
    return whole


def _give_cookie(directory: Directory, view: ObjectView, name: bytes, entry: Entry) -> None:
    header, cookie = directory.header, entry.cookie
    free = FIRST_COOKIE <= cookie < header.next_cookie and view.get(cookie_key(cookie)) is None
    if not free:
        cookie = header.next_cookie
        if cookie >= COOKIE_MAX:
            raise Refusal(nfsstat3.NFS3ERR_NOSPC)
        header.next_cookie = cookie + 1
        view.put(entry_key(name), pack_entry(entry.obj, entry.type, cookie))
    view.put(cookie_key(cookie), name)


@update("fsck.refresh", NO_ARGUMENT)
def refresh(call: Invocation) -> None:
    """Change nothing: a new version that is the same as the old one, for replicas that lack the old one.

    What is gone has versions too, and keeps its type; a replica that lacks the last one believes it to be there.
    """
    _require_superuser(call)
    if call.views[call.only].get(TYPE_KEY) is None:
        raise Refusal(nfsstat3.NFS3ERR_STALE)
