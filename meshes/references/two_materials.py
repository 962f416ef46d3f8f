"""Heat conduction in two materials: −div(k ∇T) = q in (−1,1)²; k = 10, q = 8 in a disc, k = 1, q = 0 around it.

T = 1 on the left, T = 0 on the right, ∂T/∂n = 0 at y = ±1; T and k ∂T/∂n are continuous across the circle.

Method: outside, T is the real part of a polynomial (degree 90, Arnoldi basis) plus a Laurent series (40 terms) and a
logarithm about the centre c of the disc; inside, T = −q|z − c|²/(4k) plus a harmonic polynomial (40 terms) about c.
Least squares on the four sides and the circle. All corners are regular: the solution continues by reflection.

Accuracy: 1e-13, from the errors of all conditions (``boundary_error``) and from changing degrees.
Source: Brubeck, Nakatsukasa & Trefethen, SIAM Review 63 (2021) 405–415.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from harmonic_basis import (
    ArnoldiPolynomials,
    ComplexArray,
    FloatArray,
    gauss_integral,
    laurent,
    least_squares,
    real_part,
)
from numpy.typing import NDArray

NAMES = ("T",)
CENTER = -0.1 + 0.2j
RADIUS = 0.45
CONDUCTIVITY = 10.0
SOURCE = 8.0
DEGREE = 90
TERMS = 40
CURVATURE = SOURCE / (4.0 * CONDUCTIVITY)


def circle_points(count: int) -> FloatArray:
    """(count, 2) points on the interface."""
    angle = 2.0 * np.pi * (np.arange(count) + 0.5) / count
    return np.column_stack([CENTER.real + RADIUS * np.cos(angle), CENTER.imag + RADIUS * np.sin(angle)])


def side_points(count: int) -> FloatArray:
    """(4, count, 2) points on the sides right, top, left, bottom; Chebyshev on each."""
    parameter = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    normals = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    return normals[:, None] + parameter[:, None] * np.roll(normals, -1, axis=0)[:, None]


def solution(x: FloatArray) -> FloatArray:
    """T, (N, 1), at the points x, (N, 2), of the closed square."""
    return np.where(_inside(x)[:, None], _inner(x)[0], _outer(x)[0])


def gradient(x: FloatArray) -> FloatArray:
    """(T_x, T_y), (N, 2), at the points x, (N, 2); on the interface that of one side or the other."""
    return np.where(_inside(x)[:, None], _inner(x)[1], _outer(x)[1])


def boundary_error(count: int = 1111) -> tuple[float, float]:
    """The largest errors of values (sides and jump) and of fluxes (top, bottom and jump)."""
    right, top, left, bottom = side_points(count)
    circle = circle_points(count)
    normal = (circle - [CENTER.real, CENTER.imag]) / RADIUS
    inner, outer = _inner(circle), _outer(circle)
    jump = (CONDUCTIVITY * inner[1] - outer[1]) * normal
    values = [solution(right), solution(left) - 1.0, inner[0] - outer[0]]
    fluxes = [gradient(top)[:, 1], gradient(bottom)[:, 1], jump.sum(axis=1)]
    return max(float(np.abs(v).max()) for v in values), max(float(np.abs(f).max()) for f in fluxes)


def heat_out(side: float) -> float:
    """∫ −∂T/∂n over the side x = ``side``, −1 or 1."""
    return gauss_integral(lambda y: -side * gradient(np.column_stack([np.full_like(y, side), y]))[:, 0], -1.0, 1.0)


def _inside(x: FloatArray) -> NDArray[np.bool_]:
    return np.hypot(x[:, 0] - CENTER.real, x[:, 1] - CENTER.imag) < RADIUS


def _complex(x: FloatArray) -> ComplexArray:
    return np.asarray(x[:, 0] + 1j * x[:, 1], dtype=np.complex128)


def _outer_functions(basis: ArnoldiPolynomials, x: FloatArray) -> tuple[FloatArray, ComplexArray]:
    """The real basis functions, and the derivatives in z of the analytic ones they are the real parts of."""
    z = _complex(x)
    polynomial, polynomial_slope, _ = basis(z)
    distance = np.asarray(np.where(z == CENTER, 1.0, z - CENTER), dtype=np.complex128)
    series, series_slope = laurent(CENTER + distance, CENTER, RADIUS, TERMS)
    values, slopes = np.hstack([polynomial, series]), np.hstack([polynomial_slope, series_slope])
    distance = distance[:, None]
    return (
        np.hstack([real_part(values), np.log(np.abs(distance))]),
        np.hstack([slopes, 1j * slopes, 1.0 / distance]),
    )


def _inner_functions(x: FloatArray) -> tuple[FloatArray, ComplexArray]:
    scaled = np.asarray((_complex(x) - CENTER) / RADIUS, dtype=np.complex128)[:, None]
    power = np.arange(TERMS + 1)
    values = np.asarray(scaled**power, dtype=np.complex128)
    slopes = np.asarray(power * scaled ** np.maximum(power - 1, 0) / RADIUS, dtype=np.complex128)
    return real_part(values), np.hstack([slopes, 1j * slopes])


@lru_cache(maxsize=1)
def _fit() -> tuple[ArnoldiPolynomials, FloatArray, FloatArray]:
    """The Arnoldi basis, and the coefficients outside and inside."""
    right, top, left, bottom = side_points(300)
    circle = circle_points(400)
    basis = ArnoldiPolynomials(_complex(np.vstack([right, top, left, bottom, circle])), DEGREE)
    normal = (_complex(circle) - CENTER)[:, None] / RADIUS
    outer, outer_slope = _outer_functions(basis, circle)
    inner, inner_slope = _inner_functions(circle)
    level = np.vstack([_outer_functions(basis, right)[0], _outer_functions(basis, left)[0]])
    flux = -np.vstack([_outer_functions(basis, top)[1], _outer_functions(basis, bottom)[1]]).imag
    rows = np.vstack(
        [
            np.hstack([np.vstack([level, flux]), np.zeros((1200, inner.shape[1]))]),
            np.hstack([outer, -inner]),
            np.hstack([(outer_slope * normal).real, -CONDUCTIVITY * (inner_slope * normal).real]),
        ]
    )
    jump = [np.full(400, -CURVATURE * RADIUS**2), np.full(400, -2.0 * CONDUCTIVITY * CURVATURE * RADIUS)]
    data = np.concatenate([np.zeros(300), np.ones(300), np.zeros(600), *jump])
    coefficients = least_squares(rows, data)
    return basis, coefficients[: outer.shape[1]], coefficients[outer.shape[1] :]


def _outer(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    basis, coefficients, _ = _fit()
    functions, slopes = _outer_functions(basis, x)
    slope = slopes @ coefficients
    return (functions @ coefficients)[:, None], np.column_stack([slope.real, -slope.imag])


def _inner(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    _, _, coefficients = _fit()
    functions, slopes = _inner_functions(x)
    slope = slopes @ coefficients
    centred = x - [CENTER.real, CENTER.imag]
    value = functions @ coefficients - CURVATURE * (centred**2).sum(axis=1)
    return value[:, None], np.column_stack([slope.real, -slope.imag]) - 2.0 * CURVATURE * centred
