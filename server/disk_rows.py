"""Rows on disk: a write-ahead log in front of an LMDB database.

``commit`` appends the batch's changes to the log as one record, and that is all.  The changed rows stay in memory,
where reads look first.  When there are many, a *checkpoint* brings them into the database in one transaction and the
log begins anew; rows that change with every request are written there once.  The database says in a row of its own up
to which record it has the log, so that after a crash at any moment exactly the missing ones are applied.

What is promised when ``commit`` has returned: ``sync`` rows survive the machine (the log is brought to the disk before
``commit`` returns, and the database before the log begins anew), ``async`` ones the process, killed at any moment.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import lmdb
import msgpack

from qunfs.protocol.errors import StorageError
from qunfs.protocol.store import end_of, patched
from server.journal import JOURNAL_BYTES, Journal, create_journal
from server.lmdb_rows import MAP_BYTES_MIN, Durability, LmdbRows

ROWS_MAX: Final = 4_096
"""Changed rows held in memory before a checkpoint, which then stalls a request for 10 to 30 ms."""

_APPLIED: Final = b"\x00journal"
"""The database's own row: the newest record of the log that it has, and the log's identity."""
_MARK: Final = struct.Struct(">Q16s")
_KEY_BYTES_MAX: Final = 511
"""What LMDB takes; said at the put, where the mistake is, and not at the checkpoint."""
_PREFIX_BYTES: Final = 9
"""Rows are grouped by these first bytes of their keys, kind and object: no scan but those at start goes beyond."""

_pack: Final = msgpack.Packer().pack


class DiskRows:
    """Rows in a directory, which is made when missing.

    Every error of the disk is a StorageError; after the first one nothing works any more.  What cannot come from a
    crash is refused with one at once, unless ``accept_loss``: then the rows are as of the last record before the gap.
    """

    def __init__(
        self,
        directory: Path,
        durability: Durability,
        accept_loss: bool = False,
        rows_max: int = ROWS_MAX,
        journal_bytes: int = JOURNAL_BYTES,
        map_bytes_min: int = MAP_BYTES_MIN,
    ) -> None:
        self._path = directory / "journal"
        self._durability = durability
        self._rows_max = rows_max
        self._recent: dict[bytes, bytes | None] = {}
        """What may differ from the database; None where a row goes away."""
        self._groups: dict[bytes, list[bytes]] = {}
        """The keys of the recent rows by prefix."""
        self._batch: dict[bytes, bytes | None] = {}
        """The recent rows that are not committed."""
        self._table = LmdbRows(directory, durability, map_bytes_min)
        try:
            self._journal: Final = self._recover(accept_loss, journal_bytes)
        except OSError as error:
            raise self._table.fail(error) from error
        except BaseException:
            self._table.close()
            raise

    def get(self, key: bytes) -> bytes | None:
        if key in self._recent:
            return self._recent[key]
        return self._table.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._change(key, value)

    def delete(self, key: bytes) -> None:
        self._change(key, None)

    def _change(self, key: bytes, value: bytes | None) -> None:
        if key not in self._recent:
            self._first_change(key)
        self._recent[key] = self._batch[key] = value

    def _first_change(self, key: bytes) -> None:
        self._table.check()
        if not 0 < len(key) <= _KEY_BYTES_MAX:
            raise self._fail(lmdb.BadValsizeError(f"a key of {len(key)} bytes"))
        self._groups.setdefault(key[:_PREFIX_BYTES], []).append(key)

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        rows = self._table.scan(start, stop)
        if start <= _APPLIED and (stop is None or stop > _APPLIED):
            rows = (row for row in rows if row[0] != _APPLIED)
        prefix = start[:_PREFIX_BYTES]
        keys: Sequence[bytes] | dict[bytes, bytes | None] = self._recent
        if len(prefix) == _PREFIX_BYTES and stop is not None and stop <= end_of(prefix):
            keys = self._groups.get(prefix, ())
        patches = sorted([key for key in keys if key >= start and (stop is None or key < stop)])
        if not patches:
            return rows
        return patched(rows, 0, [(key, self._recent[key]) for key in patches])

    def commit(self) -> None:
        self._table.check()
        if not self._batch:
            return
        try:
            if self._journal.append(_pack(self._batch)) and len(self._recent) < self._rows_max:
                self._batch = {}
                return
        except OSError as error:
            raise self._fail(error) from error
        self._checkpoint()  # a batch that is too long for the log's rest needs no record

    def sync(self) -> None:
        """Bring everything committed to the disk, in either mode, if possible to the database.  Raises StorageError."""
        self._table.check()
        if self._recent and not self._batch:
            self._checkpoint()
        try:
            self._journal.sync()
        except OSError as error:
            raise self._fail(error) from error
        self._table.sync()

    def close(self) -> None:
        """Drop what was not committed and let go of the files."""
        self._table.close()
        self._release()

    def _checkpoint(self) -> None:
        """Bring all rows in memory into the database; the log may begin anew when they are there."""
        try:
            self._table.apply(sorted([*self._recent.items(), _mark(self._journal)]))  # in key order: page after page
        except StorageError:
            self._release()
            raise
        self._journal.restart(self._journal.sequence)
        self._recent, self._groups, self._batch = {}, {}, {}

    def _recover(self, accept_loss: bool, journal_bytes: int) -> Journal:
        """The log, empty; what it had to say is in the database and on the disk.

        The order of the writes is what makes a crash harmless: a log is made before the database names it, and what
        it says is in the database before it begins anew.
        """
        mark = self._table.get(_APPLIED)
        applied, identity = (0, b"") if mark is None else _MARK.unpack(mark)
        journal, damage = self._open_or_create(mark is None, accept_loss, journal_bytes)
        try:
            payloads: list[bytes] = []
            if damage is None and mark is not None and journal.identity != identity:
                damage = "it belongs to another database"
            if damage is None:
                payloads, damage = journal.read(applied)
            if damage is None and payloads and mark is None:
                damage = "its database is gone"
            if damage is not None:
                if not accept_loss:
                    raise StorageError(
                        f"{self._path} does not fit the data beside it ({damage}): rebuild this server from the others"
                    )
                journal.close()
                create_journal(self._path, journal_bytes)
                journal = Journal(self._path, self._durability == "sync")
            journal.restart(applied + len(payloads))
            if payloads or journal.identity != identity:
                recent: dict[bytes, bytes | None] = {}
                for payload in payloads:
                    recent.update(msgpack.unpackb(payload))
                self._table.apply(sorted([*recent.items(), _mark(journal)]))
            self._table.sync()
        except BaseException:
            journal.close()
            raise
        return journal

    def _open_or_create(self, is_new: bool, accept_loss: bool, journal_bytes: int) -> tuple[Journal, str | None]:
        """The log, and what is wrong when there had to be another."""
        damage: str | None = None
        if not self._path.exists():
            damage = None if is_new else "it is missing"
            if damage is None or accept_loss:
                create_journal(self._path, journal_bytes)
            else:
                raise StorageError(f"{self._path} is missing: rebuild this server from the others")
        durable = self._durability == "sync"
        try:
            return Journal(self._path, durable), damage
        except StorageError as error:
            if not accept_loss:
                raise StorageError(f"{error}: rebuild this server from the others") from None
            create_journal(self._path, journal_bytes)
            return Journal(self._path, durable), str(error)

    def _fail(self, error: BaseException) -> StorageError:
        failure = self._table.fail(error)
        self._release()
        return failure

    def _release(self) -> None:
        """Forget the rows in memory, so that every later use finds the database closed."""
        self._recent, self._groups, self._batch = {}, {}, {}
        self._journal.close()


def _mark(journal: Journal) -> tuple[bytes, bytes]:
    return _APPLIED, _MARK.pack(journal.sequence, journal.identity)
