"""CPython's own tests of what uses a file system, on a mount and on a plain directory.

``python -m tests.apps.cpython`` makes a cluster, runs all of them on a mount of it and on a directory beside it, and
says in what the results differ; exit code 0: in nothing that is not listed here.  It takes some minutes.  With names of
test modules it runs those; ``--short`` leaves out what takes long, as ``./scripts/test`` does.
"""

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.apps.mounting import mounted

MODULES: Final = (
    "test_os",
    "test_shutil",
    "test_pathlib",
    "test_tempfile",
    "test_posix",
    "test_glob",
    "test_zipfile",
    "test_tarfile",
    "test_mailbox",
    "test_genericpath",
    "test_unicode_file_functions",
    "test_fileio",
    "test_mmap",
)
"""The test modules; each must be installed."""

DIFFERENCES: Final[dict[str, str]] = {}
"""Tests that may end differently on the mount than on a plain directory, with the reason."""

LONG: Final = (
    "*_many_open_files",  # thousands of listings, for the sake of the walking program's descriptors
    "*.test_fd_leak",  # a thousand walks, likewise
    "*.test_selflink",  # walks through forty links, time and again, each of which the kernel asks for each time
    "*.test_recursive_glob",  # fifty walks of one tree
    "*hackers_arcnames*",  # hundreds of directories for one rule about names in archives
    "test.test_os.*FwalkTests.*",
    "test.test_shutil.TestArchives.*",  # what test_tarfile and test_zipfile do
    "test.test_tempfile.TestTemporaryDirectory.test_modes",  # 512 directories with every mode
    "test.test_pathlib.PathTest.*",  # the same tests as in PosixPathTest, which is what Path is here
    "test.test_pathlib.PosixPathTest.test_[a-l]*",  # for each test a tree is made and removed
    "test.test_mailbox.Test[!M]*",  # of the kinds of mailboxes MH has the most files and renames
    "test.test_mailbox.TestMbox*",
    "test.test_mailbox.TestMMDF*",
    "test.test_mailbox.TestMaildir.*",
    "test.test_mailbox.TestMH.test_iter*",  # what its other tests read, once more
    "test.test_unicode_file_functions.UnicodeNFK*",  # names are bytes: two normal forms are as good as four
    "test.test_tempfile.*.test_basic_many",  # a hundred of what is made once before
    "test.test_zipfile.PyZipFileTests.*",  # compiles packages of modules, for the most part
    "test.test_zipfile.TestPath.*",  # in memory
    "*.CommandLineTest.*",  # starts of interpreters, for the most part
    "*Bz*",  # compressors: the files are the same, and the processor time is not the file system's
    "*Lzma*",
    "*Gzip*",
    "*Deflate*",
)
"""Patterns of tests that take long and hardly ask the file system for anything that others don't."""

PATIENCE_S: Final = 1800.0
"""When to give up; some minutes are usual."""


@dataclass(frozen=True)
class Outcome:
    """How a test ended: "ok", "skipped", "failure" or "error"."""

    kind: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.reason})" if self.reason else self.kind


Results = dict[str, Outcome]


def interpreter() -> str | None:
    """An interpreter that has the tests, if there is one: Debian's has with the package libpython3.11-testsuite."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    imports = "; ".join(f"import test.{module}" for module in ("libregrtest", *MODULES))
    for candidate in (f"/usr/bin/{version}", os.path.join(sys.base_prefix, "bin", version)):
        if os.access(candidate, os.X_OK):
            tried = subprocess.run([candidate, "-c", imports], capture_output=True, cwd="/", check=False)
            if tried.returncode == 0:
                return candidate
    return None


def run(python: str, directory: Path, modules: Sequence[str] = MODULES, ignored: Sequence[str] = ()) -> Results:
    """Run test modules in a directory, with their temporary files there too."""
    with tempfile.TemporaryDirectory(prefix="cpython-") as reports:
        report = Path(reports, "report.xml")
        command = [python, "-m", "test", "--tempdir", os.fspath(directory), "--junit-xml", os.fspath(report)]
        command += [word for pattern in ignored for word in ("--ignore", pattern)]
        environment = {**os.environ, "TMPDIR": os.fspath(directory)}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [*command, *modules],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE_S,
        )
        if not report.exists():
            raise RuntimeError(f"{command} made no report: {done.stdout[-4000:]}")
        return _results(report, directory)


def _results(report: Path, directory: Path) -> Results:
    results = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - regrtest wrote it this moment
        ended = next((child for child in case if child.tag in ("skipped", "failure", "error")), None)
        if ended is None:
            outcome = Outcome("ok")
        else:
            reason = (ended.text or "").replace(os.fspath(directory), "DIRECTORY")
            outcome = Outcome(ended.tag, re.sub(r"@test_\d+_tmp", "@test_PID_tmp", reason))
        results[case.get("name", "")] = outcome
    return results


def faults(mount: Results, plain: Results) -> list[str]:
    """What went wrong on the mount: a line for each failure, and for each other difference that is not allowed."""
    said = []
    for name in sorted(mount.keys() | plain.keys()):
        here, there = mount.get(name), plain.get(name)
        if here == there and here is not None and here.kind in ("ok", "skipped"):
            continue
        if not any(fnmatch.fnmatchcase(name, allowed) for allowed in DIFFERENCES):
            said.append(f"{name}: {here or 'not run'}; on a plain directory {there or 'not run'}")
    return said


def summary(results: Results) -> str:
    """How many tests ended in which way."""
    kinds = Counter(outcome.kind for outcome in results.values())
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.apps.cpython", description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=MODULES, help="test modules; by default all that are listed")
    parser.add_argument("--short", action="store_true", help="leave out what takes long")
    chosen = parser.parse_args()
    python = interpreter()
    if python is None:
        print("cpython: no interpreter here has its tests; on Debian install libpython3.11-testsuite", file=sys.stderr)
        return 2
    ignored = LONG if chosen.short else ()
    said = []
    with mounted() as places:
        for module in chosen.modules:
            there = run(python, places.plain, [module], ignored)
            here = run(python, places.mount, [module], ignored)
            print(f"{module}: on the mount {summary(here)}; on a plain directory {summary(there)}", flush=True)
            said += faults(here, there)
    for line in said:
        print(line)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
