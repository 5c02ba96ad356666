"""qunfs: a Byzantine-fault-tolerant NFSv3 metadata service on the Query/Update protocol."""

from qunfs import native

__version__ = "0.1.0"

native.install()
