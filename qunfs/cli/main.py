"""The program ``qunfs``: one module per command, each of which imports what it runs only when it runs."""

import logging
import os
import sys
from collections.abc import Sequence

from qunfs.protocol.errors import QunfsError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def open_standard_streams() -> None:
    """Have all three, also when whoever started this has closed some: the next pipe would be taken for them."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process lives


def run(words: Sequence[str]) -> None:
    """Run a command line.

    Replicas and mounts are started by other commands, many at a time, and understand what those write by themselves:
    to load the parser costs more than all else that a replica does to start.
    """
    if words[:1] == ["serve"]:
        from qunfs.cli import serve_process

        replica = serve_process.read_back(words[1:])
        if replica is not None:
            sys.exit(serve_process.be_replica(replica))
    if words[:1] == ["mount"]:
        from qunfs.cli import mount_request

        mount = mount_request.read_back(words)
        if mount is not None:
            from qunfs.cli import mount_process

            mount_process.serve(*mount)
            sys.exit()
    from qunfs.cli.program import program

    program(words)(words, prog_name="qunfs")


def main() -> None:
    """Run the command line; errors that qunfs raises on purpose become one line, others a traceback."""
    open_standard_streams()
    logging.getLogger("qunfs").addHandler(logging.NullHandler())  # only processes that serve have a log
    try:
        run(sys.argv[1:])
    except QunfsError as error:
        print(f"qunfs: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
