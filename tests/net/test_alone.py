"""A task that is alone with its operation waits in the reactor, and not beyond what the client is to do next."""

from types import SimpleNamespace

import pytest

from qunfs import eager
from qunfs.net import driver
from qunfs.net.driver import _ALONE_MAX_S, QuClient, _Waiter


@pytest.mark.parametrize(
    ("due", "waited"),
    [(None, _ALONE_MAX_S), (100.0 + _ALONE_MAX_S / 4, _ALONE_MAX_S / 4), (101.0, _ALONE_MAX_S)],
    ids=["nothing to do", "a pause ends", "a probe is due later"],
)
def test_it_waits_until_something_is_due(monkeypatch: pytest.MonkeyPatch, due: float | None, waited: float) -> None:
    now = [100.0]
    slept: list[float] = []

    def poll(_ready: object, left: float, _awake: float) -> list[tuple[int, int]]:
        slept.append(left)
        now[0] += left
        return []

    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(eager, "poll", poll)
    client = QuClient.__new__(QuClient)
    client.__dict__ |= {
        "_client": SimpleNamespace(next_tick=lambda: due, completions=[], rpc=SimpleNamespace(outgoing=[])),
        "_reactor": SimpleNamespace(poll=lambda _: None),
        "_connections": {},
        "_asked_last": -1,
        "_polls": {None: None},
        "_yield_fd": None,
    }
    client._wait_alone(_Waiter())
    assert slept == [pytest.approx(waited)]
