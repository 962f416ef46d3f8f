"""Poisson's equation on the plate with a hole: −Δu = 1 in (−1,1)² minus a disc, u = 0 on the hole, ∂u/∂n = 0 outside.

Method: u = −|z − c|²/4 + Re f with f a polynomial (degree 90, Arnoldi basis) plus a Laurent series (40 terms) and a
logarithm about the centre c of the hole; least squares on the value at the hole and the flux through the sides. The
corners are regular: both fluxes of |z − corner|²/4 vanish there, so the solution continues by reflection.

Accuracy: 5e-14, from the errors of the boundary data (``boundary_error``) and from changing degrees.
Source: Brubeck, Nakatsukasa & Trefethen, SIAM Review 63 (2021) 405–415.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from harmonic_basis import ArnoldiPolynomials, ComplexArray, FloatArray, laurent, least_squares, real_part

NAMES = ("u",)
CENTER = 0.2 - 0.15j
RADIUS = 0.4
DEGREE = 90
TERMS = 40


def hole_points(count: int) -> FloatArray:
    """(count, 2) points on the hole."""
    angle = 2.0 * np.pi * (np.arange(count) + 0.5) / count
    return np.column_stack([CENTER.real + RADIUS * np.cos(angle), CENTER.imag + RADIUS * np.sin(angle)])


def side_points(count: int) -> tuple[FloatArray, FloatArray]:
    """(4 count, 2) points on the sides, Chebyshev on each, and the outer normals there, (4 count, 2)."""
    parameter = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    normals = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    tangents = np.roll(normals, -1, axis=0)
    points = normals[:, None] + parameter[:, None] * tangents[:, None]
    return points.reshape(-1, 2), np.repeat(normals, count, axis=0)


def solution(x: FloatArray) -> FloatArray:
    """u, (N, 1), at the points x, (N, 2), of the closed domain."""
    return _evaluate(x)[0][:, None]


def gradient(x: FloatArray) -> FloatArray:
    """(u_x, u_y), (N, 2), at the points x, (N, 2)."""
    return _evaluate(x)[1]


def boundary_error(count: int = 1111) -> tuple[float, float]:
    """The largest |u| on the hole, and the largest |∂u/∂n| on the sides."""
    x, normal = side_points(count)
    flux = (gradient(x) * normal).sum(axis=1)
    return float(np.abs(solution(hole_points(count))).max()), float(np.abs(flux).max())


@lru_cache(maxsize=1)
def _fit() -> tuple[ArnoldiPolynomials, FloatArray]:
    """The Arnoldi basis, and the coefficients of all functions, (2 (DEGREE + 1 + TERMS) + 1,)."""
    sides, normal = side_points(300)
    hole = hole_points(400)
    x = np.vstack([hole, sides])
    basis = ArnoldiPolynomials(np.asarray(x[:, 0] + 1j * x[:, 1]), DEGREE)
    centred = sides - [CENTER.real, CENTER.imag]
    _, slopes = _functions(basis, sides)
    flux = slopes.real * normal[:, :1] - slopes.imag * normal[:, 1:]
    data = np.concatenate([np.full(len(hole), 0.25 * RADIUS**2), 0.5 * (centred * normal).sum(axis=1)])
    return basis, least_squares(np.vstack([_functions(basis, hole)[0], flux]), data)


def _functions(basis: ArnoldiPolynomials, x: FloatArray) -> tuple[FloatArray, ComplexArray]:
    """The real basis functions, and the derivatives in z of the analytic ones they are the real parts of."""
    z = np.asarray(x[:, 0] + 1j * x[:, 1], dtype=np.complex128)
    polynomial, polynomial_slope, _ = basis(z)
    series, series_slope = laurent(z, CENTER, RADIUS, TERMS)
    values = np.hstack([polynomial, series])
    slopes = np.hstack([polynomial_slope, series_slope])
    distance = (z - CENTER)[:, None]
    return (
        np.hstack([real_part(values), np.log(np.abs(distance))]),
        np.hstack([slopes, 1j * slopes, 1.0 / distance]),
    )


def _evaluate(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    basis, coefficients = _fit()
    functions, slopes = _functions(basis, x)
    centred = x - [CENTER.real, CENTER.imag]
    slope = slopes @ coefficients
    value = functions @ coefficients - 0.25 * (centred**2).sum(axis=1)
    return value, np.column_stack([slope.real, -slope.imag]) - 0.5 * centred
