"""Allen–Cahn: u_t − D u_xx − 5 (u − u³) = 0 for −1 < x < 1, 0 < t ≤ 1.

Data: u(x, 0) = x² cos πx, u(±1, t) = −1; D = 0.001. Fronts of width 0.02 form between −1 and 1.
Reference: Chebyshev collocation in x, Radau IIA in t, 2e-13 (shipped, for this D only).
Source: problem 2 of the Schwarz quasi-Newton papers (Lee, Kopaničáková, Karniadakis).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.geometry import Box
from pescitrain.problem import Dirichlet, Initial, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field
from pescitrain.problems.references.allen_cahn import DIFFUSION, allen_cahn_paper


class AllenCahn(Problem):
    """No parameters: the reference is for D = 0.001."""

    coordinates = ("x", "t")
    grid = (257, 101)
    defaults: ClassVar = {"bc_enforce": "hard", "tao_max_it": 1500}

    def domain(self) -> Box:
        return Box(("x", "t"), (-1.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field) -> Tensor:
        return u.t - DIFFUSION * u.xx - 5 * (u - u**3)

    def terms(self) -> list[Term]:
        return [
            Residual(self.equation),
            Dirichlet(-1.0, on=("x_min", "x_max"), weight=10.0),
            Initial(initial, weight=100.0),
        ]

    def lifting(self) -> Lifting:
        return Lifting(initial, lambda x, t: t * (1 - x**2), conditions=("x_min", "x_max", "t_min"))

    def exact(self, x: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
        return allen_cahn_paper(x, t)


def initial(x: Tensor) -> Tensor:
    """u(x, 0)."""
    return x**2 * torch.cos(math.pi * x)
