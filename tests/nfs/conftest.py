import random
from dataclasses import dataclass

import pytest

from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import createmode3, fattr3, nfsstat3, sattr3
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import ROOT
from qunfs.protocol.operation import Credentials
from tests.support.local_qu import START_NS, LocalQu

N = 6
ROOT_USER = Credentials(0, 0)
ALICE = Credentials(1000, 1000, (1000, 50))
BOB = Credentials(2000, 2000, (50,))
CAROL = Credentials(3000, 3000)


@dataclass
class House:
    """One client's service with what tests need around it."""

    core: LocalQu
    service: MetadataService

    def other(self, client: int = 2) -> "House":
        return house_on(self.core.other_client(client), seed=client)

    async def make(self, directory, name, cred=ROOT_USER, mode=0o644, **attributes):
        got = await self.service.create(cred, directory, name, createmode3.GUARDED, sattr3(mode=mode, **attributes))
        assert got.status is nfsstat3.NFS3_OK
        return got.obj

    async def make_dir(self, directory, name, cred=ROOT_USER, mode=0o755):
        got = await self.service.mkdir(cred, directory, name, sattr3(mode=mode))
        assert got.status is nfsstat3.NFS3_OK
        return got.obj

    async def stat(self, obj) -> fattr3:
        got = await self.service.getattr(ROOT_USER, obj)
        assert got.status is nfsstat3.NFS3_OK
        return got.obj_attributes

    async def find(self, directory, name) -> int:
        """The id that a name is bound to; 0 when it is not."""
        got = await self.service.lookup(ROOT_USER, directory, name)
        assert got.status in (nfsstat3.NFS3_OK, nfsstat3.NFS3ERR_NOENT)
        return got.object

    async def names(self, directory) -> list[bytes]:
        return [e.name for e in (await self.service.readdir(ROOT_USER, directory, 0, b"", 1 << 20)).entries[2:]]


def house_on(core: LocalQu, seed: int = 1) -> House:
    return House(core, MetadataService(core, N, random.Random(seed).getrandbits))


@pytest.fixture
def house() -> House:
    return house_on(LocalQu(REGISTRY, genesis_rows(0, 0, 0o777, START_NS)))


@pytest.fixture
def root() -> int:
    return ROOT
