"""Methods that give and take names: CREATE, MKDIR, SYMLINK, MKNOD, LINK, REMOVE and RMDIR.

Each is one atomic update of the directory, which is its home, and of the object that gets or loses the name.
"""

from typing import Any, Final

from qunfs.objects.attributes import new_attributes, parse_changes, parse_verifier
from qunfs.objects.codes import LINK_MAX, PATH_MAX, ftype3, nfsstat3
from qunfs.objects.directory import Directory, is_dot, open_directory, parse_name, start_directory
from qunfs.objects.invocation import Invocation, Node, Refusal, update
from qunfs.objects.permissions import SEARCH, WRITE, is_superuser, require, require_unlink
from qunfs.objects.shapes import PAIR, Nothing, fields, shape_of
from qunfs.objects.state import TARGET_ROW, VERIFIER_ROW, Entry

_REMOVAL: Final = fields(int, bytes, int)
_WORD_MAX: Final = (1 << 32) - 1
_NODE_TYPES: Final = (ftype3.NF3BLK, ftype3.NF3CHR, ftype3.NF3SOCK, ftype3.NF3FIFO)
_REGULAR: Final = int(ftype3.NF3REG)
_DIRECTORY: Final = int(ftype3.NF3DIR)


@update("dir.create", fields(int, bytes, int, tuple, (Nothing, bytes)))
def create(call: Invocation) -> int:
    """CREATE of (directory, name, new id, changes, verifier or None): a regular file, unless the name exists.

    The answer names the id, as those of the others do: a repeated operation may have been issued with another.
    EXIST tells (id, type) of what is there, with which an unchecked or repeated exclusive CREATE goes on.
    """
    where, name, obj, changes, verifier = call.argument
    node = _make(call, where, name, obj, _REGULAR, changes)
    if verifier is not None:
        node.view.put(VERIFIER_ROW, parse_verifier(verifier))
    return node.obj


@update("dir.mkdir", fields(int, bytes, int, tuple))
def mkdir(call: Invocation) -> int:
    """MKDIR of (directory, name, new id, changes)."""
    where, name, obj, changes = call.argument
    node = _make(call, where, name, obj, _DIRECTORY, changes)
    start_directory(node, where)
    return node.obj


@update("dir.symlink", fields(int, bytes, int, tuple, bytes))
def symlink(call: Invocation) -> int:
    """SYMLINK of (directory, name, new id, changes, target)."""
    where, name, obj, changes, target = call.argument
    if len(target) >= PATH_MAX:
        raise Refusal(nfsstat3.NFS3ERR_NAMETOOLONG)
    if not target or b"\0" in target:
        raise Refusal(nfsstat3.NFS3ERR_INVAL if target else nfsstat3.NFS3ERR_NOENT)
    node = _make(call, where, name, obj, ftype3.NF3LNK, changes)
    node.attributes.mode, node.attributes.size = 0o777, len(target)
    node.view.put(TARGET_ROW, target)
    return node.obj


@update("dir.mknod", fields(int, bytes, int, tuple, int, tuple))
def mknod(call: Invocation) -> int:
    """MKNOD of (directory, name, new id, changes, type, (major, minor)); only the superuser makes devices."""
    where, name, obj, changes, kind, rdev = call.argument
    if shape_of(rdev) not in PAIR:
        raise TypeError("not a device")
    if kind not in _NODE_TYPES:
        raise Refusal(nfsstat3.NFS3ERR_BADTYPE)
    major, minor = rdev
    if not (0 <= major <= _WORD_MAX and 0 <= minor <= _WORD_MAX):
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    node = _make(call, where, name, obj, kind, changes)
    if kind in (ftype3.NF3BLK, ftype3.NF3CHR):
        if not is_superuser(call.credentials):
            raise Refusal(nfsstat3.NFS3ERR_PERM)
        node.attributes.rdev = (major, minor)
    return node.obj


@update("dir.link", fields(int, int, bytes))
def link(call: Invocation) -> None:
    """LINK of (file, directory, name)."""
    file, where, name = call.argument
    call.expect(file, where)
    directory = _open_for_new(call, where, name)
    node = call.node(file)
    if node.attributes.is_directory:
        raise Refusal(nfsstat3.NFS3ERR_PERM)
    if node.attributes.nlink >= LINK_MAX:
        raise Refusal(nfsstat3.NFS3ERR_MLINK)
    node.attributes.nlink += 1
    node.touch(call.now)
    directory.enter(name, file, node.attributes.type)
    directory.node.modify(call.now)


@update("dir.remove", _REMOVAL)
def remove(call: Invocation) -> int:
    """REMOVE of (directory, name, id); RETRY tells the id when the name is bound to another."""
    where, name, obj = call.argument
    call.expect(where, obj)
    directory, entry = _open_for_removal(call, where, name, obj)
    node = call.node(obj)
    require_unlink(directory.attributes, call.credentials, node.attributes)
    if node.attributes.is_directory:
        raise Refusal(nfsstat3.NFS3ERR_ISDIR)
    directory.drop(name, entry)
    directory.node.modify(call.now)
    node.unlink(call.now)
    return node.obj


@update("dir.rmdir", _REMOVAL)
def rmdir(call: Invocation) -> int:
    """RMDIR of (directory, name, id); RETRY tells the id when the name is bound to another."""
    where, name, obj = call.argument
    call.expect(where, obj)
    directory, entry = _open_for_removal(call, where, name, obj)
    node = call.node(obj)
    require_unlink(directory.attributes, call.credentials, node.attributes)
    Directory(node).require_empty()
    directory.drop(name, entry)
    directory.node.modify(call.now)
    node.touch(call.now)
    node.remove()
    return node.obj


def require_new(directory: Directory, call: Invocation) -> None:
    """Refuse unless the caller may put an entry into a directory."""
    require(directory.attributes, call.credentials, WRITE | SEARCH)


def _open_for_new(call: Invocation, where: int, name: bytes) -> Directory:
    """The directory, when the name is free and may be given; EXIST tells (id, type)."""
    parse_name(name)
    directory = open_directory(call, where)
    taken = Entry(where, _DIRECTORY, 0) if is_dot(name) else directory.find(name)
    if taken is not None:
        raise Refusal(nfsstat3.NFS3ERR_EXIST, (taken.obj, taken.type))
    require_new(directory, call)
    return directory


def _make(call: Invocation, where: int, name: bytes, obj: int, kind: int, argument: Any) -> Node:
    """A new object under a new name."""
    call.expect(where, obj)
    changes = parse_changes(argument)
    directory = _open_for_new(call, where, name)
    node = call.fresh(obj, new_attributes(call, directory.attributes, kind, changes))
    directory.enter(name, obj, kind)
    directory.node.modify(call.now)
    return node


def _open_for_removal(call: Invocation, where: int, name: bytes, obj: int) -> tuple[Directory, Entry]:
    """The directory and the entry that is to go, when it is the one that the caller means."""
    parse_name(name)
    directory = open_directory(call, where)
    if is_dot(name):
        raise Refusal(nfsstat3.NFS3ERR_INVAL if name == b"." else nfsstat3.NFS3ERR_NOTEMPTY)
    entry = directory.find(name)
    if entry is None:
        raise Refusal(nfsstat3.NFS3ERR_NOENT)
    if entry.obj != obj:
        raise Refusal(nfsstat3.RETRY, (entry.obj, 0))
    return directory, entry
