"""A store as small as can be on rows on disk: a record is what a batch changes, and rows that wait lie in a dict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from qunfs.protocol.store import Difference, patched
from server.disk_rows import DiskRows
from server.lmdb_rows import Durability


class KeptRows:
    """Rows in a directory that can be put and deleted; they survive from commit on."""

    def __init__(self, directory: Path, durability: Durability, accept_loss: bool = False, **options: Any) -> None:
        self.disk = DiskRows(directory, durability, accept_loss, **options)
        self.recent: dict[bytes, bytes | None] = {}
        self.batch: dict[bytes, bytes | None] = {}
        for record in self.disk.recovered():
            self.recent.update(msgpack.unpackb(record))
        if self.recent:
            self.apply()

    def get(self, key: bytes) -> bytes | None:
        return self.recent[key] if key in self.recent else self.disk.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._change({key: value})

    def delete(self, key: bytes) -> None:
        self._change({key: None})

    def _change(self, changes: Difference) -> None:
        self.recent.update(changes)
        self.batch.update(changes)

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        patches = [item for item in self.recent.items() if item[0] >= start and (stop is None or item[0] < stop)]
        return patched(self.disk.scan(start, stop), 0, sorted(patches))

    def commit(self) -> None:
        if not self.batch:
            return
        if self.disk.append(msgpack.packb(self.batch), len(self.recent)):
            self.batch = {}
        else:
            self.apply()

    def apply(self) -> None:
        self.disk.apply(list(self.recent.items()))
        self.recent, self.batch = {}, {}

    def sync(self) -> None:
        if self.recent:
            self.apply()
        self.disk.sync()

    def close(self) -> None:
        self.disk.close()
