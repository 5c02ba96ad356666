"""Mutants: the production code with one rule of the protocol broken at a time, and what notices.

A rule whose mutant nothing kills is untested or superfluous.  ``python -m tests.mutants`` tries all of them.
"""

import os

os.environ["QUNFS_PURE"] = "1"  # compiled code has no functions to exchange
