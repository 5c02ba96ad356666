"""The service against a plain model of a file system, several clients in turn, under Hypothesis."""

import random

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import COOKIE_VERIFIER, createmode3, nfsstat3, sattr3
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials
from tests.nfs.tree import check_tree
from tests.support.local_qu import START_NS, LocalQu

S = nfsstat3
CRED = Credentials(0, 0)
NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
HINTS = st.sampled_from(["none", "right", "wrong"])
WHICH = st.integers(0, 1 << 16)


class Model:
    """Directories are dicts from names to ids; files have a mode and a number of names."""

    def __init__(self):
        self.directories = {ROOT: {}}
        self.parents = {ROOT: ROOT}
        self.modes = {}

    def links(self, obj):
        return sum(list(entries.values()).count(obj) for entries in self.directories.values())

    def is_ancestor(self, obj, directory):
        while directory not in (obj, ROOT):
            directory = self.parents[directory]
        return directory == obj

    def forget_if_gone(self, obj):
        if obj in self.modes and not self.links(obj):
            del self.modes[obj]

    def remove_directory(self, obj):
        del self.directories[obj], self.parents[obj]

    def rename(self, source, name, target, to, flags):
        moved, replaced = self.directories[source].get(name), self.directories[target].get(to)
        status = self._rename_status(source, target, moved, replaced, flags)
        if status is not S.NFS3_OK or moved == replaced:
            return status
        if flags == 2:
            self.directories[source][name] = replaced
            if replaced in self.parents:
                self.parents[replaced] = source
        else:
            del self.directories[source][name]
        self.directories[target][to] = moved
        if moved in self.parents:
            self.parents[moved] = target
        if flags != 2 and replaced is not None:
            if replaced in self.directories:
                self.remove_directory(replaced)
            self.forget_if_gone(replaced)
        return status

    def _rename_status(self, source, target, moved, replaced, flags):
        if moved is None or (flags == 2 and replaced is None):
            return S.NFS3ERR_NOENT
        if flags == 1 and replaced is not None:
            return S.NFS3ERR_EXIST
        if moved == replaced:
            return S.NFS3_OK
        into = moved in self.directories and self.is_ancestor(moved, target)
        if into or (flags == 2 and replaced in self.directories and self.is_ancestor(replaced, source)):
            return S.NFS3ERR_INVAL
        if replaced is None or flags == 2:
            return S.NFS3_OK
        if replaced == source:
            return S.NFS3ERR_NOTEMPTY
        if moved in self.directories and replaced not in self.directories:
            return S.NFS3ERR_NOTDIR
        if replaced in self.directories and moved not in self.directories:
            return S.NFS3ERR_ISDIR
        if self.directories.get(replaced):
            return S.NFS3ERR_NOTEMPTY
        return S.NFS3_OK


class Namespace(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        core = LocalQu(REGISTRY, genesis_rows(0, 0, 0o777, START_NS))
        self.state = core.state
        clients = [core, core.other_client(2), core.other_client(3)]
        self.services = [MetadataService(c, 6, random.Random(i).getrandbits) for i, c in enumerate(clients)]
        self.model = Model()
        self.turn = 0

    def call(self, procedure, *args, **options):
        self.turn += 1
        service = self.services[self.turn % len(self.services)]

        async def run():
            return await getattr(service, procedure)(CRED, *args, **options)

        return trio.run(run)

    def directory(self, which):
        return sorted(self.model.directories)[which % len(self.model.directories)]

    def hint(self, kind, right):
        if kind == "wrong":
            others = sorted({*self.model.directories, *self.model.modes} - {ROOT})
            return others[self.turn % len(others)] if others else None
        return None if kind == "none" else right

    @rule(which=WHICH, name=NAMES, how=st.sampled_from(createmode3), mode=st.integers(0, 0o777))
    def create(self, which, name, how, mode):
        directory = self.directory(which)
        existing = self.model.directories[directory].get(name)
        got = self.call("create", directory, name, how, sattr3(mode=mode), b"%08d" % self.turn)
        if existing is None:
            assert got.status is S.NFS3_OK
            self.model.directories[directory][name] = got.obj
            self.model.modes[got.obj] = mode
        elif how is not createmode3.UNCHECKED:
            assert got.status is S.NFS3ERR_EXIST
        elif existing in self.model.directories:
            assert got.status is S.NFS3ERR_ISDIR
        else:
            assert (got.status, got.obj, got.obj_attributes.mode) == (S.NFS3_OK, existing, self.model.modes[existing])

    @rule(which=WHICH, name=NAMES)
    def mkdir(self, which, name):
        directory = self.directory(which)
        got = self.call("mkdir", directory, name, sattr3(mode=0o755))
        if name in self.model.directories[directory]:
            assert got.status is S.NFS3ERR_EXIST
        else:
            assert got.status is S.NFS3_OK
            self.model.directories[directory][name] = got.obj
            self.model.directories[got.obj] = {}
            self.model.parents[got.obj] = directory

    @precondition(lambda self: self.model.modes)
    @rule(file=WHICH, which=WHICH, name=NAMES)
    def link(self, file, which, name):
        obj, directory = sorted(self.model.modes)[file % len(self.model.modes)], self.directory(which)
        got = self.call("link", obj, directory, name)
        if name in self.model.directories[directory]:
            assert got.status is S.NFS3ERR_EXIST
        else:
            self.model.directories[directory][name] = obj
            assert (got.status, got.file_attributes.nlink) == (S.NFS3_OK, self.model.links(obj))

    @rule(which=WHICH, name=NAMES, kind=HINTS)
    def remove(self, which, name, kind):
        directory = self.directory(which)
        obj = self.model.directories[directory].get(name)
        got = self.call("remove", directory, name, hint=self.hint(kind, obj))
        if obj is None:
            assert got.status is S.NFS3ERR_NOENT
        elif obj in self.model.directories:
            assert got.status is S.NFS3ERR_ISDIR
        else:
            del self.model.directories[directory][name]
            assert (got.status, got.object, got.obj_attributes.nlink) == (S.NFS3_OK, obj, self.model.links(obj))
            self.model.forget_if_gone(obj)

    @rule(which=WHICH, name=NAMES, kind=HINTS)
    def rmdir(self, which, name, kind):
        directory = self.directory(which)
        obj = self.model.directories[directory].get(name)
        got = self.call("rmdir", directory, name, hint=self.hint(kind, obj))
        if obj is None:
            assert got.status is S.NFS3ERR_NOENT
        elif obj not in self.model.directories:
            assert got.status is S.NFS3ERR_NOTDIR
        elif self.model.directories[obj]:
            assert got.status is S.NFS3ERR_NOTEMPTY
        else:
            assert (got.status, got.object) == (S.NFS3_OK, obj)
            del self.model.directories[directory][name]
            self.model.remove_directory(obj)

    @rule(which=WHICH, name=NAMES, to_which=WHICH, to=NAMES, flags=st.sampled_from([0, 0, 0, 1, 2]), kind=HINTS)
    def rename(self, which, name, to_which, to, flags, kind):
        source, target = self.directory(which), self.directory(to_which)
        moved, replaced = self.model.directories[source].get(name), self.model.directories[target].get(to)
        hints = {"hint": self.hint(kind, moved), "to_hint": self.hint(kind, replaced or 0)}
        got = self.call("rename", source, name, target, to, flags, **hints)
        assert got.status is self.model.rename(source, name, target, to, flags)

    @precondition(lambda self: self.model.modes)
    @rule(file=WHICH, mode=st.integers(0, 0o777))
    def chmod(self, file, mode):
        obj = sorted(self.model.modes)[file % len(self.model.modes)]
        assert self.call("setattr", obj, sattr3(mode=mode)).obj_wcc.after.mode == mode
        self.model.modes[obj] = mode

    @rule(which=WHICH, count=st.sampled_from([160, 300, 4096]))
    def readdir(self, which, count):
        directory = self.directory(which)
        entries, cookie, eof = [], 0, False
        while not eof:
            got = self.call("readdir", directory, cookie, COOKIE_VERIFIER, count)
            entries += got.entries
            eof, cookie = got.eof, entries[-1].cookie
        dots = [(b".", directory), (b"..", self.model.parents[directory])]
        assert [(e.name, e.fileid) for e in entries[:2]] == dots
        assert {e.name: e.fileid for e in entries[2:]} == self.model.directories[directory]
        assert len(entries) == 2 + len(self.model.directories[directory])

    @rule(which=WHICH, name=NAMES)
    def lookup(self, which, name):
        directory = self.directory(which)
        got = self.call("lookup", directory, name)
        obj = self.model.directories[directory].get(name)
        assert got.status is (S.NFS3ERR_NOENT if obj is None else S.NFS3_OK)
        assert got.object == (obj or 0)
        if obj in self.model.modes:
            assert got.obj_attributes.mode == self.model.modes[obj]

    @invariant()
    def the_tree_is_whole(self):
        names = check_tree(self.state)
        assert set(names) == {*self.model.directories, *self.model.modes}


Namespace.TestCase.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
TestNamespace = Namespace.TestCase
