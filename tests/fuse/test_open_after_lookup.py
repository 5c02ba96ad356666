"""When an open may do with the attributes of the lookup before it."""

import pytest

from fuse_client.namespace import JUST_NOW_S, NamespaceOperations

ASKED = 100.0


class _Cache:
    """A clock, which is all that is asked of it here."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now


@pytest.mark.parametrize(
    ("inode", "pid", "now", "believed"),
    [
        (7, 11, ASKED + JUST_NOW_S / 2, True),
        (7, 11, ASKED + JUST_NOW_S, False),
        (7, 12, ASKED, False),
        (8, 11, ASKED, False),
    ],
)
def test_only_the_same_process_at_once_on_the_same_file(inode: int, pid: int, now: float, believed: bool) -> None:
    operations = object.__new__(NamespaceOperations)
    operations._cache = _Cache(now)
    operations._last_lookup = (7, 11, ASKED)
    assert operations._just_looked_up(inode, pid) is believed
