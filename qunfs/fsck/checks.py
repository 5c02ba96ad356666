"""What does not fit together in a book.

A book is filled over some time, in which others go on working: whatever is found here is a *suspicion*, which
:mod:`confirming` looks at again before anybody hears of it.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from qunfs.fsck.book import Book
from qunfs.fsck.findings import FINDINGS_MAX, Fault, Kind
from qunfs.objects.codes import COOKIE_MAX, ftype3
from qunfs.objects.ids import ROOT
from qunfs.objects.state import FIRST_COOKIE

OF_THE_WALK: Final = (Kind.LINKS, Kind.ORPHAN, Kind.CYCLE)
"""Kinds that say something about names which were not found: only another whole walk can confirm them."""

_DIRECTORY: Final = int(ftype3.NF3DIR)
_BELOW: Final = """
WITH RECURSIVE below (id) AS (
    VALUES (?) UNION SELECT e.obj FROM entry e JOIN below ON e.dir = below.id WHERE e.obj != ?)
"""

_PARENT_KNOWN: Final = "o.parent NOT IN (SELECT id FROM object WHERE state = 3)"
"""What a directory that cannot be read names is not known, nor whose parent it is."""


def suspicions(book: Book) -> list[Fault]:
    """All that does not fit together, no more than so many of each kind."""
    found: list[Fault] = []
    for look in (_unreadable, _dangling, _mistyped, _named_twice, _parents, _links, _indexes, _orphans, _cycles):
        found += islice(look(book), FINDINGS_MAX)
    return found


def _unreadable(book: Book) -> Iterator[Fault]:
    if book.number("SELECT count(*) FROM object WHERE id = ? AND (state = 2 OR parent != id)", ROOT):
        yield Fault(Kind.UNREADABLE, ROOT, text="the root directory is not there, or has a parent")
    for (obj,) in book.each("SELECT id FROM object WHERE state = 3 ORDER BY id"):
        yield Fault(Kind.UNREADABLE, obj, text="its rows make no sense")


def _dangling(book: Book) -> Iterator[Fault]:
    query = (
        "SELECT e.dir, e.name, e.obj FROM entry e LEFT JOIN object o ON o.id = e.obj "
        "WHERE o.id IS NULL OR o.state = 2 ORDER BY e.dir, e.name"
    )
    for where, name, obj in book.each(query):
        yield Fault(Kind.DANGLING, obj, where, name, f"names object {obj & (1 << 64) - 1:x}, which is not there")


def _mistyped(book: Book) -> Iterator[Fault]:
    query = (
        "SELECT e.dir, e.name, e.obj, e.type, o.type FROM entry e JOIN object o ON o.id = e.obj "
        "WHERE o.state = 1 AND e.type != o.type ORDER BY e.dir, e.name"
    )
    for where, name, obj, said, is_ in book.each(query):
        yield Fault(Kind.TYPE, obj, where, name, f"the entry says type {said}, the object is of type {is_}", (said,))


def _named_twice(book: Book) -> Iterator[Fault]:
    query = "SELECT obj FROM entry WHERE obj IN (SELECT id FROM object WHERE directory AND state = 1) "
    for (obj,) in book.each(query + "GROUP BY obj HAVING count(*) > 1 OR obj = ?", ROOT):
        names = book.rows("SELECT dir, name FROM entry WHERE obj = ? ORDER BY dir, cookie LIMIT 1000", obj)
        keep = None if obj == ROOT else _name_to_keep(book, obj, names)
        for where, name in names:
            if (where, name) != keep:
                text = "the root directory has a name" if keep is None else f"{book.path_of(*keep)} names it too"
                yield Fault(Kind.TWICE, obj, where, name, text, keep=keep)


def _name_to_keep(book: Book, obj: int, names: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Which of a directory's names to go by.

    That is the one in the parent that it says, unless one gets to that parent only through the directory itself.
    """
    parent, via = book.rows("SELECT parent, via FROM object WHERE id = ?", obj)[0]
    order = [where for where in (parent, via) if where and not _leads_through(book, where, obj)]
    for wanted in order:
        for where, name in names:
            if where == wanted:
                return where, name
    return names[0]


def _leads_through(book: Book, at: int, obj: int) -> bool:
    """Whether the way on which a directory was reached from the root leads through another one."""
    seen = set()
    while at not in seen and at != ROOT:
        seen.add(at)
        if at == obj:
            return True
        row = book.rows("SELECT via FROM object WHERE id = ?", at)
        if not row or not row[0][0]:
            return False
        at = row[0][0]
    return False


def _parents(book: Book) -> Iterator[Fault]:
    query = (
        "SELECT e.dir, e.name, e.obj, o.parent FROM entry e JOIN object o ON o.id = e.obj "
        f"WHERE o.directory AND o.state = 1 AND o.id != ? AND {_PARENT_KNOWN} "
        "AND NOT EXISTS (SELECT 1 FROM entry p WHERE p.obj = o.id AND p.dir = o.parent) ORDER BY e.dir, e.name"
    )
    told = set()
    for where, name, obj, parent in book.each(query, ROOT):
        names = book.rows("SELECT dir, name FROM entry WHERE obj = ? ORDER BY dir, cookie LIMIT 1000", obj)
        if obj not in told and _name_to_keep(book, obj, names) == (where, name):
            told.add(obj)
            yield _parent_fault(book, obj, where, name, parent)
    # named in the parent that it says, but one gets there only through itself
    twice = "SELECT obj FROM entry GROUP BY obj HAVING count(*) > 1"
    for obj, parent in book.each(
        f"SELECT id, parent FROM object o WHERE directory AND state = 1 AND id != ? AND {_PARENT_KNOWN} "
        f"AND id IN ({twice})",
        ROOT,
    ):
        names = book.rows("SELECT dir, name FROM entry WHERE obj = ? ORDER BY dir, cookie LIMIT 1000", obj)
        where, name = _name_to_keep(book, obj, names)
        if where != parent and obj not in told:
            yield _parent_fault(book, obj, where, name, parent)


def _parent_fault(book: Book, obj: int, where: int, name: bytes, parent: int) -> Fault:
    said = f"{book.path(parent)} (directory {parent & (1 << 64) - 1:x})"
    return Fault(Kind.PARENT, obj, where, name, f"says that its parent is {said}", (parent,))


def _links(book: Book) -> Iterator[Fault]:
    query = (
        "SELECT o.id, o.nlink, o.ctime, count(*) FROM object o JOIN entry e ON e.obj = o.id "
        "WHERE o.state = 1 AND NOT o.directory GROUP BY o.id HAVING count(*) != o.nlink"
    )
    for obj, nlink, ctime, names in book.each(query):
        yield Fault(Kind.LINKS, obj, text=f"its link count is {nlink}, it has {names} names", seen=(ctime, names))


def _indexes(book: Book) -> Iterator[Fault]:
    """Directories that do not fit their own entries: these are of one moment, and need no second look."""
    wrong: dict[int, list[str]] = {}
    for query, text in _INDEX_QUERIES:
        for where, count in islice(book.each(query), FINDINGS_MAX):
            wrong.setdefault(where, []).append(text.format(count=count))
    for where, texts in sorted(wrong.items()):
        if book.number("SELECT NOT torn AND state = 1 FROM object WHERE id = ?", where):
            yield Fault(Kind.INDEX, where, text=", ".join(texts))


_INDEX_QUERIES: Final = (
    (
        "SELECT e.dir, count(*) FROM entry e LEFT JOIN cookie c ON c.dir = e.dir AND c.cookie = e.cookie "
        "WHERE c.name IS NOT e.name GROUP BY e.dir",
        "{count} entries without their cookie",
    ),
    (
        "SELECT c.dir, count(*) FROM cookie c LEFT JOIN entry e ON e.dir = c.dir AND e.name = c.name "
        "WHERE e.cookie IS NOT c.cookie GROUP BY c.dir",
        "{count} cookies without their entry",
    ),
    (
        "SELECT dir, count(*) - count(DISTINCT cookie) AS n FROM entry GROUP BY dir HAVING n > 0",
        "{count} cookies used twice",
    ),
    (
        "SELECT e.dir, count(*) FROM entry e JOIN object o ON o.id = e.dir "
        f"WHERE e.cookie < {FIRST_COOKIE} OR e.cookie >= {COOKIE_MAX} OR e.cookie >= o.next_cookie GROUP BY e.dir",
        "{count} cookies out of bounds",
    ),
    (
        "SELECT o.id, (SELECT count(*) FROM entry WHERE dir = o.id) AS n FROM object o "
        "WHERE o.directory AND o.state = 1 AND n != o.entries",
        "a counter of entries that should say {count}",
    ),
    (
        f"SELECT o.id, 2 + (SELECT count(*) FROM entry WHERE dir = o.id AND type = {_DIRECTORY}) AS n FROM object o "
        "WHERE o.directory AND o.state = 1 AND n != o.nlink",
        "a link count that should be {count}",
    ),
)


def _orphans(book: Book) -> Iterator[Fault]:
    query = (
        "SELECT id, ctime, directory FROM object o WHERE state = 1 AND via = 0 "
        "AND NOT EXISTS (SELECT 1 FROM entry WHERE obj = o.id) ORDER BY id"
    )
    for obj, ctime, directory in book.each(query):
        text = "no name leads to it" + (f", nor to {_count_below(book, obj)} objects below it" if directory else "")
        yield Fault(Kind.ORPHAN, obj, text=text, seen=(ctime,))


def _count_below(book: Book, obj: int) -> int:
    return book.number(_BELOW + "SELECT count(*) FROM below", obj, obj) - 1


def _cycles(book: Book) -> Iterator[Fault]:
    """Directories that nothing else leads to hang below a cycle, or are part of it.

    Else would be the root, an orphan, or a nameless directory that cannot be read to the end.
    """
    book.rows("CREATE TEMP TABLE IF NOT EXISTS loose (id INTEGER PRIMARY KEY)")
    book.rows("DELETE FROM loose")
    book.rows(
        "INSERT INTO loose SELECT id FROM object WHERE directory AND state = 1 AND via = 0 AND id NOT IN ("
        "WITH RECURSIVE below (id) AS ("
        "SELECT id FROM object o WHERE directory AND via = 0 "
        "AND (state != 1 OR NOT EXISTS (SELECT 1 FROM entry WHERE obj = o.id)) "
        "UNION SELECT e.obj FROM entry e JOIN below ON e.dir = below.id) SELECT id FROM below)"
    )
    while start := book.rows("SELECT min(id) FROM loose")[0][0]:
        round_ = _round_of(book, start)
        if not round_:
            book.rows("DELETE FROM loose WHERE id = ?", start)
            continue
        member = min(round_)
        where, name = round_[member]
        ctime = book.number("SELECT ctime FROM object WHERE id = ?", member)
        below = _count_below(book, member)
        text = f"{len(round_)} directories name each other, and nothing else leads to the {below + 1} objects there"
        yield Fault(Kind.CYCLE, member, where, name, text, (ctime,))
        book.rows(_BELOW + "DELETE FROM loose WHERE id IN below", member, member)
        book.rows("DELETE FROM loose WHERE id = ?", member)


def _round_of(book: Book, start: int) -> dict[int, tuple[int, bytes]]:
    """The cycle that one gets to by going up from a directory: each one's parent in it, and its name there.

    None, if the way up ends: damage can be of any kind.
    """
    up: dict[int, tuple[int, bytes]] = {}
    at = start
    while at not in up:
        rows = book.rows(
            "SELECT e.dir, e.name FROM entry e JOIN loose ON loose.id = e.dir WHERE e.obj = ? ORDER BY e.dir, e.name",
            at,
        )
        if not rows:
            return {}
        up[at] = rows[0]
        at = rows[0][0]
    round_ = {}
    first = at
    while True:
        round_[at] = up[at]
        at = up[at][0]
        if at == first:
            return round_
