"""Cutting a byte stream into frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.net.frames import FrameDecoder, frame_header
from qunfs.protocol.errors import LocalError, MalformedMessage

FRAME_MAX = 200


def stream_of(payloads: list[bytes]) -> bytes:
    return b"".join(frame_header(len(payload), FRAME_MAX) + payload for payload in payloads)


@given(st.lists(st.binary(max_size=FRAME_MAX)), st.lists(st.integers(1, 300)))
def test_payloads_survive_any_cutting_of_the_stream(payloads: list[bytes], cuts: list[int]) -> None:
    stream, decoder, out = stream_of(payloads), FrameDecoder(FRAME_MAX), []
    for size in cuts:
        out += decoder.feed_untrusted(stream[:size])
        stream = stream[size:]
    out += decoder.feed_untrusted(stream)
    assert out == payloads
    assert not decoder.inside_frame()


def test_byte_by_byte() -> None:
    payloads = [b"", b"a", b"x" * FRAME_MAX, b""]
    decoder = FrameDecoder(FRAME_MAX)
    out = [payload for byte in stream_of(payloads) for payload in decoder.feed_untrusted(bytes([byte]))]
    assert out == payloads


def test_inside_a_frame_after_part_of_its_header() -> None:
    decoder = FrameDecoder(FRAME_MAX)
    assert decoder.feed_untrusted(b"\x00") == []
    assert decoder.inside_frame()


@pytest.mark.parametrize("before", [b"", frame_header(1, FRAME_MAX) + b"x", b"\x00"])
def test_a_length_beyond_the_limit_is_malformed(before: bytes) -> None:
    decoder = FrameDecoder(FRAME_MAX)
    decoder.feed_untrusted(before)
    with pytest.raises(MalformedMessage, match="limit is 200"):
        decoder.feed_untrusted(b"\xff\xff\xff\xff")


def test_a_payload_beyond_the_limit_is_not_sent() -> None:
    with pytest.raises(LocalError, match="201 bytes exceeds the limit of 200"):
        frame_header(FRAME_MAX + 1, FRAME_MAX)
