"""MACs: by pair of replicas for what they say about a batch, and by client and replica for requests.

The construction is that of :mod:`qunfs.protocol.authenticator`: keyed BLAKE2b, the key a prefix of fixed length, and
one hash per pair of replicas whose parts serve the two directions.  Here it has four: the PREPARE (or PRE-PREPARE) and
the COMMIT of either.  The text is view, sequence number and digest of the batch, so a replica that has accepted the
batch checks what others say of it by comparison, and a vote need not name the digest: a MAC for another one is invalid.
"""

import struct
from collections.abc import Mapping
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from qunfs.protocol.authenticator import KEY_BYTES, MAC_BYTES
from qunfs.protocol.errors import LocalError, MalformedMessage

DIGEST_BYTES: Final = 32
_BATCH: Final = struct.Struct(">IQ")
_CLIENT: Final = struct.Struct(">I")
_CHECKPOINT: Final = struct.Struct(">cQ")
_PERSON: Final = b"qunfs-pbft-pair"
_CLIENT_PERSON: Final = b"qunfs-pbft-user"


def digest_of(data: bytes) -> bytes:
    """What stands for a batch, a result or a state."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def request_digest(client: int, bundle: bytes) -> bytes:
    """What stands for a request: whose it is, and what."""
    return blake2b(_CLIENT.pack(client) + bundle, digest_size=DIGEST_BYTES).digest()


class Tags:
    """What one replica says, and expects to hear, about one batch: a MAC per replica in each."""

    __slots__ = ("commit_awaited", "commit_issued", "prepare_awaited", "prepare_issued")

    def __init__(
        self,
        prepare_issued: tuple[bytes, ...],
        prepare_awaited: tuple[bytes, ...],
        commit_issued: tuple[bytes, ...],
        commit_awaited: tuple[bytes, ...],
    ) -> None:
        self.prepare_issued: Final = prepare_issued
        self.prepare_awaited: Final = prepare_awaited
        self.commit_issued: Final = commit_issued
        self.commit_awaited: Final = commit_awaited


class ReplicaMacs:
    """The MACs of one replica.  ``pair_keys[s]`` is shared with replica s, ``client_keys[c]`` with client c."""

    def __init__(
        self, replica: int, pair_keys: Mapping[int, bytes], client_keys: Mapping[int, bytes], enabled: bool = True
    ) -> None:
        if sorted(pair_keys) != list(range(len(pair_keys))) or replica not in pair_keys:
            raise LocalError("pair keys must cover every replica")
        self._me = replica
        self._n = len(pair_keys)
        self._pairs = [_keyed(pair_keys[s], _PERSON, 4 * MAC_BYTES) for s in range(self._n)]
        self._clients = {c: _keyed(key, _CLIENT_PERSON, MAC_BYTES) for c, key in client_keys.items()}
        self._parts = struct.Struct(f"{MAC_BYTES}s" * (4 * self._n))
        self._enabled = enabled

    def tags(self, view: int, sequence: int, digest: bytes) -> Tags:
        """All MACs about a batch."""
        if not self._enabled:
            same = (digest[:MAC_BYTES],) * self._n
            return Tags(same, same, same, same)
        text = _BATCH.pack(view, sequence) + digest
        hashes: list[bytes] = []
        for key in self._pairs:
            keyed = key.copy()
            keyed.update(text)
            hashes.append(keyed.digest())
        parts, me = self._parts.unpack(b"".join(hashes)), self._me
        prepare_low, prepare_high, commit_low, commit_high = parts[::4], parts[1::4], parts[2::4], parts[3::4]
        # towards lower ones this replica is the higher of the pair
        return Tags(
            prepare_high[:me] + prepare_low[me:],
            prepare_low[:me] + prepare_high[me:],
            commit_high[:me] + commit_low[me:],
            commit_low[:me] + commit_high[me:],
        )

    def checkpoint(self, peer: int, sequence: int, digest: bytes, issued: bool) -> bytes:
        """The MAC of a CHECKPOINT to a peer, or the one awaited from it."""
        if not self._enabled:
            return digest[:MAC_BYTES]
        keyed = self._pairs[peer].copy()
        keyed.update(_CHECKPOINT.pack(b"c", sequence) + digest)
        pair = keyed.digest()
        low = issued == (self._me < peer)
        return pair[:MAC_BYTES] if low else pair[MAC_BYTES : 2 * MAC_BYTES]

    def check_request_untrusted(self, client: int, digest: bytes, mac: bytes) -> None:
        """Raises MalformedMessage unless the client has made the request for this replica too."""
        key = self._clients.get(client)
        if key is not None:
            keyed = key.copy()
            keyed.update(digest)
            if compare_digest(keyed.digest(), mac):
                return
        raise MalformedMessage(f"a request that client {client} has not made")


class ClientMacs:
    """The MACs of one client; ``keys[s]`` is shared with replica s."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keyed = [_keyed(keys[s], _CLIENT_PERSON, MAC_BYTES) for s in range(len(keys))]

    def vector(self, digest: bytes) -> bytes:
        """The authenticator of a request: a MAC for each replica."""
        macs: list[bytes] = []
        for key in self._keyed:
            keyed = key.copy()
            keyed.update(digest)
            macs.append(keyed.digest())
        return b"".join(macs)


def _keyed(key: bytes, person: bytes, size: int) -> blake2b:
    if len(key) != KEY_BYTES:
        raise LocalError(f"keys must have {KEY_BYTES} bytes")
    return blake2b(key, digest_size=size, person=person)
