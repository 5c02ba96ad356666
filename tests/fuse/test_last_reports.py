"""What a mount still reports when it ends."""

import os
import random
from types import SimpleNamespace

from fuse_client.contents import ContentStore
from fuse_client.operations import QunfsOperations
from qunfs.nfs.service import MetadataService
from qunfs.objects.ids import ROOT
from qunfs.protocol.errors import OperationRefused
from qunfs.protocol.operation import Credentials
from tests.fuse.namespace import new_core

USER = SimpleNamespace(uid=0, gid=0, pid=1)


async def test_a_report_that_is_refused_does_not_keep_the_others_back(tmp_path, caplog):
    service = MetadataService(new_core(), 6, random.getrandbits)
    store = ContentStore(tmp_path)
    operations = QunfsOperations(service, store)
    made = []
    for name in (b"first", b"second"):
        info, entry = await operations.create(ROOT, name, 0o600, os.O_WRONLY, USER)
        await operations.write(info.fh, 0, b"data")
        made.append(entry.st_ino)
    setattr_ = service.setattr

    async def refuse_the_first(cred, obj, *rest):
        if obj == made[0]:
            raise OperationRefused("not allowed")
        return await setattr_(cred, obj, *rest)

    service.setattr = refuse_the_first
    await operations.close()
    sizes = [(await service.getattr(Credentials(0, 0), obj)).obj_attributes.size for obj in made]
    assert sizes == [0, 4]
    assert "its last write is not recorded (not allowed)" in caplog.text
    store.close()
