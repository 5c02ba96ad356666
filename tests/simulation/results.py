"""``python -m tests.simulation.results``: a long run, the controls and the mutants, written as a document.

Exit codes: 0 all is as it should be, 1 a rule was violated, a control was not, or a mutant survived (the document says
which), 2 wrong arguments, or stopped by Ctrl-C: then no document is written.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import qunfs.native
from tests.simulation.campaign import FAULTS, Campaign
from tests.simulation.runner import WORKLOADS, Workers, complaint, options
from tests.simulation.tally import Tally, markdown
from tests.simulation.world import Plan

ROOT: Final = Path(__file__).parents[2]
CONTROLS: Final = 100
"""Seeds of each configuration with more liars than it tolerates."""


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.results",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to run seeds (default 60)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: all processors)")
    parser.add_argument("--without-mutants", action="store_true", help="leave the mutants' table out")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/simulation.md", metavar="FILE")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    arguments = _arguments(argv)
    command = "python -m tests.simulation.results" + "".join(f" {argument}" for argument in argv)
    campaign = Campaign()
    try:
        with Workers(arguments.jobs) as workers:
            for _ in campaign.run(arguments.first, arguments.minutes, workers, _say):
                pass
            controls = [_control(workers, b, t, workload) for workload in WORKLOADS for b, t in FAULTS]
        mutants, all_killed = ("", True) if arguments.without_mutants else _mutants()
    except KeyboardInterrupt:
        _say("stopped by Ctrl-C")
        return 2
    lines = [*_head(command), *_seeds(campaign, arguments.jobs), *_controls(controls)]
    if mutants:
        lines += ["", "## Mutants", "", *mutants.splitlines()]
    arguments.output.write_text("\n".join(lines) + "\n")
    caught = all(tally.violations for _, tally in controls)
    return 0 if all_killed and caught and not campaign.all.violations else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _control(workers: Workers, b: int, t: int | None, workload: str) -> tuple[Plan, Tally]:
    """Seeds with one liar more than is tolerated."""
    plans = [Plan(seed, b, t, malevolent=b + 1, workload=workload) for seed in range(CONTROLS)]
    _say(f"... control: {options(plans[0])}")
    return plans[0], Tally(workers.run(plans))


def _mutants() -> tuple[str, bool]:
    ended = subprocess.run([sys.executable, "-m", "tests.mutants", "--markdown"], cwd=ROOT, stdout=subprocess.PIPE)
    return ended.stdout.decode(), ended.returncode == 0


# ---- the document


def _head(command: str) -> Iterator[str]:
    yield from (
        "# The simulator's runs",
        "",
        "This page is written by",
        "",
        f"    {command}",
        "",
        "The rules that are checked after every step are in [protocol.md](../protocol.md#what-watches-over-the-rules).",
        f"Code: {_commit()}, {'compiled' if qunfs.native.active() else 'as Python'}. Machine: {_machine()}.",
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "qunfs", "server", "tests")
    return f"commit {git('rev-parse', '--short=10', 'HEAD') or 'unknown'}{' with changes' if changed else ''}"


def _machine() -> str:
    names = [line.partition(":")[2].strip() for line in _read("/proc/cpuinfo") if line.startswith("model name")]
    model = names[0] if names else platform.machine()
    return f"{model}, {os.cpu_count()} processors; {platform.system()}, Python {platform.python_version()}"


def _read(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _seeds(campaign: Campaign, jobs: int) -> Iterator[str]:
    total = campaign.all.total
    yield from (
        "",
        "## Seeds",
        "",
        f"{campaign.seconds / 60:.1f} minutes, {jobs} processes. {total['runs']:,} seeds, "
        f"{total['operations begun']:,} operations, {total['events']:,} events;",
        f"{len(campaign.all.violations)} violations. The longest history of an object had {total['longest history']} "
        "records; the slowest operation of",
        f"a client alone took {total['most rounds alone']} round trips.",
        "",
        *campaign.table(),
    )
    if campaign.all.violations:
        yield from ("", *(f"    {complaint(outcome).splitlines()[0]}" for outcome in campaign.all.violations))
    for workload in WORKLOADS:
        yield from (
            "",
            f"How often the rare paths were walked, working on {workload}:",
            "",
            *campaign.sometimes(workload),
        )


def _controls(controls: Sequence[tuple[Plan, Tally]]) -> Iterator[str]:
    yield from (
        "",
        "## Controls",
        "",
        "With one malevolent server more than is tolerated rules must be broken, or the adversaries would be too kind.",
        "",
    )
    rows = [
        [f"`{options(plan)}`", tally.total["runs"], len(tally.violations), _first(tally), _broken(tally)]
        for plan, tally in controls
    ]
    yield from markdown(["options", "seeds", "violated a rule", "first seed", "what broke"], rows)


def _first(tally: Tally) -> str:
    return str(tally.violations[0].plan.seed) if tally.violations else "none"


def _broken(tally: Tally) -> str:
    """The rules by what their oracles say first, without the numbers, most frequent first."""
    said = [(outcome.violation or "").partition("\n")[0].partition(":")[0] for outcome in tally.violations]
    kinds = Counter(" ".join(word for word in text.split()[:5] if word.isalpha()) for text in said)
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
