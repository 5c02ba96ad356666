"""Who may open a data directory, and when what lies in it is not to be trusted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qunfs.protocol.errors import StorageError
from qunfs.protocol.history import ZERO, ZERO_TIMESTAMP, LogicalTimestamp, ReplicaHistory, method
from qunfs.protocol.versions import VersionStore
from server.store import ReplicaStore, open_store

GENESIS = {1: {b"mode": b"0755"}}
LT = LogicalTimestamp(1, 0, 1, bytes(32))
HISTORY = ReplicaHistory((ZERO, method(LT, (7,), (ZERO_TIMESTAMP,))))

KILLED = """
import os, signal, sys
from pathlib import Path
from test_open_store import GENESIS, fill
from server.store import open_store

store = open_store(Path(sys.argv[1]), GENESIS, sys.argv[2])
fill(store)
store.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def fill(store: VersionStore) -> None:
    store.add_version(7, LT, ZERO_TIMESTAMP, {b"a": b"1"}, b"done")
    store.set_history(7, HISTORY)


def is_filled(store: ReplicaStore) -> bool:
    return store.history(7) == HISTORY and store.open(7, LT).get(b"a") == b"1" and store.answer(7, LT) == b"done"


def killed(data: Path, durability: str) -> None:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / part) for part in ("", "tests/store"))
    command = [sys.executable, "-c", KILLED, str(data), durability]
    assert subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": path}).returncode == -9


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "servers" / "0" / "data"


@pytest.fixture
def another_boot(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("00000000-0000-0000-0000-000000000000\n")
    return path


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_closed_store_opens_again_with_everything(data, durability, another_boot):
    store = open_store(data, GENESIS, durability)
    fill(store)
    store.close()
    store.close()
    store = open_store(data, GENESIS, durability, boot_id=another_boot)
    assert is_filled(store)
    store.close()


def test_a_new_data_directory_is_on_the_disk_with_its_name_in_the_one_above(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut could take all of it, and what then starts in its place has forgotten what it answered."""
    synced: set[str] = set()
    sync = os.fsync

    def noted(file: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    open_store(data, GENESIS).close()
    assert {str(data), str(data.parent)} <= synced


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_killed_store_opens_again_with_everything(data, durability):
    killed(data, durability)
    store = open_store(data, GENESIS, durability)
    assert is_filled(store)
    store.close()


def test_a_sync_store_trusts_itself_after_a_reboot(data, another_boot):
    killed(data, "sync")
    store = open_store(data, GENESIS, "async", boot_id=another_boot)
    assert is_filled(store)
    store.close()


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_an_async_store_does_not_trust_itself_after_a_reboot(data, durability, another_boot):
    killed(data, "async")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"rebuild.*--accept-loss"):
            open_store(data, GENESIS, durability, boot_id=another_boot)
    store = open_store(data, GENESIS, durability, accept_loss=True, boot_id=another_boot)
    store.close(clean=False)
    open_store(data, GENESIS, durability, boot_id=another_boot).close()


def test_a_killed_async_store_is_safe_once_a_sync_one_had_it(data, another_boot):
    killed(data, "async")
    open_store(data, GENESIS, "sync").close(clean=False)
    store = open_store(data, GENESIS, "sync", boot_id=another_boot)
    assert is_filled(store)
    store.close()


def test_where_the_system_does_not_tell_its_boots_apart_nothing_is_trusted(data, tmp_path):
    open_store(data, GENESIS, "async", boot_id=tmp_path / "none").close(clean=False)
    with pytest.raises(StorageError, match="--accept-loss"):
        open_store(data, GENESIS, "async", boot_id=tmp_path / "none")


@pytest.mark.parametrize("mark", [b"", b"nonsense", b"\xff\xfe"])
def test_a_damaged_mark_is_not_trusted(data, mark):
    open_store(data, GENESIS, "sync").close(clean=False)
    (data / "unclean").write_bytes(mark)
    with pytest.raises(StorageError, match=r"unclean.*--accept-loss"):
        open_store(data, GENESIS, "sync")
    open_store(data, GENESIS, "sync", accept_loss=True).close()


def test_closing_uncleanly_drops_what_was_not_committed(data):
    store = open_store(data, GENESIS)
    fill(store)
    store.close(clean=False)
    store = open_store(data, GENESIS)
    assert not is_filled(store)
    store.close()


def test_two_processes_cannot_have_the_same_data(data):
    store = open_store(data, GENESIS)
    with pytest.raises(StorageError, match="in use by another server process"):
        open_store(data, GENESIS)
    script = (
        "import sys; from pathlib import Path; from server.store import open_store; open_store(Path(sys.argv[1]), {})"
    )
    command = [sys.executable, "-c", script, str(data)]
    other = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert "in use by another server process" in other.stderr
    store.close()
    open_store(data, GENESIS).close()


def test_data_of_another_cluster_is_refused_and_let_go_of(data):
    open_store(data, GENESIS).close()
    with pytest.raises(StorageError, match="another genesis"):
        open_store(data, {1: {b"mode": b"0700"}})
    open_store(data, GENESIS).close()


def test_a_place_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot use"):
        open_store(tmp_path / "file" / "data", GENESIS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").write_bytes(b"nonsense")
    with pytest.raises(StorageError, match="cannot keep data"):
        open_store(tmp_path / "data", GENESIS)


def test_a_damaged_log_is_refused_unless_loss_is_accepted(data):
    killed(data, "sync")
    (data / "journal").write_bytes(b"nonsense")
    for _ in range(2):
        with pytest.raises(StorageError, match="rebuild"):
            open_store(data, GENESIS)
    open_store(data, GENESIS, accept_loss=True).close()
    open_store(data, GENESIS).close()
