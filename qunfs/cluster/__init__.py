"""A cluster on disk: ``cluster.toml`` says who takes part, private keys lie in one directory per principal.

::

    DIR/cluster.toml               public: quorums, addresses, certificates, rights, the root's first attributes
    DIR/servers/I/{cert.pem,key.pem,mac.key}    private to server I (0700); its data goes to servers/I/data
    DIR/servers/I/socket           where server I, while it runs, listens for those on its machine
    DIR/clients/NAME/{cert.pem,key.pem}         private to client NAME (0700)

A host needs cluster.toml and the directories of the principals that run there, nothing else.
"""

from qunfs.cluster.file import load
from qunfs.cluster.making import create
from qunfs.cluster.model import FILE_NAME, Client, Cluster, Genesis, Rights, Server, Squash

__all__ = ["FILE_NAME", "Client", "Cluster", "Genesis", "Rights", "Server", "Squash", "create", "load"]
