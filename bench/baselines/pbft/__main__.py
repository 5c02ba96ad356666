"""Measures the baseline: ``python -m bench.baselines.pbft --faults 1 --clients 1 --seconds 5 --json -``.

Castro and Liskov's PBFT, failure-free runs only, on the same counters, network, MAC and storage code as ours and in the
same harness as ``qunfs bench counter``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.baselines.pbft.options import add_tuning, tuning_of
from bench.baselines.pbft.runner import measure, temporary_group
from bench.counter import Load, tell_of
from bench.measuring.document import Figures, as_text, document
from bench.measuring.runs import ATTEMPTS, Timing
from bench.system import Interrupted, interruptible
from qunfs.protocol.errors import QunfsError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 measured, 1 failed (one line says why), 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        with interruptible():
            records: list[Figures] = []
            for faults in options.faults:
                records += _level(faults, options)
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        return 1
    except Interrupted:
        return INTERRUPTED
    text = as_text(document("pbft", records))
    if options.json == "-":
        sys.stdout.write(text)
    elif options.json is not None:
        Path(options.json).write_text(text)
    return 0


def _level(faults: int, options: argparse.Namespace) -> list[Figures]:
    timing = Timing(options.seconds, options.warm_up, options.repeat, options.attempts)
    records: list[Figures] = []
    loads = [Load(c, options.processes, options.operation, variant=options.variant) for c in options.clients]
    names = 1 + max(load.process_count for load in loads)
    tuning = tuning_of(options)
    with temporary_group(faults, options.durability, options.place, _tell, tuning, clients=names) as group:
        for load in loads:
            records.append(measure(group, load, timing, _progress))
            _tell(tell_of(records[-1]))
    return records


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.baselines.pbft", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=_numbers, default=[1], metavar="F", help="such as 1, 0-5 or 1,5 (default 1)")
    parser.add_argument("--clients", type=_numbers, default=[1, 16], metavar="C", help="closed loops (default 1,16)")
    parser.add_argument("--processes", type=int, default=0, metavar="P", help="client processes; 0: one per 32 loops")
    parser.add_argument("--operation", choices=("increment", "fetch"), default="increment")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of a run, warm-up excluded")
    parser.add_argument("--warm-up", type=float, default=1.0, metavar="S")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs; records are their medians")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, metavar="N", help="of each, while others disturb it")
    parser.add_argument("--durability", choices=("sync", "async"), default="async")
    parser.add_argument("--place", type=Path, metavar="DIR", help="where replicas keep their data meanwhile")
    parser.add_argument("--variant", default="normal", metavar="NAME", help="what to call the tuning in the records")
    parser.add_argument("--json", metavar="FILE", help="write the results there; - for standard output")
    add_tuning(parser)
    return parser


def _numbers(text: str) -> list[int]:
    """Numbers of a list of numbers and ranges."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        found += range(int(low), int(high if dash else low) + 1)
    if not found or min(found) < 0:
        raise argparse.ArgumentTypeError("numbers from 0 on, such as 1,4 or 0-5")
    return found


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _progress(text: str) -> None:
    """Only for a terminal, where the line is written over."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
