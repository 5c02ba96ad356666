"""What differs on a mount from a plain directory.  Each entry must make the tests that it names fail on the mount."""

from typing import Final, NamedTuple


class Difference(NamedTuple):
    here: str
    """What a mount does instead."""
    reason: str


DIFFERENCES: Final[dict[str, Difference]] = {}
"""By test: "file: test[parameters]" without the leading "test_"."""
