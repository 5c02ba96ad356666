"""Every bound of the protocol in one place, each with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that all replicas and clients of a cluster share (sizes in bytes unless the name says otherwise)."""

    servers_max: int = 64
    """A server bitmap is one 64-bit word; b=5 needs 26."""

    objects_per_operation_max: int = 8
    """RENAME needs five: two directories, the moved and the replaced object, the topology object."""

    records_per_history_max: int = 1024
    """A history grows only under contention and is pruned by the proof rule; honest ones hold a handful."""

    records_before_refusal_max: int = 512
    """Past this a replica accepts no more METHODs on the object: barriers and copies keep room to repair it."""

    argument_bytes_max: int = 64 * 1024
    """The largest arguments are symlink targets (4 KiB) and extended attributes (64 KiB less the framing)."""

    answer_bytes_max: int = 1024 * 1024
    """A READDIRPLUS page; replicas cut pages long before."""

    groups_max: int = 1024
    """Supplementary groups in credentials; Linux allows 65,536, which nobody uses and would fill a frame."""

    frame_bytes_max: int = 4 * 1024 * 1024
    """A request with views of 26 histories under contention stays below 1 MiB; a sync chunk below 512 KiB."""

    reply_bytes_max: int = 2 * 1024 * 1024
    """A query's answers and histories together; half a frame, since the last one may go over it."""

    evidence_sets_max: int = 16
    """One object history set per object of the operation and its siblings."""

    queries_per_message_max: int = 256
    """A READDIRPLUS page asks for this many attributes at once."""

    roll_entries_max: int = 512
    """Objects listed at once: some 30 KiB, and a few milliseconds in which a replica serves nobody else."""

    rolls_per_second: float = 20.0
    """Such pages that a replica makes for one client: listing takes no more than a small part of its time."""

    sync_chunk_bytes: int = 256 * 1024
    """State travels in chunks this large, so that a sync holds up no other request for long."""

    versions_kept_per_object: int = 32
    """Pruned versions stay this long: late repeats find their answer, lagging replicas sync by difference."""

    time_ahead_max: int = 1 << 32
    """Logical time grows by one per operation: an honest one stays far below the clock in microseconds plus this."""

    client_time_window_ns: int = 600 * 1_000_000_000
    """How far correct clocks may be apart; wide, since those of clients only feed mtime and ctime."""

    sessions_per_client: int = 16
    """Duplicate-cache entries kept per client in a home object."""

    waiting_requests_max: int = 4096
    """Requests parked at a replica while object syncs run; more are refused as BUSY, and of one client no more than
    are left for all others."""

    sync_jobs_max: int = 256
    """Object syncs under way at one replica; for one client no more than are left for all others."""

    staged_bytes_max: int = 256 * 1024 * 1024
    """Synced versions that wait for the request that needs them."""

    views_tried_max: int = 128
    """Views enumerated by a client per round: all of C(6,5)=6 and C(11,9)=55, a bounded part of larger ones."""


DEFAULT_LIMITS = Limits()
