"""Every message of the baseline and its form on the wire.

A client's *bundle* is the msgpack of (number, operations); its number is how replies name it.  What is ordered is a
*batch*: msgpack of entries (client, replier, bundle, digest); where the bundle travels separately ``bundle`` is empty,
otherwise ``digest``.  MACs stand before the bodies, so that a body is packed once for all receivers.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgpack

from bench.baselines.pbft.core.macs import DIGEST_BYTES, digest_of, request_digest
from bench.baselines.pbft.core.tuning import Tuning
from qunfs.protocol.authenticator import MAC_BYTES
from qunfs.protocol.errors import MalformedMessage
from qunfs.protocol.packing import pack

ALL_REPLY: Final = 255
"""In the place of the replica that is to send a long result whole: all are."""
TENTATIVE: Final = 1
"""Flag of a reply: the batch is not known to be committed."""
DIGEST: Final = 2
"""Flag of a reply: its body is the digest of the results."""
OPERATIONS_MAX: Final = 1024
"""In one bundle: more than a client process has closed loops."""
ENTRIES_MAX: Final = 1024

_REQUEST: Final = struct.Struct(">BB")
_READ: Final = struct.Struct(">BBQ")
_FORWARD: Final = struct.Struct(">BBI")
_PRE_PREPARE: Final = struct.Struct(">BIQH")
_VOTES: Final = struct.Struct(">BIHH")
_VOTE: Final = struct.Struct(f">Q{MAC_BYTES}s")
_CHECKPOINT: Final = struct.Struct(f">BQ{DIGEST_BYTES}s{MAC_BYTES}s")
_STATUS: Final = struct.Struct(">BQQQ")
_REPLY: Final = struct.Struct(">BBQ")
_NUMBER: Final = struct.Struct(">Q")
_ENTRY_SHAPE: Final = (int, int, bytes, bytes)
_unpack: Final = msgpack.unpackb


# The first byte of a payload: plain numbers, which are compared for every message.
TYPE_REQUEST: Final = 33
TYPE_READ: Final = 34
TYPE_FORWARD: Final = 35
TYPE_PRE_PREPARE: Final = 36
TYPE_VOTES: Final = 37
TYPE_CHECKPOINT: Final = 38
TYPE_STATUS: Final = 39
TYPE_DESCRIBE: Final = 40
TYPE_REPLY: Final = 49
TYPE_DESCRIPTION: Final = 50


class Entry(NamedTuple):
    """One bundle of a batch."""

    client: int
    replier: int
    bundle: bytes
    """Empty when only the digest is ordered."""
    digest: bytes
    """Always there in memory."""


class Request(NamedTuple):
    """A bundle as a client sends it, or another replica on its behalf."""

    client: int
    replier: int
    vector: bytes
    bundle: bytes


class PrePrepare(NamedTuple):
    """A batch with what authenticates it to one replica."""

    view: int
    sequence: int
    tag: bytes
    macs: tuple[bytes, ...]
    """The clients', by entry."""
    batch: bytes


class Checkpoint(NamedTuple):
    """The digest of the state after a batch."""

    sequence: int
    digest: bytes
    tag: bytes


class Status(NamedTuple):
    """How far a replica has got that may lack something."""

    stable: int
    executed: int
    committed: int


class Reply(NamedTuple):
    """Results of a bundle, or their digest."""

    flags: int
    number: int
    body: bytes


# ---- clients' messages


def pack_bundle(number: int, operations: Sequence[bytes]) -> bytes:
    """What a request or a read consists of."""
    return pack((number, operations))


def parse_bundle_untrusted(bundle: bytes) -> tuple[int, tuple[bytes, ...]]:
    """The number and the operations of a bundle.  Raises MalformedMessage."""
    fields = _fields_untrusted(bundle)
    if type(fields) is tuple and len(fields) == 2:
        number, operations = fields
        if (
            type(number) is int
            and 0 <= number < 1 << 64
            and type(operations) is tuple
            and 0 < len(operations) <= OPERATIONS_MAX
            and set(map(type, operations)) == {bytes}
        ):
            return number, operations
    raise MalformedMessage("no bundle of operations")


def pack_request(replier: int, vector: bytes, bundle: bytes) -> bytes:
    """A REQUEST."""
    return b"".join((_REQUEST.pack(TYPE_REQUEST, replier), vector, bundle))


def parse_request_untrusted(payload: bytes, client: int, n: int) -> Request:
    """A REQUEST of a client."""
    start = _REQUEST.size + n * MAC_BYTES
    if len(payload) <= start:
        raise MalformedMessage("a request without a bundle")
    return Request(client, payload[1], payload[_REQUEST.size : start], payload[start:])


def pack_read(replier: int, number: int, bundle: bytes) -> bytes:
    """A READ; the number stands in the bundle too, where it cannot be had without parsing."""
    return _READ.pack(TYPE_READ, replier, number) + bundle


def parse_read_untrusted(payload: bytes) -> tuple[int, int, bytes]:
    """Replier, number and bundle of a READ."""
    if len(payload) <= _READ.size:
        raise MalformedMessage("a read without a bundle")
    _, replier, number = _READ.unpack_from(payload)
    return replier, number, payload[_READ.size :]


def short_body_bytes(tuning: Tuning, results: int) -> int:
    """So long the body of a reply with so many results may be to come whole from every replica."""
    return (results + 1) * tuning.whole_result_bytes_max


def pack_reply(flags: int, number: int, body: bytes) -> bytes:
    """A REPLY."""
    return _REPLY.pack(TYPE_REPLY, flags, number) + body


def parse_reply_untrusted(payload: bytes) -> Reply:
    """A REPLY; its body is looked at only when enough replicas have sent the same."""
    if len(payload) <= _REPLY.size or payload[0] != TYPE_REPLY:
        raise MalformedMessage("no reply")
    _, flags, number = _REPLY.unpack_from(payload)
    return Reply(flags, number, payload[_REPLY.size :])


def parse_results_untrusted(body: bytes, count: int) -> list[tuple[int, bytes]]:
    """Code and answer of each operation of a bundle."""
    results = _fields_untrusted(body)
    if type(results) is not tuple or len(results) != count:
        raise MalformedMessage("results of another bundle")
    for result in results:
        if type(result) is not tuple or tuple(map(type, result)) != (int, bytes):
            raise MalformedMessage("results of a wrong shape")
    return list(results)


def pack_describe(number: int) -> bytes:
    """A question about a replica itself."""
    return _NUMBER.pack(number).rjust(_NUMBER.size + 1, bytes((TYPE_DESCRIBE,)))


def pack_description(question: bytes, values: dict[str, Any]) -> bytes:
    """The answer to it."""
    return bytes((TYPE_DESCRIPTION,)) + question[1 : 1 + _NUMBER.size] + pack(values)


def parse_description_untrusted(payload: bytes) -> tuple[int, dict[str, Any]]:
    """The number of the question, and the values."""
    if len(payload) <= 1 + _NUMBER.size:
        raise MalformedMessage("no description")
    values = _fields_untrusted(payload[1 + _NUMBER.size :])
    if type(values) is not dict:
        raise MalformedMessage("no description")
    return _NUMBER.unpack_from(payload, 1)[0], values


# ---- replicas' messages


def pack_forward(request: Request) -> bytes:
    """A request that a backup passes on to the primary."""
    return b"".join((_FORWARD.pack(TYPE_FORWARD, request.replier, request.client), request.vector, request.bundle))


def parse_forward_untrusted(payload: bytes, n: int) -> Request:
    """A request that a backup has passed on."""
    start = _FORWARD.size + n * MAC_BYTES
    if len(payload) <= start:
        raise MalformedMessage("a request without a bundle")
    _, replier, client = _FORWARD.unpack_from(payload)
    return Request(client, replier, payload[_FORWARD.size : start], payload[start:])


def pack_batch(entries: Sequence[Entry]) -> bytes:
    """What is ordered."""
    return pack([(e.client, e.replier, e.bundle, b"" if e.bundle else e.digest) for e in entries])


def parse_batch_untrusted(batch: bytes) -> list[Entry]:
    """The entries of a batch, all with digests.  Raises MalformedMessage."""
    fields = _fields_untrusted(batch)
    if type(fields) is not tuple or not 0 < len(fields) <= ENTRIES_MAX:
        raise MalformedMessage("no batch")
    entries: list[Entry] = []
    for field in fields:
        if type(field) is not tuple or tuple(map(type, field)) != _ENTRY_SHAPE:
            raise MalformedMessage("an entry of a wrong shape")
        client, replier, bundle, digest = field
        if len(digest) != (0 if bundle else DIGEST_BYTES) or not 0 <= client < 1 << 32 or not 0 <= replier < 256:
            raise MalformedMessage("an entry out of bounds")
        entries.append(Entry(client, replier, bundle, digest or request_digest(client, bundle)))
    return entries


def batch_digest(entries: Sequence[Entry]) -> bytes:
    """What is agreed on: which requests, in which order."""
    return digest_of(b"".join([entry.digest for entry in entries]))


def pack_pre_prepare(view: int, sequence: int, tag: bytes, macs: Sequence[bytes], batch: bytes) -> bytes:
    """A PRE-PREPARE for one replica."""
    return b"".join((_PRE_PREPARE.pack(TYPE_PRE_PREPARE, view, sequence, len(macs)), tag, *macs, batch))


def parse_pre_prepare_untrusted(payload: bytes) -> PrePrepare:
    """A PRE-PREPARE; the batch is still to be parsed."""
    if len(payload) <= _PRE_PREPARE.size:
        raise MalformedMessage("no batch")
    _, view, sequence, count = _PRE_PREPARE.unpack_from(payload)
    first = _PRE_PREPARE.size + MAC_BYTES
    start = first + count * MAC_BYTES
    if len(payload) <= start:
        raise MalformedMessage("a batch without entries")
    macs = tuple([payload[at : at + MAC_BYTES] for at in range(first, start, MAC_BYTES)])
    return PrePrepare(view, sequence, payload[_PRE_PREPARE.size : first], macs, payload[start:])


def pack_votes(
    view: int,
    prepares: Sequence[tuple[int, tuple[bytes, ...]]],
    commits: Sequence[tuple[int, tuple[bytes, ...]]],
    peers: Sequence[int],
) -> list[tuple[int, bytes]]:
    """PREPAREs and COMMITs, each a sequence number with a MAC per replica: a payload for each peer."""
    head = _VOTES.pack(TYPE_VOTES, view, len(prepares), len(commits))
    votes = [(_NUMBER.pack(sequence), issued) for sequence, issued in (*prepares, *commits)]
    if len(votes) == 1:
        ((number, issued),) = votes
        start = head + number
        return [(peer, start + issued[peer]) for peer in peers]
    if len(votes) == 2:
        (one, issued), (other, issued_too) = votes
        start = head + one
        return [(peer, b"".join((start, issued[peer], other, issued_too[peer]))) for peer in peers]
    return [(peer, head + b"".join([number + issued[peer] for number, issued in votes])) for peer in peers]


def parse_votes_untrusted(payload: bytes) -> tuple[int, list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """The view, PREPAREs and COMMITs."""
    size = len(payload) - _VOTES.size
    if size < _VOTE.size or size % _VOTE.size:
        raise MalformedMessage("votes of a wrong length")
    _, view, prepares, commits = _VOTES.unpack_from(payload)
    if (prepares + commits) * _VOTE.size != size:
        raise MalformedMessage("another number of votes than announced")
    votes = list(_VOTE.iter_unpack(payload[_VOTES.size :]))
    return view, votes[:prepares], votes[prepares:]


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """A CHECKPOINT for one replica."""
    return _CHECKPOINT.pack(TYPE_CHECKPOINT, *checkpoint)


def parse_checkpoint_untrusted(payload: bytes) -> Checkpoint:
    """A CHECKPOINT."""
    if len(payload) != _CHECKPOINT.size:
        raise MalformedMessage("no checkpoint")
    return Checkpoint._make(_CHECKPOINT.unpack(payload)[1:])


def pack_status(status: Status) -> bytes:
    """A STATUS."""
    return _STATUS.pack(TYPE_STATUS, *status)


def parse_status_untrusted(payload: bytes) -> Status:
    """A STATUS."""
    if len(payload) != _STATUS.size:
        raise MalformedMessage("no status")
    return Status._make(_STATUS.unpack(payload)[1:])


def _fields_untrusted(data: bytes) -> Any:
    try:
        return _unpack(data, use_list=False)
    except Exception as error:  # msgpack raises half a dozen unrelated types on bad input
        raise MalformedMessage("not msgpack") from error
