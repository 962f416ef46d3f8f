"""Random permutations of which a part is known without the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pescitrain.geometry.points import Integers

ROUNDS = 6
FEWEST_BITS = 3
"""In a half of a number: fewer are not mixed well."""


def permuted(indices: Integers, count: int, random: np.random.Generator) -> Integers:
    """Where some of 0, …, ``count`` - 1 go in a random permutation: (N,) -> (N,), in memory of N numbers.

    The permutation is that of a new generator. A Feistel network permutes numbers of an even number of bits; what
    comes to lie beyond ``count`` goes through it again (cycle walking: Black & Rogaway, CT-RSA 2002), at most four
    times on average but for the smallest counts. Its rounds mix as SplitMix64 does (Steele, Lea & Flood, OOPSLA 2014).
    """
    half = max(FEWEST_BITS, ((count - 1).bit_length() + 1) // 2)
    mask = np.uint64(2**half - 1)
    keys = random.integers(0, 2**64, ROUNDS, dtype=np.uint64)
    result = np.asarray(indices).astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        left, right = result[outside] >> np.uint64(half), result[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        result[outside] = left << np.uint64(half) | right
        outside = outside[result[outside] >= count]
    return result.astype(np.int64)


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
