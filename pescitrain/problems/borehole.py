"""Flow through a borehole between two aquifers, from eight parameters: a function of engineering in closed form.

Source: Harper & Gupta, Sensitivity/uncertainty analysis of a borehole scenario, BMI/ONWI-516 (1983).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import ProblemError
from pescitrain.problem.regression import RegressionData, RegressionProblem

Array = NDArray[np.float64]

RANGES = {
    "well_radius": (0.05, 0.15),  # m
    "influence_radius": (100.0, 50000.0),  # m
    "upper_transmissivity": (63070.0, 115600.0),  # m²/yr
    "upper_head": (990.0, 1110.0),  # m
    "lower_transmissivity": (63.1, 116.0),  # m²/yr
    "lower_head": (700.0, 820.0),  # m
    "length": (1120.0, 1680.0),  # m
    "conductivity": (9855.0, 12045.0),  # m/yr
}


@dataclass
class Borehole(RegressionProblem):
    """2π T_u (H_u − H_l) / (l (1 + 2 L T_u / (l r² K) + T_u / T_l)) in m³/yr, l = ln(R / r), parameters uniform."""

    samples: int = 1000
    tests: int = 1000
    data_seed: int = 0

    coordinates = tuple(RANGES)
    fields = ("flow",)
    defaults: ClassVar = {"net_width": 32, "net_depth": 3}

    def __post_init__(self) -> None:
        if self.samples < 2 or self.tests < 1:
            raise ProblemError("-problem_samples is 2 or more, -problem_tests 1 or more")

    def training(self) -> RegressionData:
        return self._draw(self.samples, 0)

    def validation(self) -> RegressionData:
        return self._draw(self.tests, 1)

    def _draw(self, count: int, part: int) -> RegressionData:
        lower, upper = np.array(list(RANGES.values())).T
        inputs = np.random.default_rng((self.data_seed, part)).uniform(lower, upper, (count, len(RANGES)))
        return RegressionData(inputs, flow(inputs)[:, None])


def flow(inputs: Array) -> Array:
    """(N, 8), in the order of :data:`RANGES` -> (N,)."""
    radius, influence, upper, upper_head, lower, lower_head, length, conductivity = inputs.T
    logarithm = np.log(influence / radius)
    along = 2.0 * length * upper / (logarithm * radius**2 * conductivity)
    return 2.0 * np.pi * upper * (upper_head - lower_head) / (logarithm * (1.0 + along + upper / lower))
