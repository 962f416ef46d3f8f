"""Well-conditioned bases of analytic functions, shared by the reference solutions of this folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


class ArnoldiPolynomials:
    """Polynomials q_0 … q_degree in s, orthonormal on sample points, with two derivatives.

    Parameters
    ----------
    samples : (M,) complex    points on the boundary of the region in which the polynomials are used
    degree : int              the highest degree
    symmetric : bool          orthonormal on samples and their conjugates: real recurrence, q_k(s̄) is conj(q_k(s))

    Cost: degree² M / 2 multiplications, and as many for N points of evaluation.
    Source: Brubeck, Nakatsukasa & Trefethen, Vandermonde with Arnoldi, SIAM Review 63 (2021) 405–415.
    """

    def __init__(self, samples: ComplexArray, degree: int, symmetric: bool = False) -> None:
        self.degree = degree
        self.recurrence = np.zeros((degree + 1, degree), dtype=np.complex128)
        basis = np.ones((samples.size, degree + 1), dtype=np.complex128)
        for k in range(degree):
            column = samples * basis[:, k]
            for _ in range(2):  # the second pass restores orthogonality lost to rounding
                overlap = basis[:, : k + 1].conj().T @ column / samples.size
                if symmetric:
                    overlap = overlap.real.astype(np.complex128)
                column = column - basis[:, : k + 1] @ overlap
                self.recurrence[: k + 1, k] += overlap
            self.recurrence[k + 1, k] = np.linalg.norm(column) / np.sqrt(samples.size)
            basis[:, k + 1] = column / self.recurrence[k + 1, k]

    def __call__(self, s: ComplexArray) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
        """The values, the first and the second derivatives in s, each (N, degree + 1), at the points s (N,)."""
        values, first, second = (np.zeros((s.size, self.degree + 1), dtype=np.complex128) for _ in range(3))
        values[:, 0] = 1.0
        for k in range(self.degree):
            h, pivot = self.recurrence[: k + 1, k], self.recurrence[k + 1, k]
            values[:, k + 1] = (s * values[:, k] - values[:, : k + 1] @ h) / pivot
            first[:, k + 1] = (s * first[:, k] + values[:, k] - first[:, : k + 1] @ h) / pivot
            second[:, k + 1] = (s * second[:, k] + 2.0 * first[:, k] - second[:, : k + 1] @ h) / pivot
        return values, first, second


def laurent(z: ComplexArray, center: complex, radius: float, count: int) -> tuple[ComplexArray, ComplexArray]:
    """(radius / (z − center))^k for k = 1 … count, and its derivative in z, each (N, count)."""
    power = np.arange(1, count + 1)
    values = (radius / (z - center))[:, None] ** power
    return values, -power * values / (z - center)[:, None]


def real_part(matrix: ComplexArray) -> FloatArray:
    """(N, 2n): the map from the real and imaginary parts of n complex coefficients to Re(matrix @ coefficients)."""
    return np.hstack([matrix.real, -matrix.imag])


def least_squares(rows: FloatArray, data: FloatArray) -> FloatArray:
    """The coefficients (n,) which fit rows (m, n) to data (m,), with columns scaled to unit length."""
    length = np.linalg.norm(rows, axis=0)
    length[length == 0.0] = 1.0
    solution = scipy.linalg.lstsq(rows / length, data, cond=1e-15, lapack_driver="gelsd")
    assert solution is not None
    return solution[0] / length


def clustered(count: int) -> FloatArray:
    """(count,) points in (−1, 1), clustered at both ends, to sample a side of a polygon."""
    return np.tanh(np.linspace(-14.0, 14.0, count))


def gauss_integral(function: Callable[[FloatArray], FloatArray], start: float, end: float, count: int = 100) -> float:
    """∫ function over (start, end) with a Gauss–Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = 0.5 * (end - start)
    return float(half * weights @ function(0.5 * (start + end) + half * nodes))
