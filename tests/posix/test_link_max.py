"""link(2), EMLINK: a file takes 65,000 links on ext4 and as many on a mount.

Making them all takes a mount minutes, so its file is one of a namespace in this process, and given most of its links.
"""

import errno
import os

import pytest

from qunfs.objects.codes import LINK_MAX
from qunfs.objects.state import ATTRIBUTES_ROW, unpack_attributes
from tests.fuse.conftest import mount, mounter, namespace, refused  # noqa: F401 - fixtures
from tests.posix.conftest import MOUNT, PLAIN
from tests.posix.shared import touch
from tests.posix.times import moves_nothing


@pytest.fixture(params=[PLAIN, MOUNT])
def place(request, base):
    """A directory in which "f" has as many links as it may have."""
    if request.param == MOUNT:
        made = request.getfixturevalue("mount").path
        touch(made / "f")
        state = request.getfixturevalue("namespace").core.state
        file = os.stat(made / "f").st_ino
        attributes = unpack_attributes(state.get(file, ATTRIBUTES_ROW))
        attributes.nlink = LINK_MAX - 1
        state.put(file, ATTRIBUTES_ROW, attributes.pack())
        os.link(made / "f", made / "last")
    else:
        made = base / "links"
        made.mkdir()
        touch(made / "f")
        for i in range(LINK_MAX - 2):
            os.link(made / "f", made / f"link{i}")
        os.link(made / "f", made / "last")
    return made


def test_too_many_links(place):
    os.chdir(place)
    assert os.stat("f").st_nlink == LINK_MAX == 65_000
    with moves_nothing("f", "."), refused(errno.EMLINK):
        os.link("f", "one more")
    os.unlink("last")
    os.link("f", "one more")
    assert os.stat("f").st_nlink == LINK_MAX
