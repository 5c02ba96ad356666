"""Benchmarks, and the malevolent replicas they are run against."""
