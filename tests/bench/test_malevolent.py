"""Liars in a running cluster: correct clients get correct answers and go on."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import msgpack
import pytest
import trio

from bench import lies, malevolent
from qunfs import cluster, processes
from qunfs.cluster import Cluster
from qunfs.net.driver import QuClient, open_client
from qunfs.objects import REGISTRY
from qunfs.protocol.operation import Call, Credentials

PATIENCE_S = 200.0
HOME = 6007  # of six replicas it prefers 1, 2, 3, 4, 5
NOBODY = Credentials(65534, 65534)
NOTHING = msgpack.packb(None)


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = cluster.create(tmp_path_factory.mktemp("liars") / "c")
    try:
        processes.start_and_wait(made, range(made.n), ["--durability", "async"])
        yield made
    finally:
        processes.stop(made, range(made.n))


async def increment(core: QuClient) -> int:
    call = Call("counter.increment", ((HOME, "counter"),), NOTHING, NOBODY, home=HOME)
    return int(msgpack.unpackb(await core.update(call)))


async def fetch(core: QuClient) -> int:
    (answer,) = await core.query(Call("counter.fetch", ((HOME, "counter"),), NOTHING, NOBODY))
    return int(msgpack.unpackb(answer.value))


@pytest.mark.parametrize(("server", "kind"), list(zip(cycle((1, 3)), malevolent.KINDS, strict=False)))
def test_clients_count_right_whatever_one_replica_says(six: Cluster, kind: str, server: int) -> None:
    async def count() -> None:
        with trio.fail_after(PATIENCE_S):
            async with open_client(six, None, REGISTRY) as core:
                start = await fetch(core)
                for expected in range(start + 1, start + 21):
                    assert await increment(core) == expected
                    assert await fetch(core) == expected

    trio.run(count)
    processes.stop(six, [server])
    processes.start_and_wait(six, [server], ["--kind", kind, "--durability", "async"], module="bench.malevolent")
    try:
        trio.run(count)
    finally:
        processes.stop(six, [server])
        processes.start_and_wait(six, [server], ["--durability", "async"])
    trio.run(count)


def test_a_wrong_answer_differs_and_is_the_same_lie_each_time() -> None:
    assert lies.wrong(b"") != b""
    assert lies.wrong(b"abc") == lies.wrong(b"abc") != b"abc"


def test_a_kind_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        malevolent.main([str(tmp_path), "--server", "0", "--kind", "honest"])
    assert ended.value.code == 2
    assert "wrong-answers" in capsys.readouterr().err
