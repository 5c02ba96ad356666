"""The service against a plain model of a file system, under Hypothesis: several clients, for several users each.

What is compared: every status, all attributes that come with it, every page of a listing, and after each step the rows
of all objects.  Every update is issued again at once (LocalQu), and later, when others have acted.
"""

import random

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qunfs.nfs.calls import fattr3_of
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import (
    COOKIE_VERIFIER,
    SET_TO_CLIENT_TIME,
    createmode3,
    fattr3,
    ftype3,
    nfsstat3,
    sattr3,
    wcc_data,
)
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT, TOPOLOGY
from qunfs.objects.state import unpack_entry, unpack_header
from qunfs.protocol.execution import Code
from qunfs.protocol.operation import Credentials
from tests.nfs.reference import Reference
from tests.nfs.tree import check_tree
from tests.support.local_qu import START_NS, LocalQu

CLIENTS = 3
USERS = (Credentials(0, 0), Credentials(1000, 1000, (50,)), Credentials(2000, 2000, (50, 60)), Credentials(3000, 60))
STORE = (b"A" * 16, b"B" * 16)

WHO = st.integers(0, CLIENTS * (len(USERS) + 2) - 1)
WHICH = st.integers(0, 1 << 16)
NAMES = st.sampled_from([b"a", b"b", b"c", b"dddd", b"e", b"\xff \n", b"n" * 255])
ODD_NAMES = st.sampled_from([b".", b"..", b"", b"a/b", b"n" * 256, b"a\0"])
HINTS = st.sampled_from(["none", "right", "wrong"])
MODES = st.sampled_from([0o777, 0o777, 0o755, 0o750, 0o711, 0o700, 0o644, 0o640, 0o600, 0, 0o1777, 0o2775, 0o6755])
IDS = st.sampled_from([None, None, 0, 1000, 2000, 50, 60])
TIMES = st.sampled_from([None, SET_TO_CLIENT_TIME, 0, -7, START_NS, START_NS + 5_000, START_NS + 10**12])
SIZES = st.sampled_from([None, 0, 1, 700])
XATTRS = st.sampled_from(
    [*[b"user.a"] * 3, b"user.b", b"trusted.t", b"security.s", b"system.x", b"user.", b"user." + b"n" * 251]
)
NEW = st.tuples(MODES, IDS, IDS, SIZES, TIMES, TIMES).map(lambda fields: sattr3(*fields))
PLAIN = MODES.map(sattr3)
COUNTS = st.sampled_from([108, 140, 165, 200, 200, 300, 300, 600, 4096])
DIRCOUNTS = st.sampled_from([None, None, 40, 80, 4096])


class Issuing(LocalQu):
    """An update core that knows which operations have taken effect."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.effective = {}

    def issue(self, operation):
        answer = super().issue(operation)
        if self._issue_once(operation).code is Code.OK:  # the answer from the duplicate cache
            self.effective.setdefault(operation.home, []).append((operation, answer))
        return answer

    def _demand_sound(self, method, operation, execution):
        if execution.code is not Code.STALE:  # a late repeat; whoever waits for the answer never gets that one
            super()._demand_sound(method, operation, execution)


class Listing:
    """Somebody lists a directory, page by page, while others change it."""

    def __init__(self, directory, names):
        self.directory, self.cookie = directory, 0
        self.stayed, self.shown, self.ever = set(names), set(), set()


class Namespace(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        cores = [Issuing(REGISTRY, genesis_rows(0, 0, 0o777, START_NS))]
        self.state = cores[0].state
        for client in range(2, CLIENTS + 1):
            cores.append(Issuing(REGISTRY, state=self.state))
            cores[-1].client, cores[-1].session = client, bytes(15) + bytes((client,))
        self.cores = cores
        self.services = [MetadataService(core, 6, random.Random(i).getrandbits) for i, core in enumerate(cores)]
        self.model = Reference(ROOT, START_NS)
        self.listings = []
        self.settle()

    def settle(self):
        """Something to begin with: directories of several people in each other, with files of theirs."""
        above, (alice, bob) = ROOT, [CLIENTS * (2 + user) for user in (1, 2)]
        for name, who, mode in ((b"a", 0, 0o777), (b"b", 0, 0o1777), (b"c", alice, 0o2777), (b"d", bob, 0o755)):
            made = self.call(who, "mkdir", above, name, sattr3(mode=mode))
            assert made.status is nfsstat3.NFS3_OK
            for file, owner, how in ((b"e", who, createmode3.EXCLUSIVE), (b"dddd", bob, createmode3.GUARDED)):
                self.call(owner, "create", made.obj, file, how, sattr3(mode=0o640), b"verifier")
            above = made.obj

    # --- how a step goes ---

    def call(self, who, procedure, *args, **hints):
        """Run a procedure for somebody, in the model too; both must agree."""
        service, cred = self.services[who % CLIENTS], USERS[max(0, who // CLIENTS - 2)]

        async def run():
            return await getattr(service, procedure)(cred, *args, **hints)

        got = trio.run(run)
        self.model.now, self.model.new = self.state.now, getattr(got, "obj", 0)
        want = self.model.call(procedure, cred, *args)
        if isinstance(want, frozenset):
            assert got.status in want, f"{procedure}: {got.status.name} and not {[s.name for s in want]}"
            self.demand_true(got)
        else:
            assert got == want
        return got

    def demand_true(self, shown):
        """Whatever a refusal shows of attributes must be so, before and after: it changed nothing."""
        for value in shown:
            if isinstance(value, wcc_data) and value.after is not None:
                after = value.after
                assert value.before == (after.size, after.mtime, after.ctime)
                value = after
            if isinstance(value, fattr3):
                assert value == self.model.show(value.fileid)

    def directory(self, which):
        """Some directory; now and then one that is no more, or something else."""
        nodes = self.model.nodes
        live = [n for n, node in nodes.items() if node.is_directory and not node.gone]
        others = [n for n, node in nodes.items() if node.gone] or [n for n in nodes if n not in live] or live
        return live[which % len(live)] if which % 16 else others[which // 16 % len(others)]

    def place(self, which, name, kinds=tuple(ftype3)):
        """A name in a directory; as often as not one that is bound to something, of some kinds."""
        nodes = self.model.live()
        bound = [(number, taken, obj) for number, node in nodes.items() for taken, (obj, _) in node.entries.items()]
        bound = [(number, taken) for number, taken, obj in bound if nodes[obj].type in kinds]
        return bound[which % len(bound)] if bound and which & 32 else (self.directory(which), name)

    def object(self, which):
        """Some object that is there; now and then one that is no more."""
        live = list(self.model.live())
        gone = [number for number in self.model.nodes if number not in live] or live
        return live[which % len(live)] if which % 16 else gone[which // 16 % len(gone)]

    def hint(self, kind, directory, name, which):
        bound = self.model.nodes[directory].entries.get(name, (0, 0))[0]
        if kind == "wrong":
            others = [number for number in self.model.nodes if number != ROOT]
            return others[which % len(others)] if others else None
        return bound if kind == "right" else None

    # --- procedures ---

    @rule(who=WHO, which=WHICH, name=NAMES, how=st.sampled_from(createmode3), new=NEW, verf=st.booleans())
    def create(self, who, which, name, how, new, verf):
        self.call(who, "create", self.directory(which), name, how, new, b"verifier" if verf else b"another.")

    @rule(who=WHO, which=WHICH, name=NAMES, new=PLAIN)
    def create_plainly(self, who, which, name, new):
        self.call(who, "create", self.directory(which), name, createmode3.UNCHECKED, new)

    @rule(who=WHO, which=WHICH, name=NAMES, new=NEW)
    def mkdir(self, who, which, name, new):
        self.call(who, "mkdir", self.directory(which), name, new)

    @rule(who=WHO, which=WHICH, name=NAMES, new=PLAIN)
    def mkdir_plainly(self, who, which, name, new):
        self.call(who, "mkdir", self.directory(which), name, new)

    @rule(who=WHO, which=WHICH, name=NAMES, new=NEW, text=st.sampled_from([b"t", b"../x", b"", b"t" * 4095]))
    def symlink(self, who, which, name, new, text):
        self.call(who, "symlink", self.directory(which), name, new, text)

    @rule(who=WHO, which=WHICH, name=NAMES, kind=st.sampled_from(ftype3), new=NEW)
    def mknod(self, who, which, name, kind, new):
        self.call(who, "mknod", self.directory(which), name, kind, new, (7, 8))

    @rule(who=WHO, file=WHICH, which=WHICH, name=NAMES)
    def link(self, who, file, which, name):
        self.call(who, "link", self.object(file), self.directory(which), name)

    @rule(who=WHO, which=WHICH, name=NAMES, kind=HINTS)
    def remove(self, who, which, name, kind):
        directory, name = self.place(which, name)
        self.call(who, "remove", directory, name, hint=self.hint(kind, directory, name, who) or None)

    @rule(who=WHO, which=WHICH, name=NAMES, kind=HINTS)
    def rmdir(self, who, which, name, kind):
        directory, name = self.place(which, name, kinds=[ftype3.NF3DIR])
        self.call(who, "rmdir", directory, name, hint=self.hint(kind, directory, name, who) or None)

    @rule(
        who=WHO, which=WHICH, name=NAMES, to_which=WHICH, to=NAMES, flags=st.sampled_from([0, 0, 0, 1, 2]), kind=HINTS
    )
    def rename(self, who, which, name, to_which, to, flags, kind):
        source, name = self.place(which | 32, name)
        target, to = self.place(to_which, to)
        hint, to_hint = self.hint(kind, source, name, who), self.hint(kind, target, to, who + 1)
        self.call(who, "rename", source, name, target, to, flags, hint=hint or None, to_hint=to_hint)

    @rule(who=WHO, which=WHICH, to=NAMES, flags=st.sampled_from([0, 0, 1, 2]))
    def rename_in_place(self, who, which, to, flags):
        source, name = self.place(which | 32, b"a")
        self.call(who, "rename", source, name, source, to, flags)

    @rule(who=WHO, which=WHICH, changes=NEW, wrote=st.booleans(), store=st.sampled_from([None, *STORE]))
    def setattr(self, who, which, changes, wrote, store):
        generation = (None, 0, 1)[which % 3]
        new = changes._replace(wrote=wrote, store=store, generation=generation)
        if new.size is None:
            new = new._replace(wrote=False, store=None, generation=None)
        self.call(who, "setattr", self.object(which), new)

    @rule(who=WHO, which=WHICH, mode=MODES, right=st.booleans())
    def chmod_guarded(self, who, which, mode, right):
        obj = self.object(which)
        self.call(who, "setattr", obj, sattr3(mode=mode), self.model.nodes[obj].ctime - (not right))

    @rule(who=WHO, which=WHICH, times=st.tuples(TIMES, TIMES))
    def utimes(self, who, which, times):
        self.call(who, "setattr", self.object(which), sattr3(atime=times[0], mtime=times[1]))

    @rule(who=WHO, which=WHICH, uid=IDS, gid=IDS, mode=st.one_of(st.none(), MODES))
    def chown(self, who, which, uid, gid, mode):
        self.call(who, "setattr", self.object(which), sattr3(mode=mode, uid=uid, gid=gid))

    @rule(client=st.integers(0, CLIENTS - 1), which=WHICH, gid=st.sampled_from([None, 50, 60]), mode=MODES, size=SIZES)
    def owner_changes(self, client, which, gid, mode, size):
        """As its owner, whose group it may or may not be."""
        obj = self.object(which)
        node = self.model.nodes[obj]
        user = next((i for i, cred in enumerate(USERS) if cred.uid == node.uid), 0)
        size = size if node.type is ftype3.NF3REG and not node.store else None
        new = sattr3(mode=mode if which % 2 else None, gid=gid, size=size)
        self.call(client + CLIENTS * (user + 2 if user else 0), "setattr", obj, new)

    @rule(who=WHO, which=WHICH, name=XATTRS, value=st.sampled_from([b"", b"v", bytes(40_000)]), flags=st.integers(0, 2))
    def setxattr(self, who, which, name, value, flags):
        self.call(who, "setxattr", self.object(which), name, value, flags)

    @rule(who=WHO, which=WHICH, name=XATTRS, procedure=st.sampled_from(["getxattr", "removexattr"]))
    def use_xattr(self, who, which, name, procedure):
        self.call(who, procedure, self.object(which), name)
        self.call(who, "listxattr", self.object(which))

    @rule(who=WHO, which=WHICH, name=ODD_NAMES)
    def strange_names(self, who, which, name):
        directory = self.directory(which)
        for procedure in ("lookup", "mkdir", "remove", "rmdir"):
            self.call(who, procedure, directory, name)
        self.call(who, "create", directory, name, createmode3.UNCHECKED)
        self.call(who, "link", self.object(which), directory, name)
        self.call(who, "rename", directory, name, directory, b"a", 0)
        self.call(who, "rename", *self.place(which, b"a"), directory, name, 0)

    @rule(who=WHO, which=WHICH, name=NAMES, bits=st.integers(0, 0x3F))
    def look(self, who, which, name, bits):
        self.call(who, "lookup", *self.place(which, name))
        self.call(who, "getattr", self.object(which))
        self.call(who, "access", self.object(which), bits)
        self.call(who, "readlink", self.object(which))

    # --- listings ---

    @rule(who=WHO, which=WHICH, count=COUNTS, dircount=DIRCOUNTS)
    def begin_listing(self, who, which, count, dircount):
        directory = self.directory(which)
        del self.listings[4:]
        self.listings.append(Listing(directory, self.model.nodes[directory].entries))
        self.page(self.listings[-1], who, count, dircount)

    @precondition(lambda self: self.listings)
    @rule(who=WHO, which=WHICH, count=COUNTS, dircount=DIRCOUNTS)
    def go_on(self, who, which, count, dircount):
        self.page(self.listings[which % len(self.listings)], who, count, dircount)

    @precondition(lambda self: self.listings)
    @rule(which=WHICH)
    def come_to_the_end(self, which):
        listing = self.listings[which % len(self.listings)]
        while listing in self.listings:
            self.page(listing, 0, 300)

    def page(self, listing, who, count, dircount=None):
        """The next page of a listing, by somebody."""
        where = (listing.directory, listing.cookie, COOKIE_VERIFIER)
        if dircount is None:
            got = self.call(who, "readdir", *where, count)
        else:
            got = self.call(who, "readdirplus", *where, dircount, count)
        for entry in got.entries:
            assert entry.name not in listing.shown, "shown twice"
            listing.shown.add(entry.name)
            listing.ever.add(entry.name)
            listing.cookie = entry.cookie
        if got.eof or got.status in (nfsstat3.NFS3ERR_STALE, nfsstat3.NFS3ERR_NOTDIR, nfsstat3.NFS3ERR_TOOSMALL):
            assert not got.eof or listing.stayed <= listing.ever, "skipped"
            self.listings.remove(listing)

    # --- the world ---

    @rule(ns=st.sampled_from([-(10**9), -1, 1, 10**6]))
    def clocks_differ(self, ns):
        self.state.now += ns

    @precondition(lambda self: any(core.effective for core in self.cores))
    @rule(which=WHICH, home=WHICH, back=st.integers(0, 3))
    def issue_again(self, which, home, back):
        """A repeat that arrives late: the last one of its session at that home is answered, older ones are stale."""
        core = [core for core in self.cores if core.effective][which % sum(bool(c.effective) for c in self.cores)]
        issued = list(core.effective.values())[home % len(core.effective)]
        operation, answer = issued[max(0, len(issued) - 1 - back)]
        before = self.state.dump()
        again = core._issue_once(operation)
        assert not again.effective
        if operation is issued[-1][0]:
            assert (again.code, again.answer) == (Code.OK, answer)
        else:
            assert again.code is Code.STALE
        assert self.state.dump() == before

    @invariant()
    def all_is_as_in_the_model(self):
        check_tree(self.state)
        rows = {obj: found for obj, found in self.state.dump().items() if obj != TOPOLOGY}
        live = self.model.live()
        assert rows.keys() == live.keys()
        for number, node in live.items():
            found = rows[number]
            assert fattr3_of(number, found[b"a"]) == self.model.show(number)
            assert {key[1:]: value for key, value in found.items() if key[:1] == b"x"} == node.xattrs
            assert (found.get(b"l", b""), found.get(b"v")) == (node.target, node.verifier)
            if node.is_directory:
                assert unpack_header(found[b"d"]).parent == node.parent
                named = {key[1:]: unpack_entry(value) for key, value in found.items() if key[:1] == b"e"}
                assert {name: (entry.obj, entry.cookie) for name, entry in named.items()} == node.entries
        for listing in self.listings:
            names = set(self.model.nodes[listing.directory].entries)
            listing.stayed &= names
            listing.shown &= names | {b".", b".."}


Namespace.TestCase.settings = settings(max_examples=40, stateful_step_count=80, deadline=None)
TestNamespace = Namespace.TestCase
