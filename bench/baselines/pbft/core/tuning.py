"""Every number of the baseline in one place, each with its reason."""

from dataclasses import dataclass
from typing import Final

PRIMARY: Final = 0
"""Of view 0, which never ends."""
VIEW: Final = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What all replicas and clients of a run share; the defaults are the fastest that were found."""

    window: int = 2
    """Batches that the primary has ordered and not executed."""

    batch_entries_max: int = 64
    """Bundles in a batch."""

    batch_bytes_max: int = 256 * 1024
    """A batch holds at least one bundle, and no further one beyond this."""

    checkpoint_every: int = 128
    """Batches from one checkpoint to the next, as in the papers."""

    log_batches_max: int = 256
    """How far the water marks are apart, as in the papers: twice the distance of checkpoints."""

    bundle_operations_max: int = 1024
    """Operations of one client process under one authenticator; 1 sends each on its own, as in the papers."""

    inline_bytes_max: int = 4096
    """Longer bundles are sent to all replicas by the client and ordered by digest (the papers: requests above 255)."""

    whole_result_bytes_max: int = 32
    """Longer results, on average of a bundle, come whole from one replica only; as in the papers."""

    commit_delay_s: float = 0.02
    """How long a COMMIT waits for a message that it can travel with; 0 sends it at once, as in the first paper."""

    authenticators: bool = True
    """Whether replicas authenticate what they say to each other, beyond what TLS does for a connection.

    Requests, which the primary passes on, are authenticated in any case.
    """


DEFAULT_TUNING: Final = Tuning()


def replicas_for(faults: int) -> int:
    """How many replicas tolerate so many Byzantine ones."""
    return 3 * faults + 1
