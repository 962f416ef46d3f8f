"""Mean fluxes of one-group diffusion with absorption in four regions, from the coefficients of the regions.

−∇·(D ∇φ) + Σ φ = q in the unit square, φ = 0 on its boundary; D, Σ and q are constant in each quarter of the square.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from pescitrain.errors import ProblemError
from pescitrain.problem.regression import RegressionData, RegressionProblem

Array = NDArray[np.float64]

REGIONS = 4
"""Quarters of the square: lower left, lower right, upper left, upper right."""
RANGES = {"diffusion": (0.1, 1.0), "absorption": (1.0, 10.0), "source": (0.0, 1.0)}
CELLS = 20
"""Along each side: the fluxes are within 2.5 % of those of a fine grid, and a sample takes a millisecond."""


@dataclass
class DiffusionAbsorption(RegressionProblem):
    """D ∈ U(0.1, 1), Σ ∈ U(1, 10), q ∈ U(0, 1) of four regions -> the mean flux in each."""

    samples: int = 2000
    tests: int = 500
    data_seed: int = 0

    coordinates = tuple(f"{name}_{region}" for name in RANGES for region in range(REGIONS))
    fields = tuple(f"flux_{region}" for region in range(REGIONS))
    defaults: ClassVar = {"net_type": "resnet", "net_width": 16, "net_depth": 17, "net_final_time": 1.0}

    def __post_init__(self) -> None:
        if self.samples < 2 or self.tests < 1:
            raise ProblemError("-problem_samples is 2 or more, -problem_tests 1 or more")

    def training(self) -> RegressionData:
        return _draw(self.samples, self.data_seed, 0)

    def validation(self) -> RegressionData:
        return _draw(self.tests, self.data_seed, 1)


@lru_cache(maxsize=4)
def _draw(count: int, seed: int, part: int) -> RegressionData:
    lower, upper = np.repeat(np.array(list(RANGES.values())), REGIONS, axis=0).T
    inputs = np.random.default_rng((seed, part)).uniform(lower, upper, (count, lower.size))
    return RegressionData(inputs, [mean_fluxes(*sample.reshape(len(RANGES), REGIONS)) for sample in inputs])


def mean_fluxes(diffusion: Array, absorption: Array, source: Array, cells: int = CELLS) -> Array:
    """(4,), (4,), (4,) -> (4,), by finite volumes: D is the harmonic mean on a face, and of half a cell at the rim."""
    half = np.arange(cells) // (cells // 2)
    region = 2 * half[:, None] + half[None, :]  # (y, x)
    d = diffusion[region]
    rows, columns = (2.0 * a * b / (a + b) for a, b in ((d[1:], d[:-1]), (d[:, 1:], d[:, :-1])))
    diagonal = absorption[region] / cells**2
    for faces, axis in ((rows, 0), (columns, 1)):
        rim = np.take(d, [0], axis), np.take(d, [-1], axis)
        diagonal = diagonal + np.concatenate((2.0 * rim[0], faces), axis) + np.concatenate((faces, 2.0 * rim[1]), axis)
    band = np.zeros((cells + 1, cells * cells))  # the lower form of solveh_banded
    band[0] = diagonal.ravel()
    band[1] = -np.pad(columns, ((0, 0), (0, 1))).ravel()
    band[cells, : cells * (cells - 1)] = -rows.ravel()
    flux = solveh_banded(band, source[region].ravel() / cells**2, lower=True, check_finite=False)
    return np.bincount(region.ravel(), flux, REGIONS) / np.bincount(region.ravel())
