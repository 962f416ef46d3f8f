"""Truncated conjugate gradients in a trust region; petsc4py has no door to the radius of PETSc's ``stcg``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def truncated_cg(
    product: Callable[[Array], Array], gradient: Array, radius: float, most_iterations: int, tolerance: float
) -> tuple[Array, float]:
    """A step p, ‖p‖ ≤ radius, and what gᵀp + ½ pᵀBp falls by; ``product`` is v -> B v. Collective where it is.

    Conjugate gradients from p = 0 until the residual is ``tolerance`` times ‖g‖, or to the boundary where the next
    iterate lies beyond it or the curvature is not positive (Steihaug, SIAM J. Numer. Anal. 20 (1983) 626–637).
    """
    p, image = np.zeros_like(gradient), np.zeros_like(gradient)
    residual, direction = gradient.copy(), -gradient
    square = first = float(gradient @ gradient)
    for _ in range(most_iterations):
        if square <= tolerance**2 * first:
            break
        of_direction = product(direction)
        curvature = float(direction @ of_direction)
        length = square / curvature if curvature > 0.0 else np.inf
        leaves = not np.isfinite(length) or np.linalg.norm(p + length * direction) >= radius
        if leaves:
            length = _to_boundary(p, direction, radius)
        p = p + length * direction
        image = image + length * of_direction
        if leaves:
            break
        residual = residual + length * of_direction
        before, square = square, float(residual @ residual)
        direction = -residual + square / before * direction
    return p, -float(gradient @ p) - 0.5 * float(p @ image)


def _to_boundary(p: Array, direction: Array, radius: float) -> float:
    """t ≥ 0 with ‖p + t d‖ = radius, for ‖p‖ ≤ radius."""
    a, b, c = float(direction @ direction), float(p @ direction), float(p @ p) - radius**2
    root = np.sqrt(max(0.0, b * b - a * c))
    return -c / (b + root) if b > 0.0 else (root - b) / a
