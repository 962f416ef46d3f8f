"""Poisson's equation on the square: −Δu = 2 m² π² sin mπx sin mπy in (0,1)².

Data: u = 0 on the boundary. Exact: u = sin mπx sin mπy.
Lifting: ℓ = 16 xy(1−x)(1−y) is, for m = 1, within 5.4 % of a multiple of the solution: say so where it is used.
Source: Müller & Zeinhofer, ICML 2023 (energy natural gradient descent).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.geometry import Box
from pescitrain.problem import Dirichlet, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field


@dataclass
class Poisson2D(Problem):
    """``m``: half waves along each side."""

    m: int = 1

    grid = (101, 101)
    defaults: ClassVar = {"tao_max_it": 600}

    def domain(self) -> Box:
        return Box(("x", "y"), (0.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        k = self.m * math.pi
        return -u.laplacian - 2 * k**2 * torch.sin(k * x) * torch.sin(k * y)

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(0.0, on="boundary", weight=100.0)]

    def lifting(self) -> Lifting:
        return Lifting(lambda x: 0 * x, lambda x, y: 16 * x * y * (1 - x) * (1 - y), conditions=("boundary",))

    def exact(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        k = self.m * math.pi
        return np.sin(k * np.asarray(x)) * np.sin(k * np.asarray(y))
