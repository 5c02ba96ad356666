"""MACs bind issuer, verifier, object and history (section 3.5, authenticators)."""

import pytest

from qunfs.protocol.authenticator import MAC_BYTES, Authenticator, column
from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import ZERO, ZERO_HISTORY, LogicalTimestamp, ReplicaHistory, method

N, OBJ = 6, 77
HISTORY = ReplicaHistory((ZERO, method(LogicalTimestamp(1, 0, 1, b"d" * 32), (OBJ, 78), (ZERO.lt, ZERO.lt))))


@pytest.fixture
def servers() -> list[Authenticator]:
    keys = {(i, j): bytes([i, j]) * 16 for i in range(N) for j in range(i, N)}
    return [Authenticator(i, {j: keys[min(i, j), max(i, j)] for j in range(N)}) for i in range(N)]


def _fresh(servers: list[Authenticator], verifier: int) -> Authenticator:
    """The verifier with nothing computed yet: the path without a comparison to what it issued itself."""
    keys = {(i, j): bytes([i, j]) * 16 for i in range(N) for j in range(i, N)}
    return Authenticator(verifier, {j: keys[min(verifier, j), max(verifier, j)] for j in range(N)})


@pytest.mark.parametrize("remembers", [False, True])
def test_every_server_validates_every_other(servers: list[Authenticator], remembers: bool) -> None:
    for issuer in range(N):
        vector = servers[issuer].tags(OBJ, HISTORY).vector
        assert len(vector) == N * MAC_BYTES
        for verifier in range(N):
            judge = _fresh(servers, verifier)
            if remembers:
                judge.tags(OBJ, HISTORY)
            assert judge.valid(issuer, OBJ, HISTORY, column(vector, verifier))


@pytest.mark.parametrize("remembers", [False, True])
def test_a_mac_holds_for_nothing_else(servers: list[Authenticator], remembers: bool) -> None:
    vector = servers[2].tags(OBJ, HISTORY).vector
    for verifier in range(N):
        judge = _fresh(servers, verifier)
        if remembers:
            for obj in (OBJ, 78):
                for history in (HISTORY, ZERO_HISTORY):
                    judge.tags(obj, history)
        mac = column(vector, verifier)
        assert not judge.valid(2, 78, HISTORY, mac), "moved to another object of the same records"
        assert not judge.valid(2, OBJ, ZERO_HISTORY, mac), "put on another history"
        assert not judge.valid(2, OBJ, HISTORY, bytes(MAC_BYTES))
        assert not judge.valid(2, OBJ, HISTORY, mac[:-1])
        assert not judge.valid(2, OBJ, HISTORY, b"")
        for other in set(range(N)) - {2}:
            assert not judge.valid(other, OBJ, HISTORY, mac), "taken for another server's"
        for other in set(range(N)) - {verifier}:
            assert not judge.valid(2, OBJ, HISTORY, column(vector, other)), "meant for another server"


def test_a_mac_is_not_valid_in_the_other_direction(servers: list[Authenticator]) -> None:
    """A history reflected to its issuer as the verifier's own: two servers share a key and not a MAC."""
    for issuer in range(N):
        vector = servers[issuer].tags(OBJ, HISTORY).vector
        for verifier in set(range(N)) - {issuer}:
            assert not servers[issuer].valid(verifier, OBJ, HISTORY, column(vector, verifier))


def test_keys_must_cover_the_cluster() -> None:
    with pytest.raises(LocalError):
        Authenticator(0, {0: b"k" * 32, 2: b"k" * 32})
