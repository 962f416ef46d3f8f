"""The operator of advection: u_t + u_x = 0 on a circle of length 1, from the initial function to u(x, t), 0 ≤ t ≤ 1.

Exact: u₀((x − t) mod 1). 40 sensors; outputs on a grid of 40 × 40. A sample is drawn from a stream of its own, so that
the data are the same for any number of them and any number of ranks.
Source: the set of Lu et al., Comput. Methods Appl. Mech. Engrg. 393 (2022) 114778, has functions of this kind; the
ranges here are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem import OperatorData, OperatorProblem
from pescitrain.problems.references.random_fields import PeriodicField

Array = NDArray[np.float64]
Function = Callable[[Array], NDArray[np.floating]]

POINTS = 40
LENGTH = 0.1
"""Correlation length of the random fields."""


@dataclass
class AdvectionOperator(OperatorProblem):
    """``family``: box, box_ellipse, grf (smooth) or sign (of a smooth one); ``samples`` to train and ``tests``."""

    family: str = "box"
    samples: int = 1000
    tests: int = 200
    data_seed: int = 0

    coordinates = ("x", "t")
    grid = (POINTS, POINTS)
    defaults: ClassVar = {"net_width": 32, "net_depth": 5, "pc_type": "none", "tao_max_it": 500}

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ProblemError(f"-problem_family {self.family}: there are {', '.join(FAMILIES)}")
        if self.samples < 1 or self.tests < 1:
            raise ProblemError("-problem_samples and -problem_tests are numbers of 1 or more")

    def domain(self) -> Box:
        return Box(self.coordinates, (0.0, 0.0), (1.0 - 1.0 / POINTS, 1.0))

    def training(self) -> OperatorData:
        return _data(self.family, self.samples, self.data_seed, 0)

    def validation(self) -> OperatorData:
        return _data(self.family, self.tests, self.data_seed, 1)


@lru_cache(maxsize=4)
def _data(family: str, count: int, seed: int, part: int) -> OperatorData:
    sensors = np.arange(POINTS) / POINTS
    locations = Box(("x", "t"), (0.0, 0.0), (sensors[-1], 1.0)).grid((POINTS, POINTS))
    origins = (locations[:, 0] - locations[:, 1]) % 1.0
    functions = [FAMILIES[family](np.random.default_rng((seed, part, number))) for number in range(count)]
    return OperatorData([f(sensors) for f in functions], locations, [f(origins) for f in functions])


def _box(generator: np.random.Generator) -> Function:
    return _step(generator.uniform(0.3, 0.7), generator.uniform(0.3, 0.6), generator.uniform(1.0, 2.0))


def _box_ellipse(generator: np.random.Generator) -> Function:
    box = _step(generator.uniform(0.2, 0.3), generator.uniform(0.1, 0.2), generator.uniform(1.0, 2.0))
    centre, half_width, height = (generator.uniform(*ends) for ends in ((0.65, 0.75), (0.08, 0.15), (1.0, 2.0)))
    return lambda x: box(x) + height * np.sqrt(np.maximum(0.0, 1.0 - ((x - centre) / half_width) ** 2))


def _step(centre: float, width: float, height: float) -> Function:
    return lambda x: height * (np.abs(x - centre) <= 0.5 * width)


def _smooth(generator: np.random.Generator) -> Function:
    return PeriodicField(LENGTH, generator)


def _sign(generator: np.random.Generator) -> Function:
    field = PeriodicField(LENGTH, generator)
    return lambda x: np.sign(field(x))


FAMILIES: dict[str, Callable[[np.random.Generator], Function]] = {
    "box": _box,
    "box_ellipse": _box_ellipse,
    "grf": _smooth,
    "sign": _sign,
}
"""Name -> how an initial function is drawn."""
