"""``qunfs bench report``: one page from results."""

from pathlib import Path
from typing import Annotated

import typer

from qunfs.cli.output import say
from qunfs.protocol.errors import LocalError


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the JSON files of other benchmarks are.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; DIR/report.html by default.")
    ] = None,
) -> None:
    """Make one HTML page from results.

    It reads every result of "qunfs bench" in the directory (*.json) and makes a page with tables and plots that needs
    no other file.

    \b
    Example:
      qunfs bench report results

    Exit codes: 0 made, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """
    from bench.measuring.document import read_all
    from bench.report import page_of
    from bench.system import interruptible

    with interruptible():  # plots are drawn in a temporary directory
        write(directory / "report.html" if out is None else out, page_of(read_all(directory)))


def write(path: Path, text: str) -> None:
    """Write a page and say so.  Raises LocalError."""
    try:
        path.write_text(text)
    except OSError as error:
        raise LocalError(f"{path}: {error.strerror}; name another file") from error
    say(f"written: {path}")
