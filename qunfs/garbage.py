"""How often a process of ours looks for cyclic garbage: rarely, for serving a request leaves none."""

import gc
from typing import Final

_OBJECTS: Final = 50_000
"""More live ones than before call for a look: what is found then is of ended connections and errors, some megabytes."""


def look_rarely() -> None:
    """From now on.  What is there already is code and tables, and is left out."""
    gc.freeze()
    gc.set_threshold(_OBJECTS)
