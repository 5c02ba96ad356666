"""A deterministic simulator: the production protocol on simulated clocks, networks, disks and adversaries.

One seed is one run: chance comes from generators seeded with it, events of the same instant keep the order in which
they were scheduled, and nothing depends on the hash of a string.
"""
