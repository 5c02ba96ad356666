"""Where and with what something was measured."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import qunfs
from qunfs import native

_LIBRARIES: Final = ("cryptography", "lmdb", "msgpack", "mypy", "pyfuse3", "trio")
_ROOT: Final = Path(__file__).resolve().parent.parent.parent


def machine() -> dict[str, Any]:
    """The machine: what a reader needs in order to compare."""
    return {
        "processor": _row("/proc/cpuinfo", "model name"),
        "processors": os.cpu_count(),
        "memory_mb": int(_row("/proc/meminfo", "MemTotal").split()[0] or 0) // 1024,
        "kernel": platform.release(),
        "virtual": "hypervisor" in _row("/proc/cpuinfo", "flags").split(),
        "idle_poll_ns": _text("/sys/module/haltpoll/parameters/guest_halt_poll_ns"),
    }


def versions() -> dict[str, Any]:
    """The software: releases of everything on the hot path, and the state of this checkout."""
    known: dict[str, Any] = {"qunfs": qunfs.__version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        with suppress(PackageNotFoundError):
            known[library] = version(library)
    import ssl

    return {**known, "openssl": ssl.OPENSSL_VERSION, "compiled": native.active(), "commit": _commit()}


def command() -> str:
    """The command line, as it can be typed again."""
    import shlex

    return shlex.join(["qunfs", *sys.argv[1:]])


def _commit() -> str:
    """The checkout's commit, with a plus sign when files differ from it; empty outside of one."""
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, check=False, timeout=10.0,
        )  # fmt: skip
        return told.stdout.strip()
    return ""


def _row(path: str, name: str) -> str:
    for row in _text(path).splitlines():
        key, colon, value = row.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
