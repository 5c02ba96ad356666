"""``qunfs bench postmark``: PostMark (paper, Table 4)."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qunfs.cli.options import Durability, DurabilityOption
from qunfs.cli.output import Status, say
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from bench.postmark import Counts, Progress, Result

FILES: Final = 5000
TRANSACTIONS: Final = 20000


def postmark(
    faults: Annotated[
        int, typer.Option("--faults", "-b", min=0, metavar="B", help="Malevolent replicas to tolerate.")
    ] = 1,
    durability: DurabilityOption = Durability.SYNC,
    files: Annotated[int, typer.Option(min=1, metavar="N", help="Files that PostMark starts with.")] = FILES,
    transactions: Annotated[int, typer.Option(min=10, metavar="N", help="Transactions on them.")] = TRANSACTIONS,
    plain: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="PATH", help="Run in this directory instead, to have a figure beside ours."
        ),
    ] = None,
    place: Annotated[
        Path | None, typer.Option("--in", metavar="PATH", help="Where the temporary cluster goes; /tmp by default.")
    ] = None,
    json_to: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is standard output.")
    ] = None,
) -> None:
    """Run PostMark.

    It runs on a temporary cluster through a real mount, or with --directory in an ordinary directory.  Phases are
    timed by our own clock and PostMark's counts are checked.  "transactions per second" covers the transaction
    phase alone.

    \b
    Example:
      qunfs bench postmark --faults 1 --durability async --json -
      qunfs bench postmark --directory /tmp

    Exit codes: 0 measured and the counts are right, 1 failed or counts are wrong, 2 wrong usage, 130 interrupted.
    """
    from bench.system import interruptible

    with interruptible(), _output(json_to) as write:
        if plain is None:
            fields = _on_cluster(faults, durability.value, files, transactions, place)
        else:
            fields = _on_directory(plain, files, transactions)
        write(fields)


def _on_cluster(b: int, durability: str, files: int, transactions: int, place: Path | None) -> dict[str, Any]:
    from bench import postmark
    from bench.system import temporary_system

    status = Status()
    try:
        with temporary_system(b, durability, place, status.show) as system:
            expected = postmark.expected_counts(system.scratch, files, transactions)
            result = postmark.run(
                system.mountpoint, system.scratch, files, transactions, lambda progress: show(status, progress)
            )
            n, statistics = system.cluster.n, system.statistics()
    finally:
        status.clear()
    check(result, expected)
    return {"b": b, "n": n, "durability": durability, **as_fields(result), "statistics": statistics}


def _on_directory(directory: Path, files: int, transactions: int) -> dict[str, Any]:
    import tempfile

    from bench import postmark

    status = Status()
    try:
        with tempfile.TemporaryDirectory(prefix="qunfs-postmark-", dir=directory) as made:
            scratch = Path(made)
            run_in = scratch / "run"
            run_in.mkdir()
            expected = postmark.expected_counts(scratch, files, transactions)
            result = postmark.run(run_in, scratch, files, transactions, lambda progress: show(status, progress))
    except OSError as error:
        raise LocalError(f"{directory}: {error.strerror}; name a directory that you can write to") from error
    finally:
        status.clear()
    check(result, expected)
    return {"b": None, "n": None, "durability": None, "directory": str(directory), **as_fields(result)}


def show(status: Status, progress: "Progress") -> None:
    """How far PostMark is: written over on a terminal, elsewhere a line per phase and tenth."""
    if not status.interactive:
        status.show(f"PostMark: {progress.phase}" + (f" {progress.tenths} of 10" if progress.tenths else ""))
        return
    done = f" {progress.share:.0%}" if progress.share is not None else ""
    status.show(f"PostMark: {progress.phase}{done}, {progress.seconds:.0f} s")


def check(result: "Result", expected: "Counts") -> None:
    """Raises LocalError when PostMark met errors or did not do what it must."""
    complaints = result.complaints(expected)
    if complaints:
        raise LocalError("; ".join(complaints))


def as_fields(result: "Result") -> dict[str, Any]:
    """A result as JSON fields; times in seconds."""
    return {
        "files": result.files,
        "transactions": result.transactions,
        "transactions_per_s": round(result.transactions_per_s, 1),
        **dataclasses.asdict(result.counts),
        "creation_s": round(result.creation_s, 3),
        "transactions_s": round(result.transactions_s, 3),
        "deletion_s": round(result.deletion_s, 3),
    }


@contextlib.contextmanager
def _output(json_to: str | None) -> "Iterator[Any]":
    """A function that prints a result; a JSON file is opened first, so that a wrong name costs no run."""

    def write_text(fields: dict[str, Any]) -> None:
        where = fields.get("directory") or f"b={fields['b']} (n={fields['n']}), {fields['durability']}"
        print(f"{where}: {fields['transactions_per_s']} transactions per second")
        print(", ".join(f"{fields[name]} {name}" for name in ("created", "read", "appended", "deleted")))
        times = ", ".join(f"{phase} {fields[phase + '_s']:.1f} s" for phase in ("creation", "transactions", "deletion"))
        print(times)

    if json_to is None:
        yield write_text
    elif json_to == "-":
        yield lambda fields: print(json.dumps(fields, indent=2))
    else:
        try:
            file = open(json_to, "w")  # noqa: SIM115 - closed below
        except OSError as error:
            raise LocalError(f"{json_to}: {error.strerror}; name another file") from error
        with file:
            yield lambda fields: file.write(json.dumps(fields, indent=2) + "\n")
        say(f"written: {json_to}")
