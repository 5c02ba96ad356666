"""The database: rows in LMDB, many of which change at a time, in one transaction.

``sync``: ``apply`` returns when the data is on disk.  ``async``: it leaves the data to the kernel through a writable
map, which takes half the time; that survives the process but not the machine.  Writing to a mapped page whose block
cannot be allocated would kill the process, so blocks are allocated ahead of the writes and a full disk is an error.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import lmdb

from qunfs.protocol.errors import StorageError

Durability = Literal["sync", "async"]

MAP_BYTES_MIN: Final = 4 << 30
"""Address space, neither memory nor disk; doubles when half of it is used."""
_AHEAD_BYTES: Final = 16 << 20
"""Blocks are allocated at least half as far ahead of what is used."""
_PUT_BYTES: Final = 8192
"""What changing a row takes at most besides the value: a page copied and a page split."""


class LmdbRows:
    """Rows in a directory, which is made when missing.

    Every error of LMDB or of the disk is a StorageError; after the first one nothing works any more.
    """

    def __init__(self, directory: Path, durability: Durability, map_bytes_min: int = MAP_BYTES_MIN) -> None:
        self._directory = directory
        self._allocates = durability == "async"
        self.failure: str | None = None
        """Why nothing works any more."""
        self._transaction: lmdb.Transaction[bytes] | None = None
        """What reads go through; a new one when the rows have changed."""
        self._allocated_bytes = 0
        self._file = -1
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._environment = self._open_environment(map_bytes_min)
            self._file = os.open(directory / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
            self._make_room()
        except (lmdb.Error, OSError, MemoryError) as error:
            raise self.fail(error) from error

    def _open_environment(self, map_bytes_min: int) -> lmdb.Environment:
        data = self._directory / "data.mdb"
        in_use = data.stat().st_blocks * 512 if data.exists() else 0
        return lmdb.open(
            str(self._directory),
            map_size=max(map_bytes_min, 4 * in_use),
            mode=0o600,
            writemap=self._allocates,
            sync=not self._allocates,
            metasync=not self._allocates,
        )

    def get(self, key: bytes) -> bytes | None:
        try:
            return (self._transaction or self._begin()).get(key)
        except lmdb.Error as error:
            raise self.fail(error) from error

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        try:
            with (self._transaction or self._begin()).cursor() as cursor:
                if cursor.set_range(start) if start else cursor.first():
                    for key, value in cursor.iternext():
                        if stop is not None and key >= stop:
                            return
                        yield key, value
        except lmdb.Error as error:
            raise self.fail(error) from error

    def apply(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Change rows in one transaction, None removing one; in key order it goes page after page."""
        try:
            if self._transaction is not None:  # the map cannot grow below it
                self._transaction.abort()
                self._transaction = None
            self.check()
            changed = [(key, value) for key, value in rows if value is not None]
            self._make_room(sum([len(value) for _, value in changed]) + _PUT_BYTES * len(rows))
            transaction = self._begin()
            with transaction.cursor() as cursor:
                cursor.putmulti(changed)
            if len(changed) < len(rows):
                for key in [key for key, value in rows if value is None]:
                    transaction.delete(key)
            self._commit(transaction)
        except (lmdb.Error, OSError, MemoryError) as error:
            raise self.fail(error) from error

    def sync(self) -> None:
        """Bring everything committed to the disk, in either mode.  Raises StorageError."""
        try:
            self._environment.sync(True)
        except lmdb.Error as error:
            raise self.fail(error) from error

    def close(self) -> None:
        """Drop what was not committed and let go of the files."""
        if self.failure is None:
            self._release()
            self.failure = f"the data in {self._directory} has been closed"

    def check(self) -> None:
        """Raise StorageError when the rows have failed or been closed."""
        if self.failure is not None:
            raise StorageError(self.failure)

    def _begin(self) -> "lmdb.Transaction[bytes]":
        self.check()
        self._transaction = self._environment.begin(write=True)
        return self._transaction

    def _commit(self, transaction: "lmdb.Transaction[bytes]") -> None:
        transaction.commit()
        self._transaction = None

    def _make_room(self, coming: int = 0) -> None:
        """Between transactions: a larger map where needed, and blocks for what comes next."""
        information = self._environment.info()
        used = (information["last_pgno"] + 1) * os.sysconf("SC_PAGE_SIZE")
        if 2 * (used + coming) > information["map_size"]:
            self._environment.set_mapsize(max(2 * information["map_size"], 4 * (used + coming)))
        missing = used + coming + _AHEAD_BYTES - self._allocated_bytes
        if self._allocates and missing > _AHEAD_BYTES // 2:
            os.posix_fallocate(self._file, self._allocated_bytes, missing)
            self._allocated_bytes += missing

    def fail(self, error: BaseException) -> StorageError:
        """What to raise; nothing is to be read or written any more."""
        if self.failure is None:
            self.failure = (
                f"cannot keep data in {self._directory} ({error}): free space or repair the disk, "
                "then start the server again"
            )
            self._release()
        return StorageError(self.failure)

    def _release(self) -> None:
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None
        if self._file >= 0:
            self._environment.close()
            os.close(self._file)
            self._file = -1
