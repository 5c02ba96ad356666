"""A listing that takes its time shows names as they were, and has nobody believe in them any longer."""

import random
from types import SimpleNamespace

import pyfuse3
import pytest
import trio

from fuse_client.contents import ContentStore
from fuse_client.operations import QunfsOperations
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import createmode3, sattr3
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials
from tests.fuse.namespace import new_core

TIMEOUT_S = 0.2
USER = SimpleNamespace(uid=0, gid=0, pid=1)


async def test_names_of_an_old_page_are_not_believed_because_of_new_attributes(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    shown, last_cookie = {}, [0]
    taken = [3]  # what the kernel has room for at first: the dots and one name

    def reply(_token, name, entry, cookie):
        if len(shown) == taken[0]:
            return False
        shown[name], last_cookie[0] = entry, cookie
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    service = MetadataService(new_core(), 6, random.getrandbits)
    made = [
        await service.create(Credentials(0, 0), ROOT, name, createmode3.GUARDED, sattr3(mode=0o600))
        for name in (b"first", b"second")
    ]
    store = ContentStore(tmp_path)
    operations = QunfsOperations(service, store, attr_timeout=TIMEOUT_S, entry_timeout=TIMEOUT_S)
    listing = await operations.opendir(ROOT, USER)
    await operations.readdir(listing, 0, None)
    assert b"second" not in shown
    await trio.sleep(TIMEOUT_S)
    await operations.setxattr(made[1].obj, b"user.x", b"", USER)
    taken[0] = 4
    await operations.readdir(listing, last_cookie[0], None)
    assert shown[b"second"].attr_timeout > 0
    assert shown[b"second"].entry_timeout == 0
    store.close()
