"""What a run looks like to a reader."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qunfs.protocol.history import Candidate, Kind, LogicalTimestamp, ReplicaHistory
from tests.simulation.watched import Change, HistoryChanged

if TYPE_CHECKING:
    from tests.simulation.world import World


def short(lt: LogicalTimestamp) -> str:
    """A timestamp as the paper prints it, with enough of the digest to tell contenders apart."""
    if lt.time == 0:
        return "0"
    return f"{lt.time}{'b' if lt.barrier else ''}.{lt.digest[:2].hex()}"


def history(value: ReplicaHistory) -> str:
    """A history, newest first."""
    return "{" + ", ".join(short(r.lt) for r in reversed(value.records)) + "}"


def record(world: "World", value: Candidate) -> str:
    """A record: kind, timestamp and what it is conditioned on."""
    if value.kind is Kind.ZERO:
        return "ZERO"
    on = " ".join(f"{world.name_of(o)}<-{short(value.conditioned_on(o))}" for o in value.objects)
    again = "" if value.starts_segment or value.kind is not Kind.COPY else f" segment {short(value.src)}"
    return f"{value.kind.name} {short(value.lt)} by c{value.lt.client} {on}{again}"


def show(world: "World", server: int, changes: Sequence[Change]) -> Iterator[str]:
    """The lines about one commit of a benign server."""
    for change in changes:
        if not isinstance(change, HistoryChanged):
            continue
        old, new = change.old, change.new
        name = world.name_of(change.obj)
        if new.latest.lt > old.latest.lt:
            if change.obj == new.latest.objects[0]:
                yield f"s{server} accepts {record(world, new.latest)}"
            yield f"    {name} at s{server}: {history(new)}"
        else:
            yield f"    {name} at s{server}: {history(old)} becomes {history(new)}"
