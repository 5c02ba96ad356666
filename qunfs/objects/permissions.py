"""Who may do what: the checks that every method shares.

They follow POSIX as Linux applies it; like every method they see nothing but state, argument and credentials.  User 0
is the superuser.
"""

from typing import Final

from qunfs.objects.codes import nfsstat3
from qunfs.objects.invocation import Refusal
from qunfs.objects.state import Attributes
from qunfs.protocol.operation import Credentials

READ: Final = 4
WRITE: Final = 2
EXECUTE: Final = 1
SEARCH: Final = EXECUTE

S_ISUID: Final = 0o4000
S_ISGID: Final = 0o2000
S_ISVTX: Final = 0o1000
S_IXGRP: Final = 0o0010
MODE_BITS: Final = 0o7777


def is_superuser(cred: Credentials) -> bool:
    """Whether no check applies to these credentials."""
    return cred.uid == 0


def is_owner(cred: Credentials, attributes: Attributes) -> bool:
    """Whether these credentials own an object, or need not."""
    return cred.uid in (0, attributes.uid)


def in_group(cred: Credentials, gid: int) -> bool:
    """Whether a group is the credentials' own or a supplementary one."""
    return gid == cred.gid or gid in cred.groups


def granted(mode: int, uid: int, gid: int, cred: Credentials) -> int:
    """What the mode of an object with this owner and group grants: a sum of READ, WRITE and EXECUTE.

    The superuser needs no grant.
    """
    if cred.uid == uid:
        return mode >> 6 & 7
    if in_group(cred, gid):
        return mode >> 3 & 7
    return mode & 7


def allows(attributes: Attributes, cred: Credentials, wanted: int) -> bool:
    """Whether the mode bits grant all of ``wanted`` (a sum of READ, WRITE and EXECUTE)."""
    if is_superuser(cred):
        return not wanted & EXECUTE or attributes.is_directory or bool(attributes.mode & 0o111)
    return granted(attributes.mode, attributes.uid, attributes.gid, cred) & wanted == wanted


def require(attributes: Attributes, cred: Credentials, wanted: int) -> None:
    """Refuse with ACCES unless the mode bits grant all of ``wanted``."""
    if not allows(attributes, cred, wanted):
        raise Refusal(nfsstat3.NFS3ERR_ACCES)


def require_write(attributes: Attributes, cred: Credentials) -> None:
    """Refuse to change contents unless the mode bits or ownership grant it.

    An owner may write whatever the mode says: the file may have been opened for writing when it was created with a
    mode that forbids it, which only the client knows (RFC 1813, section 4.4).
    """
    if not is_owner(cred, attributes):
        require(attributes, cred, WRITE)


def require_unlink(directory: Attributes, cred: Credentials, victim: Attributes) -> None:
    """Refuse unless an entry may be taken out of a directory: write and search, and in a sticky one ownership."""
    require(directory, cred, WRITE | SEARCH)
    if directory.mode & S_ISVTX and not (is_owner(cred, directory) or is_owner(cred, victim)):
        raise Refusal(nfsstat3.NFS3ERR_PERM)


def without_set_id(attributes: Attributes, cred: Credentials) -> int:
    """The mode once somebody has written to the object or given it away; a directory's stays."""
    if attributes.is_directory:
        return attributes.mode
    return mode_without_set_id(attributes.mode, attributes.gid, cred)


def mode_without_set_id(mode: int, gid: int, cred: Credentials) -> int:
    """The mode of a file of this group once somebody has written to it or given it away.

    A set-gid bit that lets nobody execute, which once meant mandatory locking, is spared for members of the group.
    """
    spared = not mode & S_IXGRP and (is_superuser(cred) or in_group(cred, gid))
    return mode & ~(S_ISUID | (0 if spared else S_ISGID))
