"""The program ``qunfs``: one module per command, each of which imports what it runs only when it runs."""

import logging
import os
import sys
from typing import Annotated

import typer

import qunfs
from qunfs.cli import bench, demo, down, fsck, init, mount, serve, status, umount, up
from qunfs.protocol.errors import QunfsError

EXIT_FAILED = 1

app = typer.Typer(
    name="qunfs",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"qunfs {qunfs.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A Byzantine-fault-tolerant file system: replicas keep the names, a mount shows them.

    \b
    Example:
      qunfs init c -b 1 && qunfs up c && mkdir m && qunfs mount c m
      qunfs umount m && qunfs down c

    Exit codes: 0 done, 1 failed (one line says why), 2 wrong usage, 130 interrupted.
    """


for command in (
    init.init, up.up, down.down, serve.serve, mount.mount, umount.umount, status.status, fsck.fsck, demo.demo,
):  # fmt: skip
    app.command(no_args_is_help=False)(command)
app.add_typer(bench.app, name="bench")


def open_standard_streams() -> None:
    """Have all three, also when whoever started this has closed some: the next pipe would be taken for them."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process lives


def main() -> None:
    """Run the command line; errors that qunfs raises on purpose become one line, others a traceback."""
    open_standard_streams()
    logging.getLogger("qunfs").addHandler(logging.NullHandler())  # only processes that serve have a log
    try:
        app(prog_name="qunfs")
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
