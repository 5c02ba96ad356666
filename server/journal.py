"""The write-ahead log: numbered records in one file of fixed size, each written with one call.

The file begins with a page that holds its identity and size; records follow one another behind it, each with identity,
number, length and checksum.  When the database has what the log says, the log begins anew at the first record's place
and the numbers go on: what lies behind the newest record are older ones, known by their numbers.

A process or a machine that stops while a record is being written leaves a *torn tail*: the last record is incomplete
and nothing newer follows.  It was never acknowledged.  Whatever else is wrong is damage and is told apart from it: a
gap between database and log, and newer records behind an unreadable one.  The identity is random, so that nothing a
client writes can look like a record.

The file is filled with zeros when it is made: a write into blocks that have been written before changes no metadata,
so that ``fdatasync`` has only the record to bring to the disk, and the disk cannot run full in the middle of the log.
For the same reason a log that need not reach the disk can be written through a map, without asking the kernel.
"""

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from qunfs.protocol.errors import StorageError

JOURNAL_BYTES: Final = 4 << 20
"""Room for some 2,000 updates between two checkpoints."""

_MAGIC: Final = b"qunfs journal 3\n"
_ANY_MAGIC: Final = b"qunfs journal "
_HEADER: Final = struct.Struct(">16s16sQI")
_HEADER_PAGE: Final = 4096
"""Records stay off the header's page, so that a torn write of the first one cannot reach it."""
_IDENTITY_BYTES: Final = 16
_RECORD: Final = struct.Struct(">16sQI")
_CHECKSUM: Final = struct.Struct(">I")
_PAYLOAD: Final = _RECORD.size + _CHECKSUM.size


class Found(NamedTuple):
    """The payloads of the records behind a number, in order, and what is wrong beyond a torn tail."""

    payloads: list[bytes]
    damage: str | None


class OtherRelease(StorageError):
    """A sound log of another release, which is not ours to replace."""


class Journal:
    """An open log; ``durable`` ones bring each record to the disk before ``append`` returns.

    Raises OSError when the disk fails, and StorageError when the file is no whole log.
    """

    def __init__(self, path: Path, durable: bool) -> None:
        self._durable = durable
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            page = os.pread(self._file, _HEADER_PAGE, 0)
            magic, identity, size, checksum = _HEADER.unpack_from(page.ljust(_HEADER.size, b"\0"))
            if checksum != zlib.crc32(page[: _HEADER.size - _CHECKSUM.size]) or not magic.startswith(_ANY_MAGIC):
                raise StorageError(f"{path} is damaged")
            if magic != _MAGIC:
                raise OtherRelease(
                    f"{path} was made by another release of qunfs: go on with that one, or make a new cluster"
                )
            if os.fstat(self._file).st_size != size:
                raise StorageError(f"{path} has been cut or extended")
            self._map = None if durable else mmap.mmap(self._file, size)
        except BaseException:
            os.close(self._file)
            raise
        self.identity: Final[bytes] = identity
        self.sequence = 0
        """The number of the newest record."""
        self._size: Final[int] = size
        self._end = _HEADER_PAGE

    def read(self, applied: int) -> Found:
        """What the log says beyond record ``applied``; it goes on behind that."""
        data = self._contents()
        payloads: list[bytes] = []
        at, newest, expected = _HEADER_PAGE, applied, None
        while (record := self._record(data, at)) is not None:
            sequence, payload = record
            if expected is None and sequence > applied + 1:
                return Found([], f"it begins with record {sequence} where the database has only {applied}")
            if expected is not None and sequence != expected:
                break
            if sequence > applied:
                payloads.append(payload)
                newest = sequence
            expected = sequence + 1
            at += _PAYLOAD + len(payload)
        if payloads:
            self.sequence, self._end = newest, at
        return Found(payloads, self._newer(data, at, newest))

    def restart(self, sequence: int) -> None:
        """Begin anew behind a record: the database is known to have it and all before it."""
        self.sequence, self._end = sequence, _HEADER_PAGE

    def append(self, payload: bytes) -> bool:
        """Write one more record; False when there is no room for it.  After an error the log is of no use."""
        end = self._end + _PAYLOAD + len(payload)
        if end > self._size:
            return False
        head = _RECORD.pack(self.identity, self.sequence + 1, len(payload))
        checksum = zlib.crc32(payload, zlib.crc32(head))
        self._put(b"".join((head, _CHECKSUM.pack(checksum), payload)), self._end)
        if self._durable:
            os.fdatasync(self._file)
        self._end = end
        self.sequence += 1
        return True

    def sync(self) -> None:
        """Bring every record to the disk."""
        if self._map is not None:
            self._map.flush()
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._file >= 0:
            if self._map is not None:
                self._map.close()
            os.close(self._file)
            self._file = -1

    def _put(self, data: bytes, at: int) -> None:
        if self._map is None:
            _write(self._file, data, at)
        else:
            self._map[at : at + len(data)] = data

    def _contents(self) -> bytes:
        parts: list[bytes] = []
        at = 0
        while part := os.pread(self._file, self._size - at, at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def _record(self, data: bytes, at: int) -> tuple[int, bytes] | None:
        """Number and payload of the record at a place, if there is a whole one."""
        if at + _PAYLOAD > len(data):
            return None
        identity, sequence, length = _RECORD.unpack_from(data, at)
        payload = data[at + _PAYLOAD : at + _PAYLOAD + length]
        if identity != self.identity or len(payload) != length:
            return None
        checksum = zlib.crc32(payload, zlib.crc32(data[at : at + _RECORD.size]))
        return (sequence, payload) if _CHECKSUM.unpack_from(data, at + _RECORD.size)[0] == checksum else None

    def _newer(self, data: bytes, at: int, newest: int) -> str | None:
        """What is wrong when a whole record newer than those that could be reached lies behind them."""
        while (at := data.find(self.identity, at)) >= 0:
            record = self._record(data, at)
            if record is not None and record[0] > newest:
                return f"record {newest + 1} cannot be read and record {record[0]} follows it"
            at += 1 if record is None else _PAYLOAD + len(record[1])
        return None


def create_journal(path: Path, size: int = JOURNAL_BYTES) -> None:
    """Put an empty log in a place, instead of what may be there.  Raises OSError."""
    page = _header(_MAGIC, os.urandom(_IDENTITY_BYTES), size)
    fresh = path.with_name(path.name + ".new")
    file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(file, page.ljust(size, b"\0"), 0)
        os.fsync(file)
    finally:
        os.close(file)
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _header(magic: bytes, identity: bytes, size: int) -> bytes:
    head = _HEADER.pack(magic, identity, size, 0)[: -_CHECKSUM.size]
    return head + _CHECKSUM.pack(zlib.crc32(head))


def _write(file: int, data: bytes, at: int) -> None:
    written = os.pwrite(file, data, at)
    while written < len(data):  # the disk is full or a signal came; the next call says which
        written += os.pwrite(file, data[written:], at + written)
