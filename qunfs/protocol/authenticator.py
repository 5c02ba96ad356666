"""Authenticators: vectors of MACs over replica histories (Figure 3, line 106; paper section 3.5).

Every pair of servers shares a key.  One keyed BLAKE2b over (object, history digest) gives both directions of the pair:
the first half is the MAC that the server with the lower index issues, the second half the other's.  So the text binds
issuer, verifier and object, a history cannot be reflected or moved to another object, and a replica that holds the same
history as the issuer verifies by comparison with what it has computed for itself.
"""

import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from qunfs.protocol.errors import LocalError
from qunfs.protocol.history import ReplicaHistory

MAC_BYTES: Final = 16
_OBJECT: Final = struct.Struct(">Q")
_PERSON: Final = b"qunfs-history-1"
_TAGS_KEPT: Final = 4_096
"""Vectors remembered per replica: a miss costs a few hashes, and memory in use stays in the CPU's caches."""


class Tags(NamedTuple):
    """What one replica knows about one history of one object."""

    vector: bytes
    """n MACs, the s-th for server s: what this replica issues."""
    expected: tuple[bytes, ...]
    """n MACs, the s-th what server s issues to this replica for the same history."""


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
        self._server = server
        self._keyed = [
            blake2b(key=pair_keys[s], digest_size=2 * MAC_BYTES, person=_PERSON) for s in range(len(pair_keys))
        ]
        self._tags: OrderedDict[tuple[int, bytes], Tags] = OrderedDict()

    def _pair(self, peer: int, text: bytes) -> bytes:
        keyed = self._keyed[peer].copy()
        keyed.update(text)
        return keyed.digest()

    def tags(self, obj: int, history: ReplicaHistory) -> Tags:
        """The whole vector for a history of an object, remembered for the checks that follow."""
        digest = history.digest
        known = self._tags.get((obj, digest))
        if known is not None:
            return known
        text = _OBJECT.pack(obj) + digest
        pairs: list[bytes] = []
        for key in self._keyed:
            keyed = key.copy()
            keyed.update(text)
            pairs.append(keyed.digest())
        me = self._server
        below, mine, above = pairs[:me], pairs[me], pairs[me + 1 :]
        issued = [p[MAC_BYTES:] for p in below] + [mine[MAC_BYTES:]] + [p[:MAC_BYTES] for p in above]
        expected = [p[:MAC_BYTES] for p in below] + [mine[MAC_BYTES:]] + [p[MAC_BYTES:] for p in above]
        tags = Tags(b"".join(issued), tuple(expected))
        self._tags[obj, digest] = tags
        if len(self._tags) > _TAGS_KEPT:
            self._tags.popitem(last=False)
        return tags

    def invalid(self, obj: int, history: ReplicaHistory, issuers: Sequence[int], macs: bytes) -> list[int]:
        """The servers among the issuers that did not issue this history to this server (Figure 3, line 1001).

        ``macs`` are theirs, in order.
        """
        known = self._tags.get((obj, history.digest))
        if known is not None and max(issuers) < len(self._keyed):
            expected = known.expected
            if compare_digest(b"".join([expected[s] for s in issuers]), macs):
                return []
        return [s for i, s in enumerate(issuers) if not self.valid(s, obj, history, column(macs, i))]

    def valid(self, issuer: int, obj: int, history: ReplicaHistory, mac: bytes) -> bool:
        """Whether server ``issuer`` issued this history of the object to this server."""
        if issuer >= len(self._keyed):
            return False
        known = self._tags.get((obj, history.digest))
        if known is not None:
            return compare_digest(known.expected[issuer], mac)
        pair = self._pair(issuer, _OBJECT.pack(obj) + history.digest)
        if issuer == self._server:
            return compare_digest(pair[MAC_BYTES:], mac)
        return compare_digest(pair[:MAC_BYTES] if issuer < self._server else pair[MAC_BYTES:], mac)
