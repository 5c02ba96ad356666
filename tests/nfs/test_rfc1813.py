"""Every procedure of RFC 1813 about names is there, with the RFC's names for arguments, results and statuses."""

import inspect

import pytest

from qunfs.nfs import types
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3

# Arguments as section 3.3 declares them; of nested structures (diropargs3, createhow3, sattrguard3, ...) the fields.
ARGUMENTS = {
    "getattr": "object",
    "setattr": "object new_attributes guard",
    "lookup": "dir name",
    "access": "object access",
    "readlink": "symlink",
    "create": "dir name how obj_attributes verf",
    "mkdir": "dir name attributes",
    "symlink": "dir name symlink_attributes symlink_data",
    "mknod": "dir name type attributes spec",
    "remove": "dir name",
    "rmdir": "dir name",
    "rename": "from_dir from_name to_dir to_name",
    "link": "file dir name",
    "readdir": "dir cookie cookieverf count",
    "readdirplus": "dir cookie cookieverf dircount maxcount",
    "fsstat": "fsroot",
    "fsinfo": "fsroot",
    "pathconf": "object",
}
OURS = {"remove": ["hint"], "rmdir": ["hint"], "rename": ["flags", "hint", "to_hint"]}

RESULTS = {
    "GETATTR3res": "obj_attributes",
    "SETATTR3res": "obj_wcc",
    "LOOKUP3res": "object obj_attributes dir_attributes",
    "ACCESS3res": "obj_attributes access",
    "READLINK3res": "symlink_attributes data",
    "CREATE3res": "obj obj_attributes dir_wcc",
    "MKDIR3res": "obj obj_attributes dir_wcc",
    "SYMLINK3res": "obj obj_attributes dir_wcc",
    "MKNOD3res": "obj obj_attributes dir_wcc",
    "REMOVE3res": "dir_wcc",
    "RMDIR3res": "dir_wcc",
    "RENAME3res": "fromdir_wcc todir_wcc",
    "LINK3res": "file_attributes linkdir_wcc",
    "READDIR3res": "dir_attributes cookieverf entries eof",
    "READDIRPLUS3res": "dir_attributes cookieverf entries eof",
    "FSSTAT3res": "obj_attributes tbytes fbytes abytes tfiles ffiles afiles invarsec",
    "FSINFO3res": "obj_attributes rtmax rtpref rtmult wtmax wtpref wtmult dtpref maxfilesize time_delta properties",
    "PATHCONF3res": "obj_attributes linkmax name_max no_trunc chown_restricted case_insensitive case_preserving",
    "fattr3": "type mode nlink uid gid size used rdev fsid fileid atime mtime ctime",
    "sattr3": "mode uid gid size atime mtime",
    "wcc_attr": "size mtime ctime",
    "wcc_data": "before after",
    "entry3": "fileid name cookie",
    "entryplus3": "fileid name cookie name_attributes name_handle",
}

STATUSES = {
    "OK": 0, "PERM": 1, "NOENT": 2, "IO": 5, "NXIO": 6, "ACCES": 13, "EXIST": 17, "XDEV": 18, "NODEV": 19,
    "NOTDIR": 20, "ISDIR": 21, "INVAL": 22, "FBIG": 27, "NOSPC": 28, "ROFS": 30, "MLINK": 31, "NAMETOOLONG": 63,
    "NOTEMPTY": 66, "DQUOT": 69, "STALE": 70, "REMOTE": 71, "BADHANDLE": 10001, "NOT_SYNC": 10002,
    "BAD_COOKIE": 10003, "NOTSUPP": 10004, "TOOSMALL": 10005, "SERVERFAULT": 10006, "BADTYPE": 10007, "JUKEBOX": 10008,
}  # fmt: skip


@pytest.mark.parametrize("procedure", ARGUMENTS)
def test_arguments(procedure):
    names = list(inspect.signature(getattr(MetadataService, procedure)).parameters)
    assert names == ["self", "cred", *ARGUMENTS[procedure].split(), *OURS.get(procedure, [])]


@pytest.mark.parametrize("structure", RESULTS)
def test_results(structure):
    fields = [name for name in getattr(types, structure)._fields if name != "status"]
    names = RESULTS[structure].split()
    assert fields[: len(names)] == names
    assert ("status" in getattr(types, structure)._fields) == structure.endswith("res")


def test_statuses():
    for name, number in STATUSES.items():
        assert nfsstat3["NFS3_OK" if name == "OK" else f"NFS3ERR_{name}"] == number
