"""What a check has seen of the namespace: a temporary database, so that memory stays bounded however much there is.

Ids and cookies are 64-bit words; the database knows signed ones only, so that what no id can be becomes negative.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Any, Final

from qunfs.nfs.types import fattr3
from qunfs.objects.ids import ROOT, is_directory, is_valid
from qunfs.objects.state import Attributes, DirectoryHeader, Entry

CACHE_KIB: Final = 64 * 1024
"""What the database holds in memory; the rest lies in a temporary file that goes away with the process."""

_DEPTH_MAX: Final = 1 << 12
"""Names in a path that is shown."""

_LISTED_TOGETHER: Final = 1024

_SCHEMA: Final = """
CREATE TABLE object (
    id INTEGER PRIMARY KEY, residue INTEGER NOT NULL, directory INTEGER NOT NULL, state INTEGER NOT NULL DEFAULT 0,
    via INTEGER NOT NULL, type INTEGER, nlink INTEGER, size INTEGER, ctime INTEGER, store BLOB,
    parent INTEGER, next_cookie INTEGER, entries INTEGER, torn INTEGER NOT NULL DEFAULT 0);
CREATE INDEX pending ON object (directory, residue) WHERE state = 0;
CREATE TABLE entry (
    dir INTEGER, name BLOB, obj INTEGER, type INTEGER, cookie INTEGER, PRIMARY KEY (dir, name)) WITHOUT ROWID;
CREATE INDEX named ON entry (obj);
CREATE TABLE listed (id INTEGER PRIMARY KEY);
CREATE TABLE cookie (dir INTEGER, cookie INTEGER, name BLOB, PRIMARY KEY (dir, cookie)) WITHOUT ROWID;
"""


class State(IntEnum):
    """How far the check is with an object."""

    PENDING = 0
    PRESENT = 1
    ABSENT = 2
    UNREADABLE = 3


def signed(word: int) -> int:
    """A 64-bit word as the database holds it."""
    return word - (1 << 64) if word >> 63 else word


class Book:
    """Objects, entries and cookies as quorums gave them; ``via`` is the directory that led to an object first.

    It is 0 for what has not been reached from the root.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")  # one transaction that nobody commits: nothing is to outlive the check

    def __enter__(self) -> "Book":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._db.close()

    def rows(self, query: str, *values: object) -> list[Any]:
        """All rows of a query that gives few."""
        return self._db.execute(query, values).fetchall()

    def each(self, query: str, *values: object) -> Iterator[Any]:
        """Rows of a query one by one; nothing may be written meanwhile."""
        return iter(self._db.execute(query, values))

    def number(self, query: str, *values: object) -> int:
        """The number that a query gives."""
        found: int = self._db.execute(query, values).fetchone()[0]
        return found

    # ---- what is to be looked at

    def add(self, objects: Iterable[int], via: int) -> None:
        """Objects to look at; one that is reached from the root stays so."""
        self._db.executemany(
            "INSERT INTO object (id, residue, directory, via) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET via = excluded.via WHERE via = 0",
            [(obj, obj % self._n, is_directory(obj), via) for obj in objects],
        )

    def note_listed(self, objects: Sequence[int]) -> None:
        """Objects that replicas say are there."""
        self._db.executemany("INSERT OR IGNORE INTO listed VALUES (?)", [(obj,) for obj in objects])

    def unreached(self) -> Iterator[int]:
        """The listed objects that nothing has led to; these may be added meanwhile."""
        query = (
            "SELECT id FROM listed WHERE id > ? AND id NOT IN (SELECT id FROM object) "
            f"ORDER BY id LIMIT {_LISTED_TOGETHER}"
        )
        after = 0
        while page := self.rows(query, after):
            for (after,) in page:
                yield after

    def pending(self, directories: bool, most: int) -> list[tuple[int, int]]:
        """(id, via) of objects to look at, those with one preferred quorum next to each other."""
        return self.rows(
            "SELECT id, via FROM object WHERE state = 0 AND directory = ? ORDER BY residue LIMIT ?", directories, most
        )

    # ---- what was seen

    def settle(self, obj: int, state: State) -> None:
        """An object that there is no more to say of."""
        self._db.execute("UPDATE object SET state = ? WHERE id = ?", (state, obj))

    def take_file(self, obj: int, attributes: fattr3) -> None:
        """A file of any type but directory."""
        seen = (attributes.type, attributes.nlink, attributes.size, attributes.ctime, attributes.store)
        self._db.execute(
            "UPDATE object SET state = 1, type = ?, nlink = ?, size = ?, ctime = ?, store = ? WHERE id = ?",
            (*seen, obj),
        )

    def take_directory(self, obj: int, attributes: Attributes, header: DirectoryHeader, torn: bool) -> None:
        """A directory, all of whose entries and cookies are here; ``torn``: as they were at different moments."""
        seen = (attributes.type, attributes.nlink, attributes.ctime)
        counted = (signed(header.parent), signed(header.next_cookie), header.entries)
        self._db.execute(
            "UPDATE object SET state = 1, type = ?, nlink = ?, ctime = ?, parent = ?, next_cookie = ?, entries = ?, "
            "torn = ? WHERE id = ?",
            (*seen, *counted, torn, obj),
        )

    def take_entries(self, where: int, via: int, entries: Sequence[tuple[bytes, Entry]]) -> None:
        """Entries of a directory, and what they name to be looked at."""
        self._db.executemany(
            "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)",
            [(where, name, signed(entry.obj), entry.type, signed(entry.cookie)) for name, entry in entries],
        )
        self.add([entry.obj for _, entry in entries if is_valid(entry.obj)], where if via else 0)

    def take_cookies(self, where: int, cookies: Sequence[tuple[int, bytes]]) -> None:
        """Cookies of a directory."""
        self._db.executemany(
            "INSERT OR REPLACE INTO cookie VALUES (?, ?, ?)",
            [(where, signed(cookie), name) for cookie, name in cookies],
        )

    def forget_directory(self, where: int) -> None:
        """Start over with a directory; what it named stays to be looked at."""
        self._db.execute("DELETE FROM entry WHERE dir = ?", (where,))
        self._db.execute("DELETE FROM cookie WHERE dir = ?", (where,))

    # ---- for people

    def counts(self) -> tuple[int, int, int]:
        """How many directories and other objects there are, and entries."""
        objects = "SELECT count(*) FROM object WHERE state = 1 AND directory = ?"
        return self.number(objects, True), self.number(objects, False), self.number("SELECT count(*) FROM entry")

    def path(self, obj: int) -> str:
        """A path of an object, if names lead to it from the root; from the nearest nameless directory otherwise."""
        parts: list[str] = []
        seen = set()
        at = obj
        while at != ROOT and at not in seen and len(parts) < _DEPTH_MAX:
            seen.add(at)
            # the way that it was reached on, or any
            row = self._db.execute(
                "SELECT e.dir, e.name FROM entry e JOIN object o ON o.id = e.obj WHERE e.obj = ? "
                "ORDER BY e.dir != o.via, e.name LIMIT 1",
                (at,),
            ).fetchone()
            if row is None:
                break
            at = row[0]
            parts.append(printable(row[1]))
        start = "" if at == ROOT else f"#{at:x}"
        return "/".join([start, *reversed(parts)]) or "/"

    def path_of(self, where: int, name: bytes) -> str:
        """The path of an entry."""
        return f"{self.path(where).rstrip('/')}/{printable(name)}"


def printable(name: bytes) -> str:
    """A name for a terminal: no control characters, whatever somebody has put into it."""
    text = name.decode(errors="surrogateescape")
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)
