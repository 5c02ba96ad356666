"""The check as a whole: list, walk, look again, repair."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qunfs.fsck.book import Book
from qunfs.fsck.census import Census, Replicas
from qunfs.fsck.checks import suspicions
from qunfs.fsck.confirming import SecondWalk, confirmed
from qunfs.fsck.contents import ContentsCheck
from qunfs.fsck.findings import FINDINGS_MAX, Fault, Kind, Report
from qunfs.fsck.lagging import Lagging, by_server
from qunfs.fsck.repairing import Repairs
from qunfs.fsck.walk import Walk
from qunfs.nfs.service import MetadataService
from qunfs.protocol.errors import LocalError
from qunfs.protocol.operation import QueryUpdate
from qunfs.protocol.quorum import QuorumSystem


def _silent(_text: str) -> None:
    """Nobody wants to know how far it is."""


@dataclass(slots=True)
class Check:
    """A check of one namespace; ``contents`` is the folder of the client that it runs as, None for no look at any."""

    core: QueryUpdate
    replicas: Replicas
    quorums: QuorumSystem
    service: MetadataService
    contents: Path | None = None
    repair: bool = False
    on_progress: Callable[[str], None] = _silent

    async def run(self) -> Report:
        """Check, and repair if wanted.  Raises LocalError when too few replicas answer."""
        report = Report()
        census = Census(self.replicas, self.quorums, self.on_progress)
        with Book(self.quorums.n) as book:
            await census.take(book.note_listed)  # before the walk, which then finds whatever was there by now and stays
            walk = Walk(self.core, book, self.quorums.n, self.on_progress)
            await walk.from_root()
            await walk.from_ids(book.unreached())
            report.directories, report.files, report.entries = book.counts()
            await self._check_namespace(book, report)
            await self._check_contents(book, report)
            await self._compare_replicas(book, census, report)
        return report

    async def _check_namespace(self, book: Book, report: Report) -> None:
        suspected = suspicions(book)
        second = SecondWalk(self.core, self.quorums.n, self.on_progress)
        faults = await confirmed(self.core, suspected) + await second.confirmed(book, suspected)
        for fault in faults:
            if not fault.path:
                fault.path = book.path_of(fault.where, fault.name) if fault.where else book.path(fault.obj)
        torn = book.number("SELECT count(*) FROM object WHERE torn")
        if second.unsettled or torn:
            report.notes.append(
                f"{second.unsettled + torn} directories or objects changed all the time and could not be judged: "
                "check again when there is less to do"
            )
        if second.unread:
            them = "1 directory" if second.unread == 1 else f"{second.unread} directories"
            they = "it names" if second.unread == 1 else "they name"
            report.notes.append(f"{them} cannot be read: what {they} cannot be judged")
        if self.repair:
            await Repairs(self.core, self.service, self.on_progress).run(faults)
        report.faults += faults
        if any(len([fault for fault in suspected if fault.kind is kind]) == FINDINGS_MAX for kind in Kind):
            report.notes.append(f"only the first {FINDINGS_MAX} faults of a kind are told of: check again afterwards")

    async def _check_contents(self, book: Book, report: Report) -> None:
        if self.contents is None or not (self.contents / "store").exists():
            report.notes.append("no contents folder to look at")
            return
        self.on_progress(f"looking at {self.contents}")
        try:
            check = ContentsCheck(self.contents, self.core)
        except LocalError as error:
            report.notes.append(f"contents were not looked at: {error}")
            return
        try:
            faults = await check.faults(book)
            if self.repair:
                check.move_aside(faults)
        finally:
            check.close()
        for fault in faults:
            fault.path = fault.path or book.path(fault.obj)
        report.contents = check.files
        report.faults += faults

    async def _compare_replicas(self, book: Book, census: Census, report: Report) -> None:
        report.replicas = census.states
        report.faults += await census.contradictions()
        for server, why in sorted(census.failures.items()):
            report.notes.append(f"replica {server} was left out: {why}")
        lagging = Lagging(self.core, self.replicas, self.quorums, census)
        due = await lagging.still(census.due)
        before = by_server(due, self.quorums.n)
        if self.repair and due:
            due = await lagging.bring_up_to_date(due, self.on_progress)
        for state, then, now in zip(census.states, before, by_server(due, self.quorums.n), strict=True):
            state.due, state.synchronised = now, then - now
            state.examples = [book.path(obj) for obj in census.examples[state.server]] if then else []
        for finding in self.replicas.findings():
            if finding.proof:
                report.faults.append(Fault(Kind.REPLICA, 0, text=f"replica {finding.server}: {finding.text}"))
            else:
                report.notes.append(f"replica {finding.server} is under suspicion: {finding.text}")
