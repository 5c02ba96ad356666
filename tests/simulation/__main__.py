"""``python -m tests.simulation``: run a seed with its trace, a range of seeds, or seeds for some time.

Seeds 1 to 3 of the default configuration tell stories: two clients contend, a crashed client's update is completed by
another, a lying replica is found out.  Exit codes: 0 no rule was violated, 1 some rule was, and the seeds are named, 2
wrong arguments, or stopped by Ctrl-C before the end.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.simulation.campaign import Campaign, Progress
from tests.simulation.runner import WORKLOADS, Outcome, Workers, complaint, run
from tests.simulation.tally import Tally
from tests.simulation.world import DEFAULT_WORKLOAD, Plan

STOPPED = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this seed and print its trace")
    which.add_argument("--seeds", type=_range, metavar="A-B", help="run a range of seeds, such as 0-999")
    which.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="for so long run both workloads with b=1, b=2 and b=1 t=2 in both modes",
    )
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed for --minutes (default 0)")
    parser.add_argument("-b", type=int, help="malevolent servers to tolerate (default 1)")
    parser.add_argument("-t", type=int, help="faulty servers to tolerate (default b)")
    parser.add_argument(
        "--levels",
        nargs="+",
        type=_level,
        default=[],
        metavar="B,T",
        help="of a recursive threshold, not -b and -t",
    )
    parser.add_argument("--mode", choices=("safety", "liveness"), help="safety (default) or liveness")
    parser.add_argument("--workload", choices=sorted(WORKLOADS), help="what clients work on (default ledgers)")
    parser.add_argument("--malevolent", type=int, help="exactly so many servers lie; more than b should be caught")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--go-on", action="store_true", help="don't stop at the first violation")
    return parser


def _level(text: str) -> tuple[int, int]:
    b, t = text.split(",")
    return int(b), int(t)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 0-999")
    return seeds


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    given = (arguments.b, arguments.t, arguments.mode, arguments.malevolent, arguments.workload)
    chosen = (*given, arguments.levels or None)
    if arguments.minutes is not None and any(choice is not None for choice in chosen):
        parser.error("--minutes goes through workloads, configurations and modes by itself")
    return arguments


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    arguments = _arguments(argv)
    if arguments.seed is not None:
        outcome = run(_plan(arguments, arguments.seed), trace=print)
        _name(outcome)
        return _report(Tally([outcome]))
    with Workers(arguments.jobs) as workers, _until_interrupted() as interrupts:
        if arguments.minutes is not None:
            return _campaign(arguments, workers, interrupts)
        return _seeds(arguments, workers, interrupts)


def _plan(arguments: argparse.Namespace, seed: int) -> Plan:
    b = 1 if arguments.b is None else arguments.b
    mode, workload = arguments.mode or "safety", arguments.workload or DEFAULT_WORKLOAD
    return Plan(seed, b, arguments.t, mode, arguments.malevolent, tuple(arguments.levels), workload)


@contextmanager
def _until_interrupted() -> Iterator[list[int]]:
    """Have Ctrl-C add to a list, so that it strikes between runs and not in one."""
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def _seeds(arguments: argparse.Namespace, workers: Workers, interrupts: list[int]) -> int:
    tally, progress = Tally(), Progress(_say, runs=len(arguments.seeds))
    for outcome in workers.run(_plan(arguments, seed) for seed in arguments.seeds):
        tally.add(outcome)
        _name(outcome)
        if interrupts or (tally.violations and not arguments.go_on):
            break
        progress.show(tally, outcome)
    return _report(tally) or _stopped(interrupts)


def _campaign(arguments: argparse.Namespace, workers: Workers, interrupts: list[int]) -> int:
    campaign = Campaign()
    for outcome in campaign.run(arguments.first, arguments.minutes, workers, _say):
        _name(outcome)
        if interrupts or (campaign.all.violations and not arguments.go_on):
            break
    code = _report(campaign.all)
    print("", *campaign.table(), sep="\n")
    return code or _stopped(interrupts)


def _stopped(interrupts: list[int]) -> int:
    if interrupts:
        _say("stopped by Ctrl-C: this is what was done until then")
    return STOPPED if interrupts else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _name(outcome: Outcome) -> None:
    if outcome.violation is not None:
        print(complaint(outcome), flush=True)


def _report(tally: Tally) -> int:
    print(*tally.lines(), sep="\n")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
