"""The map from a function to its integral, learnt from samples by a branch and a trunk network.

    python -m pescitrain -problem examples/antiderivative.py -bc_enforce hard -tao_type lbfgs -tao_max_it 1500

A function is a cubic spline through a Gaussian random field (length 0.2) at 101 points; the branch sees it at 50
sensors.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.interpolate import CubicSpline

from pescitrain import Box, OperatorData, OperatorProblem


@dataclass
class Antiderivative(OperatorProblem):
    """``samples`` to train on, of 200 more the error is measured."""

    samples: int = 1000

    coordinates = ("x",)
    grid = (101,)
    defaults: ClassVar = {"net_width": 24, "net_depth": 3, "pc_type": "none"}

    def domain(self):
        return Box(("x",), (0.0,), (1.0,))

    def factor(self, x):
        return x

    def training(self):
        return data(self.samples, seed=0)

    def validation(self):
        return data(200, seed=1)


def data(count, seed):
    """Functions and their integrals from 0, which are exact for splines."""
    nodes, sensors = np.linspace(0.0, 1.0, 101), np.linspace(0.0, 1.0, 50)
    covariance = np.exp(-0.5 * ((nodes[:, None] - nodes) / 0.2) ** 2) + 1e-10 * np.eye(101)
    draws = np.linalg.cholesky(covariance) @ np.random.default_rng(seed).standard_normal((101, count))
    splines = [CubicSpline(nodes, draw) for draw in draws.T]
    inputs = [spline(sensors) for spline in splines]
    values = [spline.antiderivative()(nodes) for spline in splines]
    return OperatorData(inputs, nodes[:, None], values)
