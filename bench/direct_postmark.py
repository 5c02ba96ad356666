"""PostMark's actions straight at MetadataService: what a mount makes of them, without kernel and contents."""

import secrets
import time
from array import array
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import Final

from bench import mail
from bench.mail import Action, Kind
from bench.measuring.document import Figures
from bench.postmark import Counts, Phase
from bench.service_client import Bench, sound, step
from qunfs.nfs.types import createmode3, nfs_fh3, sattr3
from qunfs.objects.ids import ROOT

STEP_EVERY: Final = 200
_STORE: Final = bytes(range(16))
"""The contents store that the sizes are reported for."""


class Mailbox:
    """The directory and its files."""

    def __init__(self, bench: Bench, directory: nfs_fh3) -> None:
        self._service, self._who, self._directory = bench.service, bench.credentials, directory
        self._files: dict[str, nfs_fh3] = {}
        self.done = dict.fromkeys(Kind, 0)

    async def do(self, action: Action) -> None:
        """What a mount asks of the service for one action: names it knows, an open asks for attributes."""
        self.done[action.kind] += 1
        name = action.name.encode()
        if action.kind is Kind.CREATE:
            made = await self._service.create(self._who, self._directory, name, createmode3.GUARDED, sattr3(mode=0o644))
            sound(made.status, "CREATE")
            self._files[action.name] = made.obj
            await self._wrote(action)
        elif action.kind is Kind.DELETE:
            file = self._files.pop(action.name)
            sound((await self._service.remove(self._who, self._directory, name, file)).status, "REMOVE")
        else:
            sound((await self._service.getattr(self._who, self._files[action.name])).status, "GETATTR")
            if action.kind is Kind.APPEND:
                await self._wrote(action)

    async def _wrote(self, action: Action) -> None:
        wrote = sattr3(size=action.size, wrote=True, store=_STORE)
        sound((await self._service.setattr(self._who, self._files[action.name], wrote)).status, "SETATTR")


async def run_postmark(bench: Bench) -> Figures:
    """All phases; the figures of the transactions, how long each phase took, and PostMark's counts."""
    task = bench.task
    name = f"mail-{secrets.token_hex(6)}".encode()
    made = await bench.service.mkdir(bench.credentials, ROOT, name, sattr3(mode=0o755))
    sound(made.status, "MKDIR")
    box = Mailbox(bench, made.obj)
    figures: Figures = {}
    times = dict.fromkeys((Phase.CREATION, Phase.TRANSACTIONS, Phase.DELETION), 0.0)
    for phase, actions in groupby(mail.actions(task.files, task.transactions), lambda action: action.phase):
        step(f"PostMark, direct: {phase}")
        began = time.monotonic()
        if phase is Phase.TRANSACTIONS:
            figures = await _transactions(bench, box, actions)
        else:
            for action in actions:
                await box.do(action)
        times[phase] = time.monotonic() - began
    sound((await bench.service.rmdir(bench.credentials, ROOT, name)).status, "RMDIR")
    done = box.done
    counts = Counts(done[Kind.CREATE], done[Kind.READ], done[Kind.APPEND], done[Kind.DELETE])
    return {**figures, **{f"{phase}_s": round(seconds, 3) for phase, seconds in times.items()}, **asdict(counts)}


async def _transactions(bench: Bench, box: Mailbox, actions: Iterable[Action]) -> Figures:
    """The transactions, each of which is one or two actions."""
    latencies: array[int] = array("Q")
    clock = time.monotonic_ns
    start = await bench.begin()
    for number, together in groupby(actions, lambda action: action.transaction):
        began = clock()
        for action in together:
            await box.do(action)
        latencies.append(clock() - began)
        if number is not None and number % STEP_EVERY == 0:
            step(f"PostMark, direct: {number} of {bench.task.transactions} transactions")
    return await bench.end(start, latencies)
