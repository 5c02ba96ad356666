"""The shared packer gives what msgpack.packb gives, whatever it was given before."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.protocol.packing import bytes_head, pack

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=50) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([object(), 1 << 64, [b"half", object()], {1: (b"half", 1 << 70)}]))
def test_the_same_bytes_even_after_a_failure(value: object, impossible: object) -> None:
    with pytest.raises((TypeError, OverflowError)):
        pack(impossible)
    assert pack(value) == msgpack.packb(value)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 65_535, 65_536, 1_000_000])
def test_bytes_begin_as_they_do_in_msgpack(length: int) -> None:
    assert bytes_head(length) + bytes(length) == msgpack.packb(bytes(length))
