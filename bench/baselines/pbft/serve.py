"""Runs one replica of the baseline: ``python -m bench.baselines.pbft.serve DIR --server I``."""

import argparse
import logging
import sys
from pathlib import Path

from bench.baselines.pbft import service
from bench.baselines.pbft.options import add_tuning, tuning_of
from qunfs import processes
from qunfs.cluster import load
from qunfs.protocol.errors import QunfsError


def main() -> int:
    """The exit code: 0 after SIGTERM or SIGINT, 1 when it could not start or had to stop."""
    parser = argparse.ArgumentParser(prog="python -m bench.baselines.pbft.serve", description=__doc__)
    parser.add_argument("directory", type=Path, help="the cluster's directory")
    parser.add_argument("--server", type=int, required=True, help="number of the replica, from 0")
    parser.add_argument("--durability", choices=("sync", "async"), default="async")
    add_tuning(parser)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        loaded = load(options.directory)
        loaded.data_directory(options.server)  # refuses a number that the cluster does not have
        with processes.registered(loaded, options.server):
            return service.run(loaded.directory, options.server, options.durability, tuning_of(options))
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
