"""Paths as users give them."""

from pathlib import Path

from qunfs.protocol.errors import LocalError


def absolute(path: Path) -> Path:
    """A path that no longer depends on the current directory.  Raises LocalError when there is none any more."""
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise LocalError(f"{path}: the current directory was removed; go elsewhere or give absolute paths") from error
