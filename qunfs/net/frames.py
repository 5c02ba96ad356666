"""Frames on a byte stream: a length (4 bytes, big-endian), then that many bytes of payload."""

from struct import Struct
from typing import Final

from qunfs.protocol.errors import LocalError, MalformedMessage

HEADER: Final = Struct(">I")
_HEADER_BYTES: Final = HEADER.size


def frame_header(payload_bytes: int, frame_bytes_max: int) -> bytes:
    """The header of a payload.  Raises LocalError when the payload is too large for a frame."""
    if payload_bytes > frame_bytes_max:
        raise LocalError(f"a frame of {payload_bytes} bytes exceeds the limit of {frame_bytes_max}")
    return HEADER.pack(payload_bytes)


class FrameDecoder:
    """Cuts a stream into payloads; holds at most one incomplete frame."""

    __slots__ = ("_frame_bytes_max", "_needed", "_partial")

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._partial = bytearray()
        self._needed = 0
        """Bytes that the incomplete frame must reach before it is worth looking at again."""

    def inside_frame(self) -> bool:
        """Whether the stream may not end here."""
        return bool(self._partial)

    def feed_untrusted(self, chunk: bytes) -> list[bytes]:
        """The payloads that this chunk completes, in order.

        Raises MalformedMessage on a length beyond the limit, before any of that frame is kept.
        """
        data: bytes | bytearray = chunk
        if not self._partial and len(chunk) > _HEADER_BYTES:
            (length,) = HEADER.unpack_from(chunk)
            if length == len(chunk) - _HEADER_BYTES and length <= self._frame_bytes_max:
                return [chunk[_HEADER_BYTES:]]  # one frame and no more: the usual chunk
        if self._partial:
            self._partial += chunk
            if len(self._partial) < self._needed:
                return []
            data = self._partial
        payloads = []
        start, end = 0, len(data)
        self._needed = _HEADER_BYTES
        while end - start >= _HEADER_BYTES:
            (length,) = HEADER.unpack_from(data, start)
            if length > self._frame_bytes_max:
                raise MalformedMessage(f"a frame of {length} bytes; the limit is {self._frame_bytes_max}")
            stop = start + _HEADER_BYTES + length
            if stop > end:
                self._needed = stop - start
                break
            first = start + _HEADER_BYTES
            payloads.append(chunk[first:stop] if data is chunk else bytes(memoryview(data)[first:stop]))
            start = stop
        if data is self._partial:
            del self._partial[:start]
        elif start < end:
            self._partial += memoryview(chunk)[start:]
        return payloads
