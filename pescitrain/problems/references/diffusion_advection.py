"""Diffusion–advection: −μ Δu + u_x + u_y = 1 in (0,1)², u = 0 on the boundary; μ = 0.01 unless told otherwise.

Method: Galerkin with tensor products of spectral elements (degree 22, Gauss–Lobatto quadrature) which shrink by 0.4
towards both ends of [0, 1]: the layers at x = 1 and y = 1 have width μ, and r² log r singularities sit in the corners.
With B = M⁻¹K the operator −μ u″ + u′ of one direction, the values U on the nodes solve B U + U Bᵀ = 1;
two steps of iterative refinement remove the rounding errors (1e-11) of that solve.

Accuracy: 5e-13 for μ ≥ 0.003 and 1e-8 for μ = 0.001, measured between degrees 22, 24 and 26 and 11, 12 and 16 layers of
elements that shrink by 0.4 or 0.5, at points which reach 1e-5 into the corners.
Source: Bartels & Stewart, Communications of the ACM 15 (1972) 820–826 (the equation for U).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import ArrayLike, NDArray

from pescitrain.errors import ProblemError

FloatArray = NDArray[np.float64]

DEGREE = 22
LAYERS = 11
SHRINK = 0.4


def diffusion_advection(x: ArrayLike, y: ArrayLike, diffusion: float = 0.01) -> FloatArray:
    """u(x, y) in the closed unit square; x and y are broadcast against each other.

    Cost: about a second for the first call with a diffusion, kept for later ones; 129 × 129 points take 0.05 s.

    >>> print(f"{diffusion_advection(0.5, 0.5):.10f}")
    0.4442646288
    """
    if diffusion < 0.001:
        raise ProblemError(f"diffusion_advection resolves layers from a diffusion of 0.001 on, not {diffusion}")
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    shape, x, y = x.shape, x.ravel(), y.ravel()
    if x.size and (min(x.min(), y.min()) < 0.0 or max(x.max(), y.max()) > 1.0):
        raise ValueError("diffusion_advection is known in the unit square only; see the points")
    values = _solve(diffusion)
    result = np.empty(x.size)
    for start in range(0, x.size, 4096):
        part = slice(start, start + 4096)
        rows, row_weights = _interpolation(x[part])
        columns, column_weights = _interpolation(y[part])
        local = values[rows[:, :, None], columns[:, None, :]]
        result[part] = np.einsum("pi,pij,pj->p", row_weights, local, column_weights, optimize=True)
    return result.reshape(shape)


def edges() -> FloatArray:
    """The ends of the elements in [0, 1], (2 LAYERS + 1,)."""
    left = np.append(0.0, 0.5 * SHRINK ** np.arange(LAYERS - 1, -1, -1.0))
    return np.append(left, 1.0 - left[-2::-1])


def gauss_lobatto(degree: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The nodes in [−1, 1], their weights, both (degree + 1,), and the matrix of the derivative on them."""
    interior, _ = scipy.special.roots_jacobi(degree - 1, 1.0, 1.0)
    nodes = np.concatenate([[-1.0], interior, [1.0]])
    legendre = scipy.special.eval_legendre(degree, nodes)
    difference = nodes[:, None] - nodes
    np.fill_diagonal(difference, 1.0)
    derivative = legendre[:, None] / legendre / difference
    np.fill_diagonal(derivative, 0.0)
    np.fill_diagonal(derivative, -derivative.sum(axis=1))
    return nodes, 2.0 / (degree * (degree + 1) * legendre**2), derivative


@lru_cache(maxsize=4)
def _solve(diffusion: float) -> FloatArray:
    """U on all nodes, those of the boundary included, (2 LAYERS DEGREE + 1, the same)."""
    _, weights, derivative = gauss_lobatto(DEGREE)
    lengths = np.diff(edges())
    count = lengths.size * DEGREE + 1
    stiffness, mass = np.zeros((count, count)), np.zeros(count)
    for element, length in enumerate(lengths):
        part = slice(element * DEGREE, (element + 1) * DEGREE + 1)
        stiffness[part, part] += 2.0 / length * diffusion * (derivative.T * weights) @ derivative
        stiffness[part, part] += weights[:, None] * derivative
        mass[part] += 0.5 * length * weights
    stiffness, mass = stiffness[1:-1, 1:-1], mass[1:-1]
    decomposition = scipy.linalg.schur(stiffness / mass[:, None])
    triangle, rotation = decomposition[0], decomposition[1]
    (sylvester,) = scipy.linalg.get_lapack_funcs(("trsyl",), (triangle,))
    values = np.zeros((count, count))
    for _ in range(3):
        # In the weak form the defect loses least to rounding.
        half = stiffness @ values[1:-1, 1:-1] * mass
        defect = np.outer(mass, mass) - half - half.T
        defect = rotation.T @ (defect / np.outer(mass, mass)) @ rotation
        result = sylvester(triangle, triangle, defect, trana="N", tranb="T")
        values[1:-1, 1:-1] += rotation @ (result[0] * result[1]) @ rotation.T
    return values


def _interpolation(x: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """For each point the nodes of its element and the values there of their polynomials, both (N, DEGREE + 1)."""
    nodes, weights, _ = gauss_lobatto(DEGREE)
    ends = edges()
    element = np.clip(np.searchsorted(ends, x, side="right") - 1, 0, ends.size - 2)
    local = 2.0 * (x - ends[element]) / (ends[element + 1] - ends[element]) - 1.0
    # Barycentric weights of Gauss–Lobatto points (Wang, Huybrechs & Vandewalle 2014): (−1)^k √w_k.
    barycentric = np.sqrt(weights) * (-1.0) ** np.arange(DEGREE + 1)
    difference = local[:, None] - nodes
    hit = difference == 0.0
    ratio = barycentric / np.where(hit, 1.0, difference)
    matrix = np.where(hit.any(axis=1, keepdims=True), hit, ratio / ratio.sum(axis=1, keepdims=True))
    return element[:, None] * DEGREE + np.arange(DEGREE + 1), matrix
