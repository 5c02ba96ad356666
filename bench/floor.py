"""The floor under a mount: PostMark on it, on a plain passthrough and on the directory beneath, in turns (Table 4).

A machine that others share changes its speed from minute to minute, so that shares are taken within each turn.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from bench import mounted
from bench.measuring.document import Figures, record
from bench.measuring.runs import Servers
from bench.system import System, remount

NOCTO: Final = "fuse, nocto"


def in_turns(
    system: System,
    servers: Servers,
    variants: dict[str, str],
    timeout_s: float,
    repeat: int,
    step: Callable[[str], object],
    **given: Any,
) -> list[Figures]:
    """The records of a system mounted with each variant's options, of a passthrough and of a directory.

    Raises LocalError when PostMark met errors or counted wrong, or something cannot be mounted.
    """
    below, top = system.scratch / "below", system.scratch / "passthrough"
    below.mkdir()
    top.mkdir()
    turns: list[list[Figures]] = []
    for number in range(1, repeat + 1):
        of = f", {number} of {repeat}" if repeat > 1 else ""
        ours: list[Figures] = []
        for variant, options in variants.items():
            remount(system, options)
            step(f"b={system.cluster.b}: PostMark on the mount{', nocto' * (variant == NOCTO)}{of}")
            ours.append(mounted.on_mount(system, servers, variant=variant, repeat=1, **given))
        step(f"PostMark on a plain pyfuse3 passthrough{of}")
        with mounted.passed_through(below, top, timeout_s) as pid:
            passed = mounted.on_directory(top, system.scratch, "passthrough", [pid], repeat=1, **given)
        step(f"PostMark on the directory underneath{of}")
        others = [passed, mounted.on_directory(below, system.scratch, "directory", repeat=1, **given)]
        turns.append(_with_shares(ours, others))
    return [_together(records) for records in zip(*turns, strict=True)]


def _with_shares(ours: Sequence[Figures], others: Sequence[Figures]) -> list[Figures]:
    """What a mount does of what the others do, in one turn."""
    for other in others:
        for one in ours:
            one["runs"][0][f"share_of_{other['variant']}"] = round(one["ops_per_s"] / other["ops_per_s"], 4)
        other["runs"][0]["share_of_this"] = round(ours[0]["ops_per_s"] / other["ops_per_s"], 4)
    return [*ours, *others]


def _together(turns: Sequence[Figures]) -> Figures:
    """One record of those of one run each."""
    first, runs = turns[0], [one["runs"][0] for one in turns]
    configuration = {name: value for name, value in first.items() if name not in (*runs[0], "repeat", "runs")}
    unknown = {name: None for name in runs[0] if name in first and first[name] is None}
    return record(configuration, runs, **unknown)
