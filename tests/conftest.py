"""The tests run the Python sources, which are the reference; the processes they start run what users run.

With QUNFS_TEST_COMPILED=1 they run the compiled code themselves, less those that must replace parts of it.
"""

import os

import pytest

COMPILED = bool(os.environ.get("QUNFS_TEST_COMPILED"))

if not COMPILED:
    os.environ["QUNFS_PURE"] = "1"

import qunfs.native  # noqa: E402 - it looks at the environment

if not COMPILED:
    del os.environ["QUNFS_PURE"]
elif not qunfs.native.active():
    raise pytest.UsageError("there is no compiled code of these sources: run ./scripts/setup")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write the golden transcripts anew")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pure: replaces or extends parts of modules that may be compiled")


def pytest_itemcollected(item: pytest.Item) -> None:
    """What runs in one process, one after the other: tests of one file may share a cluster."""
    if item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if COMPILED:
        pure = [item for item in items if item.get_closest_marker("pure") is not None]
        config.hook.pytest_deselected(items=pure)
        items[:] = [item for item in items if item not in pure]
