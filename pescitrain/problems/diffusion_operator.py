"""The operator of anisotropic diffusion: −∇·(K∇u) = f on (0,1)², u = 0 on the boundary, from K and f to u.

K = R(α) diag(1, β) R(α)ᵀ with α ∈ U(0, π), log₁₀ β ∈ U(−2, 0); f is a Gaussian random field, ℓ = 0.1. The branch sees
cos 2α, sin 2α, log₁₀ β and f at 21 × 21 sensors. Reference: bilinear elements on 40 × 40 squares, 6e-4 for a smooth
function. A sample is drawn from a stream of its own, so that the data are the same for any number of them and any
number of ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem import OperatorData, OperatorProblem
from pescitrain.problems.references.anisotropic_diffusion import AnisotropicDiffusion
from pescitrain.problems.references.random_fields import covariance_factor

Array = NDArray[np.float64]

CELLS = 40
LENGTH = 0.1
"""Correlation length of f."""


@dataclass
class DiffusionOperator(OperatorProblem):
    """``samples`` to train on and ``tests``."""

    samples: int = 2000
    tests: int = 300
    data_seed: int = 0

    coordinates = ("x", "y")
    nonlinear_inputs = 3
    grid = (CELLS + 1, CELLS + 1)
    defaults: ClassVar = {"net_width": 32, "net_depth": 5, "pc_type": "none", "tao_max_it": 500}

    def __post_init__(self) -> None:
        if self.samples < 1 or self.tests < 1:
            raise ProblemError("-problem_samples and -problem_tests are numbers of 1 or more")

    def domain(self) -> Box:
        return Box(self.coordinates, (0.0, 0.0), (1.0, 1.0))

    def factor(self, x: Tensor, y: Tensor) -> Tensor:
        return 16.0 * x * (1.0 - x) * y * (1.0 - y)

    def training(self) -> OperatorData:
        return _data(self.samples, self.data_seed, 0)

    def validation(self) -> OperatorData:
        return _data(self.tests, self.data_seed, 1)


@lru_cache(maxsize=4)
def _data(count: int, seed: int, part: int) -> OperatorData:
    diffusion = AnisotropicDiffusion(CELLS)
    factor = covariance_factor(np.linspace(0.0, 1.0, CELLS + 1), LENGTH)
    inputs, values = [], []
    for number in range(count):
        generator = np.random.default_rng((seed, part, number))
        angle, exponent = generator.uniform(0.0, math.pi), generator.uniform(-2.0, 0.0)
        source = factor @ generator.standard_normal((CELLS + 1, CELLS + 1)) @ factor.T
        values.append(diffusion.solve(angle, 10.0**exponent, source).ravel())
        direction = [math.cos(2.0 * angle), math.sin(2.0 * angle), exponent]
        inputs.append(np.concatenate((direction, source[::2, ::2].ravel())))
    locations = Box(("x", "y"), (0.0, 0.0), (1.0, 1.0)).grid((CELLS + 1, CELLS + 1))
    return OperatorData(inputs, locations, values)
