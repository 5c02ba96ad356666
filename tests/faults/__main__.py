"""``python -m tests.faults``: one run or several, with progress."""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench.system import Interrupted, interruptible
from tests.faults.running import Plan, run
from tests.simulation.oracles import Violation


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="of the faults and of what clients do")
    parser.add_argument("--runs", type=int, default=1, help="go on with the seeds after it (default 1 run)")
    parser.add_argument("-b", type=int, default=1, help="malevolent servers to tolerate (default 1)")
    parser.add_argument("--operations", type=int, default=2000, help="operations of all clients (default 2000)")
    parser.add_argument("--moves", type=int, help="faults and recoveries (default: one for 60 operations)")
    parser.add_argument("--directory", type=Path, help="where to put stores and logs (default: the temporary one)")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when all that must hold held, else 1; the directory of a run that went wrong is kept."""
    given = _arguments(argv)
    for seed in range(given.seed, given.seed + given.runs):
        plan = Plan(seed, given.b, given.operations, given.moves or given.operations // 60)
        directory = Path(tempfile.mkdtemp(prefix="qunfs-faults-", dir=given.directory))
        began = time.monotonic()

        def say(text: str, began: float = began) -> None:
            print(f"{time.monotonic() - began:7.1f}  {text}", file=sys.stderr, flush=True)

        print(f"python -m tests.faults {plan}", flush=True)
        try:
            outcome = run(plan, directory, say)
        except Exception as error:  # whatever escapes is a finding
            what = str(error) if isinstance(error, Violation) else "".join(traceback.format_exception(error))
            print(f"VIOLATION with {plan} (stores and logs: {directory}):\n{what}", flush=True)
            return 1
        except BaseException:
            shutil.rmtree(directory)
            raise
        shutil.rmtree(directory)
        for name in sorted(outcome.seen):
            print(f"{outcome.seen[name]:>10}  {name}")
    return 0


if __name__ == "__main__":
    try:
        with interruptible():
            sys.exit(main(sys.argv[1:]))
    except Interrupted:
        sys.exit(130)
