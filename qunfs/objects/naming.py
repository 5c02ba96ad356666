"""Methods that give and take names: CREATE, MKDIR, SYMLINK, MKNOD, LINK, REMOVE and RMDIR.

Each is one atomic update of the directory, which is its home, and of the object that gets or loses the name.
"""

from typing import Any, Final

from qunfs.objects.attributes import new_attributes, parse_changes, parse_verifier
from qunfs.objects.codes import LINK_MAX, PATH_MAX, ftype3, nfsstat3
from qunfs.objects.directory import Directory, is_dot, open_directory, parse_name, start_directory
from qunfs.objects.invocation import Invocation, Node, Refusal, update
from qunfs.objects.permissions import SEARCH, WRITE, is_superuser, require, require_unlink
from qunfs.objects.state import TARGET_ROW, VERIFIER_ROW, Attributes, Entry

_WORD: Final = range(1 << 32)
_NODE_TYPES: Final = (ftype3.NF3BLK, ftype3.NF3CHR, ftype3.NF3SOCK, ftype3.NF3FIFO)


@update("dir.create")
def create(call: Invocation) -> int:
    """CREATE of (directory, name, new id, changes, verifier or None): a regular file, unless the name exists.

    EXIST tells (id, type) of what is there, with which an unchecked or repeated exclusive CREATE goes on.
    """
    where, name, obj, changes, verifier = call.argument
    node = _make(call, where, name, obj, ftype3.NF3REG, changes)
    if verifier is not None:
        node.view.put(VERIFIER_ROW, parse_verifier(verifier))
    return obj_of(node)


@update("dir.mkdir")
def mkdir(call: Invocation) -> int:
    """MKDIR of (directory, name, new id, changes)."""
    where, name, obj, changes = call.argument
    node = _make(call, where, name, obj, ftype3.NF3DIR, changes)
    start_directory(node, where)
    return obj_of(node)


@update("dir.symlink")
def symlink(call: Invocation) -> int:
    """SYMLINK of (directory, name, new id, changes, target)."""
    where, name, obj, changes, target = call.argument
    if type(target) is not bytes:
        raise TypeError("not a target")
    if len(target) >= PATH_MAX:
        raise Refusal(nfsstat3.NFS3ERR_NAMETOOLONG)
    if not target or b"\0" in target:
        raise Refusal(nfsstat3.NFS3ERR_INVAL if target else nfsstat3.NFS3ERR_NOENT)
    node = _make(call, where, name, obj, ftype3.NF3LNK, changes)
    node.attributes.mode, node.attributes.size = 0o777, len(target)
    node.view.put(TARGET_ROW, target)
    return obj_of(node)


@update("dir.mknod")
def mknod(call: Invocation) -> int:
    """MKNOD of (directory, name, new id, changes, type, (major, minor)); only the superuser makes devices."""
    where, name, obj, changes, kind, (major, minor) = call.argument
    if kind not in _NODE_TYPES:
        raise Refusal(nfsstat3.NFS3ERR_BADTYPE)
    if type(major) is not int or type(minor) is not int or major not in _WORD or minor not in _WORD:
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    node = _make(call, where, name, obj, ftype3(kind), changes)
    if kind in (ftype3.NF3BLK, ftype3.NF3CHR):
        if not is_superuser(call.credentials):
            raise Refusal(nfsstat3.NFS3ERR_PERM)
        node.attributes.rdev = (major, minor)
    return obj_of(node)


@update("dir.link")
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
    directory.node.touch(call.now, modified=True)


@update("dir.remove")
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
    directory.node.touch(call.now, modified=True)
    node.unlink(call.now)
    return obj_of(node)


@update("dir.rmdir")
def rmdir(call: Invocation) -> int:
    """RMDIR of (directory, name, id); RETRY tells the id when the name is bound to another."""
    where, name, obj = call.argument
    call.expect(where, obj)
    directory, entry = _open_for_removal(call, where, name, obj)
    node = call.node(obj)
    require_unlink(directory.attributes, call.credentials, node.attributes)
    Directory(node).require_empty()
    directory.drop(name, entry)
    directory.node.touch(call.now, modified=True)
    node.touch(call.now)
    node.remove()
    return obj_of(node)


def obj_of(node: Node) -> int:
    """The id that an answer names: a repeated operation may have been issued with another."""
    return node.obj


def require_new(directory: Directory, call: Invocation) -> None:
    """Refuse unless the caller may put an entry into a directory."""
    require(directory.attributes, call.credentials, WRITE | SEARCH)


def _open_for_new(call: Invocation, where: int, name: Any) -> Directory:
    """The directory, when the name is free and may be given; EXIST tells (id, type)."""
    parse_name(name)
    directory = open_directory(call, where)
    taken = Entry(where, ftype3.NF3DIR, 0) if is_dot(name) else directory.find(name)
    if taken is not None:
        raise Refusal(nfsstat3.NFS3ERR_EXIST, (taken.obj, taken.type))
    require_new(directory, call)
    return directory


def _make(call: Invocation, where: int, name: Any, obj: int, kind: ftype3, argument: Any) -> Node:
    """A new object under a new name."""
    call.expect(where, obj)
    changes = parse_changes(argument)
    directory = _open_for_new(call, where, name)
    attributes: Attributes = new_attributes(call, directory.attributes, kind, changes)
    node = call.fresh(obj, attributes)
    directory.enter(name, obj, kind)
    directory.node.touch(call.now, modified=True)
    return node


def _open_for_removal(call: Invocation, where: int, name: Any, obj: int) -> tuple[Directory, Entry]:
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
