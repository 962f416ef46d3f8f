"""Gaussian random fields of mean zero and variance one, with the covariance exp(−r² / 2ℓ²)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MODES = 32
"""Harmonics of a periodic field: the next one has a variance below 1e-80 at ℓ = 0.1."""
JITTER = 1e-10
"""Added to the variance, so that the covariance matrix has a Cholesky factor in double precision."""


def covariance_factor(points: Array, length: float) -> Array:
    """Λ (n, n) with ΛΛᵀ the covariance at points (n,) of a line; Λ Z Λᵀ is a field on a square grid of them."""
    covariance = np.exp(-0.5 * ((points[:, None] - points) / length) ** 2)
    return np.asarray(np.linalg.cholesky(covariance + JITTER * np.eye(len(points))), dtype=np.float64)


class PeriodicField:
    """A field on the line with period 1, drawn by ``generator``: x -> values."""

    def __init__(self, length: float, generator: np.random.Generator) -> None:
        orders = np.arange(1, MODES + 1)
        mean_variance = length * math.sqrt(2.0 * math.pi)
        deviations = np.sqrt(2.0 * mean_variance * np.exp(-2.0 * (math.pi * orders * length) ** 2))
        self._orders = orders
        self._mean = math.sqrt(mean_variance) * generator.standard_normal()
        self._cosines = deviations * generator.standard_normal(MODES)
        self._sines = deviations * generator.standard_normal(MODES)

    def __call__(self, x: Array) -> Array:
        phase = 2.0 * math.pi * x[..., None] * self._orders
        return self._mean + np.cos(phase) @ self._cosines + np.sin(phase) @ self._sines
