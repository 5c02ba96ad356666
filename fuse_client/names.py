"""What names are bound to, as far as a mount can tell without asking.

Every binding that was ever seen is a *hint*, which updates take along and the service checks.  Some are *knowledge*, as
good as a lookup for as long as the kernel itself would believe one:

* The ctime of a directory grows with every change of it.  A binding that was seen when the directory had a certain
  ctime holds for as long as the directory shows that ctime.  Whatever answer shows it confirms all that is known of
  the directory, as of when that answer was asked for; after the entry time-out without an answer nothing is known.
* An update by this mount that found the directory with that ctime was the only change since: what is known moves on
  to the ctime that it left.  Any other ctime is somebody else's doing, and everything known before becomes a hint: the
  directory gets a new *epoch*, and a binding counts only in the epoch in which it was seen.
* A directory is known *whole* when this mount made it or has listed all of it within one epoch; then names that were
  never seen are known to be bound to nothing.

While updates of this mount are under way, a newer ctime is most likely theirs: it neither confirms nor ends anything.
Answers of such updates that overtake each other wait, and nothing is told of the directory, until the gap is filled.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, TypeAlias

from qunfs.nfs.types import fattr3, wcc_data

NAMES_MAX: Final = 65_536
"""Names remembered; about 20 MiB.  As many as objects whose attributes are: the kernel wants both."""

DIRECTORIES_MAX: Final = 4096
"""Directories that something may be known of; about 2 MiB.  Of the others only hints are kept."""

ABSENT: Final = 0
"""The name was seen to be bound to nothing."""

PATIENCE_MIN: Final = 4
"""Lookups of a directory that must find nothing before it is worth a listing: there may be no more of them."""

PATIENCE_MAX: Final = 256
"""Where the doubling after each listing ends: asking in vain adds little to such a directory's lookups."""

EARLY_MAX: Final = 32
"""Updates of a directory that may wait for one that they overtook; with more it is taken for somebody else's."""

_HINT: Final = 0
"""The epoch of bindings that are only hints."""

_STICKY: Final = 0o1000


Mark: TypeAlias = tuple[int, int]
"""An epoch of a directory, and how many of its bindings had given way to others by then."""


class Binding(NamedTuple):
    """What a name is known to be bound to."""

    object: int
    asked: float
    """When the request was sent that confirmed it last."""
    sticky: bool
    """Whether the directory lets only owners remove names."""


@dataclass(eq=False, slots=True)
class _Update:
    """What an update of this mount did to a directory."""

    after: fattr3
    asked: float
    names: Mapping[bytes, int]


@dataclass(eq=False, slots=True)
class _Directory:
    """What is known of a directory."""

    epoch: int
    ctime: int
    asked: float
    sticky: bool
    whole: bool = False
    losses: int = 0
    """Bindings of this epoch that had to give way to others."""
    patience: int = PATIENCE_MIN
    """Lookups that may still find nothing before the next listing."""
    patience_next: int = PATIENCE_MIN * 2
    early: dict[int, _Update] = field(default_factory=dict)
    """Updates that overtook others, by the ctime that they found."""


class NameCache:
    """The names lately seen, each with an object id or ABSENT, and what is known of their directories."""

    def __init__(
        self, capacity: int = NAMES_MAX, lifetime_s: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        """``lifetime_s``: the entry time-out; 0: hints only."""
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._now = now
        self._bound: OrderedDict[tuple[int, bytes], tuple[int, int]] = OrderedDict()
        self._directories: OrderedDict[int, _Directory] = OrderedDict()
        self._updating: dict[int, int] = {}
        self._epochs = count(_HINT + 1)

    # --- hints --------------------------------------------------------------------------------------------------------

    def learn(self, directory: int, name: bytes, obj: int) -> None:
        """A name was seen to be bound to this object, nobody knows in which state of the directory."""
        held, known = self._bound.get((directory, name)), self._directories.get(directory)
        if held is None or known is None or held[1] != known.epoch:
            self._bind(directory, name, obj, _HINT)

    def forget(self, directory: int, name: bytes) -> None:
        """A name may be bound to anything, and so may any other of its directory."""
        self.drop(directory)
        self._bound.pop((directory, name), None)

    def hint(self, directory: int, name: bytes) -> int | None:
        """The object that a name is believed to be bound to, ABSENT for none, None when nothing is known."""
        held = self._bound.get((directory, name))
        return None if held is None else held[0]

    def object_at(self, directory: int, name: bytes) -> int | None:
        """The object that a name is believed to be bound to; None when it is unknown or there is none."""
        return self.hint(directory, name) or None

    # --- knowledge ----------------------------------------------------------------------------------------------------

    def known(self, directory: int, name: bytes) -> Binding | None:
        """What a name is bound to, if that was so at a time less than the entry time-out ago."""
        known = self._directories.get(directory)
        if known is None or known.early or known.asked + self._lifetime_s <= self._now():
            return None
        key = (directory, name)
        held = self._bound.get(key)
        if held is not None and held[1] == known.epoch:
            obj = held[0]
            self._bound.move_to_end(key)
        elif known.whole:
            obj = ABSENT
        else:
            return None
        self._directories.move_to_end(directory)
        return Binding(obj, known.asked, known.sticky)

    def saw(self, attributes: fattr3, asked: float) -> None:
        """A directory's attributes came with an answer to what was asked for then."""
        known = self._directories.get(attributes.fileid)
        if known is not None:
            self._confirm(known, attributes, asked)

    def found(self, attributes: fattr3, bindings: Iterable[tuple[bytes, int]], asked: float) -> Mark | None:
        """Names were seen to be bound to objects, or ABSENT, in the state of a directory that has these attributes.

        The answer is a mark for :meth:`listed` when that is knowledge now, and None when they are only hints.
        """
        directory = attributes.fileid
        known = self._directories.get(directory)
        if known is None and self._lifetime_s > 0:
            known = self._begin(attributes, asked)
        if known is None or not self._confirm(known, attributes, asked):
            for name, obj in bindings:
                self.learn(directory, name, obj)
            return None
        mark = known.epoch, known.losses
        for name, obj in bindings:
            self._bind(directory, name, obj, known.epoch)
        return mark

    def made(self, attributes: fattr3, asked: float) -> None:
        """This mount made a directory, which had these attributes when it was empty."""
        if self._lifetime_s > 0 and attributes.fileid not in self._directories:
            self._begin(attributes, asked).whole = True

    def updating(self, directory: int) -> None:
        """An update of a directory by this mount is about to be sent; :meth:`updated` must follow."""
        self._updating[directory] = self._updating.get(directory, 0) + 1

    def updated(self, directory: int) -> None:
        """The answer of an update was dealt with, or there is none to come."""
        left = self._updating[directory] - 1
        if left:
            self._updating[directory] = left
            return
        del self._updating[directory]
        known = self._directories.get(directory)
        if known is not None and known.early:  # a gap that no answer is going to fill: somebody else's change
            self._give_up(known)

    def changed(self, directory: int, wcc: wcc_data, names: Mapping[bytes, int], asked: float) -> None:
        """An update by this mount changed a directory, and bound these names to objects, or ABSENT."""
        known = self._directories.get(directory)
        if wcc.before is None or wcc.after is None:
            self.drop(directory)
        elif known is None:
            if names:
                self.found(wcc.after, names.items(), asked)
            return
        elif known.ctime < wcc.before.ctime and directory in self._updating:
            known.early[wcc.before.ctime] = _Update(wcc.after, asked, names)
            if len(known.early) > EARLY_MAX:
                self._give_up(known)
        elif known.ctime == wcc.before.ctime:
            self._follow(known, _Update(wcc.after, asked, names))
            return
        elif known.ctime < wcc.after.ctime:
            self._start_over(known, _Update(wcc.after, asked, names))
            return
        else:  # a later state was seen before this answer came
            self.found(wcc.after, names.items(), asked)
        for name, obj in names.items():
            self.learn(directory, name, obj)

    def drop(self, directory: int) -> None:
        """Nothing is known of a directory any more, hints apart."""
        self._directories.pop(directory, None)

    # --- listings -----------------------------------------------------------------------------------------------------

    def listed(self, directory: int, mark: Mark) -> None:
        """All names of a directory were seen, with the same mark each time."""
        known = self._directories.get(directory)
        if known is not None and (known.epoch, known.losses) == mark:
            known.whole = True

    def wants_listing(self, directory: int) -> bool:
        """Whether so many lookups have found nothing here that a listing would pay; call once for each of them."""
        known = self._directories.get(directory)
        if known is None or known.whole:
            return False
        known.patience -= 1
        if known.patience > 0:
            return False
        known.patience = known.patience_next
        known.patience_next = min(PATIENCE_MAX, known.patience_next * 2)
        return True

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begin(self, attributes: fattr3, asked: float) -> _Directory:
        directory = attributes.fileid
        known = _Directory(next(self._epochs), attributes.ctime, asked, bool(attributes.mode & _STICKY))
        self._directories[directory] = known
        self._directories.move_to_end(directory)
        if len(self._directories) > DIRECTORIES_MAX:
            self._directories.popitem(last=False)
        return known

    def _confirm(self, known: _Directory, attributes: fattr3, asked: float) -> bool:
        """Take note that a directory had these attributes; whether they are those of the state that is known."""
        if attributes.ctime > known.ctime and attributes.fileid not in self._updating:
            self._start_over(known, _Update(attributes, asked, {}))
        if attributes.ctime != known.ctime:
            return False
        if asked > known.asked:
            known.asked = asked
        return True

    def _give_up(self, known: _Directory) -> None:
        """Updates wait for one that is not this mount's."""
        self._start_over(known, max(known.early.values(), key=lambda update: update.after.ctime))

    def _start_over(self, known: _Directory, update: _Update) -> None:
        known.epoch, known.whole, known.losses = next(self._epochs), False, 0
        known.early.clear()
        known.asked = update.asked
        self._move(known, update)

    def _follow(self, known: _Directory, update: _Update | None) -> None:
        """Apply an update to what is known, and those that waited for it."""
        while update is not None:
            self._move(known, update)
            update = known.early.pop(known.ctime, None)

    def _move(self, known: _Directory, update: _Update) -> None:
        after = update.after
        known.ctime, known.sticky = after.ctime, bool(after.mode & _STICKY)
        if update.asked > known.asked:
            known.asked = update.asked
        for name, obj in update.names.items():
            self._bind(after.fileid, name, obj, known.epoch)

    def _bind(self, directory: int, name: bytes, obj: int, epoch: int) -> None:
        key, bound = (directory, name), self._bound
        bound[key] = (obj, epoch)
        bound.move_to_end(key)
        if len(bound) > self._capacity:
            (loser, _), (lost, its_epoch) = bound.popitem(last=False)
            known = self._directories.get(loser)
            if lost != ABSENT and known is not None and known.epoch == its_epoch:
                known.whole = False
                known.losses += 1
