import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qunfs import cluster, processes
from qunfs.cluster import Cluster

FAKE_REPLICA = """
    import os, signal, socket, sys
    from pathlib import Path
    from qunfs import cluster, processes

    directory, server = Path(sys.argv[1]), int(sys.argv[3])
    kind = os.environ.get("FAKE_REPLICA_KIND") or sys.argv[4]
    loaded = cluster.load(directory)
    if kind == "dies":
        sys.exit("qunfs: the disk is made of cheese")
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with processes.registered(loaded, server), socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", loaded.servers[server].port))
        listener.listen()
        while True:
            signal.pause()
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A cluster of six that nobody changes."""
    return cluster.create(tmp_path_factory.mktemp("cluster") / "c", clients=2)


@pytest.fixture
def fake_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that stands where a replica stands, without being one."""
    (tmp_path / "fake_replica.py").write_text(textwrap.dedent(FAKE_REPLICA))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fake_replica"


@pytest.fixture
def running(made: Cluster, fake_replica: str) -> Iterator[Callable[..., None]]:
    """Start fake replicas; none outlives the test."""

    def start(*servers: int, kind: str = "works") -> None:
        processes.start_and_wait(made, servers, [kind], module=fake_replica)

    yield start
    processes.stop(made, range(made.n), seconds_max=0.5)
    for left in made.run_directory.glob("server-*"):
        left.unlink()
