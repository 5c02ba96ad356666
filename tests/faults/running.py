"""A run: a cluster on disk, clients in processes of their own, faults by schedule, and what must hold at the end."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, Final

import trio

from bench import system
from qunfs import cluster, processes
from qunfs.net.driver import open_client
from qunfs.nfs.service import MetadataService
from qunfs.objects import REGISTRY
from qunfs.objects.ids import ROOT, TOPOLOGY
from tests.faults.history import History, Told, hear
from tests.faults.reading import answers, read_all
from tests.faults.schedule import Move, Schedule, Servers, State, What, schedule
from tests.faults.stores import opened
from tests.faults.worker import COUNTERS, CRED
from tests.simulation.linearizability import Verdict
from tests.simulation.oracles import Violation
from tests.support.file_work import Tree, make_tree

CLIENTS: Final = 2
"""Client processes; one more client makes the trees and reads them at the end."""
TREE_OPERATIONS: Final = 100
"""Operations on each tree, of all clients together: what bounds the search among them."""
AHEAD: Final = 40
"""So many operations clients may begin beyond the next move, to be at work when it is made."""
PATIENCE_S: Final = 180.0
"""How long nothing at all may happen before a run is called stuck."""
SOURCES: Final = Path(__file__).resolve().parent.parent.parent

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    seed: int
    b: int
    operations: int
    moves: int

    def __str__(self) -> str:
        return f"--seed {self.seed} -b {self.b} --operations {self.operations} --moves {self.moves}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that went well: what it saw, and all that clients were told."""

    seen: Counter[str]
    history: History


class Client:
    """A client process and the thread that hears it."""

    def __init__(self, name: str, command: list[str], log: Path, events: "queue.Queue[Event]") -> None:
        self.name = name
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=SOURCES,
                start_new_session=True,
            )
        self.done = False
        Thread(target=self._hear, args=(events,), daemon=True).start()

    def _hear(self, events: "queue.Queue[Event]") -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                events.put((self, hear(line)))
        events.put((self, {}))

    def say(self, line: str) -> None:
        """Tell it something; one that has died is noticed by its silence."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def end(self) -> int:
        """Let it end by itself; its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Event = tuple[Client, dict[str, Any]]


class Run:
    """A cluster at work; ``directory`` is its own."""

    def __init__(self, plan: Plan, directory: Path, say: Say) -> None:
        self._plan, self._say = plan, say
        self._chance = Random(f"work {plan.seed}")
        self.made = cluster.create(directory / "cluster", b=plan.b, clients=CLIENTS + 1)
        self.schedule: Schedule = schedule(
            plan.seed, self.made.n, self.made.b, self.made.t, CLIENTS, plan.operations, plan.moves
        )
        self._servers = Servers(self.made.n)
        self._unheard: set[int] = set()
        """Servers that are to be well and have not answered since they were not."""
        self.history = History()
        self.seen: Counter[str] = Counter()
        self._events: queue.Queue[Event] = queue.Queue()
        self._clients: list[Client] = []
        self._begun = [0] * CLIENTS
        self._end = 0
        self._incarnations = 0
        self._tokens = 0
        self._answers: dict[Client, dict[int, int]] = {}
        self._trees: list[Tree] = []

    # ---- the course of it

    def run(self) -> None:
        """All of it.  Raises Violation."""
        processes.start_and_wait(self.made, range(self.made.n // 2), self._durability(0))
        processes.start_and_wait(self.made, range(self.made.n // 2, self.made.n), self._durability(self.made.n))
        trio.run(self._make_trees)
        self._clients = [self._start_client(place) for place in range(CLIENTS)]
        for move in self.schedule.moves:
            self._allow(move.at + AHEAD)
            self._listen_until(lambda at=move.at: self.history.ended >= at)
            self._make(move)
        self._allow(self._plan.operations)
        self._listen_until(lambda: all(client.done for client in self._clients))
        self._heal()
        for client in self._clients:
            if client.end() != 0:
                raise Violation(self._last_words(client))
        self._check_running()
        self._judge(trio.run(self._read))

    def reap(self) -> None:
        """Nothing of a client is left when it has been killed."""
        for client in self._clients:
            client.kill()

    def _durability(self, server: int) -> list[str]:
        """Half of the servers sync before they reply, the others when it suits them: to SIGKILL it is the same."""
        return ["--durability", "sync" if server < self.made.n // 2 else "async"]

    async def _make_trees(self) -> None:
        async with open_client(self.made, f"client-{CLIENTS + 1}", REGISTRY) as core:
            service = MetadataService(core, self.made.n, self._chance.getrandbits)
            for number in range(max(1, self._plan.operations // TREE_OPERATIONS)):
                top = await service.mkdir(CRED, ROOT, b"tree %d" % number)
                tree = await make_tree(service, CRED, top.obj)
                at = time.monotonic()
                self._trees.append(tree)
                self.history.told["tree", number] = Told("tree", tree.top, tree.initial(), at, None, at)

    def _start_client(self, place: int) -> Client:
        name = f"client-{place + 1}"
        self._incarnations += 1
        words = ["--name", name, "--seed", str(self._chance.random()), "--first", str(self._begun[place])]
        words += ["--operations", str(self._plan.operations // CLIENTS)]
        words += ["--trees", json.dumps([tree.directories for tree in self._trees])]
        command = [sys.executable, "-m", "tests.faults.worker", str(self.made.directory), *words]
        log = processes.log_directory(self.made) / f"{name}.log"
        return Client(f"{name}#{self._incarnations}", command, log, self._events)

    def _allow(self, operations: int) -> None:
        """Let clients go on until so many operations have begun."""
        self._end = -(-operations // CLIENTS)
        for client in self._clients:
            client.say(f"go {self._end}")

    # ---- what clients tell

    def _listen_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            try:
                client, event = self._events.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise Violation(f"nothing happens any more: {self._situation()}") from None
            self._take(client, event)

    def _take(self, client: Client, event: dict[str, Any]) -> None:
        if "op" in event:
            if "method" in event and client in self._clients:
                place = self._clients.index(client)
                self._begun[place] = max(self._begun[place], event["op"] + 1)
            self.history.hear(client.name, event)
            if self.history.ended % 200 == 0 and "method" not in event and "new" not in event:
                self._say(f"{self.history.ended} operations of {self._plan.operations} have ended")
        elif "token" in event:
            self._answers.setdefault(client, {})[event["token"]] = event["pid"]
        elif "done" in event:
            client.done = True
        elif client in self._clients:
            raise Violation(self._last_words(client))

    def _last_words(self, client: Client) -> str:
        log = processes.log_directory(self.made) / f"{client.name.partition('#')[0]}.log"
        return f"{client.name} ended with {client.process.wait()}: {processes.tail_of(log)} (log: {log})"

    def _situation(self) -> str:
        """All that may say why nothing happens."""
        for client in self._clients:
            client.say("how")
        time.sleep(2.0)  # for them to write it down
        logs = sorted(processes.log_directory(self.made).glob("*.log"))
        states = " ".join(state.value for state in self._servers.states)
        waiting = [f"{who}.{number}: {told}" for (who, number), told in self.history.open_now(self._names())]
        return "\n".join([f"servers {states}", *waiting, *[f"{log.name}: {processes.tail_of(log)}" for log in logs]])

    def _names(self) -> set[str]:
        return {client.name for client in self._clients}

    # ---- what happens to processes

    def _make(self, move: Move) -> None:
        """Make a move, but no server faulty before the others are known to be well."""
        self._check_running()
        before = self._servers.faulty
        self._servers.make(move)
        if not self._servers.faulty <= before:
            self._await_answers()
        self._say(f"after {self.history.ended} operations: {move}")
        self.seen[move.what.value + (f" as {move.kind}" if move.kind else "")] += 1
        pid = processes.replica_pid(self.made, move.who) or 0
        if move.what is What.CLIENT:
            self._replace_client(move.who)
        elif move.what is What.KILL:
            processes.kill(self.made, move.who)
        elif move.what is What.STOP:
            os.kill(pid, signal.SIGSTOP)
        elif move.what is What.CONTINUE:
            os.kill(pid, signal.SIGCONT)
        else:
            self._replace(move)
        if move.who in self._servers.faulty:
            self._unheard.discard(move.who)
        elif move.what in (What.START, What.CONTINUE):
            self._unheard.add(move.who)

    def _check_running(self) -> None:
        """No server has ended but those that were killed."""
        for server, state in enumerate(self._servers.states):
            if state is not State.KILLED and processes.replica_pid(self.made, server) is None:
                log = processes.server_log(self.made, server)
                raise Violation(f"server {server} ended: {processes.tail_of(log)} (log: {log})")

    def _replace(self, move: Move) -> None:
        if processes.replica_pid(self.made, move.who) is not None:
            processes.kill(self.made, move.who)
        if move.what is What.LIE:
            words = [*self._durability(move.who), "--kind", move.kind]
            processes.start(self.made, move.who, words, module="bench.malevolent")
        else:
            processes.start(self.made, move.who, self._durability(move.who))

    def _replace_client(self, place: int) -> None:
        client = self._clients[place]
        if client.done:
            return
        client.kill()
        self._drain(client)
        self.history.ended += len(self.history.open_now({client.name}))
        self._clients[place] = self._start_client(place)
        self._clients[place].say(f"go {self._end}")

    def _drain(self, client: Client) -> None:
        """Hear a client that is dead to its end."""
        while True:
            heard, event = self._events.get(timeout=PATIENCE_S)
            if heard is client and not event:
                return
            self._take(heard, event)

    def _await_answers(self) -> None:
        """Wait until every server that is to be well has answered every client process."""
        asked: dict[int, int] = {}
        for server in sorted(self._unheard):
            self._tokens += 1
            asked[self._tokens] = server
            for client in self._clients:
                client.say(f"ask {self._tokens} {server}")

        def answered() -> bool:
            return all(token in self._answers.get(client, {}) for token in asked for client in self._clients)

        self._listen_until(answered)
        for token, server in asked.items():
            running = processes.replica_pid(self.made, server)
            told = {self._answers[client][token] for client in self._clients}
            if told != {running}:
                raise Violation(f"server {server} is process {running}, but {told} answered: {self._situation()}")
        self._unheard.clear()

    def _heal(self) -> None:
        """Let every server run; those that lie, or have forgotten, may do so to the end."""
        for server, state in enumerate(self._servers.states):
            pid = processes.replica_pid(self.made, server)
            if pid is None:
                processes.start(self.made, server, self._durability(server))
                self._servers.make(Move(self.history.ended, What.START, server))
                self._unheard.add(server)
            elif state is State.STOPPED:
                os.kill(pid, signal.SIGCONT)
        self._await_answers()

    # ---- what must hold

    async def _read(self) -> list[Told]:
        """Everything there is, at a client that was never told any of it."""
        async with open_client(self.made, f"client-{CLIENTS + 1}", REGISTRY) as core:
            return await read_all(core, self.made.n, self._trees, self.history.files())

    def _judge(self, read: list[Told]) -> None:
        self.history.told.update({("read", number): told for number, told in enumerate(read)})
        self._say("looking for an order that explains what clients were told")
        result = self.history.check()
        if result.verdict is not Verdict.LEGAL:
            raise Violation(f"{result.verdict.value} after {result.steps} steps: {result.why}")
        self._say("killing all servers and comparing what is on their disks")
        for server in range(self.made.n):
            processes.kill(self.made, server)
        directories = [obj for tree in self._trees for obj in tree.directories]
        objects = [ROOT, TOPOLOGY, *COUNTERS, *directories, *self.history.files()]
        honest = [s for s in range(self.made.n) if s not in self._servers.lied]
        with opened(self.made, honest) as stores:
            stores.check(objects)
            stored = trio.run(read_all, stores.core(), self.made.n, self._trees, self.history.files())
            if answers(stored) != answers(read):
                different = [pair for pair in zip(answers(read), answers(stored), strict=True) if pair[0] != pair[1]]
                raise Violation(f"clients read other than what is established: {different[:5]}")
        self.seen += stores.seen + self.history.seen()
        self.seen["steps of the search"] = result.steps


def run(plan: Plan, directory: Path, say: Say) -> Outcome:
    """Run a plan in a new directory, which is left as it is in the end.  Raises Violation.

    However it ends, no process is left.
    """
    running = Run(plan, directory, say)
    try:
        running.run()
    finally:
        system.kill_all(directory)
        running.reap()
    return Outcome(running.seen, running.history)
