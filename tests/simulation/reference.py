"""What operations do, written down again without the production code: models to check histories against.

States are plain values; None is an object that nothing has been done to.
"""

from typing import Any, cast

from tests.simulation.linearizability import State

States = tuple[State, ...]


def simulated(method: str, argument: Any, states: States) -> tuple[Any, States]:
    """The objects of the simulator: counters and ledgers, as its clients know them."""
    if method in ("increment", "count"):
        (value,) = cast("tuple[int | None]", states)
        value = (value or 0) + (method == "increment")
        return value, (value or None,)
    ledgers = [cast("tuple[bytes, ...]", state or ()) for state in states]
    if method == "fetch":
        return tuple(ledgers), states
    if method == "append":
        entry, expected = argument
        lengths = tuple(len(ledger) for ledger in ledgers)
        if expected not in (None, lengths):
            return ("no", lengths), states
        return ("ok", lengths), tuple((*ledger, entry) for ledger in ledgers)
    raise ValueError(f"no such method: {method}")
