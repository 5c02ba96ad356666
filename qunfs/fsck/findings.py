"""What a check finds, and what became of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

FINDINGS_MAX: Final = 10_000
"""Faults of one kind that one check goes into: what a person or program reads, and memory holds.  The next check goes
on where a repair has ended."""


class Kind(StrEnum):
    """What is wrong."""

    DANGLING = "dangling-entry"
    """A name whose object is not there."""
    TYPE = "wrong-type"
    """An entry that says another type than its object."""
    TWICE = "directory-named-twice"
    PARENT = "wrong-parent"
    """A directory that says another parent than the one which names it."""
    LINKS = "wrong-link-count"
    INDEX = "directory-index"
    """Cookies, counters or the link count of a directory do not fit its entries."""
    ORPHAN = "orphan"
    """An object that no name leads to."""
    CYCLE = "directory-cycle"
    """Directories that name each other and that no name outside leads to."""
    UNREADABLE = "unreadable"
    """An object whose rows make no sense."""
    CONTENTS = "contents-without-file"
    """Local contents of what is no file, or another client's by now."""
    NO_CONTENTS = "file-without-contents"
    """A file whose contents should be here."""
    REPLICA = "replica-contradicts"
    """A replica said what a correct one does not say."""


class Fate(StrEnum):
    """What became of a fault."""

    LEFT = "left"
    REPAIRED = "repaired"


@dataclass(slots=True)
class Fault:
    """One thing that is wrong: of an object, of an entry of a directory, or of a replica."""

    kind: Kind
    obj: int
    where: int = 0
    name: bytes = b""
    text: str = ""
    seen: tuple[int, ...] = ()
    """The numbers that were seen, which a repair depends on; their meaning is the kind's."""
    keep: tuple[int, bytes] | None = None
    """Of a directory named twice: the name that stays, by directory."""
    path: str = ""
    fate: Fate = Fate.LEFT
    why: str = ""
    """Why it was left, if a repair was tried, or what the repair did."""

    @property
    def key(self) -> tuple[Kind, int, int, bytes]:
        """What it is about, whatever was seen of it."""
        return self.kind, self.obj, self.where, self.name


@dataclass(slots=True)
class ReplicaState:
    """What one replica holds, as compared with what more of them hold than can lie."""

    server: int
    answered: bool = False
    objects: int = 0
    behind: int = 0
    """Objects of which it has an older version, or none: most of them because it was never asked."""
    due: int = 0
    """Those of them that it should have: it is one of the replicas that are asked first."""
    ahead: int = 0
    """Objects of which it has versions that nobody has completed."""
    synchronised: int = 0
    examples: list[str] = field(default_factory=list)
    """Some of what it is behind on."""


@dataclass(slots=True)
class Report:
    """All that a check has to say."""

    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is worth saying and no fault."""
    replicas: list[ReplicaState] = field(default_factory=list)
    directories: int = 0
    files: int = 0
    entries: int = 0
    contents: int = 0

    @property
    def left(self) -> int:
        """Faults that are still there."""
        return sum(fault.fate is Fate.LEFT for fault in self.faults)
