"""A run whose clients work on a file system: procedures of the metadata service over the simulated network.

What a client process does is what the FUSE client would: it runs procedures of :mod:`qunfs.nfs.service`, each a few
queries and updates of one to five objects, and may die in the middle of one.  Objects come to be while a run goes on.
When all is over, somebody who knows nothing reads the whole tree through a quorum.
"""

from collections.abc import Coroutine, Generator, Sequence
from random import Random
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

import trio

from qunfs.nfs.calls import parse_answer
from qunfs.nfs.service import MetadataService
from qunfs.nfs.types import nfsstat3
from qunfs.objects import REGISTRY
from qunfs.objects.genesis import genesis_rows
from qunfs.objects.ids import RESERVED_MAX, ROOT, TOPOLOGY, is_directory
from qunfs.protocol.client import Completion
from qunfs.protocol.operation import Answer, Call, Credentials
from tests.simulation.clients import ClientNode
from tests.simulation.clock import WALL_ORIGIN_NS
from tests.simulation.files_journal import FilesJournal, Procedure, TreeOracles
from tests.simulation.files_rogue import FilesRogue
from tests.simulation.oracles import Violation
from tests.simulation.servers import BenignServer
from tests.simulation.world import World
from tests.support.file_work import Drawn, TreeWork, make_tree
from tests.support.local_qu import LocalQu

if TYPE_CHECKING:
    from qunfs.protocol.operation import QueryUpdate

CRED: Final = Credentials(0, 0)
PREY: Final = 7
"""How many objects adversaries are interested in at a time."""
NOTED: Final = {nfsstat3.RETRY: "told to RETRY", nfsstat3.NFS3ERR_STALE: "told STALE"}
TYPE_ROWS: Final = b"\x00t"

Asked = tuple[Call, ...] | Call
"""Queries, or an update."""


class Core:
    """The update core of a procedure that somebody else drives: it yields what it asks for and is sent the answer."""

    async def query(self, *calls: Call) -> list[Answer]:
        answers: list[Answer] = await _asked(calls)
        return answers

    async def update(self, call: Call) -> bytes:
        answer: bytes = await _asked(call)
        return answer


@coroutine
def _asked(what: Asked) -> Generator[Asked, Any, Any]:
    return (yield what)


class _Service(MetadataService):
    """Notes the number of an object before anybody makes it."""

    def __init__(self, core: "QueryUpdate", n: int, chance: Random, procedure: Procedure) -> None:
        super().__init__(core, n, chance.getrandbits)
        self._procedure = procedure

    def _new_file(self, directory: int) -> int:
        self._procedure.new = super()._new_file(directory)
        return self._procedure.new

    def _new_directory(self, parent: int) -> int:
        self._procedure.new = super()._new_directory(parent if self._randbits(1) else ROOT)
        return self._procedure.new


class FilesClient(ClientNode):
    """A client process that runs procedures."""

    world: "FilesWorld"

    def __init__(self, world: "FilesWorld", index: int, incarnation: int, loops: int, read_only: bool = False) -> None:
        super().__init__(world, index, incarnation, loops, read_only)
        self._work = world.work_of(self.chance)
        self._running: dict[int, tuple[Procedure, Coroutine[Asked, Any, tuple[Any, Any]], Asked]] = {}

    def idle(self) -> bool:
        return not self._running

    def under_way(self) -> str:
        return " and ".join(self.world.describe(procedure) for procedure, _, _ in self._running.values())

    def procedures(self) -> int:
        """How many it is in the middle of."""
        return len(self._running)

    def submit_random(self) -> None:
        self.submit(self._work.draw_reading() if self.read_only else self._work.draw())

    def submit(self, drawn: Drawn) -> None:  # type: ignore[override]
        """Begin a procedure."""
        self._operations += 1
        name = f"{self._name}.{self._operations}"
        procedure = self.world.journal.begin(name, drawn, self.world.clock.now)
        self.world.trace(f"{self.address} begins {name} {self.world.describe(procedure)}")
        service = _Service(Core(), self.world.quorums.n, self.chance, procedure)
        self._go_on(procedure, _coroutine(drawn, service), None)
        self._settle()

    def _go_on(self, procedure: Procedure, running: Coroutine[Asked, Any, tuple[Any, Any]], answer: Any) -> None:
        """Run a procedure up to the next thing that it asks for."""
        try:
            asked = running.send(answer)
        except StopIteration as done:
            argument, told = done.value
            self.world.journal.end(procedure, argument, told, self.world.clock.now)
            self.world.trace(f"{self.address} is told {procedure.name}: {self.world.named(told)}")
            self.world.clock.after(self.chance.expovariate(1 / self.world.think_s), self._next)
            return
        for call in (asked,) if isinstance(asked, Call) else asked:
            self.world.meet(call.objects)
        ticket = self.ask_update(asked) if isinstance(asked, Call) else self.ask_queries(asked)
        self._running[ticket] = (procedure, running, asked)

    def _complete(self, completion: Completion) -> None:
        procedure, running, asked = self._running.pop(completion.ticket)
        self.done += 1
        if completion.error is not None:
            raise Violation(f"{self.address} was refused {self.world.describe(procedure)}: {completion.error}")
        if isinstance(asked, Call):
            self.world.note(asked, completion.result)
        self._go_on(procedure, running, completion.result)


async def _coroutine(drawn: Drawn, service: MetadataService) -> tuple[Any, Any]:
    return await drawn.run(service)


class FilesWorld(World):
    """A run with a file system that begins with two directories."""

    CLIENT, ROGUE = FilesClient, FilesRogue
    oracles: TreeOracles
    journal: FilesJournal  # type: ignore[assignment]

    # ---- making it

    def _make_objects(self) -> None:
        self.registry = REGISTRY
        core = LocalQu(REGISTRY, genesis_rows(0, 0, 0o777, WALL_ORIGIN_NS))
        self.tree = trio.run(make_tree, MetadataService(core, self.quorums.n, self.chance.getrandbits), CRED, ROOT)
        rows = core.state.dump()
        self.genesis = {obj: {**rows[obj], TYPE_ROWS: core.state.get(obj, TYPE_ROWS) or b""} for obj in sorted(rows)}
        self.ledgers, self.counters = [], []
        self._work = TreeWork(self.chance, CRED, self.tree)

    def _make_oracles(self) -> None:
        self.oracles = TreeOracles(self.quorums, (), self._choose_liars())
        for obj, rows in self.genesis.items():
            self.oracles.meet(obj, tuple(sorted(rows.items())))
        self.journal = FilesJournal(self.oracles, self.tree)

    def work_of(self, chance: Random) -> TreeWork:
        """What a client draws its procedures from; all clients know of the same objects."""
        work = TreeWork(chance, CRED, self.tree)
        work.share(self._work)
        return work

    # ---- what its parts ask

    @property
    def objects(self) -> list[int]:  # type: ignore[override]
        """What adversaries are interested in: the first directories, and what is new."""
        first, others = self.oracles.objects[:4], self.oracles.objects[4:]
        alive = [obj for obj in others if len(self.oracles.established[obj]) > 1]
        return sorted({*first, *alive[4 - PREY :], *others[-1:]})

    def meet(self, objects: Sequence[tuple[int, str]]) -> None:
        """Somebody is going to name these objects to servers."""
        for obj, _ in objects:
            if obj not in self.oracles.established:
                self.oracles.meet(obj)

    def note(self, call: Call, answer: bytes) -> None:
        """Count what is rare among the answers of updates."""
        reply = parse_answer(answer)
        if reply.status in NOTED:
            self.seen[NOTED[reply.status]] += 1
        elif reply.ok and call.method == "dir.rename":
            moved, replaced = reply.result
            self.seen["rename over another"] += bool(moved and replaced)
            self.seen["directory to another parent"] += TOPOLOGY in [obj for obj, _ in call.objects]
        self.seen["most objects of an update"] = max(self.seen["most objects of an update"], len(call.objects))

    def client_crashed(self, node: FilesClient) -> None:  # type: ignore[override]
        self.seen["procedures cut short"] += node.procedures()
        super().client_crashed(node)

    def name_of(self, obj: int) -> str:
        if obj in (ROOT, TOPOLOGY):
            return "/" if obj == ROOT else "T"
        return f"{'d' if is_directory(obj) else 'f'}{self.oracles.objects.index(obj)}"

    def names(self, objects: Sequence[int]) -> str:
        return " ".join(map(self.name_of, objects))

    def named(self, value: Any) -> str:
        """An argument or answer, with the names of objects in place of their numbers."""
        if isinstance(value, tuple):
            return f"({', '.join(map(self.named, value))})"
        is_number = isinstance(value, int) and value > RESERVED_MAX and value in self.oracles.established
        return self.name_of(value) if is_number else repr(value)

    def describe(self, procedure: Procedure) -> str:
        """A procedure in words."""
        return f"{procedure.method} {self.named(procedure.argument)}"

    # ---- the end

    def _tasks(self, chance: Random) -> Sequence[tuple[Any, ...]]:
        work = self.work_of(chance)
        return [*((work.draw(),) for _ in range(8)), (work.readdir(ROOT),), (work.getattr_of_directory(ROOT),)]

    def _complete_alone(self, client: ClientNode, tasks: Sequence[tuple[Any, ...]]) -> None:
        super()._complete_alone(client, tasks)
        for procedure in self.journal.operations[-len(tasks) :] if tasks else ():
            if procedure.postponed:
                raise Violation(f"liveness: {self.describe(procedure)}, alone, was put off for later")

    def _conclude(self) -> None:
        """Everybody stops, and somebody who is alone reads all there is."""
        if self.plan.mode == "safety":
            self._faults_on = False
            self.network.heal()
            for client in self.clients:
                client.crash()
            for server in self.servers:
                if isinstance(server, BenignServer):
                    server.restart()
            self._newcomer()
        (reader,) = self.clients
        directories, _, modes = self.oracles.tree()
        work = self.work_of(self.chance)
        known = sorted({*directories, *self._work.directories})
        gone = sorted(self._work.files - {file for file, _ in modes})[:3]
        files = [*sorted(file for file, _ in modes), *gone]
        self._complete_alone(
            reader, [*((work.readdir(obj),) for obj in known), *((work.getattr(obj),) for obj in files)]
        )
