"""Diffusion–advection: −μ Δu + u_x + u_y = 1 in (0,1)².

Data: u = 0 on the boundary; μ = 0.01. Layers of width μ at x = 1 and y = 1, a ridge along x = y.
Reference: tensor-product spectral elements, 5e-13 for μ ≥ 0.003.
Source: problem 4 of the Schwarz quasi-Newton papers (Lee, Kopaničáková, Karniadakis).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.geometry import Box
from pescitrain.problem import Dirichlet, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field
from pescitrain.problems.references.diffusion_advection import diffusion_advection


@dataclass
class DiffusionAdvection(Problem):
    """``mu``: the diffusion, from 0.001 on."""

    mu: float = 0.01

    grid = (129, 129)
    defaults: ClassVar = {"tao_max_it": 1200}

    def domain(self) -> Box:
        return Box(("x", "y"), (0.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field) -> Tensor:
        return -self.mu * u.laplacian + u.x + u.y - 1

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(0.0, on="boundary", weight=10.0)]

    def lifting(self) -> Lifting:
        return Lifting(lambda x: 0 * x, lambda x, y: 16 * x * y * (1 - x) * (1 - y), conditions=("boundary",))

    def exact(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        return diffusion_advection(x, y, self.mu)
