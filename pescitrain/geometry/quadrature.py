"""Quadrature rules on the reference cells."""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy.special import roots_jacobi

from pescitrain.geometry.cells import CellType
from pescitrain.geometry.points import Floats

Rule = tuple[Floats, Floats]


@functools.cache
def quadrature_rule(cell: CellType, order: int) -> Rule:
    """Points (Q, dimension) and weights (Q,) that integrate polynomials of total degree ``order`` exactly.

    The weights are positive, the points lie inside; on quadrilaterals and hexahedra the degree counts per coordinate.
    Both arrays are shared between callers and read-only.

    Source: tensor Gauss-Legendre; on simplices the collapsed Gauss-Jacobi rule (Stroud, Approximate Calculation of
    Multiple Integrals, 1971, §2.4), and for low orders the symmetric rules (Strang & Fix, 1973; Stroud T3:2-1).
    """
    if cell.dimension == 0:
        rule = np.zeros((1, 0)), np.ones(1)
    elif cell.is_simplex and cell.dimension > 1:
        rule = _symmetric(cell.dimension, order) or _collapsed(cell.dimension, order)
    else:
        rule = _tensor([_gauss_jacobi(order, 0)] * cell.dimension)
    for array in rule:
        array.flags.writeable = False
    return rule


def _gauss_jacobi(order: int, power: int) -> Rule:
    """Points and weights on (0, 1) for the weight function (1 - x)^power."""
    points, weights = roots_jacobi(order // 2 + 1, power, 0)[:2]
    return np.asarray((points + 1.0) / 2.0), np.asarray(weights / 2.0 ** (power + 1))


def _tensor(rules: list[Rule]) -> Rule:
    points = np.meshgrid(*[points for points, _ in rules], indexing="ij")
    weights = functools.reduce(np.multiply.outer, [weights for _, weights in rules])
    return np.stack(points, axis=-1).reshape(-1, len(rules)), weights.ravel()


def _collapsed(dimension: int, order: int) -> Rule:
    """The cube collapsed onto the simplex: x_k = c_k (1 - c_1) … (1 - c_{k-1}), whose Jacobian is the weights'."""
    cube, weights = _tensor([_gauss_jacobi(order, dimension - 1 - k) for k in range(dimension)])
    points, remaining = np.empty_like(cube), np.ones(len(cube))
    for k in range(dimension):
        points[:, k] = remaining * cube[:, k]
        remaining = remaining * (1.0 - cube[:, k])
    return points, weights


def _symmetric(dimension: int, order: int) -> Rule | None:
    """One point for order 0 and 1; for order 2 one point towards each vertex; None beyond."""
    volume = 1.0 / math.factorial(dimension)
    if order <= 1:
        return np.full((1, dimension), 1.0 / (dimension + 1)), np.array([volume])
    if order == 2:
        near = (dimension + 2 - math.sqrt(dimension + 2)) / ((dimension + 1) * (dimension + 2))
        far = 1.0 - dimension * near
        points = np.full((dimension + 1, dimension), near)
        points[np.arange(dimension), np.arange(dimension)] = far
        return points, np.full(dimension + 1, volume / (dimension + 1))
    return None
