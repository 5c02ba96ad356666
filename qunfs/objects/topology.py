"""The topology object: one generation number that every move of a directory to another parent compares and bumps.

A client reads it before it walks from the new parent up to the root to see that it makes no cycle; when any directory
has moved since, what it saw may be no longer so.
"""

from qunfs.objects.codes import nfsstat3
from qunfs.objects.ids import TOPOLOGY
from qunfs.objects.invocation import Invocation, Refusal, query
from qunfs.objects.state import GENERATION_ROW, pack_generation, unpack_generation
from qunfs.protocol.operation import ObjectView


@query("topo.fetch")
def fetch(call: Invocation) -> int:
    """The generation."""
    call.expect(TOPOLOGY, TOPOLOGY)
    return _generation(call.views[TOPOLOGY])


def bump(call: Invocation, generation: int) -> None:
    """Go to the next generation; RETRY when it is no longer the one that the caller had read."""
    view = call.views[TOPOLOGY]
    if _generation(view) != generation:
        raise Refusal(nfsstat3.RETRY)
    view.put(GENERATION_ROW, pack_generation(generation + 1))


def _generation(view: ObjectView) -> int:
    row = view.get(GENERATION_ROW)
    return 0 if row is None else unpack_generation(row)
