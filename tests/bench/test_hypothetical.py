import subprocess
import sys
from pathlib import Path

import pytest

from bench import details, hypothetical
from bench.counter import Load
from qunfs import native
from qunfs.protocol.errors import LocalError


def test_compiled_code_is_not_pretended_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "active", lambda: True)
    with pytest.raises(LocalError, match="QUNFS_PURE=1"):
        hypothetical.assume("no-authenticators")


def test_every_variant_is_measured_once_on_the_replicas_that_fit_it() -> None:
    seen = {}
    for assumption in ("nothing", *details.WITH_OTHER_REPLICAS.values()):
        for load in details._variants(assumption, Load(3, workload="details")):
            assert load.variant not in seen
            seen[load.variant] = (assumption, load.module.split()[-1], load.uncached)
    assert seen["Q/U"] == ("nothing", "nothing", False)
    assert seen["uncached OHS"] == ("nothing", "nothing", True)
    assert seen["random quorums"] == ("nothing", "random-quorums", False)
    assert seen["no authenticators"] == ("no-authenticators", "no-authenticators", False)
    assert len(seen) == 5


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (None, "x"):
        if before is None:
            monkeypatch.delenv(native.PURE, raising=False)
        else:
            monkeypatch.setenv(native.PURE, before)
        with details.pure_python():
            assert details.os.environ[native.PURE] == "1"
        assert details.os.environ.get(native.PURE) == before


def test_wrong_usage_says_what_is_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.hypothetical", "replica", str(tmp_path), "--server", "0"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={native.PURE: "1", "PYTHONPATH": sys.path[0]},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("qunfs: ")
