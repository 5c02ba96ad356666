"""A check of everything that must hold in a namespace, on the rows themselves."""

from collections.abc import Mapping

from qunfs.objects.codes import ftype3
from qunfs.objects.ids import ROOT, TOPOLOGY, is_directory
from qunfs.objects.state import unpack_attributes, unpack_entry, unpack_header
from tests.support.local_qu import State


def check_tree(state: State) -> dict[int, int]:
    """Raise unless the tree is whole; the number of names of every object that is there."""
    return check_objects({obj: rows for obj, rows in state.dump().items() if obj != TOPOLOGY})


def check_objects(objects: Mapping[int, Mapping[bytes, bytes]]) -> dict[int, int]:
    """The same of the rows of all objects but the topology's."""
    names = dict.fromkeys(objects, 0)
    subdirectories = dict.fromkeys(objects, 0)
    reached, todo = {ROOT}, [ROOT]
    while todo:
        directory = todo.pop()
        rows = objects[directory]
        header = unpack_header(rows[b"d"])
        entries = {key[1:]: unpack_entry(value) for key, value in rows.items() if key[:1] == b"e"}
        cookies = {int.from_bytes(key[1:], "big"): value for key, value in rows.items() if key[:1] == b"k"}
        assert {entry.cookie: name for name, entry in entries.items()} == cookies
        assert header.entries == len(entries)
        assert all(3 <= cookie < header.next_cookie for cookie in cookies)
        for entry in entries.values():
            assert entry.obj in objects, "an entry that names nothing"
            assert unpack_attributes(objects[entry.obj][b"a"]).type == entry.type
            names[entry.obj] += 1
            if is_directory(entry.obj):
                assert unpack_header(objects[entry.obj][b"d"]).parent == directory
                assert entry.obj not in reached, "a directory with two names"
                subdirectories[directory] += 1
                reached.add(entry.obj)
                todo.append(entry.obj)
    for obj, rows in objects.items():
        attributes = unpack_attributes(rows[b"a"])
        if is_directory(obj):
            assert attributes.type == ftype3.NF3DIR
            assert obj in reached, "a directory that cannot be reached"
            assert attributes.nlink == 2 + subdirectories[obj]
        else:
            assert attributes.nlink == names[obj] > 0
    return names
