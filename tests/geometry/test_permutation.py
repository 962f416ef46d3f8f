"""Permutations of which parts are known: each number once, parts of one whole, and no order left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.stats import chisquare, kstest

from pescitrain.geometry.permutation import permuted


def permutation(count: int, seed: int) -> np.ndarray:
    return permuted(np.arange(count), count, np.random.default_rng(seed))


@given(st.integers(1, 3000), st.integers(0, 2**31))
def test_each_number_comes_once(count, seed):
    assert_array_equal(np.sort(permutation(count, seed)), np.arange(count))


@given(st.integers(1, 3000), st.integers(0, 99), st.data())
def test_a_part_is_that_of_the_whole(count, seed, data):
    chosen = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=20)), dtype=np.int64)
    assert_array_equal(permuted(chosen, count, np.random.default_rng(seed)), permutation(count, seed)[chosen])


@pytest.mark.parametrize("count", [2, 5, 16])
def test_every_number_goes_everywhere_equally_often(count):
    """Over 4000 seeds, which are fixed; of pairs as well. A p-value below 1e-4 would be no accident."""
    found = np.array([permutation(count, seed) for seed in range(4000)])
    for index in range(count):
        assert chisquare(np.bincount(found[:, index], minlength=count)).pvalue > 1e-4
    pairs = np.bincount(count * found[:, 0] + found[:, 1], minlength=count**2)
    assert pairs.reshape(count, count).diagonal().sum() == 0
    assert chisquare(pairs[pairs > 0]).pvalue > 1e-4
    assert (pairs > 0).sum() == count * (count - 1)


def test_no_order_is_left():
    """Of neighbours, and of even steps, among 100,000."""
    values = permutation(100_000, 1) / 100_000
    for step in (1, 2, 256, 317):  # 317 is about the square root
        difference = (values[step:] - values[:-step]) % 1.0
        assert kstest(difference, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(values[step:], values[:-step])[0, 1]) < 5.0 / np.sqrt(len(values))
