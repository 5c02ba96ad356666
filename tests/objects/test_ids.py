import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qunfs.objects.ids import ROOT, TOPOLOGY, is_directory, is_file, is_valid, new_id, type_of


@given(st.integers(1, 64), st.integers(0, 1 << 62), st.booleans(), st.randoms(use_true_random=False))
def test_a_new_id_has_the_residue_and_says_what_it_is(n, seed, directory, rng):
    obj = new_id(seed % n, n, directory, rng.getrandbits)
    assert obj % n == seed % n
    assert obj < 1 << 63
    assert is_valid(obj)
    assert is_directory(obj) is directory
    assert is_file(obj) is not directory


@pytest.mark.parametrize("bits", [0, (1 << 61) - 1])
@pytest.mark.parametrize("directory", [False, True])
@pytest.mark.parametrize("n", [1, 6, 26, 63])
def test_the_ends_of_the_range(bits, directory, n):
    for residue in range(n):
        obj = new_id(residue, n, directory, lambda _k: bits)
        assert obj % n == residue
        assert is_directory(obj) is directory
        assert is_file(obj) is not directory


def test_ids_have_many_random_bits():
    rng = random.Random(1)
    assert len({new_id(0, 6, False, rng.getrandbits) >> 13 for _ in range(10_000)}) > 9_999 - 10


def test_types_follow_from_ids():
    assert type_of(ROOT) == "dir"
    assert type_of(TOPOLOGY) == "topo"
    assert type_of(new_id(1, 6, True, random.Random(1).getrandbits)) == "dir"
    assert type_of(new_id(1, 6, False, random.Random(1).getrandbits)) == "attr"
    assert not is_valid(TOPOLOGY)
    assert not is_valid(0)
    assert not is_valid(1 << 63)
