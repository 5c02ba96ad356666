"""The registry that the modules of this package enter their methods in."""

from typing import Final

from qunfs.protocol.operation import Registry

REGISTRY: Final = Registry()
