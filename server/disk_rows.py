"""Rows on disk: a log in front of an LMDB database.

``append`` writes one record of the log, and that is all: what records mean is for the store to know, which keeps in
memory what they do to the rows.  When many rows wait, or the log is full, it has them applied: they go into the
database in one transaction, rows that changed with every request once, and the log begins anew.  The database says in
a row of its own up to which record it has the log, so that after a crash at any moment exactly the missing ones are
recovered.

What is promised when ``append`` or ``apply`` has returned: ``sync`` rows survive the machine (the log is brought to the
disk before ``append`` returns, and the database before the log begins anew), ``async`` ones the process, killed at any
moment.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from qunfs.protocol.errors import StorageError
from server.journal import JOURNAL_BYTES, Journal, OtherRelease, create_journal
from server.lmdb_rows import MAP_BYTES_MIN, Durability, LmdbRows

ROWS_MAX: Final = 8_192
"""Rows that wait in memory before they are applied, which then stalls a request for some 20 ms."""

_APPLIED: Final = b"\x00journal"
"""The database's own row: the newest record of the log that it has, and the log's identity."""
_MARK: Final = struct.Struct(">Q16s")


class DiskRows:
    """Rows in a directory, which is made when missing.

    Every error of the disk is a StorageError; after the first one nothing works any more.  What cannot come from a
    crash is refused with one at once, unless ``accept_loss``: then records end before the gap.
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
        self._journal_bytes = journal_bytes
        self._recovered: list[bytes] = []
        self.fsyncs = 0
        """How often records or rows were brought to the disk before anything went on."""
        self._is_damaged = False
        """Whether the log has to be replaced before anything is written to it."""
        self._table = LmdbRows(directory, durability, map_bytes_min)
        self.get = self._table.get
        try:
            self._journal = self._recover(accept_loss)
        except OSError as error:
            raise self._table.fail(error) from error
        except BaseException:
            self._table.close()
            raise

    def scan(self, start: bytes, stop: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        rows = self._table.scan(start, stop)
        if start <= _APPLIED and (stop is None or stop > _APPLIED):
            return filter(_is_no_mark, rows)
        return rows

    def append(self, record: bytes, waiting: int) -> bool:
        if self._table.failure is not None:
            self._table.check()
        if waiting >= self._rows_max or self._is_damaged:
            return False
        try:
            appended = self._journal.append(record)
        except OSError as error:
            raise self._fail(error) from error
        if appended and self._durability == "sync":
            self.fsyncs += 1
        return appended

    def apply(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        journal = self._journal
        try:
            self._table.apply(sorted([*rows, _mark(journal)]))  # in key order: page after page
            self.fsyncs += self._durability == "sync"
            if self._is_damaged:
                self._journal = self._replace(journal)
        except OSError as error:
            raise self._fail(error) from error
        except StorageError:
            journal.close()
            raise
        self._journal.restart(journal.sequence)
        self._recovered = []

    def recovered(self) -> Sequence[bytes]:
        return self._recovered

    def sync(self) -> None:
        """Bring everything to the disk, in either mode.  Raises StorageError."""
        self._table.check()
        try:
            self._journal.sync()
        except OSError as error:
            raise self._fail(error) from error
        self._table.sync()

    def close(self) -> None:
        """Let go of the files; a second call does nothing."""
        self._table.close()
        self._journal.close()

    def _recover(self, accept_loss: bool) -> Journal:
        """The log, open behind the last record that can be had; those that the database lacks are recovered.

        A log is made before the database names it, which is what makes a crash in between harmless.
        """
        mark = self._table.get(_APPLIED)
        applied, identity = (0, b"") if mark is None else _MARK.unpack(mark)
        journal, damage = self._open_or_create(mark is None, accept_loss)
        try:
            journal.restart(applied)
            payloads: list[bytes] = []
            if damage is None and mark is not None and journal.identity != identity:
                damage = "it belongs to another database"
            if damage is None:
                payloads, damage = journal.read(applied)
            if damage is None and payloads and mark is None:
                payloads, damage = [], "its database is gone"
                journal.restart(0)
            if damage is not None and not accept_loss:
                raise StorageError(
                    f"{self._path} does not fit the data beside it ({damage}): rebuild this server from the others"
                )
            self._recovered = payloads
            if damage is not None and payloads:
                self._is_damaged = True  # it is all there is of them as yet
            elif damage is not None:
                journal = self._replace(journal)
            elif journal.identity != identity:
                self._table.apply([_mark(journal)])
            self._table.sync()
        except BaseException:
            journal.close()
            raise
        return journal

    def _open_or_create(self, is_new: bool, accept_loss: bool) -> tuple[Journal, str | None]:
        """The log, and what is wrong when there had to be another."""
        damage: str | None = None
        if not self._path.exists():
            damage = None if is_new else "it is missing"
            if damage is None or accept_loss:
                create_journal(self._path, self._journal_bytes)
            else:
                raise StorageError(f"{self._path} is missing: rebuild this server from the others")
        durable = self._durability == "sync"
        try:
            return Journal(self._path, durable), damage
        except OtherRelease:
            raise
        except StorageError as error:
            if not accept_loss:
                raise StorageError(f"{error}: rebuild this server from the others") from None
            create_journal(self._path, self._journal_bytes)
            return Journal(self._path, durable), str(error)

    def _replace(self, damaged: Journal) -> Journal:
        """A new log in the place of one that cannot go on; the database has all that could be read of it."""
        damaged.close()
        create_journal(self._path, self._journal_bytes)
        journal = Journal(self._path, self._durability == "sync")
        try:
            journal.restart(damaged.sequence)
            self._table.apply([_mark(journal)])
        except BaseException:
            journal.close()
            raise
        self._is_damaged = False
        return journal

    def _fail(self, error: BaseException) -> StorageError:
        failure = self._table.fail(error)
        self._journal.close()
        return failure


def _is_no_mark(row: tuple[bytes, bytes]) -> bool:
    return row[0] != _APPLIED


def _mark(journal: Journal) -> tuple[bytes, bytes]:
    return _APPLIED, _MARK.pack(journal.sequence, journal.identity)
