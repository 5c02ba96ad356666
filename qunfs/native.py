"""Compiled code where there is some: mypyc's build of exactly these sources, made by scripts/build-native.

The Python sources are the reference and run everywhere.  A build lies under the digest of the sources it was made from,
so that code which has changed is never taken for what its file says; the environment variable QUNFS_PURE=1 leaves
builds alone.  :func:`install` runs when the package is imported, before anything that a build could replace.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILDS: Final = ROOT / "build" / "native"
"""One folder for each digest."""
PURE: Final = "QUNFS_PURE"
"""The environment variable that turns compiled code off."""

_MODULES: Final = (
    "qunfs/net/connection.py",
    "qunfs/net/frames.py",
    "qunfs/net/tls.py",
    "server/disk_rows.py",
    "server/journal.py",
)
_PACKAGES: Final = ("qunfs/protocol", "qunfs/objects", "bench/baselines/pbft/core")
"""The last one is what ours is compared with: compiled as well, or the comparison would not be fair."""
_KNOWN_TO_THEM: Final = (*_PACKAGES, "qunfs/net", "server")
"""Constants of these may have gone into any compiled module; the import contracts keep others out."""
_SUFFIX: Final = EXTENSION_SUFFIXES[0]


def modules() -> list[str]:
    """The files, relative to ROOT, that are compiled."""
    found = [path.relative_to(ROOT) for package in _PACKAGES for path in (ROOT / package).glob("*.py")]
    return sorted([*(str(path) for path in found if path.name != "__init__.py"), *_MODULES])


def digest() -> str:
    """What a build of the present sources is called."""
    state = blake2b(f"{sys.implementation.cache_tag} {_SUFFIX}".encode(), digest_size=16)
    for path in sorted(path for package in _KNOWN_TO_THEM for path in (ROOT / package).glob("*.py")):
        source = path.read_bytes()
        state.update(b"%s\0%d\0" % (os.fsencode(path.relative_to(ROOT)), len(source)))
        state.update(source)
    return state.hexdigest()


class _Finder:
    """Finds the modules of one build: a MetaPathFinder in all but name, which takes long to load."""

    def __init__(self, build: Path) -> None:
        self._files = dict(_built(build))

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - importlib's
        target: ModuleType | None = None,  # noqa: ARG002 - importlib's
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def _built(build: Path) -> Iterator[tuple[str, Path]]:
    for file in build.rglob(f"*{_SUFFIX}"):
        name = file.relative_to(build).as_posix().removesuffix(_SUFFIX)
        yield name.replace("/", "."), file


def install() -> None:
    """Let imports find the build of the present sources, if there is one and nobody has asked for the pure code."""
    if os.environ.get(PURE) or not BUILDS.is_dir():
        return
    build = BUILDS / digest()
    if build.is_dir():
        sys.meta_path.insert(0, _Finder(build))


def active() -> bool:
    """Whether this process runs compiled code."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)
