"""``qunfs down``: stop the replicas."""

import shlex

from qunfs.cli.options import ClusterDirectory
from qunfs.cli.output import counted, say


def down(directory: ClusterDirectory) -> None:
    """Stop a cluster's replicas.

    It stops those of this machine and returns when they are gone.  Each gets SIGTERM and ten seconds to finish,
    then SIGKILL.  Mounts stay; their operations wait for the replicas.

    \b
    Example:
      qunfs down c

    Exit codes: 0 none runs any more, 1 one could not be stopped, 2 wrong usage.
    """
    from qunfs import cluster, mounts, processes

    loaded = cluster.load(directory)
    stopped = processes.stop(loaded, range(loaded.n))
    killed = [str(server) for server, needed_kill in stopped.items() if needed_kill]
    say(f"{counted(len(stopped), 'replica')} stopped" + (f"; SIGKILL needed for {', '.join(killed)}" if killed else ""))
    for record in mounts.records(loaded):
        say(f"{record.mountpoint} is still mounted; its operations wait until: qunfs up {shlex.quote(str(directory))}")
