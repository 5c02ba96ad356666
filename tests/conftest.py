"""The tests run the Python sources, which are the reference; the processes they start run what users run.

With QUNFS_TEST_COMPILED=1 they run the compiled code themselves, less those that must replace parts of it.
"""

import os
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

COMPILED = bool(os.environ.get("QUNFS_TEST_COMPILED"))

if not COMPILED:
    os.environ["QUNFS_PURE"] = "1"

import qunfs.native  # noqa: E402 - it looks at the environment

if not COMPILED:
    del os.environ["QUNFS_PURE"]
elif not qunfs.native.active():
    raise pytest.UsageError("there is no compiled code of these sources: run ./scripts/setup")


settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long something takes says nothing on a machine that does other things, too

SEPARATE: Final = ("tests/apps/test_cpython.py", "tests/cli/bench/test_bench_commands.py")
"""Files whose tests take long and share nothing that one process would have to keep: each may run anywhere."""

LONGEST: Final = (
    "tests/simulation/test_simulation.py",
    "tests/test_native.py",
    "tests/fsck/test_cluster.py",
    "tests/mutants/",
    "tests/bench/test_liars_found_out.py",
    "posix mount",
    "tests/fuse/test_many_mounts.py",
    "tests/faults/test_running.py",
    "tests/cli/test_end_to_end.py",
    "tests/apps/",
    "tests/cli/bench/",
    "tests/bench/",
    "tests/nfs/test_model.py",
    "tests/protocol/test_straight_paths.py",
    "tests/fuse/",
)
"""What takes longest, in this order; a folder stands for its files.  The rest is short and fills gaps at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write the golden transcripts anew")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pure: replaces or extends parts of modules that may be compiled")


def group_of(nodeid: str) -> str:
    """What runs in one process, one after the other: tests of one file may share a cluster."""
    file, _, test = nodeid.partition("::")
    if file in SEPARATE:
        return nodeid
    if file.startswith("tests/posix/"):  # all that works in one place shares that
        return "posix mount" if "[mount" in test else "posix plain"
    return file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups are told by name: marks, which xdist writes into node ids, get lost with pytest 9.2 (its issue 1386)."""
    from xdist.scheduler import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Grouped(config, log) if config.getvalue("dist") == "loadgroup" else None


def _turn(item: pytest.Item) -> int:
    """When a test's group has its turn where several processes take one after the other."""
    group = group_of(item.nodeid)
    return next((turn for turn, start in enumerate(LONGEST) if group.startswith(start)), len(LONGEST))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process is left alone with it at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_turn)
    if COMPILED:
        pure = [item for item in items if item.get_closest_marker("pure") is not None]
        config.hook.pytest_deselected(items=pure)
        items[:] = [item for item in items if item not in pure]
