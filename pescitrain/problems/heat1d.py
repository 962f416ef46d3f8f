"""The heat equation: u_t − ¼ u_xx = 0 for 0 < x < 1, 0 < t ≤ 1.

Data: u(x, 0) = sin πx, u = 0 at x = 0 and 1. Exact: u = exp(−π² t/4) sin πx.
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
from pescitrain.problem import Dirichlet, Initial, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field


@dataclass
class Heat1D(Problem):
    """``diffusivity``: the factor of u_xx."""

    diffusivity: float = 0.25

    coordinates = ("x", "t")
    grid = (101, 101)
    defaults: ClassVar = {"tao_max_it": 500}

    def domain(self) -> Box:
        return Box(("x", "t"), (0.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field) -> Tensor:
        return u.t - self.diffusivity * u.xx

    def terms(self) -> list[Term]:
        return [
            Residual(self.equation),
            Dirichlet(0.0, on=("x_min", "x_max"), weight=10.0),
            Initial(initial, weight=10.0),
        ]

    def lifting(self) -> Lifting:
        return Lifting(initial, lambda x, t: 4 * t * x * (1 - x), conditions=("x_min", "x_max", "t_min"))

    def exact(self, x: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
        return np.exp(-(np.pi**2) * self.diffusivity * np.asarray(t)) * np.sin(np.pi * np.asarray(x))


def initial(x: Tensor) -> Tensor:
    """u(x, 0)."""
    return torch.sin(math.pi * x)
