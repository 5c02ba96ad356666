"""A name whose object is not there: an error of its own, a line in the log, and the rest of the directory works."""

import errno
import logging
import random
from types import SimpleNamespace

import pyfuse3
import pytest

from fuse_client.contents import ContentStore
from fuse_client.operations import QunfsOperations
from qunfs.nfs.service import MetadataService
from qunfs.objects.ids import ROOT
from tests.fuse.namespace import new_core

USER = SimpleNamespace(uid=0, gid=0, pid=1)


async def test_a_name_of_nothing_is_an_error_and_a_line_in_the_log(tmp_path, caplog):
    core = new_core()
    store = ContentStore(tmp_path)
    operations = QunfsOperations(
        MetadataService(core, 6, random.getrandbits), store, attr_timeout=0.0, entry_timeout=0.0
    )
    for name in (b"lost", b"kept"):
        made = await operations.mkdir(ROOT, name, 0o755, USER)
        if name == b"lost":
            for key in list(core.state.dump()[made.st_ino]):
                core.state.put(made.st_ino, key, None)
    with caplog.at_level(logging.ERROR), pytest.raises(pyfuse3.FUSEError) as refused:
        await operations.lookup(ROOT, b"lost", USER)
    assert refused.value.errno == errno.EIO
    assert caplog.messages == ["directory 1: b'lost' names an object that is not there: run qunfs fsck"]
    await operations.lookup(ROOT, b"kept", USER)
    assert (await operations.getattr(ROOT, USER)).st_ino == ROOT
    store.close()
