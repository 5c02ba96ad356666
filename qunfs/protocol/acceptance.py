"""What accepting a record does to a replica's histories (Figure 3, lines 1024-1029, for several objects).

A record enters the history of all its objects together.  Two rules then shrink histories, on siblings too:

- the *skip rule*: a COPY proves that certain contenders can never be established; they leave all their objects;
- the *proof rule*: a METHOD or COPY proves its ``bot`` established; that record becomes the base wherever it stands.
"""

from collections.abc import Sequence
from typing import Final

from qunfs.protocol.history import Candidate, Kind, ReplicaHistory
from qunfs.protocol.store import Redo, StoreView

_METHOD: Final = Kind.METHOD


class _Histories:
    """Histories being rewritten; untouched siblings are read on demand."""

    def __init__(self, store: StoreView) -> None:
        self._store = store
        self._lists: dict[int, list[Candidate]] = {}
        self._changed: set[int] = set()

    def of(self, obj: int) -> list[Candidate]:
        if obj not in self._lists:
            self._lists[obj] = list(self._store.history(obj).records)
        return self._lists[obj]

    def set(self, obj: int, records: list[Candidate]) -> None:
        self._lists[obj] = records
        self._changed.add(obj)

    def write(self) -> None:
        for obj in sorted(self._changed):
            self._store.set_history(obj, ReplicaHistory(self._lists[obj]))


def accept(
    store: StoreView,
    own: Sequence[ReplicaHistory],
    record: Candidate,
    redo: Sequence[Redo],
    answer: bytes,
    conditioned: Sequence[Candidate] | None,
) -> list[ReplicaHistory]:
    """Accept a record on all its objects with every side effect; the caller has checked that it may.

    ``own`` are the histories of its objects and ``redo`` what each new version changes against the conditioned-on one;
    it is empty for a barrier, which makes none, and an adoption, whose versions are in the store.  ``conditioned`` are
    the records, one for each object, that the request showed and conditioned on, None for an adoption.  Gives the new
    histories.
    """
    objects = record.objects
    for place, changes in enumerate(redo):
        store.add_version(objects[place], record.lt, record.lt_co[place], changes, answer)
    usual = _usual(own, record) if record.kind is _METHOD else None
    if usual is not None:
        for place, history in enumerate(usual):
            store.set_history(objects[place], history)
        _prove_elsewhere(store, record, own)
        return usual
    histories = _Histories(store)
    for obj in record.objects:
        records = histories.of(obj)
        if record.kind is Kind.BARRIER:
            records = [r for r in records if r.kind is not Kind.BARRIER]
        histories.set(obj, [*records, record])
    if record.kind is Kind.COPY:
        _skip(histories, record)
    if record.kind is not Kind.BARRIER:
        for obj in record.objects:
            _prove(histories, record, obj, conditioned)
    histories.write()
    return [store.history(obj) for obj in objects]


def _usual(own: Sequence[ReplicaHistory], accepted: Candidate) -> list[ReplicaHistory] | None:
    """The new histories when the METHOD builds on the latest record of each of its objects; None when it does not.

    That is how it goes when nobody contends.  The proof rule then leaves that record and the new one.
    """
    changed: list[ReplicaHistory] = []
    for place, bottom in enumerate(accepted.bot):
        latest = own[place].latest
        if latest.lt != bottom:
            return None
        changed.append(ReplicaHistory((latest, accepted)))
    return changed


def _prove_elsewhere(store: StoreView, accepted: Candidate, own: Sequence[ReplicaHistory]) -> None:
    """The proof rule of a usual METHOD on the other objects of what it proves: what is older than the proof goes."""
    for before in own:
        proof = before.latest
        for sibling in proof.objects:
            if sibling not in accepted.objects:
                records = store.history(sibling).records
                if records[0].lt < proof.lt and proof in records:
                    store.set_history(sibling, ReplicaHistory([r for r in records if r.lt >= proof.lt]))


def _skip(histories: _Histories, accepted: Candidate) -> None:
    """Skip rule: contenders above ``bot`` that are not of the copied segment can never be established."""
    for obj in accepted.objects:
        bottom = accepted.bottom(obj)
        for dead in list(histories.of(obj)):
            if dead.kind not in (Kind.METHOD, Kind.COPY) or dead == accepted:
                continue
            if dead.lt <= bottom or dead.src == accepted.src:
                continue
            for sibling in dead.objects:
                records = histories.of(sibling)
                if dead in records and records[0] != dead:
                    histories.set(sibling, [r for r in records if r != dead])


def _prove(histories: _Histories, accepted: Candidate, obj: int, conditioned: Sequence[Candidate] | None) -> None:
    """Proof rule: ``bot`` of the object is established and becomes the base wherever its record stands."""
    bottom = accepted.bottom(obj)
    proof = next((r for r in histories.of(obj) if r.lt == bottom), None)
    if proof is None and conditioned is not None and accepted.starts_segment:
        proof = conditioned[accepted.objects.index(obj)]
        records = histories.of(obj)
        if records[0].lt < bottom:
            histories.set(obj, [proof, *(r for r in records if r.lt > bottom)])
    if proof is None:
        return
    for sibling in proof.objects:
        records = histories.of(sibling)
        if records[0].lt < bottom and proof in records:
            histories.set(sibling, [r for r in records if r.lt >= bottom])
