"""Extended attributes (RFC 8276) of any object, with Linux' rules for their name spaces."""

from typing import Final

from qunfs.objects.codes import XATTR_BYTES_MAX, XATTR_NAME_MAX, XATTRS_BYTES_MAX, ftype3, nfsstat3
from qunfs.objects.invocation import Invocation, Node, Refusal, query, update
from qunfs.objects.permissions import READ, S_ISVTX, WRITE, is_owner, is_superuser, require
from qunfs.objects.shapes import fields, one_of
from qunfs.objects.state import XATTR_ROWS, xattr_key
from qunfs.protocol.operation import Credentials

CREATE: Final = 1
REPLACE: Final = 2

_USER: Final = b"user."
_TRUSTED: Final = b"trusted."
_SECURITY: Final = b"security."
_AFTER_XATTR_ROWS: Final = bytes((XATTR_ROWS[0] + 1,))


@query("attr.getxattr", one_of(bytes))
def getxattr(call: Invocation) -> bytes:
    """GETXATTR of a name."""
    node, name = call.node(call.only), _parse_name(call.argument)
    _require(call.credentials, node, name, READ)
    value = node.view.get(xattr_key(name))
    if value is None:
        raise Refusal(nfsstat3.NFS4ERR_NOXATTR)
    return value


@query("attr.listxattr")
def listxattr(call: Invocation) -> list[bytes]:
    """LISTXATTRS: all names; those in ``trusted.`` show to the superuser only."""
    node, every = call.node(call.only), is_superuser(call.credentials)
    names = (key[len(XATTR_ROWS) :] for key, _ in _rows(node))
    return [name for name in names if every or not name.startswith(_TRUSTED)]


@update("attr.setxattr", fields(bytes, bytes, int))
def setxattr(call: Invocation) -> None:
    """SETXATTR of (name, value, flags: 0, CREATE or REPLACE)."""
    argument, value, flags = call.argument
    node, name = call.node(call.only), _parse_name(argument)
    if flags not in (0, CREATE, REPLACE):
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    if len(value) > XATTR_BYTES_MAX:
        raise Refusal(nfsstat3.NFS4ERR_XATTR2BIG)
    _require(call.credentials, node, name, WRITE)
    key = xattr_key(name)
    old = node.view.get(key)
    if flags == CREATE and old is not None:
        raise Refusal(nfsstat3.NFS3ERR_EXIST)
    if flags == REPLACE and old is None:
        raise Refusal(nfsstat3.NFS4ERR_NOXATTR)
    others = sum(len(other) + len(row) for other, row in _rows(node) if other != key)
    if others + len(key) + len(value) > XATTRS_BYTES_MAX:
        raise Refusal(nfsstat3.NFS3ERR_NOSPC)
    node.view.put(key, value)
    node.touch(call.now)


@update("attr.removexattr", one_of(bytes))
def removexattr(call: Invocation) -> None:
    """REMOVEXATTR of a name."""
    node, name = call.node(call.only), _parse_name(call.argument)
    _require(call.credentials, node, name, WRITE)
    if node.view.get(xattr_key(name)) is None:
        raise Refusal(nfsstat3.NFS4ERR_NOXATTR)
    node.view.delete(xattr_key(name))
    node.touch(call.now)


def _rows(node: Node) -> list[tuple[bytes, bytes]]:
    return list(node.view.scan(XATTR_ROWS, _AFTER_XATTR_ROWS))


def _parse_name(name: bytes) -> bytes:
    if len(name) > XATTR_NAME_MAX:
        raise Refusal(nfsstat3.NFS4ERR_XATTR2BIG)
    if b"\0" in name or name in (b"", _USER, _TRUSTED, _SECURITY):
        raise Refusal(nfsstat3.NFS3ERR_INVAL)
    return name


def _require(cred: Credentials, node: Node, name: bytes, wanted: int) -> None:
    """Refuse as xattr(7) says: ``user.`` by the mode bits of files and directories, the others are the superuser's."""
    attributes = node.attributes
    if name.startswith(_USER):
        if attributes.type not in (ftype3.NF3REG, ftype3.NF3DIR):
            raise Refusal(nfsstat3.NFS3ERR_PERM if wanted == WRITE else nfsstat3.NFS4ERR_NOXATTR)
        if wanted == WRITE and attributes.is_directory and attributes.mode & S_ISVTX and not is_owner(cred, attributes):
            raise Refusal(nfsstat3.NFS3ERR_PERM)
        require(attributes, cred, wanted)
    elif name.startswith((_TRUSTED, _SECURITY)):
        hidden = name.startswith(_TRUSTED) and wanted == READ
        if not is_superuser(cred) and (wanted == WRITE or hidden):
            raise Refusal(nfsstat3.NFS4ERR_NOXATTR if hidden else nfsstat3.NFS3ERR_PERM)
    else:
        raise Refusal(nfsstat3.NFS3ERR_NOTSUPP)
