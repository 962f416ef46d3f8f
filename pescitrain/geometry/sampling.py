"""Point sequences in the unit cube, and their images in simplices."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from pescitrain.errors import ProblemError
from pescitrain.geometry.permutation import permuted
from pescitrain.geometry.points import Floats, Integers

if TYPE_CHECKING:
    from scipy.stats import qmc


def generator(seed: int, name: str) -> np.random.Generator:
    """The random numbers that belong to a seed and a name: the same on every rank, independent between names."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def unit_points(
    count: int, dimension: int, kind: str, seed: int, name: str, begin: int = 0, end: int | None = None
) -> Floats:
    """Points ``begin``, …, ``end`` - 1 (all by default) of ``count`` of the unit cube: (end - begin, dimension).

    Not collective, the same on every rank. ``uniform``, scrambled ``sobol`` and ``halton``, and ``latin`` depend on
    seed and name; ``hammersley`` on neither.
    """
    end = count if end is None else end
    if dimension == 0 or begin == end:
        return np.zeros((end - begin, dimension))
    if kind == "hammersley":
        return hammersley(count, dimension, begin, end)
    random = generator(seed, name)
    if kind == "uniform":
        return uniform(random, begin, end, dimension)
    if kind == "latin":
        return _latin(count, generator(seed, f"{name}, cells"), uniform(random, begin, end, dimension), begin)
    from scipy.stats import qmc  # half a second, for those who need it

    if kind == "sobol":
        return _sobol(qmc.Sobol(dimension, rng=random), begin, end)
    if kind == "halton":
        engine = qmc.Halton(dimension, rng=random)
        engine.num_generated = begin  # fast_forward would draw and drop what lies before
        return engine.random(end - begin)
    raise ProblemError(f"'{kind}' sampling does not exist here; use uniform, sobol, hammersley, halton or latin.")


def uniform(random: np.random.Generator, begin: int, end: int, dimension: int) -> Floats:
    """Rows ``begin``, …, ``end`` - 1 of the uniform numbers (N, dimension) that a new generator gives."""
    bits = random.bit_generator
    assert isinstance(bits, np.random.PCG64)
    bits.advance(begin * dimension)  # one step for each number
    return random.random((end - begin, dimension))


def _latin(count: int, random: np.random.Generator, inside: Floats, begin: int) -> Floats:
    """Points ``begin``, … of a Latin hypercube, one in each of ``count`` slices of every axis, and ``inside`` these."""
    indices = np.arange(begin, begin + len(inside))
    cells = [permuted(indices, count, random) for _ in range(inside.shape[1])]
    return (np.stack(cells, axis=1) + inside) / count


def _sobol(engine: qmc.Sobol, begin: int, end: int) -> Floats:
    """The first point is drawn on its own: of a number from the start that is no power of two, SciPy warns."""
    if begin:
        return engine.fast_forward(begin).random(end - begin)
    return np.concatenate([engine.random(1), engine.random(end - 1)])


def hammersley(count: int, dimension: int, begin: int = 0, end: int | None = None) -> Floats:
    """The Hammersley set (count, dimension): (i + 1/2)/N, then van der Corput numbers of i in bases 2, 3, 5, …

    ``begin``, ``end``: only these points of it.
    """
    indices = np.arange(begin, count if end is None else end)
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
