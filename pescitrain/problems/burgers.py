"""Burgers' equation: u_t + u u_x − ν u_xx = 0 for −1 < x < 1, 0 < t ≤ 1.

Data: u(x, 0) = −sin πx, u(±1, t) = 0; ν = 0.01/π. A shock of width ν forms at x = 0, t ≈ 1/π.
Reference: Cole–Hopf, 5e-15. Results for different ν cannot be compared: always say which.
Source: Basdevant et al., Computers & Fluids 14 (1986) 23–41; Raissi et al., J. Comput. Phys. 378 (2019) 686–707.
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
from pescitrain.problems.references.burgers import burgers


@dataclass
class Burgers(Problem):
    """``nu``: the viscosity, from 1e-4 on."""

    nu: float = 0.01 / math.pi

    coordinates = ("x", "t")
    grid = (256, 101)
    defaults: ClassVar = {"tao_max_it": 600}

    def domain(self) -> Box:
        return Box(("x", "t"), (-1.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.t + u * u.x - self.nu * u.xx

    def terms(self) -> list[Term]:
        return [
            Residual(self.equation),
            Dirichlet(0.0, on=("x_min", "x_max"), weight=10.0),
            Initial(initial, weight=10.0),
        ]

    def lifting(self) -> Lifting:
        return Lifting(initial, lambda x, t: t * (1 - x**2), conditions=("x_min", "x_max", "t_min"))

    def exact(self, x: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
        return burgers(x, t, self.nu)


def initial(x: Tensor) -> Tensor:
    """u(x, 0)."""
    return -torch.sin(math.pi * x)
