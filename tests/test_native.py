"""Compiled code does what the sources say, and only as long as they say it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qunfs import native

BUILT = (native.BUILDS / native.digest()).is_dir()
needs_build = pytest.mark.skipif(not BUILT, reason="not compiled: run ./scripts/setup (build/native.log says why not)")


def _run(arguments: list[str], **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in (native.PURE, "QUNFS_TEST_COMPILED")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=native.ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@needs_build
def test_processes_run_compiled_code_unless_told_not_to() -> None:
    where = ["-c", "import qunfs.protocol.wire as w; print(w.__file__)"]
    assert "/build/native/" in _run(where)
    assert _run(where, QUNFS_PURE="1").strip().endswith("qunfs/protocol/wire.py")


@needs_build
@pytest.mark.parametrize(
    "options", ["--seed 1", "--seed 13", "--seed 5 -b 2", "--seed 8 --malevolent 1", "--seed 9 --mode liveness"]
)
def test_a_seed_has_the_same_trace_with_and_without(options: str) -> None:
    command = ["-m", "tests.simulation", *options.split()]
    assert _run(command) == _run(command, QUNFS_PURE="1")


@needs_build
@pytest.mark.parametrize("seed", ["1", "2"])
def test_methods_make_the_same_of_any_argument_with_and_without(seed: str) -> None:
    command = ["-m", "tests.objects.outcomes", seed, "20000"]
    assert _run(command) == _run(command, QUNFS_PURE="1")


@needs_build
def test_compiled_code_passes_the_tests(tmp_path: Path) -> None:
    """Less those of the log and the database under a store, which replace parts of them."""
    suites = [f"tests/{name}" for name in ("protocol", "objects", "nfs", "store", "net")]
    suites += [f"--ignore=tests/store/{name}.py" for name in ("test_disk_rows", "test_journal", "test_lmdb_rows")]
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    _run(["-m", "pytest", *options, *suites], QUNFS_TEST_COMPILED="1")


WEAKLY_REFERENCED = """
import importlib, inspect
from qunfs import native
for name in (path.removesuffix(".py").replace("/", ".") for path in native.modules()):
    module = importlib.import_module(name)
    assert module.__file__.endswith(".so"), name
    for found in vars(module).values():
        if inspect.isclass(found) and found.__module__ == name and found.__weakrefoffset__:
            if not issubclass(found, BaseException) and not getattr(found, "_is_protocol", False):
                print(found.__qualname__)
"""


@needs_build
def test_compiled_objects_take_no_weak_references() -> None:
    """A compiled object does not clear weak references when it dies; hypothesis makes some to whatever it draws.

    Nobody does so to exceptions and to Recent, which inherit from classes of Python; the others are classes of Python.
    """
    assert set(_run(["-c", WEAKLY_REFERENCED]).split()) == {"Ground", "Recent", "Squash"}


def test_changed_sources_are_not_taken_for_compiled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("qunfs/protocol", "qunfs/objects", "qunfs/net"):
        shutil.copytree(native.ROOT / package, tmp_path / package)
    monkeypatch.setattr(native, "ROOT", tmp_path)
    for changed in ("qunfs/protocol/limits.py", "qunfs/objects/codes.py"):
        before = native.digest()
        with (tmp_path / changed).open("a") as source:
            source.write("\n")
        assert native.digest() != before
