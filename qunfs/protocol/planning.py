"""What a client does next about some objects, given the histories it holds (Figure 3, ``c_repair``).

Objects may use different views, and a proof found anywhere holds for all of them.  A repair copies the greatest
candidate first; a merely repairable record of several objects is repaired on all of them together.  Requests carry no
more evidence than they need, from the least suspected servers: one history with a bad MAC has a request refused.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qunfs.protocol.classify import Classification, Request, RequestRefused, Setup, classify, proven, setup, unanimous
from qunfs.protocol.history import ZERO, Candidate, Kind, LogicalTimestamp, ObjectHistorySet, ReplicaHistory
from qunfs.protocol.history_cache import HistoryCache, history_set
from qunfs.protocol.limits import DEFAULT_LIMITS
from qunfs.protocol.operation import Operation
from qunfs.protocol.quorum import QuorumSystem, servers_of
from qunfs.protocol.trust import Trust


class Prepared:
    """A request and the candidate that it makes at every replica that accepts it."""

    __slots__ = ("made", "request")

    def __init__(self, request: Request, made: Setup) -> None:
        self.request: Final = request
        self.made: Final = made


@dataclass(frozen=True, slots=True)
class Ready:
    """Every object calls for a METHOD."""


@dataclass(frozen=True, slots=True)
class NeedObjects:
    """A repair needs the histories of these siblings too."""

    objects: frozenset[int]
    greatest: tuple[int, ...]
    """The objects of the greatest candidate in the way, needed or not."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Complete a candidate in place: have it adopted by the servers that lack it."""

    record: Candidate
    hosts: int


@dataclass(frozen=True, slots=True)
class Repair:
    """Send a BARRIER or COPY."""

    prepared: "Prepared"


@dataclass(frozen=True, slots=True)
class Stuck:
    """The histories at hand allow no step; read them again."""


Plan = Ready | NeedObjects | Inline | Repair | Stuck


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the client is: its id and its session, 128 random bits per process start."""

    client: int
    session: bytes


class Planner:
    """Plans for one client."""

    def __init__(
        self, quorums: QuorumSystem, cache: HistoryCache, identity: Identity, trust: Trust, views_max: int
    ) -> None:
        self._quorums, self._cache, self._identity = quorums, cache, identity
        self._trust, self._views_max = trust, views_max

    def _ranked(self, obj: int, servers: Container[int]) -> list[int]:
        return [s for s in self._trust.preference(obj).to_show if s in servers]

    def _masks(self, obj: int, servers: Container[int], ahead: int) -> Iterator[int]:
        """Whose histories to show, best first; all with as many of those ahead as one view can hold."""
        ranked = sorted(self._ranked(obj, servers), key=lambda s: not ahead >> s & 1)
        needed = 0
        for place, mask in enumerate(self._quorums.views_within(ranked, self._views_max)):
            if place == 0:
                needed = mask & ahead
            if mask & needed == needed:
                yield mask

    def _views(self, obj: int, held: Mapping[int, ReplicaHistory], ahead: int) -> Iterator[ObjectHistorySet]:
        for mask in self._masks(obj, held, ahead):
            yield history_set(obj, held, servers_of(mask))

    # ---- METHOD

    def method(self, operation: Operation, fresh: frozenset[int], ahead: int = 0) -> Prepared | None:
        """A METHOD request from what is held, or None when it does not allow one.

        ``fresh`` objects are shown with no history at all: their version is ⟨0⟩.  ``ahead``: whose histories must be
        shown.
        """
        views = self.method_views(operation.objects, fresh, ahead)
        return None if views is None else self._prepare(Kind.METHOD, operation, views, operation.objects)

    def method_views(
        self, objects: Sequence[int], fresh: frozenset[int], ahead: int = 0
    ) -> list[ObjectHistorySet] | None:
        """Views under which every object classifies METHOD, given all proofs at hand."""
        if ahead:
            return self.searched_views(objects, fresh, ahead)
        return self.agreed_views(objects, fresh) or self.searched_views(objects, fresh)

    def agreed_views(self, objects: Sequence[int], fresh: frozenset[int]) -> list[ObjectHistorySet] | None:
        """The views if, on each object, the preferred quorum shows one history that ends in an object version.

        That is nearly always so.  It is what :meth:`searched_views` finds first; None says to ask that.
        """
        views = []
        for obj in objects:
            view = ObjectHistorySet(obj, ()) if obj in fresh else self._agreed_view(obj)
            if view is None:
                return None
            views.append(view)
        return views

    def _agreed_view(self, obj: int) -> ObjectHistorySet | None:
        view = self._trust.preference(obj).view
        for held in self._cache.of(obj):
            if held.servers & view == view != 0 and held.vectors and held.history.latest.kind is not Kind.BARRIER:
                return ObjectHistorySet(obj, ((held.history, view),))
        return None

    def searched_views(
        self, objects: Sequence[int], fresh: frozenset[int], ahead: int = 0
    ) -> list[ObjectHistorySet] | None:
        """The same in general: objects may use different views, and a proof found anywhere holds for all of them."""
        held = {obj: self._cache.authenticated(obj) for obj in objects if obj not in fresh}
        first: list[ObjectHistorySet] = []
        for obj in objects:
            view = ObjectHistorySet(obj, ()) if obj in fresh else next(self._views(obj, held[obj], ahead), None)
            if view is None:
                return None
            first.append(view)
        if all(unanimous(self._quorums, view) for view in first):
            return first
        established = proven(self._quorums, self.proofs(objects))
        chosen: list[ObjectHistorySet] = []
        for obj in objects:
            options = iter((ObjectHistorySet(obj, ()),)) if obj in fresh else self._views(obj, held[obj], ahead)
            view = next((v for v in options if self._all_method((v,), established)), None)
            if view is None:
                return None
            chosen.append(view)
        return chosen

    def _all_method(self, views: Sequence[ObjectHistorySet], established: set[Candidate]) -> bool:
        return all(classify(self._quorums, view, established).kind is Kind.METHOD for view in views)

    # ---- repair

    def repair(
        self, objects: frozenset[int], wanted: Sequence[int], turn: int, ahead: int = 0, alone: bool = False
    ) -> Plan:
        """One step towards METHOD on the wanted objects, from one joint read of ``objects``.

        ``alone``: do what can be done about the greatest candidate without asking for the siblings of lesser ones.
        """
        if self.method_views(sorted(wanted), frozenset(), ahead) is not None:
            return Ready()
        held = {obj: self._cache.authenticated(obj) for obj in sorted(objects)}
        both = [s for s in range(self._quorums.n) if all(s in h for h in held.values())]
        established = proven(self._quorums, self.proofs(sorted(objects)))
        masks = self._masks(sorted(wanted)[0], both, ahead)
        views = [{o: history_set(o, h, servers_of(mask)) for o, h in held.items()} for mask in masks]
        search = _Search(self._quorums, views, established)
        return self._step(search, held, turn, alone)

    def _step(self, search: "_Search", held: dict[int, dict[int, ReplicaHistory]], turn: int, alone: bool) -> Plan:
        related = self._related(sorted(held))
        incomplete: list[Candidate] = []
        greatest = ZERO
        barriers: list[tuple[tuple[int, ...], int, Candidate | None]] = []
        for index in range(len(search.views)):
            for obj in search.unready(index):
                source = search.classes[index][obj].obj_cand
                group: tuple[int, ...] = (obj,)
                if len(source.objects) > 1 and source not in search.established:
                    group = source.objects
                    if not set(group) <= set(held):
                        incomplete.append(source)
                        continue
                    if any(search.classes[index][sibling].obj_cand != source for sibling in group):
                        continue
                greatest = max(greatest, source, key=_by_time)
                copies = search.copies(group, source)
                prepared = None
                if copies is not None:
                    shown = [search.views[i][o] for o, i in sorted(copies.items())]
                    prepared = self._prepare(Kind.COPY, None, shown, related)
                if prepared is not None:
                    return Repair(prepared)
                lacking = tuple(o for o in group if search.needs_barrier(o, source))
                if lacking:
                    latest = all(search.classes[index][o].latest == source.lt for o in group)
                    barriers.append((lacking, index, source if latest else None))
        if alone:
            incomplete = [source for source in incomplete if source.lt > greatest.lt]
        if incomplete:
            greatest = max(greatest, *incomplete, key=_by_time)
            return NeedObjects(frozenset([obj for source in incomplete for obj in source.objects]), greatest.objects)
        if not barriers:
            return Stuck()
        lacking, index, inline = barriers[turn % len(barriers)]
        if inline is not None and inline != ZERO and turn % 3 != 2:
            return Inline(inline, _holders(inline, held))
        shown = [search.views[index][o] for o in sorted(lacking)]
        prepared = self._prepare(Kind.BARRIER, None, shown, related)
        return Stuck() if prepared is None else Repair(prepared)

    # ---- evidence

    def proofs(self, objects: Sequence[int]) -> tuple[ObjectHistorySet, ...]:
        """What is held now of the objects and of those that may prove something of them."""
        return self._evidence(self._related(objects), self._quorums.n)

    def _evidence(self, objects: Iterable[int], servers: int) -> tuple[ObjectHistorySet, ...]:
        """The histories held of some objects, of the so many least suspected servers that will do.

        Evidence need not be of a quorum: a proof that only a liar's late history completes is refused for ever.
        """
        sets = []
        for obj in sorted(objects):
            held = self._cache.authenticated(obj, least=False)
            ranked = self._quorums.to_ask(0, self._ranked(obj, held), servers)
            if ranked:
                sets.append(history_set(obj, held, ranked))
        return tuple(sets)

    def _prepare(
        self, kind: Kind, operation: Operation | None, views: Sequence[ObjectHistorySet], objects: Sequence[int]
    ) -> Prepared | None:
        """The request with the least evidence under which it amounts to what it does with all of it."""
        n = self._quorums.n
        client, session = self._identity.client, self._identity.session
        wanted: Setup | None = None
        if kind is Kind.METHOD:  # nearly always without any
            request = Request(kind, client, session, operation, tuple(views), ())
            made = _attempt(self._quorums, request)
            if made is not None:
                return Prepared(request, made)
        else:
            evidence = self._evidence(objects, n)
            wanted = _attempt(self._quorums, Request(kind, client, session, operation, tuple(views), evidence))
            if wanted is None:
                return None
        for evidence in self._growing_evidence(kind, objects):
            request = Request(kind, client, session, operation, tuple(views), evidence)
            made = _attempt(self._quorums, request)
            if made is not None and (wanted is None or _amounts_to_same(made, wanted)):
                return Prepared(request, made)
        return None

    def _growing_evidence(self, kind: Kind, objects: Sequence[int]) -> Iterator[tuple[ObjectHistorySet, ...]]:
        n = self._quorums.n
        yield ()
        for servers in range(self._quorums.q, n + 1):
            yield self._evidence(objects, servers)
        if kind is Kind.METHOD:
            yield self.proofs(objects)

    def _related(self, objects: Sequence[int]) -> list[int]:
        """The objects and those siblings on which their heads may be proven: as many as a request can show.

        Heads that only liars may have come last, or what they name would leave no room for the others.
        """
        shown: dict[Candidate, int] = {}
        for obj in objects:
            for server, history in self._cache.authenticated(obj).items():
                shown[history.head] = shown.get(history.head, 0) | 1 << server
        heads = sorted(shown, key=lambda r: (self._quorums.exceeds_malevolent(shown[r]), r.lt), reverse=True)
        siblings = dict.fromkeys([sibling for head in heads for sibling in head.objects])
        more = [sibling for sibling in siblings if sibling not in objects and self._cache.of(sibling)]
        return [*objects, *more[: DEFAULT_LIMITS.evidence_sets_max - len(objects)]]


def _by_time(candidate: Candidate) -> LogicalTimestamp:
    return candidate.lt


def _attempt(quorums: QuorumSystem, request: Request) -> Setup | None:
    """What replicas will make of a request; None when they would refuse it."""
    try:
        return setup(quorums, request)
    except RequestRefused:
        return None


def _amounts_to_same(made: Setup, wanted: Setup) -> bool:
    same_start = made.candidate.starts_segment == wanted.candidate.starts_segment
    return made.conditioned == wanted.conditioned and same_start


class _Search:
    """All views of one joint read, classified under all proofs."""

    def __init__(
        self, quorums: QuorumSystem, views: list[dict[int, ObjectHistorySet]], established: set[Candidate]
    ) -> None:
        self.views, self.established = views, established
        self.classes: list[dict[int, Classification]] = [
            {obj: classify(quorums, view, established) for obj, view in by_object.items()} for by_object in views
        ]
        objects = views[0].keys() if views else ()
        self._ready = {o: any(c[o].kind is Kind.METHOD for c in self.classes) for o in objects}

    def unready(self, index: int) -> list[int]:
        """The objects for which no view calls for a METHOD, greatest candidate first."""
        classes = self.classes[index]
        return sorted((o for o in classes if not self._ready[o]), key=lambda o: classes[o].obj_cand.lt, reverse=True)

    def _copy_view(self, obj: int, source: Candidate) -> int | None:
        for index, classes in enumerate(self.classes):
            if classes[obj].kind is Kind.COPY and classes[obj].obj_cand == source:
                return index
        return None

    def copies(self, group: tuple[int, ...], source: Candidate) -> dict[int, int] | None:
        """For each object of a group a view that calls for a COPY of the source, if all have one."""
        found = {obj: self._copy_view(obj, source) for obj in group}
        views = {obj: index for obj, index in found.items() if index is not None}
        return views if len(views) == len(group) else None

    def needs_barrier(self, obj: int, source: Candidate) -> bool:
        """Whether an object is neither ready nor under a barrier already."""
        return not self._ready[obj] and self._copy_view(obj, source) is None


def _holders(record: Candidate, held: dict[int, dict[int, ReplicaHistory]]) -> int:
    """The servers that showed a record."""
    mask = 0
    for histories in held.values():
        for server, history in histories.items():
            if record in history:
                mask |= 1 << server
    return mask
