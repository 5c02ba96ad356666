"""Every bound of the network layer in one place, each with its reason (what a frame may hold is in protocol.limits)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """Bounds of one process's connections; they need not be the same everywhere."""

    receive_bytes: int = 64 * 1024
    """One recv(2); larger buffers cost page faults on every small message."""

    receive_bytes_per_wakeup_max: int = 1024 * 1024
    """A busy peer, with all its connections, yields to the others after this much; the rest stays in its sockets."""

    frames_per_wakeup: int = 1024
    """A connection yields after so many frames as well: small ones cost far more time and memory than bytes."""

    output_batch_bytes: int = 1024 * 1024
    """Output queued beyond this is encrypted at once instead of at the end of the wake-up."""

    output_bytes_max: int = 64 * 1024 * 1024
    """Unsent output of one peer, each of its connections having its part, but two frames at least; a connection that
    is read slower than this allows is closed."""

    handshake_seconds_max: float = 10.0
    """Connecting, TLS and the greeting together; an honest one needs milliseconds."""

    handshakes_inbound_max: int = 256
    """Strangers that may be half-way in; past this the oldest goes, so that a flood cannot lock others out."""

    connections_per_peer_max: int = 64
    """A client's mounts and benchmark processes; dead ones are noticed by TCP within a minute."""

    accepts_per_wakeup_max: int = 64
    """Handshakes cost most of a millisecond: established connections get their turn in between."""


DEFAULT_NETWORK_LIMITS = NetworkLimits()
