"""Errors split by blame: ours, a peer's, the storage's."""


class QunfsError(Exception):
    """Base of every error that qunfs raises on purpose."""


class LocalError(QunfsError):
    """This process misused the protocol or was configured wrongly."""


class PeerError(QunfsError):
    """A replica or a client did what a correct one does not do."""


class MalformedMessage(PeerError):
    """Bytes from the network that no correct sender produces; the only error of ``*_untrusted`` functions."""


class StorageError(QunfsError):
    """The store could not keep what it was given; the replica must stop."""


class VersionMissing(QunfsError):
    """An object version that is not (or no longer) held in this store."""


class OperationRefused(QunfsError):
    """Replicas refused an operation: not allowed, or not one they know."""


class OperationGivenUp(QunfsError):
    """Whoever waited for an operation does not any more: it may or may not take effect."""
