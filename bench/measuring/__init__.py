"""Measuring, whatever is measured: processor time, latencies, what a result looks like, closed loops in processes.

Nothing here knows the Q/U protocol: a baseline that has servers with counters and clients in loops is measured by the
same code (docs/benchmarks.md).
"""
