"""The step of AdaGrad between bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """l ≤ θ ≤ u, each (n,)."""

    lower: Array
    upper: Array

    @classmethod
    def of(cls, known: tuple[Array, Array] | None, size: int) -> Bounds:
        """Infinite where none are known."""
        return cls(*known) if known is not None else cls(np.full(size, -np.inf), np.full(size, np.inf))

    def part(self, indices: NDArray[np.integer]) -> Bounds:
        """Of some parameters."""
        return Bounds(self.lower[indices], self.upper[indices])


def descent(theta: Array, gradient: Array, bounds: Bounds) -> Array:
    """d = P(θ − g) − θ with the projection P onto the bounds; −g where there are none.

    Source: Bellavia, Gratton, Morini & Toint, arXiv:2505.06374.
    """
    return np.clip(-gradient, bounds.lower - theta, bounds.upper - theta)


def adagrad_step(theta: Array, d: Array, squares: Array, rate: float, bounds: Bounds) -> Array:
    """α d / w, cut off at the bounds; w² the sums of squares of all d, this one among them."""
    return np.clip(rate * d / np.sqrt(squares), bounds.lower - theta, bounds.upper - theta)
