import msgpack
import pytest

from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.protocol.operation import Call, Credentials
from tests.support.local_qu import START_NS, LocalQu

NOBODY = Credentials(65534, 65534)


def call(method, argument=None, obj=5000, home=5000, kind="counter"):
    return Call(method, ((obj, kind),), msgpack.packb(argument), NOBODY, home=home)


async def test_it_counts():
    core = LocalQu(REGISTRY)
    assert msgpack.unpackb((await core.query(call("counter.fetch", home=0)))[0].value) == 0
    assert msgpack.unpackb(await core.update(call("counter.increment"))) == 1
    assert msgpack.unpackb(await core.update(call("counter.increment", 41))) == 42
    assert msgpack.unpackb((await core.query(call("counter.fetch", home=0)))[0].value) == 42


async def test_it_stays_within_64_bits():
    core = LocalQu(REGISTRY)
    await core.update(call("counter.increment", (1 << 63) - 1))
    assert msgpack.unpackb(await core.update(call("counter.increment"))) == (1 << 63) - 1
    assert msgpack.unpackb((await core.query(call("counter.fetch", home=0)))[0].value) == (1 << 63) - 1


async def test_a_directory_is_no_counter():
    core = LocalQu(REGISTRY, genesis_rows(0, 0, 0o755, START_NS))
    for kind in ("counter", "dir"):
        with pytest.raises((AssertionError, ValueError), match=r"WRONG_TYPE|not a counter"):
            await core.update(call("counter.increment", obj=1, home=1, kind=kind))
