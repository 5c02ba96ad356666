"""Deterministic Q/U objects: counters, and the directories, attributes and topology that make a namespace."""

from qunfs.objects import counter
from qunfs.objects.registry import REGISTRY

__all__ = ["REGISTRY", "counter"]
