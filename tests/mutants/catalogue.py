"""All mutants; the modules register theirs when they are imported."""

from tests.mutants import accepting, classifying, clients, grouping, reading, refusing, remembering, syncing
from tests.mutants.mutant import MUTANTS

__all__ = [
    "MUTANTS",
    "accepting",
    "classifying",
    "clients",
    "grouping",
    "reading",
    "refusing",
    "remembering",
    "syncing",
]
