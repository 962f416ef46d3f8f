"""Klein–Gordon with a quadratic term: u_tt − u_xx + u² = −x cos t + x² cos² t for −1 < x < 1, 0 < t ≤ 12.

Data: u(x, 0) = x, u_t(x, 0) = 0, u(±1, t) = ±cos t. Exact: u = x cos t.
Lifting: b = x + x³ (cos t − 1), ℓ = (1 − x²) t²/(1 + t²). The linear blend of the boundary data would be the solution
itself, as is the base of the original code, whose ℓ also gives away the final time: both are leaks.
Source: problem 3 of the Schwarz quasi-Newton papers (Lee, Kopaničáková, Karniadakis).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.geometry import Box
from pescitrain.problem import Dirichlet, Initial, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field


class KleinGordon(Problem):
    """No parameters."""

    coordinates = ("x", "t")
    grid = (129, 241)
    defaults: ClassVar = {"bc_enforce": "hard", "tao_max_it": 600}

    def domain(self) -> Box:
        return Box(("x", "t"), (-1.0, 0.0), (1.0, 12.0))

    def equation(self, u: Field, x: Tensor, t: Tensor) -> Tensor:
        return u.tt - u.xx + u**2 + x * torch.cos(t) - (x * torch.cos(t)) ** 2

    def terms(self) -> list[Term]:
        return [
            Residual(self.equation),
            Dirichlet(lambda x, t: x * torch.cos(t), on=("x_min", "x_max"), weight=10.0),
            Initial(lambda x: x, rate=0.0, weight=10.0),
        ]

    def lifting(self) -> Lifting:
        return Lifting(
            base=lambda x, t: x + x**3 * (torch.cos(t) - 1),
            factor=lambda x, t: (1 - x**2) * t**2 / (1 + t**2),
            conditions=("x_min", "x_max", "t_min"),
        )

    def exact(self, x: ArrayLike, t: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(x) * np.cos(np.asarray(t))
