"""``python -m tests.mutants``: break every rule of the protocol in turn and see what notices.

Each mutant is tried with the tests that are meant to kill it and, if they all pass, with seeds of the simulator.  Exit
code 0 when every mutant is killed, but for those that nothing can kill; else 1.  A run takes a few minutes.
"""

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.running import Verdict, try_mutant

SEEDS = 40
"""Of each mode; a run of both takes about half a second."""


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="try this mutant; may be given several times")
    parser.add_argument("--quick", action="store_true", help="only what the test suite tries, without the simulator")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each mode of the simulator (default {SEEDS})")
    parser.add_argument("--list", action="store_true", help="say what the mutants are and try none")
    parser.add_argument("--markdown", action="store_true", help="print the table for a document")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts to a file")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    arguments = _arguments(argv)
    unknown = sorted(set(arguments.only or ()) - set(MUTANTS))
    if unknown:
        print(f"no mutant {', '.join(unknown)}: --list names them", file=sys.stderr)
        return 2
    chosen = [m for m in MUTANTS.values() if not arguments.only or m.name in arguments.only]
    if arguments.quick:
        chosen = [m for m in chosen if m.quick]
    if arguments.list:
        for mutant in chosen:
            print(_described(mutant))
        return 0
    began = time.monotonic()
    verdicts = []
    for place, mutant in enumerate(chosen, 1):
        print(f"[{place}/{len(chosen)}] {mutant.name} ", end="", file=sys.stderr, flush=True)
        verdicts.append(try_mutant(mutant, 0 if arguments.quick else arguments.seeds))
        print(f"{verdicts[-1].word} in {verdicts[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    print(_markdown(verdicts) if arguments.markdown else _table(verdicts))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([_plain(verdict) for verdict in verdicts], indent=1) + "\n")
    unsound = [verdict.mutant.name for verdict in verdicts if not verdict.sound]
    print(f"\n{len(verdicts)} mutants in {time.monotonic() - began:.0f} s; ", end="")
    print(f"not as they should be: {', '.join(unsound)}" if unsound else "all as they should be")
    return 1 if unsound else 0


def _described(mutant: Mutant) -> str:
    lines = [f"{mutant.name}: {mutant.apply.__doc__}", f"    rule: {mutant.rule} ({mutant.where})"]
    if mutant.superfluous:
        lines += textwrap.wrap(
            f"superfluous: {mutant.superfluous}", 116, initial_indent="    ", subsequent_indent="    "
        )
    return "\n".join(lines)


def _table(verdicts: Sequence[Verdict]) -> str:
    width = max((len(verdict.mutant.name) for verdict in verdicts), default=0)
    rows = [f"{'mutant':{width}}  {'verdict':11}  killed by"]
    for verdict in verdicts:
        killer = (verdict.killer or "-").removeprefix("tests/")
        rows.append(f"{verdict.mutant.name:{width}}  {verdict.word:11}  {killer}")
    return "\n".join(rows)


def _markdown(verdicts: Sequence[Verdict]) -> str:
    rows = ["| mutant | breaks | verdict | killed by |", "| --- | --- | --- | --- |"]
    for verdict in verdicts:
        breaks = " ".join((verdict.mutant.apply.__doc__ or "").split()).replace("|", "\\|")
        killer = f"`{verdict.killer.removeprefix('tests/')}`" if verdict.killer else "-"
        rows.append(f"| `{verdict.mutant.name}` | {breaks} | {verdict.word} | {killer} |")
    return "\n".join(rows)


def _plain(verdict: Verdict) -> dict[str, object]:
    mutant = verdict.mutant
    return {
        "mutant": mutant.name,
        "breaks": mutant.apply.__doc__,
        "rule": mutant.rule,
        "where": mutant.where,
        "verdict": verdict.word,
        "killer": verdict.killer,
        "how": verdict.how,
        "seconds": round(verdict.seconds, 2),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
