"""Authenticators: vectors of MACs over replica histories (Figure 3, line 106; paper section 3.5).

Every pair of servers shares a key.  One BLAKE2b over (key, object, history digest) gives both directions of the pair:
the first half is the MAC that the server with the lower index issues, the second half the other's.  So the text binds
issuer, verifier and object, a history cannot be reflected or moved to another object, and a replica that holds the same
history as the issuer verifies by comparison with what it has computed for itself.

The key is a prefix of fixed length, not BLAKE2's key parameter, which would pad it to a block of its own: key and text
are one block and one compression (docs/decisions/0001).
"""

import struct
from collections.abc import Mapping
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import ReplicaHistory
from qunfs.protocol.quorum import servers_of
from qunfs.protocol.recent import Recent

MAC_BYTES: Final = 16
KEY_BYTES: Final = 32
_OBJECT: Final = struct.Struct(">Q")
_PERSON: Final = b"qunfs-history-2"
_TAGS_KEPT: Final = 2_048
"""Vectors remembered per replica: a miss costs a few hashes, and memory in use stays in the CPU's caches."""
_copy: Final = blake2b.copy
_update: Final = blake2b.update
_digest: Final = blake2b.digest

_MASKS_KEPT: Final = 1_024
"""Correct clients send the views of n preferred quorums and a few more; any bitmap can be asked about."""


class Tags:
    """What one replica knows about one history of one object."""

    __slots__ = ("awaited", "vector")

    def __init__(self, vector: bytes, awaited: bytes) -> None:
        self.vector: Final = vector
        """n MACs, the s-th for server s: what this replica issues."""
        self.awaited: Final = awaited
        """n MACs, the s-th of server s: what is issued to this replica."""


def column(vector: bytes, server: int) -> bytes:
    """The MAC of a vector that is meant for one server."""
    return vector[server * MAC_BYTES : (server + 1) * MAC_BYTES]


class Authenticator:
    """Issues and checks MACs for one server.

    ``pair_keys[s]`` is the 32-byte key shared with server s, for every s including the server itself.
    """

    def __init__(self, server: int, pair_keys: Mapping[int, bytes]) -> None:
        if sorted(pair_keys) != list(range(len(pair_keys))) or server not in pair_keys:
            raise LocalError("pair keys must cover every server of the cluster")
        if any(len(key) != KEY_BYTES for key in pair_keys.values()):
            raise LocalError(f"pair keys must have {KEY_BYTES} bytes")  # a prefix of another length could be text
        self._server = server
        self._n = len(pair_keys)
        self._keyed = [blake2b(pair_keys[s], digest_size=2 * MAC_BYTES, person=_PERSON) for s in range(self._n)]
        first, second = f"{MAC_BYTES}s{MAC_BYTES}x", f"{MAC_BYTES}x{MAC_BYTES}s"
        above = self._n - server - 1
        self._issued = struct.Struct(second * (server + 1) + first * above)
        """What this server issues, in the hashes of all pairs: the second half where it has the higher index."""
        self._awaited = struct.Struct(first * server + second * (above + 1))
        self._runs: dict[int, list[tuple[int, int]]] = {}
        self._tags: Recent[tuple[int, bytes], Tags] = Recent(_TAGS_KEPT)

    def tags(self, obj: int, history: ReplicaHistory) -> Tags:
        """The whole vector for a history of an object, remembered for the checks that follow."""
        digest = history.digest
        which = (obj, digest)
        known = self._tags.get(which)
        if known is not None:
            return known
        text = _OBJECT.pack(obj) + digest
        hashes: list[bytes] = []
        for key in self._keyed:
            keyed = _copy(key)
            _update(keyed, text)
            hashes.append(_digest(keyed))
        pairs = b"".join(hashes)
        made = Tags(b"".join(self._issued.unpack(pairs)), b"".join(self._awaited.unpack(pairs)))
        self._tags.put(which, made)
        return made

    def invalid(self, obj: int, history: ReplicaHistory, mask: int, macs: bytes) -> list[int]:
        """The servers of a bitmap that did not issue this history to this server (Figure 3, line 1001).

        ``macs`` are theirs, in order.
        """
        known = self._tags.get((obj, history.digest))
        if known is not None and not mask >> self._n and compare_digest(self._expected(known, mask), macs):
            return []
        issuers = servers_of(mask)
        return [s for i, s in enumerate(issuers) if not self.valid(s, obj, history, column(macs, i))]

    def valid(self, issuer: int, obj: int, history: ReplicaHistory, mac: bytes) -> bool:
        """Whether server ``issuer`` issued this history of the object to this server."""
        if issuer >= self._n:
            return False
        known = self._tags.get((obj, history.digest))
        if known is not None:
            return compare_digest(self._expected(known, 1 << issuer), mac)
        keyed = self._keyed[issuer].copy()
        keyed.update(_OBJECT.pack(obj) + history.digest)
        pair = keyed.digest()
        return compare_digest(pair[:MAC_BYTES] if issuer < self._server else pair[MAC_BYTES:], mac)

    def _expected(self, tags: Tags, mask: int) -> bytes:
        """What the servers of a bitmap, all of this cluster, issue to this replica."""
        runs = self._runs.get(mask)
        if runs is None:
            if len(self._runs) >= _MASKS_KEPT:
                self._runs.clear()
            runs = self._runs[mask] = _runs(mask)
        if len(runs) == 1:
            start, stop = runs[0]
            return tags.awaited[start:stop]
        return b"".join([tags.awaited[start:stop] for start, stop in runs])


def _runs(mask: int) -> list[tuple[int, int]]:
    """Where the MACs of a bitmap's servers lie in a vector, neighbours together."""
    runs: list[tuple[int, int]] = []
    while mask:
        first = (mask & -mask).bit_length() - 1
        rest = mask >> first
        length = (~rest & rest + 1).bit_length() - 1
        runs.append((first * MAC_BYTES, (first + length) * MAC_BYTES))
        mask = rest >> length << first + length
    return runs
