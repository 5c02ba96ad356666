"""Options that benchmarks share, and how their values are written."""

from pathlib import Path
from typing import Annotated, Final

import typer

FAULTS_MAX: Final = 20
"""101 replicas: more than one machine runs in earnest."""
CLIENTS_MAX: Final = 1024


class Numbers(tuple[int, ...]):
    """Ascending numbers, written as in ``3``, ``0-5`` or ``1,4,16``."""

    __slots__ = ()

    def __str__(self) -> str:
        if len(self) > 2 and self[-1] - self[0] == len(self) - 1:
            return f"{self[0]}-{self[-1]}"
        return ",".join(map(str, self))


def numbers(text: str, least: int, most: int) -> Numbers:
    """What a text says.  Raises typer.BadParameter."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise typer.BadParameter(f"{text!r}: give numbers such as 1, 0-5 or 0,2")
        low, high = int(first), int(last or first)
        if not least <= low <= high <= most:
            raise typer.BadParameter(f"{text!r}: give numbers from {least} to {most}, the smaller one first")
        found.update(range(low, high + 1))
    return Numbers(sorted(found))


def faults(text: str) -> Numbers:
    """Levels of faults."""
    return numbers(str(text), 0, FAULTS_MAX)


def client_counts(text: str) -> Numbers:
    """Numbers of closed loops."""
    return numbers(str(text), 1, CLIENTS_MAX)


ONE_FAULT: Final = Numbers([1])
ONE_TO_PEAK: Final = Numbers([1, 4, 16])

FaultsOption = Annotated[
    Numbers,
    typer.Option("--faults", "-b", parser=faults, metavar="B", help="Malevolent replicas to tolerate: 1, 0-5, 0,2."),
]
OneLevelOption = Annotated[
    int, typer.Option("--faults", "-b", min=0, max=FAULTS_MAX, metavar="B", help="Malevolent replicas to tolerate.")
]
ClientsOption = Annotated[
    Numbers,
    typer.Option("--clients", parser=client_counts, metavar="K", help="Closed loops: 1, or several such as 1,4,16."),
]
SecondsOption = Annotated[
    float, typer.Option(min=0.2, max=3600.0, metavar="S", help="Length of each measured run, without its warm-up.")
]
WarmUpOption = Annotated[
    float, typer.Option("--warm-up", min=0.0, max=600.0, metavar="S", help="What is cut off before each run.")
]
RepeatOption = Annotated[int, typer.Option(min=1, max=100, metavar="R", help="Runs; medians of them are told.")]
AttemptsOption = Annotated[
    int,
    typer.Option(
        min=1, max=20, metavar="N", help="How often a run is made at most when others use over 5 % of the processors."
    ),
]
PlaceOption = Annotated[
    Path | None, typer.Option("--in", metavar="PATH", help="Where the temporary cluster goes; /tmp by default.")
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is standard output.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="DIR", help="Draw plots there, as PNG and SVG (needs matplotlib).")
]
