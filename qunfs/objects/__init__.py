"""Deterministic Q/U objects: counters, and the directories, attributes and topology that make a namespace."""

from qunfs.objects import attributes, checking, counter, directory, naming, rename, topology, xattr
from qunfs.objects.registry import REGISTRY

__all__ = ["REGISTRY", "attributes", "checking", "counter", "directory", "naming", "rename", "topology", "xattr"]
