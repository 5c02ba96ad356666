"""The commands of ``qunfs`` and the parser of its command line."""

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

import qunfs

COMMANDS: Final = ("init", "up", "down", "serve", "mount", "umount", "status", "fsck", "demo", "bench")
"""Each is a module of this package and a function in it; ``bench`` has commands of its own."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"qunfs {qunfs.__version__}")
        raise typer.Exit


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


def program(words: Sequence[str]) -> typer.Typer:
    """What understands a command line: with the command that it begins with, or with all where it begins otherwise."""
    app = typer.Typer(
        name="qunfs",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(top)
    for name in words[:1] if words[:1] and words[0] in COMMANDS else COMMANDS:
        module = import_module(f"qunfs.cli.{name}")
        if name == "bench":
            app.add_typer(module.app, name=name)
        else:
            app.command(no_args_is_help=False)(getattr(module, name))
    return app
