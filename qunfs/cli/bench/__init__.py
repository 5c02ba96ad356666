"""``qunfs bench``: measure; one module per benchmark."""

import typer

from qunfs.cli.bench import compare, contention, counter, nfs, postmark, report, scale, sync

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def top() -> None:
    """Measure the system.

    Each benchmark sets up what it needs and leaves nothing behind but what it was told to write.

    \b
    Example:
      qunfs bench counter --faults 0-5 --clients 1,16 --json counter.json --plot plots
      qunfs bench postmark --faults 1 --durability async

    Exit codes: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """


for command in (
    counter.counter,
    compare.compare,
    contention.contention,
    nfs.nfs,
    postmark.postmark,
    report.report,
    scale.scale,
    sync.sync,
):
    app.command(no_args_is_help=False)(command)
