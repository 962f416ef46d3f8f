"""Point sequences in the unit cube, and their images in simplices."""

from __future__ import annotations

import math
import zlib

import numpy as np
from scipy.stats import qmc

from pescitrain.errors import ProblemError
from pescitrain.geometry.points import Floats, Integers


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers that belong to a seed and a name: the same on every rank, independent between names."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def unit_points(count: int, dimension: int, kind: str, seed: int, name: str) -> Floats:
    """``count`` points (count, dimension) of the unit cube; not collective, the same on every rank.

    ``uniform``, scrambled ``sobol`` and ``halton``, and ``latin`` depend on seed and name; ``hammersley`` on neither.
    """
    if dimension == 0:
        return np.zeros((count, 0))
    random = generator(seed, name)
    if kind == "uniform":
        return random.random((count, dimension))
    if kind == "hammersley":
        return hammersley(count, dimension)
    if kind == "sobol":
        # A whole power of two, cut: the same points as asking for `count`, without the warning about balance.
        return qmc.Sobol(dimension, rng=random).random_base2(math.ceil(math.log2(count)))[:count]
    if kind == "halton":
        return qmc.Halton(dimension, rng=random).random(count)
    if kind == "latin":
        return qmc.LatinHypercube(dimension, rng=random).random(count)
    raise ProblemError(f"'{kind}' sampling does not exist here; use uniform, sobol, hammersley, halton or latin.")


def hammersley(count: int, dimension: int) -> Floats:
    """The Hammersley set (count, dimension): (i + 1/2)/N, then van der Corput numbers of i in bases 2, 3, 5, …"""
    indices = np.arange(count)
    columns = [(indices + 0.5) / count]
    columns += [van_der_corput(indices, base) for base in primes(dimension - 1)]
    return np.stack(columns, axis=1)


def van_der_corput(indices: Integers, base: int) -> Floats:
    """The radical inverse (N,) of non-negative integers: their digits in ``base``, mirrored at the point."""
    remaining = np.array(indices)
    value, scale = np.zeros(len(remaining)), 1.0
    while remaining.any():
        scale /= base
        remaining, digit = np.divmod(remaining, base)
        value += scale * digit
    return value


def primes(count: int) -> list[int]:
    """The first primes."""
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def cube_to_simplex(unit: Floats) -> Floats:
    """Map the unit cube to the barycentric coordinates of a simplex: (N, d) -> (N, d + 1), uniform to uniform.

    Coordinate by coordinate, so that an even spread stays even: what is left of 1 is split by a power law.
    """
    count, dimension = unit.shape
    barycentric = np.empty((count, dimension + 1))
    remaining = np.ones(count)
    for k in range(dimension):
        barycentric[:, k] = remaining * (1.0 - (1.0 - unit[:, k]) ** (1.0 / (dimension - k)))
        remaining = remaining - barycentric[:, k]
    barycentric[:, dimension] = remaining
    return barycentric
