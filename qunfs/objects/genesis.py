"""The namespace that a new cluster starts with."""

from qunfs.objects.codes import ftype3
from qunfs.objects.ids import DIRECTORY_TYPE, ROOT, TOPOLOGY, TOPOLOGY_TYPE
from qunfs.objects.state import (
    ATTRIBUTES_ROW,
    DIRECTORY_BYTES,
    DIRECTORY_ROW,
    GENERATION_ROW,
    Attributes,
    DirectoryHeader,
    pack_generation,
)
from qunfs.protocol.execution import TYPE_KEY


def genesis_rows(uid: int, gid: int, mode: int, time_ns: int) -> dict[int, dict[bytes, bytes]]:
    """The rows of the initial version of the root directory and the topology object, types included."""
    times = (time_ns, time_ns, time_ns)
    root = Attributes(ftype3.NF3DIR, mode & 0o7777, 2, uid, gid, DIRECTORY_BYTES, (0, 0), *times, b"", 0)
    return {
        ROOT: {
            ATTRIBUTES_ROW: root.pack(),
            DIRECTORY_ROW: DirectoryHeader(ROOT).pack(),
            TYPE_KEY: DIRECTORY_TYPE.encode(),
        },
        TOPOLOGY: {GENERATION_ROW: pack_generation(0), TYPE_KEY: TOPOLOGY_TYPE.encode()},
    }
