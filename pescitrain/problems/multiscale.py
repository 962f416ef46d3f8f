"""Poisson's equation with a solution of many scales: −Δu = f in (0,1)^d, d = 1 or 2, u = 0 on the boundary.

Exact: u = (1/s) Σ_{i=1}^{s} Π_a sin ω_i x_a with ω_i = 2^i π, so that f = (d/s) Σ ω_i² Π_a sin ω_i x_a. The same u on
any plane mesh, with its values on the boundary.
Source: Dolean, Heinlein, Mishra & Moseley, Comput. Methods Appl. Mech. Engrg. 429 (2024) 117116 (multilevel FBPINN).
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
class Multiscale1D(Problem):
    """``scales``: s, the finest having 2^(s−1) periods."""

    scales: int = 6

    coordinates = ("x",)
    grid = (2001,)
    defaults: ClassVar = {"tao_max_it": 500}

    def domain(self) -> Box:
        return Box(("x",), (0.0,), (1.0,))

    def equation(self, u: Field, x: Tensor) -> Tensor:
        return -u.xx - sum(k**2 * torch.sin(k * x) for k in self.wave_numbers) / self.scales

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(0.0, on="boundary", weight=1000.0)]

    def lifting(self) -> Lifting:
        return Lifting(lambda x: 0 * x, lambda x: 4 * x * (1 - x), conditions=("boundary",))

    def exact(self, x: ArrayLike) -> NDArray[np.float64]:
        return np.mean([np.sin(k * np.asarray(x)) for k in self.wave_numbers], axis=0)

    @property
    def wave_numbers(self) -> list[float]:
        """ω_1 … ω_s."""
        return [2.0**i * math.pi for i in range(1, self.scales + 1)]


@dataclass
class Multiscale2D(Problem):
    """``scales``: s, the finest having 2^(s−1) periods along each side."""

    scales: int = 5

    grid = (201, 201)
    defaults: ClassVar = {"tao_max_it": 500}

    def domain(self) -> Box:
        return Box(("x", "y"), (0.0, 0.0), (1.0, 1.0))

    def equation(self, u: Field, x: Tensor, y: Tensor) -> Tensor:
        source = sum(2 * k**2 * torch.sin(k * x) * torch.sin(k * y) for k in self.wave_numbers)
        return -u.laplacian - source / self.scales

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(0.0, on="boundary", weight=1000.0)]

    def lifting(self) -> Lifting:
        return Lifting(lambda x: 0 * x, lambda x, y: 16 * x * y * (1 - x) * (1 - y), conditions=("boundary",))

    def exact(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        x, y = np.asarray(x), np.asarray(y)
        return np.mean([np.sin(k * x) * np.sin(k * y) for k in self.wave_numbers], axis=0)

    @property
    def wave_numbers(self) -> list[float]:
        """ω_1 … ω_s."""
        return [2.0**i * math.pi for i in range(1, self.scales + 1)]


@dataclass
class MultiscaleMesh(Multiscale2D):
    """On a mesh. ``scales``: s, the finest having 2^(s−1) periods in a unit of length."""

    scales: int = 3

    mesh = "lshape.msh"

    def domain(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(self.boundary_value, on="boundary", weight=1000.0)]

    def lifting(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None

    def boundary_value(self, x: Tensor, y: Tensor) -> Tensor:
        """u."""
        return torch.stack([torch.sin(k * x) * torch.sin(k * y) for k in self.wave_numbers]).mean(0)
