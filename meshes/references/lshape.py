"""Poisson's equation on the L-shape: −Δu = 1 in (−1,1)² ∖ [0,1]×[−1,0], u = 0 on the boundary.

Method: u = −|z|²/4 + v with v harmonic. At a corner of opening ω the solution contains the known singular function
−Im(ζ² log ζ)/(2ω), where ζ is z − corner, turned so that the domain is 0 < arg ζ < ω. With all six of them subtracted
the rest is analytic beyond the convex corners; at the re-entrant one it is the sum of a power series in z and one in
z^(2/3). So it is the real part of p(s) + q(s^(2/3)), s being z turned so that the domain is symmetric about the real
axis (hence real coefficients). Both polynomials have Arnoldi bases; least squares on the boundary gives them.

Accuracy: 2e-14. The largest |u| on the boundary (``boundary_error``) bounds the error everywhere (maximum principle).
Gradients lose digits only close to corners.
Sources: Betcke & Trefethen, SIAM Review 47 (2005) 469–491 (particular solutions); Brubeck, Nakatsukasa & Trefethen,
SIAM Review 63 (2021) 405–415 (Arnoldi bases).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from harmonic_basis import ArnoldiPolynomials, ComplexArray, FloatArray, clustered, least_squares

NAMES = ("u",)
DEGREE_WHOLE = 40  # of p
DEGREE_ROOT = 60  # of q
CORNERS = (0.0 + 0.0j, 1.0 + 0.0j, 1.0 + 1.0j, -1.0 + 1.0j, -1.0 - 1.0j, 0.0 - 1.0j)
OPENINGS = np.array([1.5, 0.5, 0.5, 0.5, 0.5, 0.5]) * np.pi
# The direction of each corner's bisector, into the domain.
BISECTORS = np.array([0.75, 0.75, 1.25, 1.75, 0.25, 0.75]) * np.pi
_TURN = np.exp(-1j * BISECTORS[0])


def side_points(count: int) -> FloatArray:
    """(6 count, 2) points on the sides, clustered at their ends."""
    parameter = 0.5 * (clustered(count) + 1.0)
    starts = np.array(CORNERS)
    ends = np.roll(starts, -1)
    z = (starts[:, None] + (ends - starts)[:, None] * parameter).ravel()
    return np.column_stack([z.real, z.imag])


def solution(x: FloatArray) -> FloatArray:
    """u, (N, 1), at the points x, (N, 2), of the closed domain."""
    return _evaluate(x)[0][:, None]


def gradient(x: FloatArray) -> FloatArray:
    """(u_x, u_y), (N, 2), at the points x, (N, 2); infinite at the re-entrant corner."""
    return _evaluate(x)[1]


def boundary_error(count: int = 3001) -> float:
    """The largest |u| at ``count`` points of each side."""
    return float(np.abs(solution(side_points(count))).max())


def _singular(z: ComplexArray) -> tuple[FloatArray, ComplexArray]:
    """Σ −Im(ζ² log ζ)/(2ω) over the corners, and the derivative of the function it is the real part of, both (N,)."""
    value = np.zeros(z.size)
    derivative = np.zeros(z.size, dtype=np.complex128)
    for corner, opening, bisector in zip(CORNERS, OPENINGS, BISECTORS, strict=True):
        turn = np.exp(1j * (0.5 * opening - bisector))
        zeta = (z - corner) * turn
        # The cut of the logarithm lies opposite to the bisector, outside the domain.
        centred = (z - corner) * np.exp(-1j * bisector)
        logarithm = np.log(np.where(centred == 0.0, 1.0, centred)) + 0.5j * opening
        value -= np.imag(zeta**2 * logarithm) / (2.0 * opening)
        derivative += 1j * zeta * (2.0 * logarithm + 1.0) * turn / (2.0 * opening)
    return value, derivative


def _variables(x: FloatArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """z, s (z with the bisector of the re-entrant corner on the positive real axis) and s^(2/3), each (N,)."""
    z = np.asarray(x[:, 0] + 1j * x[:, 1], dtype=np.complex128)
    s = z * _TURN
    return z, s, s ** (2.0 / 3.0)


@lru_cache(maxsize=1)
def _fit() -> tuple[ArnoldiPolynomials, ArnoldiPolynomials, FloatArray]:
    """The two bases, and the coefficients of p and q, (DEGREE_WHOLE + DEGREE_ROOT + 2,)."""
    z, s, root = _variables(side_points(400))
    whole = ArnoldiPolynomials(s, DEGREE_WHOLE, symmetric=True)
    fractional = ArnoldiPolynomials(root, DEGREE_ROOT, symmetric=True)
    rows = np.hstack([whole(s)[0].real, fractional(root)[0].real])
    return whole, fractional, least_squares(rows, 0.25 * np.abs(z) ** 2 - _singular(z)[0])


def _evaluate(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    whole, fractional, coefficients = _fit()
    z, s, root = _variables(x)
    p, p_slope, _ = whole(s)
    q, q_slope, _ = fractional(root)
    singular, derivative = _singular(z)
    with np.errstate(divide="ignore", invalid="ignore"):
        root_slope = 2.0 / 3.0 * root / s
    slopes = np.hstack([p_slope, q_slope * root_slope[:, None]])
    derivative = derivative + _TURN * (slopes @ coefficients)
    u = np.hstack([p.real, q.real]) @ coefficients + singular - 0.25 * np.abs(z) ** 2
    return u, np.column_stack([derivative.real, -derivative.imag]) - 0.5 * x
