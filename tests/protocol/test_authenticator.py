"""MACs bind issuer, verifier, object and history (section 3.5, authenticators)."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.protocol.authenticator import MAC_BYTES, Authenticator, column
from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import ZERO, ZERO_HISTORY, LogicalTimestamp, ReplicaHistory, method
from qunfs.protocol.quorum import servers_of

N, OBJ = 6, 77
HISTORY = ReplicaHistory((ZERO, method(LogicalTimestamp(1, 0, 1, b"d" * 32), (OBJ, 78), (ZERO.lt, ZERO.lt))))


def _authenticator(server: int) -> Authenticator:
    return Authenticator(server, {j: bytes([min(server, j), max(server, j)]) * 16 for j in range(N)})


@pytest.fixture
def servers() -> list[Authenticator]:
    return [_authenticator(server) for server in range(N)]


def _fresh(servers: list[Authenticator], verifier: int) -> Authenticator:
    """The verifier with nothing computed yet: the path without a comparison to what it issued itself."""
    return _authenticator(verifier)


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


@given(
    st.integers(0, N - 1), st.integers(1, (1 << N + 2) - 1), st.booleans(), st.sets(st.integers(0, N + 1)), st.data()
)
def test_the_macs_of_a_view_are_checked_as_each_alone_is(
    verifier: int, mask: int, remembers: bool, spoilt: set[int], data: st.DataObject
) -> None:
    issuers = servers_of(mask)
    macs = {s: column(_authenticator(s % N).tags(OBJ, HISTORY).vector, verifier) for s in issuers}
    macs |= {s: data.draw(st.binary(min_size=MAC_BYTES, max_size=MAC_BYTES)) for s in spoilt & set(issuers)}
    judge = _authenticator(verifier)
    if remembers:
        judge.tags(OBJ, HISTORY)
    alone = [s for s in issuers if not judge.valid(s, OBJ, HISTORY, macs[s])]
    assert judge.invalid(OBJ, HISTORY, mask, b"".join(macs.values())) == alone
    assert set(alone) >= {s for s in issuers if s >= N}
    assert set(alone) <= spoilt | {N, N + 1}


def test_the_mac_is_one_hash_of_key_object_and_digest(servers: list[Authenticator]) -> None:
    text = OBJ.to_bytes(8, "big") + HISTORY.digest
    pair = blake2b(bytes([2, 4]) * 16 + text, digest_size=2 * MAC_BYTES, person=b"qunfs-history-2").digest()
    assert column(servers[2].tags(OBJ, HISTORY).vector, 4) == pair[:MAC_BYTES], "the lower one's half"
    assert column(servers[4].tags(OBJ, HISTORY).vector, 2) == pair[MAC_BYTES:], "the higher one's half"


@pytest.mark.parametrize("length", [0, 31, 33])
def test_keys_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(LocalError, match="32 bytes"):
        Authenticator(0, {0: bytes(32), 1: bytes(length)})
