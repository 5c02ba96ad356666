"""``python -m tests.simulation``: run a seed with its trace, or a range of seeds."""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.simulation.runner import Outcome, add_up, run, run_many
from tests.simulation.world import Plan


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="run this seed and print its trace")
    which.add_argument("--seeds", help="run a range of seeds, such as 0-999")
    parser.add_argument("-b", type=int, default=1, help="malevolent servers to tolerate (default 1)")
    parser.add_argument("-t", type=int, help="faulty servers to tolerate (default b)")
    parser.add_argument(
        "--levels",
        nargs="+",
        type=_level,
        default=[],
        metavar="B,T",
        help="of a recursive threshold, not -b and -t",
    )
    parser.add_argument("--mode", choices=("safety", "liveness"), default="safety")
    parser.add_argument("--malevolent", type=int, help="exactly so many servers lie; more than b should be caught")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--go-on", action="store_true", help="don't stop at the first violation")
    return parser.parse_args(argv)


def _level(text: str) -> tuple[int, int]:
    b, t = text.split(",")
    return int(b), int(t)


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when no rule was violated, else 1."""
    arguments = _arguments(argv)

    def plan(seed: int) -> Plan:
        return Plan(seed, arguments.b, arguments.t, arguments.mode, arguments.malevolent, tuple(arguments.levels))

    if arguments.seed is not None:
        outcome = run(plan(arguments.seed), trace=print)
        _report([outcome])
        return _verdict(outcome)
    first, _, last = arguments.seeds.partition("-")
    outcomes: list[Outcome] = []
    worst, shown = 0, time.monotonic()
    for outcome in run_many((plan(seed) for seed in range(int(first), int(last or first) + 1)), arguments.jobs):
        outcomes.append(outcome)
        worst = max(worst, _verdict(outcome))
        if worst and not arguments.go_on:
            break
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"... seed {outcome.plan.seed}", file=sys.stderr)
    _report(outcomes)
    return worst


def _verdict(outcome: Outcome) -> int:
    if outcome.violation is None:
        return 0
    plan = outcome.plan
    again = f"--seed {plan.seed} -b {plan.b}" + ("" if plan.t is None else f" -t {plan.t}") + f" --mode {plan.mode}"
    if plan.malevolent is not None:
        again += f" --malevolent {plan.malevolent}"
    if plan.levels:
        again += " --levels " + " ".join(f"{b},{t}" for b, t in plan.levels)
    print(f"VIOLATION with {again}: {outcome.violation}", flush=True)
    return 1


def _report(outcomes: Sequence[Outcome]) -> None:
    total = add_up(outcomes)
    for name in sorted(total):
        print(f"{total[name]:>10}  {name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
