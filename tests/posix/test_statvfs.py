"""statvfs(3), fstatvfs(3), pathconf(3)"""

import errno
import os

from tests.fuse.conftest import refused
from tests.posix.shared import bad_paths, follows_links, good_paths, missing_file, needs_search, opened, touch

test_bad_paths = bad_paths(os.statvfs)
test_good_paths = good_paths(os.statvfs, touch)
test_follows_links = follows_links(os.statvfs)
test_missing = missing_file(os.statvfs)
test_search = needs_search(os.statvfs, touch)


def test_sense():
    room = os.statvfs(".")
    assert room.f_namemax == 255
    assert room.f_bsize > 0
    assert room.f_frsize > 0
    assert 0 < room.f_bavail <= room.f_bfree <= room.f_blocks
    assert 0 < room.f_favail <= room.f_ffree <= room.f_files
    assert not room.f_flag & os.ST_RDONLY


def test_descriptors():
    touch("f")
    for path in ("f", "."):
        with opened(path) as fd:
            assert os.fstatvfs(fd).f_blocks == os.statvfs(".").f_blocks
    with refused(errno.EBADF):
        os.fstatvfs(fd)


def test_pathconf():
    assert os.pathconf(".", "PC_NAME_MAX") == 255
    assert os.pathconf(".", "PC_PATH_MAX") == 4096
    assert os.pathconf(".", "PC_NO_TRUNC") == 1
    assert os.pathconf(".", "PC_CHOWN_RESTRICTED") == 1
    assert os.pathconf(".", "PC_PIPE_BUF") == 4096


def test_link_max():
    assert os.pathconf(".", "PC_LINK_MAX") == 65000
