"""A plate with a hole under tension, plane stress: div σ = 0 in (0,1)² minus the disc of radius 0.4 about the origin.

E = 1, ν = 0.3; σn = (1, 0) on x = 1, σn = 0 on y = 1 and on the hole; the axes are lines of symmetry: u_x = 0 and no
shear on x = 0, u_y = 0 and no shear on y = 0.

Method: Goursat's potentials φ and ψ with 2G(u_x + i u_y) = κφ − z φ̄′ − ψ̄, σ_xx + σ_yy = 4 Re φ′ and
σ_yy − σ_xx + 2i σ_xy = 2(z̄ φ″ + ψ′). The symmetries hold when both are odd with real coefficients. They are polynomials
(40 odd powers, Arnoldi basis in z²), Laurent series about the hole (30 odd powers), and simple poles clustered outside
the corners (36 for each, on the diagonals), where stresses have a singularity of power 1.74. Each pole of φ brings
−p̄ φ′ into ψ, so that its stress grows like z̄ − p̄ times φ″. Least squares on the tractions.

Accuracy: 5e-14 in the displacement, 5e-13 in the stress, from the errors of tractions (``boundary_error``) and from
changing degrees and poles.
Sources: Muskhelishvili, Some Basic Problems of the Mathematical Theory of Elasticity, § 32; Gopal & Trefethen, SIAM
Journal on Numerical Analysis 57 (2019) 2074–2094 (poles); Brubeck, Nakatsukasa & Trefethen, SIAM Review 63 (2021)
405–415 (Arnoldi bases).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from harmonic_basis import ArnoldiPolynomials, ComplexArray, FloatArray, clustered, laurent, least_squares

NAMES = ("displacement", "stress")
RADIUS = 0.4
SHEAR_MODULUS = 1.0 / 2.6
KAPPA = 2.7 / 1.3
DEGREE = 40
TERMS = 30
POLES = 36


class Potentials(NamedTuple):
    """φ, φ′, φ″, ψ and ψ′ of all columns of the basis, each (N, n)."""

    phi: ComplexArray
    phi1: ComplexArray
    phi2: ComplexArray
    psi: ComplexArray
    psi1: ComplexArray

    def combine(self, coefficients: FloatArray) -> Potentials:
        """The potentials of one solution, each (N,)."""
        return Potentials(*(part @ coefficients for part in self))


def side_points(count: int) -> tuple[FloatArray, FloatArray]:
    """(count, 2) points each on x = 1 and on y = 1, clustered at (1, 1)."""
    parameter = clustered(2 * count)[count:]
    return np.column_stack([np.ones(count), parameter]), np.column_stack([parameter, np.ones(count)])


def hole_points(count: int) -> FloatArray:
    """(count, 2) points on the quarter of the hole."""
    angle = 0.5 * np.pi * (np.arange(count) + 0.5) / count
    return RADIUS * np.column_stack([np.cos(angle), np.sin(angle)])


def solution(x: FloatArray) -> FloatArray:
    """(u_x, u_y), (N, 2), at the points x, (N, 2), of the closed quarter."""
    z, potentials = _potentials(x)
    value = KAPPA * potentials.phi - z * potentials.phi1.conj() - potentials.psi.conj()
    return np.column_stack([value.real, value.imag]) / (2.0 * SHEAR_MODULUS)


def stress(x: FloatArray) -> FloatArray:
    """(σ_xx, σ_yy, σ_xy), (N, 3), at the points x, (N, 2)."""
    z, potentials = _potentials(x)
    return _stress(z, potentials)


def boundary_error(count: int = 1111) -> float:
    """The largest error of a component of the tractions on x = 1, y = 1 and the hole."""
    right, top = side_points(count)
    hole = hole_points(count)
    on_right, on_top, on_hole = stress(right), stress(top), stress(hole)
    normal = hole / RADIUS
    first = on_hole[:, 0] * normal[:, 0] + on_hole[:, 2] * normal[:, 1]
    second = on_hole[:, 2] * normal[:, 0] + on_hole[:, 1] * normal[:, 1]
    errors = [on_right[:, 0] - 1.0, on_right[:, 2], on_top[:, 1], on_top[:, 2], first, second]
    return max(float(np.abs(error).max()) for error in errors)


def _stress(z: ComplexArray, potentials: Potentials) -> FloatArray:
    """(σ_xx, σ_yy, σ_xy) along a new last axis; z broadcasts against the potentials."""
    mean = 2.0 * potentials.phi1.real
    deviator = z.conj() * potentials.phi2 + potentials.psi1
    return np.stack([mean - deviator.real, mean + deviator.real, deviator.imag], axis=-1)


def _poles() -> ComplexArray:
    """(POLES,) points on the diagonal beyond (1, 1), clustered there."""
    k = np.arange(1, POLES + 1)
    return np.asarray((1.0 + 1j) * (1.0 + np.exp(4.0 * (np.sqrt(k) - np.sqrt(POLES)))))


def _basis(polynomials: ArnoldiPolynomials, z: ComplexArray) -> Potentials:
    square, column = z**2, z[:, None]
    q, q1, q2 = polynomials(square)
    square = square[:, None]
    regular = [column * q, q + 2.0 * square * q1, 2.0 * column * (3.0 * q1 + 2.0 * square * q2)]
    odd = np.arange(0, 2 * TERMS, 2)
    series, slope = laurent(z, 0.0, RADIUS, 2 * TERMS)
    series, slope = series[:, odd], slope[:, odd]
    regular = [
        np.hstack([regular[0], series]),
        np.hstack([regular[1], slope]),
        np.hstack([regular[2], -(odd + 2.0) * slope / column]),
    ]
    zero = np.zeros_like(regular[0])
    poles = [_pole_columns(z, direction) for direction in (1.0, 1j)]
    pole = [np.hstack([first, second]) for first, second in zip(*poles, strict=True)]
    none = np.zeros_like(pole[0])
    value, slope, curvature, moment, moment_slope = pole
    return Potentials(
        np.hstack([regular[0], zero, value, none]),
        np.hstack([regular[1], zero, slope, none]),
        np.hstack([regular[2], zero, curvature, none]),
        np.hstack([zero, regular[0], moment, value]),
        np.hstack([zero, regular[1], moment_slope, slope]),
    )


def _pole_columns(z: ComplexArray, direction: complex) -> list[ComplexArray]:
    """f, f′, f″, g, g′ with f the sum of d/(z − p) over the four images of each pole and g that of −p̄ (d/(z − p))′."""
    parts = [np.zeros((z.size, POLES), dtype=np.complex128) for _ in range(5)]
    poles = _poles()
    scale = np.abs(poles - (1.0 + 1j))  # columns of size one at the corner
    for sign in (1.0, -1.0):
        for p, d in ((sign * poles, direction), (sign * poles.conj(), np.conj(direction))):
            inverse = 1.0 / (z[:, None] - p)
            d = d * scale
            parts[0] += d * inverse
            parts[1] -= d * inverse**2
            parts[2] += 2.0 * d * inverse**3
            parts[3] += p.conj() * d * inverse**2
            parts[4] -= 2.0 * p.conj() * d * inverse**3
    return parts


@lru_cache(maxsize=1)
def _fit() -> tuple[ArnoldiPolynomials, FloatArray]:
    """The Arnoldi basis in z², and the coefficients."""
    right, top = side_points(400)
    hole = hole_points(300)
    x = np.vstack([right, top, hole])
    z = np.asarray(x[:, 0] + 1j * x[:, 1])
    polynomials = ArnoldiPolynomials(z**2, DEGREE - 1, symmetric=True)
    # Normal and shear traction, from σ_n − iτ = 2 Re φ′ − e^(2iα)(z̄ φ″ + ψ′) for the normal at angle α.
    rotation = np.concatenate([np.ones(400), -np.ones(400), (z[800:] / RADIUS) ** 2])[:, None]
    columns = _basis(polynomials, z)
    traction = 2.0 * columns.phi1.real - rotation * (z.conj()[:, None] * columns.phi2 + columns.psi1)
    data = np.concatenate([np.ones(400), np.zeros(len(z) - 400)])
    rows = np.vstack([traction.real, traction.imag])
    return polynomials, least_squares(rows, np.concatenate([data, np.zeros(len(z))]))


def _potentials(x: FloatArray) -> tuple[ComplexArray, Potentials]:
    polynomials, coefficients = _fit()
    z = np.asarray(x[:, 0] + 1j * x[:, 1], dtype=np.complex128)
    return z, _basis(polynomials, z).combine(coefficients)
