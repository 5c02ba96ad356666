"""``qunfs bench postmark``: PostMark (paper, Table 4)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qunfs.cli.bench.options import (
    ONE_FAULT,
    AttemptsOption,
    FaultsOption,
    JsonOption,
    PlaceOption,
    PlotOption,
    RepeatOption,
)
from qunfs.cli.bench.output import Figures, View, field, number, sink, throughput
from qunfs.cli.options import Durability, DurabilityOption
from qunfs.protocol.errors import LocalError

if TYPE_CHECKING:
    from bench.postmark import Progress

FILES: Final = 5000
TRANSACTIONS: Final = 20000
TIMEOUT_S: Final = 1.0
ONLY_WITH_REPLICAS: Final = ("faults", "durability", "direct", "floor", "timeout", "nocto", "place", "plot_to")
ONLY_WITH_A_MOUNT: Final = ("floor", "timeout", "nocto")


def postmark(
    context: typer.Context,
    faults: FaultsOption = ONE_FAULT,
    durability: DurabilityOption = Durability.ASYNC,
    files: Annotated[int, typer.Option(min=1, metavar="N", help="Files that PostMark starts with.")] = FILES,
    transactions: Annotated[int, typer.Option(min=10, metavar="N", help="Transactions on them.")] = TRANSACTIONS,
    direct: Annotated[
        bool, typer.Option("--direct", help="The same actions straight at MetadataService, without FUSE and PostMark.")
    ] = False,
    floor: Annotated[
        bool,
        typer.Option(
            "--floor", help="Also with --nocto, on a plain pyfuse3 passthrough, and on the directory underneath."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(min=0.0, max=86400.0, metavar="S", help="How long the kernel may believe attributes and names."),
    ] = TIMEOUT_S,
    nocto: Annotated[
        bool, typer.Option("--nocto", help="Mount with -o nocto: an open believes attributes as the kernel does.")
    ] = False,
    repeat: RepeatOption = 1,
    attempts: AttemptsOption = 3,
    plain: Annotated[
        Path | None,
        typer.Option("--directory", metavar="PATH", help="Run in this directory alone, with no replicas at all."),
    ] = None,
    place: PlaceOption = None,
    json_to: JsonOption = None,
    plot_to: PlotOption = None,
) -> None:
    """Run PostMark.

    It runs on a temporary cluster through a real mount.  Phases are timed by our own clock and PostMark's counts are
    checked.  "transactions per second" covers the transaction phase alone.  With --direct, what PostMark does is done
    without it, and with --directory it runs in an ordinary directory.

    \b
    Example:
      qunfs bench postmark --faults 1 --floor --timeout 60
      qunfs bench postmark --faults 0-5 --direct --json direct.json --plot plots
      qunfs bench postmark --directory /tmp

    Exit codes: 0 measured and the counts are right, 1 failed or counts are wrong, 2 wrong usage, 130 interrupted.
    """
    _refuse_contradictions(context, plain, direct)
    from bench.measuring.document import document
    from bench.system import interruptible

    given = {"size": (files, transactions), "repeat": repeat, "attempts": attempts}
    with interruptible(), sink(json_to, plot_to) as out, View() as view:
        if plain is not None:
            records = [_in_directory(plain, view, given)]
        else:
            records = []
            for b in faults:
                if direct:
                    records.append(_direct(b, durability, place, view, given))
                else:
                    beside = floor and b == faults[0]
                    records += _through_fuse(b, durability, place, view, given, timeout, nocto, beside)
        out.finish(document("postmark", records), COLUMNS, view, plot_to)


def _refuse_contradictions(context: typer.Context, plain: Path | None, direct: bool) -> None:
    """An option that would have no effect is a mistake.  Raises typer.BadParameter."""

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    names = {option.name: option.opts[0] for option in context.command.params}
    if plain is not None:
        for name in filter(is_given, ONLY_WITH_REPLICAS):
            raise typer.BadParameter(f"--directory uses no replicas and no mount: leave out {names[name]}")
    if direct:
        for name in filter(is_given, ONLY_WITH_A_MOUNT):
            raise typer.BadParameter(f"--direct uses no mount: leave out {names[name]}")


def _direct(b: int, durability: Durability, place: Path | None, view: View, given: dict[str, Any]) -> dict[str, Any]:
    from bench.service import direct_postmark
    from bench.system import temporary_replicas

    files, transactions = given["size"]
    with temporary_replicas(b, durability.value, place, view.of(b)) as system:
        one = direct_postmark(system, files, transactions, given["repeat"], given["attempts"], view.progress)
    view.done(f"b={b}, direct: {one['ops_per_s']:,.0f} transactions/s")
    return one


def _through_fuse(
    b: int,
    durability: Durability,
    place: Path | None,
    view: View,
    given: dict[str, Any],
    timeout: float,
    nocto: bool,
    floor: bool,
) -> list[dict[str, Any]]:
    """The records through FUSE, and with ``floor`` those of the passthrough and the directory.

    The passthrough believes attributes at an open as long as the kernel does, which is what ``nocto`` means: beside
    it both kinds of mount are measured.
    """
    from bench import mounted
    from bench.floor import NOCTO, in_turns
    from bench.replicas import observed
    from bench.system import temporary_system

    given = {**given, "watch": lambda progress: show(view, progress), "tell": view.progress}
    options = f"attr_timeout={timeout},entry_timeout={timeout}"
    without = f"{options},nocto"
    with (
        temporary_system(b, durability.value, place, view.of(b), without if nocto else options) as system,
        observed(system) as servers,
    ):
        if floor:
            variants = {NOCTO: without} if nocto else {"fuse": options, NOCTO: without}
            records = in_turns(system, servers, variants, timeout, step=view.step, **given)
        else:
            view.step(f"b={b}: PostMark on the mount")
            records = [mounted.on_mount(system, servers, variant=NOCTO if nocto else "fuse", **given)]
    for one in records:
        one["kernel_timeout_s"] = timeout
    return records


def _in_directory(directory: Path, view: View, given: dict[str, Any]) -> dict[str, Any]:
    import tempfile

    from bench import mounted

    given = {**given, "watch": lambda progress: show(view, progress), "tell": view.progress}
    try:
        with tempfile.TemporaryDirectory(prefix="qunfs-postmark-", dir=directory) as made:
            one = mounted.on_directory(Path(made), Path(made), "directory", **given)
    except OSError as error:
        raise LocalError(f"{directory}: {error.strerror}; name a directory that you can write to") from error
    return {**one, "directory": str(directory)}


def show(view: View, progress: "Progress") -> None:
    """How far PostMark is."""
    done = f" {progress.share:.0%}" if progress.share is not None else ""
    view.progress(f"PostMark: {progress.phase}{done}, {progress.seconds:.0f} s")


def _where(one: Figures) -> str:
    return str(one["variant"]) if one["b"] is None else f"b={one['b']}, {one['variant']}"


def _phases(one: Figures) -> str:
    return " / ".join(number(one[f"{phase}_s"], 1) for phase in ("creation", "transactions", "deletion"))


def _counts(one: Figures) -> str:
    return " / ".join(str(one[name]) for name in ("created", "read", "appended", "deleted"))


COLUMNS: Final = (
    ("where", _where),
    ("n", field("n", digits=0)),
    ("durability", field("durability")),
    ("transactions/s", throughput),
    ("phases, s", _phases),
    ("created / read / appended / deleted", _counts),
    ("server us/request", field("server_cpu_us_per_request", "median")),
    ("client us", field("client_cpu_us_per_op", digits=0)),
    ("of passthrough", lambda one: number(one.get("share_of_passthrough"), 2)),
)
