"""CPython's own tests on a mount."""

from pathlib import Path

import pytest

from tests.apps.cpython import LONG, MODULES, Outcome, faults, interpreter, run

PYTHON = interpreter()


@pytest.mark.skipif(PYTHON is None, reason="needs an interpreter with its tests (libpython3.11-testsuite)")
@pytest.mark.parametrize("module", MODULES)
def test_module_ends_on_the_mount_as_on_a_plain_directory(module: str, m: Path, p: Path) -> None:
    assert PYTHON is not None
    there = run(PYTHON, p, [module], LONG)
    here = run(PYTHON, m, [module], LONG)
    assert len(here) > 10
    assert faults(here, there) == []


def test_whatever_differs_is_told() -> None:
    good, skipped, failed = Outcome("ok"), Outcome("skipped", "needs a moon"), Outcome("failure", "no")
    plain = {"a": good, "b": good, "c": skipped, "d": skipped, "e": good, "f": failed, "g": good}
    mount = {"a": good, "b": failed, "c": skipped, "d": good, "e": skipped, "f": failed, "h": good}
    assert [line.split(":")[0] for line in faults(mount, plain)] == ["b", "d", "e", "f", "g", "h"]
