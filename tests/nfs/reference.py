"""A file system in the plainest way: what RFC 1813 and POSIX say, on dicts in memory, one call at a time.

Procedures are named as those of the service and give the same results, or the set of statuses that a refusal may have
(more than one where no document says what is looked at first).  Link counts are counted, never kept.
"""

from qunfs.nfs.types import (
    COOKIE_VERIFIER,
    ACCESS3res,
    CREATE3res,
    GETATTR3res,
    GETXATTRres,
    LINK3res,
    LISTXATTRSres,
    LOOKUP3res,
    READDIR3res,
    READDIRPLUS3res,
    READLINK3res,
    REMOVE3res,
    RENAME3res,
    RMDIR3res,
    SETATTR3res,
    SETXATTRres,
    createmode3,
    entry3,
    entryplus3,
    ftype3,
    sattr3,
    time_how,
)
from qunfs.objects.ids import disguised
from tests.nfs.reference_nodes import (
    READ,
    SEARCH,
    WRITE,
    Node,
    Nodes,
    Refused,
    S,
    demand,
    in_group,
    may,
    owns,
    padded,
    sound_name,
)

OK = S.NFS3_OK
DOTS = (b".", b"..")
RESULT_BYTES = 4 + (4 + 84) + 8 + 4 + 4  # status, attributes, verifier, no further entry, eof
ENTRY_BYTES = 4 + 8 + 4 + 8  # one follows, fileid, the name's length, cookie
PLUS_BYTES = (4 + 84) + (4 + 4 + 8)  # attributes, handle


class Attributes(Nodes):
    """Procedures on one object."""

    def getattr(self, cred, number):
        self.node(number)
        return GETATTR3res(OK, self.show(number))

    def access(self, cred, number, wanted):
        node = self.node(number)
        granted = 0x01 if may(cred, node, READ) else 0
        if may(cred, node, WRITE):
            granted |= 0x1C if node.is_directory else 0x0C
        if may(cred, node, SEARCH):
            granted |= 0x02 if node.is_directory else 0x20
        return ACCESS3res(OK, self.show(number), granted & wanted)

    def readlink(self, cred, number):
        node = self.node(number)
        demand(node.type is ftype3.NF3LNK, S.NFS3ERR_INVAL)
        return READLINK3res(OK, self.show(number), node.target)

    def setattr(self, cred, number, new: sattr3, guard=None):
        node = self.node(number)
        demand(guard in (None, node.ctime), S.NFS3ERR_NOT_SYNC)
        self._may_set(cred, node, new)
        if owns(cred, node) or new._replace(generation=None) != sattr3():
            self._set(cred, node, new)
        return SETATTR3res(OK, self.wcc(number))

    def _may_set(self, cred, node, new):
        if cred.uid != 0:
            demand(new.uid in (None, node.uid), S.NFS3ERR_PERM)
            demand(new.gid in (None, node.gid) or in_group(cred, new.gid), S.NFS3ERR_PERM)
        if (new.mode, new.uid, new.gid) != (None, None, None):
            demand(owns(cred, node), S.NFS3ERR_PERM)
        writable = owns(cred, node) or may(cred, node, WRITE)
        if new.size is not None or new.wrote or new.store is not None:
            demand(not node.is_directory, S.NFS3ERR_ISDIR)
            demand(node.type is ftype3.NF3REG, S.NFS3ERR_INVAL)
            demand(writable, S.NFS3ERR_ACCES)
        if (new.atime, new.mtime) != (None, None) and not owns(cred, node):
            chosen = any(time is not None and not isinstance(time, time_how) for time in (new.atime, new.mtime))
            demand(new.wrote or not chosen, S.NFS3ERR_PERM)
            demand(writable, S.NFS3ERR_ACCES)

    def _set(self, cred, node, new):
        writes = new.size is not None or new.wrote or new.store is not None
        old = (node.atime, node.mtime)
        if writes:
            self._claim(node, new)
            node.size = node.size if new.size is None else new.size
        self.touch(node, modified=writes)
        for name, time, before in zip(("atime", "mtime"), (new.atime, new.mtime), old, strict=True):
            if isinstance(time, time_how):
                setattr(node, name, self.now)
            elif time is not None:
                honest = owns(cred, node) or before <= time <= self.now
                setattr(node, name, time if honest else self.now)
        given = (new.uid, new.gid) != (None, None)
        member, had_group_execution = cred.uid == 0 or in_group(cred, node.gid), node.mode & 0o010
        node.uid = node.uid if new.uid is None else new.uid
        node.gid = node.gid if new.gid is None else new.gid
        if new.mode is not None:
            node.mode = new.mode & 0o7777
            if cred.uid != 0 and not in_group(cred, node.gid):
                node.mode &= ~0o2000
            member, had_group_execution = in_group(cred, node.gid), node.mode & 0o010
        cleared = given and (cred.uid != 0 or new.mode is None)
        cleared = cleared or (writes and cred.uid != 0 and new.mode is None)
        if cleared and not node.is_directory:
            node.mode &= ~0o4000
            if had_group_execution or not member:
                node.mode &= ~0o2000
        node.verifier = None

    def _claim(self, node, new):
        """Contents belong to the store that wrote first, until they are given up for none."""
        demand(new.generation in (None, node.generation), S.NFS3ERR_REMOTE)
        store = new.store or b""
        if store != node.store and node.store:
            if new.size == 0 and not new.wrote:
                node.generation += 1
            else:
                demand(not store and not new.wrote and new.size == node.size, S.NFS3ERR_REMOTE)
                return
        node.store = store

    # --- extended attributes ---

    def _xattr(self, cred, number, name, wanted):
        node = self.node(number)
        demand(len(name) <= 255, S.NFS4ERR_XATTR2BIG)
        demand(name not in (b"user.", b"trusted.", b"security."), S.NFS3ERR_INVAL)
        if name.startswith(b"user."):
            usable = node.type in (ftype3.NF3REG, ftype3.NF3DIR)
            demand(usable, S.NFS3ERR_PERM if wanted == WRITE else S.NFS4ERR_NOXATTR)
            if wanted == WRITE and node.is_directory and node.mode & 0o1000:
                demand(owns(cred, node), S.NFS3ERR_PERM)
            demand(may(cred, node, wanted), S.NFS3ERR_ACCES)
        elif name.startswith(b"trusted."):
            demand(cred.uid == 0, S.NFS3ERR_PERM if wanted == WRITE else S.NFS4ERR_NOXATTR)
        else:
            demand(name.startswith(b"security."), S.NFS3ERR_NOTSUPP)
            demand(cred.uid == 0 or wanted == READ, S.NFS3ERR_PERM)
        return node

    def getxattr(self, cred, number, name):
        node = self._xattr(cred, number, name, READ)
        demand(name in node.xattrs, S.NFS4ERR_NOXATTR)
        return GETXATTRres(OK, node.xattrs[name])

    def setxattr(self, cred, number, name, value, flags=0):
        self.node(number)
        demand(len(value) <= 60 * 1024, S.NFS4ERR_XATTR2BIG)
        node = self._xattr(cred, number, name, WRITE)
        demand(flags != 1 or name not in node.xattrs, S.NFS3ERR_EXIST)
        demand(flags != 2 or name in node.xattrs, S.NFS4ERR_NOXATTR)
        wanted = {**node.xattrs, name: value}
        demand(sum(len(n) + 1 + len(v) for n, v in wanted.items()) <= 64 * 1024, S.NFS3ERR_NOSPC)
        node.xattrs = wanted
        self.touch(node)
        return SETXATTRres(OK, self.wcc(number))

    def listxattr(self, cred, number):
        names = sorted(self.node(number).xattrs)
        return LISTXATTRSres(OK, tuple(n for n in names if cred.uid == 0 or not n.startswith(b"trusted.")))

    def removexattr(self, cred, number, name):
        node = self._xattr(cred, number, name, WRITE)
        demand(name in node.xattrs, S.NFS4ERR_NOXATTR)
        del node.xattrs[name]
        self.touch(node)
        return SETXATTRres(OK, self.wcc(number))


class Reference(Attributes):
    """Procedures that find, give and take names, and list them."""

    def lookup(self, cred, directory, name):
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        sound_name(name)
        where = self.directory(cred, directory)
        dots = {b".": directory, b"..": where.parent}
        found = dots.get(name) or where.entries.get(name, (0, 0))[0]
        demand(found, S.NFS3ERR_NOENT)
        return LOOKUP3res(OK, found, self.show(found), self.show(directory))

    def create(self, cred, directory, name, how, new=sattr3(), verf=b""):  # noqa: B008 - immutable
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        sound_name(name)
        where = self.directory(cred, directory)
        found = directory if name in DOTS else where.entries.get(name, (0, 0))[0]
        if not found:
            verifier = verf if how is createmode3.EXCLUSIVE else None
            return self._make(cred, directory, name, ftype3.NF3REG, new, verifier=verifier)
        old = self.nodes[found]
        demand(how is not createmode3.GUARDED, S.NFS3ERR_EXIST)
        if how is createmode3.EXCLUSIVE:
            demand(old.verifier is not None and old.verifier == verf, S.NFS3ERR_EXIST)
        demand(not old.is_directory, S.NFS3ERR_ISDIR)
        demand(old.type is ftype3.NF3REG, S.NFS3ERR_EXIST)
        if how is createmode3.UNCHECKED and new.size is not None:
            self.setattr(cred, found, sattr3(size=new.size, store=new.store))
        return CREATE3res(OK, found, self.show(found), self.wcc(directory))

    def mkdir(self, cred, directory, name, new=sattr3()):  # noqa: B008 - immutable
        return self._make(cred, directory, name, ftype3.NF3DIR, new)

    def symlink(self, cred, directory, name, new, target):
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        demand(target, S.NFS3ERR_NOENT)
        demand(len(target) < 4096, S.NFS3ERR_NAMETOOLONG)
        return self._make(cred, directory, name, ftype3.NF3LNK, new._replace(mode=0o777), target=target)

    def mknod(self, cred, directory, name, kind, new, rdev):
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        devices = (ftype3.NF3BLK, ftype3.NF3CHR)
        demand(kind in (*devices, ftype3.NF3SOCK, ftype3.NF3FIFO), S.NFS3ERR_BADTYPE)
        device = kind in devices
        return self._make(cred, directory, name, kind, new, rdev=rdev if device else (0, 0), superuser=device)

    def _make(self, cred, directory, name, kind, new, *, superuser=False, **more):
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        sound_name(name)
        where = self.directory(cred, directory)
        demand(name not in DOTS and name not in where.entries, S.NFS3ERR_EXIST)
        demand(may(cred, where, WRITE), S.NFS3ERR_ACCES)
        inherits, group = where.mode & 0o2000, where.gid if where.mode & 0o2000 else cred.gid
        if cred.uid != 0:
            demand(new.uid in (None, cred.uid), S.NFS3ERR_PERM)
            demand(new.gid in (None, group) or in_group(cred, new.gid), S.NFS3ERR_PERM)
            demand(not superuser, S.NFS3ERR_PERM)
        assert self.new not in self.nodes, "an id of something else"
        times = [self.now if time is None or isinstance(time, time_how) else time for time in (new.atime, new.mtime)]
        made = Node(self.new, kind, 0, cred.uid if new.uid is None else new.uid, 0, 0, *times, self.now, **more)
        made.gid = group if new.gid is None else new.gid
        made.mode = (0o700 if made.is_directory else 0o600) if new.mode is None else new.mode & 0o7777
        foreign = cred.uid != 0 and not in_group(cred, made.gid)
        if made.is_directory:
            made.size, made.parent = 4096, directory
            made.mode = made.mode | 0o2000 if inherits else made.mode & ~0o2000 if foreign else made.mode
        elif foreign and made.mode & 0o010:
            made.mode &= ~0o2000
        if kind is ftype3.NF3REG:
            made.size, made.store = new.size or 0, new.store or b""
        if kind is ftype3.NF3LNK:
            made.size = len(made.target)
        self.nodes[made.number] = made
        self._enter(where, name, made.number)
        self.touch(where, modified=True)
        return CREATE3res(OK, made.number, self.show(made.number), self.wcc(directory))

    def _enter(self, where, name, number):
        where.entries[name] = (number, where.next_cookie)
        where.next_cookie += 1

    def link(self, cred, file, directory, name):
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        sound_name(name)
        where = self.directory(cred, directory)
        demand(name not in DOTS and name not in where.entries, S.NFS3ERR_EXIST)
        demand(may(cred, where, WRITE), S.NFS3ERR_ACCES)
        node = self.node(file)
        demand(not node.is_directory, S.NFS3ERR_PERM)
        self._enter(where, name, file)
        self.touch(where, modified=True)
        self.touch(node)
        return LINK3res(OK, self.show(file), self.wcc(directory))

    def _victim(self, cred, directory, name):
        """What loses a name, if the caller may take it away."""
        demand(name != b".", S.NFS3ERR_INVAL)
        demand(name != b"..", S.NFS3ERR_NOTEMPTY)
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        sound_name(name)
        where = self.directory(cred, directory)
        demand(name in where.entries, S.NFS3ERR_NOENT)
        victim = self.nodes[where.entries[name][0]]
        self._may_unlink(cred, where, victim)
        return where, victim

    def _may_unlink(self, cred, where, victim):
        demand(may(cred, where, WRITE), S.NFS3ERR_ACCES)
        demand(not where.mode & 0o1000 or owns(cred, where) or owns(cred, victim), S.NFS3ERR_PERM)

    def _drop(self, where, name, victim):
        del where.entries[name]
        self.touch(where, modified=True)
        self._lost_name(victim)

    def _lost_name(self, victim):
        self.touch(victim)
        victim.gone = victim.is_directory or not self.names_of(victim.number)

    def remove(self, cred, directory, name):
        where, victim = self._victim(cred, directory, name)
        demand(not victim.is_directory, S.NFS3ERR_ISDIR)
        self._drop(where, name, victim)
        return REMOVE3res(OK, self.wcc(directory), victim.number, self.show(victim.number))

    def rmdir(self, cred, directory, name):
        where, victim = self._victim(cred, directory, name)
        demand(victim.is_directory, S.NFS3ERR_NOTDIR)
        demand(not victim.entries, S.NFS3ERR_NOTEMPTY)
        self._drop(where, name, victim)
        return RMDIR3res(OK, self.wcc(directory), victim.number, self.show(victim.number))

    def rename(self, cred, from_dir, from_name, to_dir, to_name, flags):
        demand(self.nodes[from_dir].is_directory and self.nodes[to_dir].is_directory, S.NFS3ERR_NOTDIR)
        demand(from_name not in DOTS and to_name not in DOTS, S.NFS3ERR_INVAL)
        source, target, moved, replaced = self._renamed(cred, from_dir, from_name, to_dir, to_name)
        demand(flags != 2 or replaced, S.NFS3ERR_NOENT)
        demand(flags != 1 or not replaced, S.NFS3ERR_EXIST)
        if moved is replaced:
            return RENAME3res(OK, self.wcc(from_dir), self.wcc(to_dir), 0, None, moved.number, None)
        swaps = flags == 2
        self._may_rename(cred, source, target, moved, replaced, swaps=swaps)
        cookie = source.entries.pop(from_name)[1]
        if swaps:
            source.entries[from_name] = (replaced.number, cookie)
        if replaced:
            target.entries[to_name] = (moved.number, target.entries[to_name][1])
        elif target is source:
            target.entries[to_name] = (moved.number, cookie)
        else:
            self._enter(target, to_name, moved.number)
        if replaced and not swaps:
            self._lost_name(replaced)
        for node, where in ((moved, target), (replaced, source)):
            if node is moved or swaps:
                self.touch(node)
                node.parent = where.number if node.is_directory else 0
        for where in {source.number, target.number}:
            self.touch(self.nodes[where], modified=True)
        lost = replaced.number if replaced else 0
        shown = self.show(lost) if replaced else None
        wcc = self.wcc(from_dir), self.wcc(to_dir)
        return RENAME3res(OK, *wcc, lost, shown, moved.number, self.show(moved.number))

    def _renamed(self, cred, from_dir, from_name, to_dir, to_name):
        """Both directories, and what the names are bound to."""
        refusals = set()
        for directory, name, must_exist in ((from_dir, from_name, True), (to_dir, to_name, False)):
            try:
                sound_name(name)
                where = self.directory(cred, directory)
                demand(not must_exist or name in where.entries, S.NFS3ERR_NOENT)
            except Refused as refused:
                refusals |= refused.statuses
        demand(not refusals, *refusals)
        source, target = self.nodes[from_dir], self.nodes[to_dir]
        moved, replaced = source.entries[from_name][0], target.entries.get(to_name, (0, 0))[0]
        return source, target, self.nodes[moved], self.nodes.get(replaced)

    def _may_rename(self, cred, source, target, moved, replaced, *, swaps):
        into_itself = moved.is_directory and self.is_above(moved.number, target.number)
        around = swaps and replaced.is_directory and self.is_above(replaced.number, source.number)
        demand(not into_itself and not around, S.NFS3ERR_INVAL)
        demand(replaced is not source, S.NFS3ERR_NOTEMPTY)
        self._may_unlink(cred, source, moved)
        if replaced:
            self._may_unlink(cred, target, replaced)
        demand(may(cred, target, WRITE), S.NFS3ERR_ACCES)
        if target is not source:
            for node in (moved, replaced) if swaps else (moved,):
                demand(not node.is_directory or may(cred, node, WRITE), S.NFS3ERR_ACCES)
        if replaced and not swaps:
            demand(replaced.is_directory or not moved.is_directory, S.NFS3ERR_NOTDIR)
            demand(moved.is_directory or not replaced.is_directory, S.NFS3ERR_ISDIR)
            demand(not replaced.entries, S.NFS3ERR_NOTEMPTY)

    # --- listings ---

    def _page(self, cred, directory, cookie, count, overhead):
        demand(self.nodes[directory].is_directory, S.NFS3ERR_NOTDIR)
        where = self.node(directory)
        demand(may(cred, where, READ), S.NFS3ERR_ACCES)
        dots = [(b".", directory, 1), (b"..", where.parent, 2)]
        named = sorted([(name, *entry) for name, entry in where.entries.items()], key=lambda entry: entry[2])
        rest, room, page = [entry for entry in dots + named if entry[2] > cookie], count - RESULT_BYTES, []
        for name, obj, at in rest:
            room -= overhead + padded(name)
            if room < 0:
                break
            page.append((name, obj, at))
        demand(page or not rest, S.NFS3ERR_TOOSMALL)
        return page, len(page) == len(rest)

    def _seen(self, cred, where, obj, cookie):
        """The id that a listing shows: names are for who may read, what they name for who may search."""
        open_ = may(cred, where, SEARCH) or cookie < 3
        return obj if open_ else disguised(where.number, cookie, self.nodes[obj].is_directory)

    def readdir(self, cred, directory, cookie, _verifier, count):
        page, eof = self._page(cred, directory, cookie, count, ENTRY_BYTES)
        where = self.nodes[directory]
        entries = tuple(
            entry3(self._seen(cred, where, obj, at), name, at, self.nodes[obj].type) for name, obj, at in page
        )
        return READDIR3res(OK, self.show(directory), COOKIE_VERIFIER, entries, eof)

    def readdirplus(self, cred, directory, cookie, _verifier, dircount, maxcount):
        page, eof = self._page(cred, directory, cookie, maxcount, ENTRY_BYTES + PLUS_BYTES)
        shown = 1
        while shown < len(page) and sum(ENTRY_BYTES + padded(name) for name, _, _ in page[: shown + 1]) <= dircount:
            shown += 1
        bare = {b".."} - {b".." if directory == self.root else b""}
        where, entries = self.nodes[directory], []
        for name, obj, at in page[:shown]:
            seen = self._seen(cred, where, obj, at)
            attributes = None if name in bare or seen != obj else self.show(obj)
            entries.append(entryplus3(seen, name, at, attributes, seen, self.nodes[obj].type))
        return READDIRPLUS3res(OK, self.show(directory), COOKIE_VERIFIER, tuple(entries), eof and shown >= len(page))
