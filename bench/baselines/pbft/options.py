"""The tuning on command lines: every field of :class:`Tuning` is an option."""

import argparse
import dataclasses

from bench.baselines.pbft.core.tuning import DEFAULT_TUNING, Tuning


def add_tuning(parser: argparse.ArgumentParser) -> None:
    """An option for every field, such as --commit-delay-s."""
    group = parser.add_argument_group("tuning", "of the protocol; the defaults are the fastest that were found")
    for field in dataclasses.fields(Tuning):
        default = getattr(DEFAULT_TUNING, field.name)
        name = "--" + field.name.replace("_", "-")
        if isinstance(default, bool):
            group.add_argument(name, action=argparse.BooleanOptionalAction, default=default, help=f"default {default}")
        else:
            group.add_argument(name, type=type(default), default=default, metavar="N", help=f"default {default}")


def tuning_of(options: argparse.Namespace) -> Tuning:
    """What the options say."""
    return Tuning(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Tuning)})


def arguments_of(tuning: Tuning) -> list[str]:
    """The options that say it."""
    words: list[str] = []
    for field in dataclasses.fields(Tuning):
        value = getattr(tuning, field.name)
        name = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", str(value)]
    return words
