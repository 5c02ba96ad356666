import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from qunfs import mounts
from qunfs.cli import mount_process
from qunfs.cli.mount_request import MountRequest, parse_options, prepare, read_back, typed_options
from qunfs.cluster import Cluster
from qunfs.protocol.errors import LocalError


def test_options_come_in_one_word_or_in_several() -> None:
    assert parse_options(["attr_timeout=0, entry_timeout=2", "allow_other"]) == {
        "attr_timeout": "0",
        "entry_timeout": "2",
        "allow_other": None,
    }
    assert parse_options(["attr_timeout=1", "attr_timeout=5"]) == {"attr_timeout": "5"}
    assert parse_options([",,"]) == {}


def test_options_are_typed() -> None:
    assert typed_options({"attr_timeout": "0.5", "allow_other": None}) == {"attr_timeout": 0.5, "allow_other": True}


@pytest.mark.parametrize(
    "given",
    [{"attr_timeout": None}, {"attr_timeout": "-1"}, {"attr_timeout": "nan"}, {"attr_timeout": "x"},
     {"entry_timeout": "1e9"}, {"allow_other": "yes"}, {"noatime": None}],
)  # fmt: skip
def test_wrong_options_are_named(given: dict[str, str | None]) -> None:
    with pytest.raises(LocalError, match=f"^-o {next(iter(given))}"):
        typed_options(given)


def test_the_serving_process_does_not_depend_on_the_current_directory(made: Cluster) -> None:
    request = MountRequest(
        made, Path("/srv/m"), "client-1", Path("/srv/contents"), {"attr_timeout": "0", "allow_other": None}, 30.0
    )
    words = request.arguments()
    assert words[:3] == ["mount", str(made.directory), "/srv/m"]
    assert words[words.index("-o") + 1] == "attr_timeout=0,allow_other"
    assert request.log == made.directory / "log" / "mount-srv-m.log"


@pytest.mark.parametrize("options", [{}, {"attr_timeout": "0", "allow_other": None}])
def test_the_serving_process_understands_what_it_is_asked_for(
    made: Cluster, tmp_path: Path, options: dict[str, str | None]
) -> None:
    request = MountRequest(made, tmp_path, "client-2", tmp_path / "-o=", options, 2.5)
    words = [*request.arguments(), "--report-to", "5"]
    assert read_back(words) == (request, 5)
    for other in (words[:-2], words[:-1], ["-f", *words], [*words, "-f"], [*words[:-1], "x"], [*words[:3], *words[4:]]):
        assert read_back(other) is None
    assert read_back([*words[:6], "x", *words[6:]]) is None
    with pytest.raises(LocalError, match="-o noatime: unknown"):
        read_back([*words[:6], "-o", "noatime", *words[-3:]])


def test_a_mount_point_that_is_a_file_is_called_one(made: Cluster, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(LocalError, match="f: not a directory"):
        prepare(made.directory, tmp_path / "f", None, None, [], 1.0)
    with pytest.raises(LocalError, match="g: no such directory"):
        prepare(made.directory, tmp_path / "g", None, None, [], 1.0)
    with pytest.raises(LocalError, match="File name too long"):
        prepare(made.directory, tmp_path / ("h" * 256), None, None, [], 1.0)


def test_a_mount_must_not_cover_what_it_writes_to(made: Cluster, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(made.directory.parent)
    for covering in (made.directory, made.directory.parent, link):
        with pytest.raises(LocalError, match="directory would be covered"):
            prepare(made.directory, covering, None, tmp_path / "contents", [], 1.0)


def test_a_full_disk_under_the_records_does_not_end_the_mount(made: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    twice = trio.Event()

    def full(_: Cluster, record: mounts.MountRecord) -> None:
        tried.append(record)
        if len(tried) == 2:
            twice.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mounts, "write_record", full)
    monkeypatch.setattr(mount_process, "RECORD_SECONDS", 0.001)
    core = SimpleNamespace(waiting=lambda: None, statistics=lambda: {"operations": len(tried)}, findings=list)
    request = MountRequest(made, Path("/srv/m"), "client-1", Path("/srv/contents"), {}, 30.0)

    async def keep() -> None:
        with trio.move_on_after(60.0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mount_process._keep_record, request, core)
                await twice.wait()
                nursery.cancel_scope.cancel()

    trio.run(keep)
    assert len(tried) >= 2
