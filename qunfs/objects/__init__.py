"""Deterministic Query/Update objects."""
