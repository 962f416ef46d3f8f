"""Helmholtz' equation: −Δu − k² u = k² sin kx sin ky in (0,1)².

Data: u = 0 on the boundary; k = 4π. Exact: u = sin kx sin ky, a closed form where k is a multiple of π. The operator
is indefinite; it is regular since 16 is no sum of two positive squares (nearest eigenvalues 13π² and 17π²).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem import Dirichlet, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field


@dataclass
class Helmholtz(Problem):
    """``waves``: half waves along each side, k = π · waves."""

    waves: int = 4

    grid = (101, 101)
    defaults: ClassVar = {"bc_enforce": "hard", "tao_max_it": 1200}

    def __post_init__(self) -> None:
        if self.waves < 1:
            raise ProblemError(f"helmholtz: {self.waves} half waves; give 1 or more")

    @property
    def k(self) -> float:
        """The wave number."""
        return math.pi * self.waves

    def domain(self) -> Box:
        return Box(("x", "y"), (0.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        k = self.k
        return -u.laplacian - k**2 * u - k**2 * torch.sin(k * x) * torch.sin(k * y)

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(0.0, on="boundary", weight=1e4)]

    def lifting(self) -> Lifting:
        return Lifting(lambda x: 0 * x, lambda x, y: 16 * x * y * (1 - x) * (1 - y), conditions=("boundary",))

    def exact(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        return np.sin(self.k * np.asarray(x)) * np.sin(self.k * np.asarray(y))
