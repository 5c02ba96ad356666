"""The contents folder of a client, held against the namespace while nobody mounts with it.

Contents of what is no file of this store any more are moved aside, to ``FOLDER/lost+found``, and not deleted: somebody
may want to see them first.  What is missing cannot be made again.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Final

from fuse_client.contents import ContentStore
from qunfs.fsck.book import Book
from qunfs.fsck.findings import FINDINGS_MAX, Fate, Fault, Kind
from qunfs.fsck.walk import SUPERUSER, attributes_in, replies
from qunfs.nfs.calls import query_call
from qunfs.nfs.types import ftype3, nfsstat3
from qunfs.objects.ids import is_file
from qunfs.protocol.errors import LocalError
from qunfs.protocol.operation import QueryUpdate

ASIDE: Final = "lost+found"

_TOGETHER: Final = 256


class ContentsCheck:
    """The check of one folder; holds its lock, so that nobody can mount with it meanwhile.

    Raises LocalError when a mount has it.
    """

    def __init__(self, folder: Path, core: QueryUpdate) -> None:
        self._folder, self._core = folder, core
        self._store = ContentStore(folder)
        self.files = 0

    def close(self) -> None:
        """Let mounts have the folder."""
        self._store.close()

    async def faults(self, book: Book) -> list[Fault]:
        """Contents without a file, and files whose contents are missing."""
        found: list[Fault] = []
        some: list[tuple[int, Path]] = []
        for obj, path in self._contents():
            self.files += 1
            some.append((obj, path))
            if len(some) >= _TOGETHER:
                found += await self._superfluous(some)
                some = []
        found += await self._superfluous(some)
        found += await self._missing(book)
        return found[:FINDINGS_MAX]

    def _contents(self) -> Iterator[tuple[int, Path]]:
        """Ids and paths of all content files."""
        try:
            for folder in sorted((self._folder / "data").iterdir()):
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    obj = _object_of(folder.name, path.name)
                    if obj is not None:
                        yield obj, path
        except OSError as error:
            raise LocalError(f"contents folder {self._folder} cannot be read: {error}") from error

    async def _superfluous(self, some: Sequence[tuple[int, Path]]) -> list[Fault]:
        found = []
        calls = [query_call(SUPERUSER, "attr.getattr", obj) for obj, _ in some]
        for (obj, path), reply in zip(some, await replies(self._core, calls) if calls else [], strict=True):
            attributes = None if reply is None else attributes_in(reply, obj)
            if attributes is None:
                gone = reply is not None and reply.status is nfsstat3.NFS3ERR_STALE
                text = "the file is gone" if gone else ""
            elif attributes.type is not ftype3.NF3REG:
                text = "the object is no file that has contents"
            elif attributes.store not in (b"", self._store.identity):
                text = "the file's contents are another client's by now"
            else:
                text = ""
            if text:
                found.append(Fault(Kind.CONTENTS, obj, text=text, path=str(path)))
        return found

    async def _missing(self, book: Book) -> list[Fault]:
        query = "SELECT id FROM object WHERE state = 1 AND type = 1 AND size > 0 AND store = ?"
        suspected = [obj for (obj,) in book.each(query, self._store.identity) if not self._has(obj)]
        found = []
        for start in range(0, len(suspected), _TOGETHER):
            some = suspected[start : start + _TOGETHER]
            calls = [query_call(SUPERUSER, "attr.getattr", obj) for obj in some]
            for obj, reply in zip(some, await replies(self._core, calls), strict=True):
                attributes = None if reply is None else attributes_in(reply, obj)
                if attributes is not None and attributes.size > 0 and attributes.store == self._store.identity:
                    text = f"its {attributes.size} bytes should be in {self._folder}"
                    found.append(Fault(Kind.NO_CONTENTS, obj, text=text))
        return found

    def _has(self, obj: int) -> bool:
        fd = self._store.open(obj)
        if fd is not None:
            os.close(fd)
        return fd is not None

    def move_aside(self, faults: Sequence[Fault]) -> None:
        """Contents without a file go into a folder beside the others."""
        aside = self._folder / ASIDE
        for fault in faults:
            if fault.kind is not Kind.CONTENTS:
                continue
            try:
                aside.mkdir(mode=0o700, exist_ok=True)
                Path(fault.path).rename(_free(aside / Path(fault.path).name))
            except OSError as error:
                fault.why = f"it cannot be moved aside: {error.strerror}"
            else:
                fault.fate, fault.why = Fate.REPAIRED, f"moved to {aside}"


def _free(path: Path) -> Path:
    """A path that nothing is at, this one or one with a number."""
    paths = chain([path], (path.with_name(f"{path.name}.{number}") for number in count(1)))
    return next(one for one in paths if not os.path.lexists(one))


def _object_of(folder: str, name: str) -> int | None:
    """The id that a content file is named after, if it is one."""
    if len(name) != 16 or not set(name) <= set("0123456789abcdef"):
        return None
    obj = int(name, 16)
    return obj if f"{obj & 0xFF:02x}" == folder and is_file(obj) else None
