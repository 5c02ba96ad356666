"""Tests that share a cluster or a mount run in one process, or each process would start its own."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import group_of

ROOT = Path(__file__).parents[1]
FILES = ("tests/net/test_frames.py", "tests/objects/test_ids.py", "tests/store/test_roll.py")


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/net/test_tls.py::test_a[1]", "tests/net/test_tls.py"),
        ("tests/posix/test_open.py::test_a[mount-1]", "posix mount"),
        ("tests/posix/test_stat.py::test_b[mount]", "posix mount"),
        ("tests/posix/test_stat.py::test_b[plain]", "posix plain"),
        ("tests/apps/test_cpython.py::test_c[os]", "tests/apps/test_cpython.py::test_c[os]"),
    ],
)
def test_a_group_is_a_file_a_place_or_a_test(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_a_group_stays_in_one_process() -> None:
    options = ["-v", "-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    workers, tests = defaultdict(set), 0
    for worker, nodeid in re.findall(r"^\[(gw\d)\].* PASSED (.*)$", done.stdout, re.MULTILINE):
        workers[group_of(nodeid.strip())].add(worker)
        tests += 1
    assert workers.keys() == set(FILES)
    assert tests > 2 * len(FILES)
    assert all(len(used) == 1 for used in workers.values()), workers
    assert len(set.union(*workers.values())) == 2
