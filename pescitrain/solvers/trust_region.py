"""The trust-region problem where the eigenvalues of the matrix are known, and what becomes of the radius."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEFTMOST = 1e-12
"""Eigenvalues this close to the smallest one, relative to the largest, count as it."""
ORTHOGONAL = 1e-13
"""A gradient with a smaller part than this along the leftmost eigenvectors counts as orthogonal to them."""
PRECISION = 1e-13
"""Relative error of ‖p‖ on the boundary."""
MOST_ITERATIONS = 200


@dataclass(frozen=True)
class Spectrum:
    """A symmetric matrix and a gradient in the basis of its eigenvectors: eigenvalues (r,), coefficients (r,).

    The last one stands for all directions of one eigenvalue, along the gradient in them.
    """

    eigenvalues: Array
    gradient: Array


@dataclass(frozen=True)
class SpectralStep:
    """The coefficients (r,) of the step, ‖p‖, −gᵀp − ½ pᵀBp, and σ ≥ 0 with (B + σI) p = −g."""

    coefficients: Array
    length: float
    reduction: float
    multiplier: float


def spectral_step(spectrum: Spectrum, radius: float) -> SpectralStep:
    """The global minimiser of gᵀp + ½ pᵀBp over ‖p‖ ≤ radius.

    With t = σ + λ₁, p(t) = −a / (λ − λ₁ + t): working in t there is no cancellation next to the hard case, in which g
    is orthogonal to the leftmost eigenvectors and the boundary is reached along one of them (Moré & Sorensen, SIAM J.
    Sci. Stat. Comput. 4 (1983) 553–572). The secular equation 1/‖p(t)‖ = 1/Δ is solved by Newton's method, monotone
    from the left.
    """
    eigenvalues, a = spectrum.eigenvalues, spectrum.gradient.copy()
    smallest = float(eigenvalues.min())
    gaps = eigenvalues - smallest
    gaps[gaps <= LEFTMOST * max(1.0, float(np.abs(eigenvalues).max()))] = 0.0
    leftmost = gaps == 0.0

    def step_at(t: float) -> Array:
        shifted = gaps + t
        return -np.divide(a, shifted, out=np.zeros_like(a), where=(a != 0.0) & (shifted != 0.0))

    def result(p: Array, t: float) -> SpectralStep:
        reduction = -float(spectrum.gradient @ p) - 0.5 * float(p @ (eigenvalues * p))
        return SpectralStep(p, float(np.linalg.norm(p)), reduction, max(0.0, t - smallest))

    if smallest > 0.0:
        p = step_at(smallest)
        if np.linalg.norm(p) <= radius:
            return result(p, smallest)
    elif np.linalg.norm(a[leftmost]) <= ORTHOGONAL * np.linalg.norm(a):
        a[leftmost] = 0.0
        p = step_at(0.0)
        rest = radius**2 - float(p @ p)
        if rest >= 0.0:
            if smallest < 0.0:
                p[np.flatnonzero(leftmost)[0]] = np.sqrt(rest)
            return result(p, 0.0)
    t = max(0.0, smallest, float((np.abs(a) / radius - gaps).max()))
    for _ in range(MOST_ITERATIONS):
        p = step_at(t)
        norm = float(np.linalg.norm(p))
        if abs(norm - radius) <= PRECISION * radius:
            break
        slope = float((p * p) @ np.divide(1.0, gaps + t, out=np.zeros_like(gaps), where=p != 0.0))
        t += norm**2 / slope * (norm - radius) / radius
    return result(step_at(t), t)


@dataclass(frozen=True)
class Radius:
    """The rules of a trust region (Conn, Gould & Toint, Trust-Region Methods, algorithm 6.1.1)."""

    accept: float = 1e-3
    low: float = 0.1
    high: float = 0.75
    shrink: float = 0.5
    grow: float = 2.0
    smallest: float = 1e-12
    largest: float = 10.0

    def after(self, radius: float, ratio: float) -> float:
        """The next radius, from the ratio of the measured to the predicted reduction."""
        if ratio < self.low:
            return self.shrink * radius
        return min(self.grow * radius, self.largest) if ratio > self.high else radius


def reduction_ratio(before: float, after: float, predicted: float) -> float:
    """Measured over predicted reduction: 0 where there is none to speak of, 1 where both are round-off of φ."""
    measured = before - after
    if not (np.isfinite(measured) and predicted > 0.0):
        return 0.0
    noise = 10.0 * np.finfo(float).eps * max(1.0, abs(before))
    return 1.0 if abs(measured) <= noise and predicted <= noise else measured / predicted
