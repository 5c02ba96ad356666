"""What lies on the disks of honest replicas after a run, against what is established.

A candidate is *established* on an object when all honest servers of some quorum accepted it: here, when those that
still show it are a quorum together with the liars, or when an honest replica has made it a base.  Replicas outside an
operation's quorum may lag behind, so not all hold the newest.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from qunfs.cluster import Cluster
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.protocol.history import Candidate, Kind, LogicalTimestamp, ReplicaHistory
from qunfs.protocol.quorum import mask_of
from qunfs.protocol.store import Overlay
from server.store import ReplicaStore, open_store
from tests.simulation.oracles import Violation
from tests.support.local_qu import LocalQu, State


class Stores:
    """The stores of the honest replicas of a cluster, none of which runs; made by :func:`opened`."""

    def __init__(self, made: Cluster, stores: dict[int, ReplicaStore]) -> None:
        self._quorums = made.quorums
        self.stores = stores
        self._liars = mask_of([s for s in range(made.n) if s not in stores])
        self._newest: dict[int, Candidate] = {}
        self.seen: Counter[str] = Counter()

    def check(self, objects: Sequence[int]) -> None:
        """Raises Violation."""
        for obj in objects:
            self._check_object(obj)
        for obj, newest in self._newest.items():
            for sibling in newest.objects:
                if sibling in self._newest and self._newest[sibling].lt < newest.lt:
                    raise Violation(f"atomicity: {newest} is established on {obj:x} and not on {sibling:x}")

    def _check_object(self, obj: int) -> None:
        histories = {server: store.history(obj) for server, store in self.stores.items()}
        records: dict[LogicalTimestamp, Candidate] = {}
        for history in histories.values():
            for record in history.records:
                if records.setdefault(record.lt, record) != record:
                    raise Violation(f"two records at {record.lt} on {obj:x}: {record} and {records[record.lt]}")
        bases = {history.base for history in histories.values()}
        established = [record for record in records.values() if record in bases or self._is_held(record, histories)]
        newest = self._newest[obj] = max(established, key=lambda record: record.lt)
        if not self._is_held(newest, histories):
            raise Violation(f"visibility: {newest}, which is established on {obj:x}, is not in a quorum of {histories}")
        _check_chain(obj, newest, records, established)
        self._check_contents(obj)
        for server, history in histories.items():
            self.seen["objects in stores"] += 1
            self.seen["objects in stores that lag"] += newest not in history
            self.seen["longest history"] = max(self.seen["longest history"], len(history.records))
            self.seen["history records that are not established"] += sum(r.lt > newest.lt for r in history.records)
            assert self.stores[server].has_version(obj, history.base.lt)

    def _is_held(self, record: Candidate, histories: dict[int, ReplicaHistory]) -> bool:
        holders = mask_of([server for server, history in histories.items() if record in history])
        return record.kind is not Kind.BARRIER and self._quorums.contains_quorum(holders | self._liars)

    def _check_contents(self, obj: int) -> None:
        """Versions of one timestamp have one content, and one answer, which is unknown where they were fetched."""
        contents: dict[LogicalTimestamp, list[tuple[bytes, bytes]]] = {}
        known: dict[LogicalTimestamp, bytes] = {}
        for server, store in self.stores.items():
            for lt in store.kept(obj):
                rows = list(store.open(obj, lt).scan())
                if contents.setdefault(lt, rows) != rows:
                    raise Violation(f"other content at server {server}: version {lt} of {obj:x}")
                answer = store.answer(obj, lt)
                if answer and known.setdefault(lt, answer) != answer:
                    raise Violation(f"another answer at server {server}: version {lt} of {obj:x}")
                self.seen["versions compared"] += 1

    def views(self, objects: tuple[int, ...]) -> dict[int, Overlay]:
        """The established state of objects, each from some replica that has it."""
        views = {}
        for obj in objects:
            lt = self._newest[obj].lt
            holder = next(store for store in self.stores.values() if store.has_version(obj, lt))
            views[obj] = holder.open(obj, lt)
        return views

    def core(self) -> LocalQu:
        """Answers queries from the established state."""
        return LocalQu(REGISTRY, state=_Established(self))


class _Established(State):
    """The state of objects in stores."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(REGISTRY, {})
        self._stores = stores

    def views(self, objects: tuple[int, ...]) -> dict[int, Overlay]:
        return self._stores.views(objects)


def _check_chain(
    obj: int, newest: Candidate, records: dict[LogicalTimestamp, Candidate], established: Sequence[Candidate]
) -> None:
    """What is established descends from what was established before, as far back as records go."""
    chain, record = {newest.lt}, newest
    while record.kind is not Kind.ZERO and record.conditioned_on(obj) in records:
        record = records[record.conditioned_on(obj)]
        chain.add(record.lt)
    for other in established:
        if other.lt > record.conditioned_on(obj) and other.lt not in chain:
            raise Violation(f"fork: {newest} does not descend from {other}, established on {obj:x} too")


@contextmanager
def opened(made: Cluster, honest: Sequence[int]) -> Iterator[Stores]:
    """Open the stores of replicas that do not run."""
    genesis = made.genesis
    rows = genesis_rows(genesis.uid, genesis.gid, genesis.mode, genesis.time_ns)
    with ExitStack() as stack:
        stores = {}
        for server in honest:
            stores[server] = open_store(made.data_directory(server), rows)
            stack.callback(stores[server].close)
        yield Stores(made, stores)
