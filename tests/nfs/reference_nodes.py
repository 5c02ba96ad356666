"""The objects of the reference model, as :mod:`tests.nfs.reference` uses them, and what may be done to them by whom."""

from dataclasses import dataclass, field

from qunfs.nfs.types import fattr3, ftype3, nfsstat3, wcc_attr, wcc_data

S = nfsstat3
OK = S.NFS3_OK
READ, WRITE, SEARCH = 4, 2, 1
DOTS = (b".", b"..")


class Refused(Exception):
    def __init__(self, *statuses: nfsstat3) -> None:
        self.statuses = frozenset(statuses)


@dataclass(eq=False)
class Node:
    number: int
    type: ftype3
    mode: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int
    ctime: int
    parent: int = 0
    rdev: tuple[int, int] = (0, 0)
    store: bytes = b""
    generation: int = 0
    target: bytes = b""
    verifier: bytes | None = None
    gone: bool = False
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    entries: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    next_cookie: int = 3

    @property
    def is_directory(self) -> bool:
        return self.type is ftype3.NF3DIR


def in_group(cred, gid):
    return gid in (cred.gid, *cred.groups)


def may(cred, node, wanted):
    if cred.uid == 0:
        return wanted != SEARCH or node.is_directory or bool(node.mode & 0o111)
    shift = 6 if cred.uid == node.uid else 3 if in_group(cred, node.gid) else 0
    return node.mode >> shift & wanted == wanted


def owns(cred, node):
    return cred.uid in (0, node.uid)


def demand(holds, *statuses):
    if not holds:
        raise Refused(*statuses)


def sound_name(name):
    demand(len(name) <= 255, S.NFS3ERR_NAMETOOLONG)
    demand(name and not set(b"/\0") & set(name), S.NFS3ERR_INVAL)


def padded(name):
    return (len(name) + 3) // 4 * 4


class Nodes:
    """What there is, and was; and how it is shown."""

    def __init__(self, root: int, now: int) -> None:
        self.root, self.now, self.new = root, now, 0
        self.nodes = {root: Node(root, ftype3.NF3DIR, 0o777, 0, 0, 4096, now, now, now, parent=root)}
        self._before: dict[int, wcc_attr] = {}

    def call(self, procedure, cred, *args):
        """The result of a procedure, or how it may be refused."""
        self._before = {n: wcc_attr(node.size, node.mtime, node.ctime) for n, node in self.nodes.items()}
        try:
            return getattr(self, procedure)(cred, *args)
        except Refused as refused:
            return refused.statuses

    def live(self):
        return {number: node for number, node in self.nodes.items() if not node.gone}

    def names_of(self, number):
        return sum(obj == number for node in self.live().values() for obj, _ in node.entries.values())

    def links(self, node):
        if node.gone:
            return 0
        if node.is_directory:
            return 2 + sum(self.nodes[obj].is_directory for obj, _ in node.entries.values())
        return self.names_of(node.number)

    def show(self, number) -> fattr3:
        node = self.nodes[number]
        used = -(-node.size // 512) * 512 if node.type in (ftype3.NF3REG, ftype3.NF3DIR) else 0
        times = (node.atime, node.mtime, node.ctime)
        who = (node.uid, node.gid, node.size, used, node.rdev, self.root, number)
        return fattr3(node.type, node.mode, self.links(node), *who, *times, node.store, node.generation)

    def wcc(self, number) -> wcc_data:
        return wcc_data(self._before[number], self.show(number))

    def node(self, number) -> Node:
        node = self.nodes[number]
        demand(not node.gone, S.NFS3ERR_STALE)
        return node

    def touch(self, node, *, modified=False):
        node.ctime = max(node.ctime + 1, self.now)
        if modified:
            node.mtime = node.ctime

    def directory(self, cred, number) -> Node:
        """A directory that may be searched."""
        demand(self.nodes[number].is_directory, S.NFS3ERR_NOTDIR)
        node = self.node(number)
        demand(may(cred, node, SEARCH), S.NFS3ERR_ACCES)
        return node

    def is_above(self, number, directory):
        """Whether a directory is another one, or lies above it."""
        while directory not in (number, self.root):
            directory = self.nodes[directory].parent
        return directory == number
