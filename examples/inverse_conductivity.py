"""An inverse problem: how a rod conducts heat and loses it to the air, from thermocouples with 2 % noise.

u_t = k u_xx − h u for 0 < x < 1, 0 < t < 1, with u = 0 at both ends; k and h are unknown, inside bounds. The rod starts
with two modes, which decay at different rates: one alone could not tell k from h.

    python -m pescitrain -problem examples/inverse_conductivity.py -tao_type blmvm -pc_type asm

``summary.json`` has what was found under ``unknowns``; the truth is k = 0.1, h = 0.5.
"""

from typing import ClassVar

import numpy as np

from pescitrain import Box, Data, Dirichlet, Problem, Residual, Unknown

K, H, NOISE = 0.1, 0.5, 0.02


def temperature(x, t):
    """The exact solution."""
    modes = ((1.0, np.pi), (0.5, 3 * np.pi))
    return sum(size * np.exp(-(K * wave**2 + H) * t) * np.sin(wave * x) for size, wave in modes)


class Rod(Problem):
    coordinates = ("x", "t")
    unknowns: ClassVar = {"k": Unknown(0.5, lower=0.01, upper=1.0), "h": Unknown(0.0, lower=0.0, upper=5.0)}
    defaults: ClassVar = {"sample_points": 1000, "tao_max_it": 300}

    def domain(self):
        return Box(("x", "t"), (0.0, 0.0), (1.0, 1.0))

    def equation(self, u, k, h):
        return u.t - k * u.xx + h * u

    def terms(self):
        x, t = (axis.ravel() for axis in np.meshgrid(np.linspace(0.1, 0.9, 9), np.linspace(0.0, 1.0, 41)))
        readings = temperature(x, t) + NOISE * np.random.default_rng(1).standard_normal(x.size)
        return [
            Residual(self.equation),
            Dirichlet(0.0, on=("x_min", "x_max")),
            Data(np.column_stack([x, t]), readings, weight=100.0, name="thermocouples"),
        ]

    def exact(self, x, t):
        return temperature(x, t)
