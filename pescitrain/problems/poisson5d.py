"""Poisson's equation in five dimensions: −Δu = π² Σ cos πx_i in (0,1)⁵.

Data: u = Σ cos πx_i on the boundary. Exact: the same sum inside.
Lifting: none. The data are a sum of functions of one coordinate each: their transfinite interpolation is the solution.
Source: Müller & Zeinhofer, ICML 2023 (energy natural gradient descent).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.geometry import Box
from pescitrain.problem import Dirichlet, Problem, Residual, Term
from pescitrain.problem.field import Field


class Poisson5D(Problem):
    """No parameters."""

    coordinates = ("x1", "x2", "x3", "x4", "x5")
    grid = ()
    defaults: ClassVar = {"tao_max_it": 500}

    def domain(self) -> Box:
        return Box(self.coordinates, (0.0,) * 5, (1.0,) * 5)

    def equation(self, u: Field, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, x5: Tensor) -> Tensor:
        return -u.laplacian - math.pi**2 * sum_of_cosines(x1, x2, x3, x4, x5)

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(sum_of_cosines, on="boundary", weight=100.0)]

    def exact(self, x1: ArrayLike, x2: ArrayLike, x3: ArrayLike, x4: ArrayLike, x5: ArrayLike) -> NDArray[np.float64]:
        return np.cos(np.pi * np.stack([x1, x2, x3, x4, x5])).sum(axis=0)


def sum_of_cosines(x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor, x5: Tensor) -> Tensor:
    """u on the boundary."""
    return torch.cos(math.pi * torch.stack([x1, x2, x3, x4, x5])).sum(dim=0)
