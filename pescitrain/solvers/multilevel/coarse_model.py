"""What is minimised on a coarser level: a function with the gradient that the finer level sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pescitrain.solvers.outcome import Array

Function = Callable[[Array], tuple[float, Array]]
"""θ (n,) -> value and gradient (n,)."""

COARSE_MODELS = ("additive", "multiplicative", "hybrid", "none")
"""A linear term that is added (Nash 2000), a linear factor, the mean of the two (Kopaničáková, arXiv:2211.15078), or
the objective of the coarser network as it is."""


@dataclass(frozen=True)
class CoarseModel:
    """h(y) = (a + ⟨m, d⟩) φ(y) + ⟨v, d⟩ + c with d = y − x₀; all but the model none have the value and the gradient at
    x₀ that they are made for."""

    objective: Function
    anchor: Array
    factor: float
    slope: Array
    linear: Array
    constant: float

    def __call__(self, y: Array) -> tuple[float, Array]:
        value, gradient = self.objective(y)
        away = y - self.anchor
        factor = self.factor + float(self.slope @ away)
        return factor * value + float(self.linear @ away) + self.constant, (
            factor * gradient + value * self.slope + self.linear
        )


def coarse_model(
    kind: str,
    objective: Function,
    anchor: Array,
    here: tuple[float, Array],
    wanted: tuple[float, Array],
) -> CoarseModel | None:
    """The model of a kind at x₀; ``here``: φ and ∇φ there, ``wanted``: the value and the gradient of h.

    None where φ(x₀) is not above zero and the model would divide by it.
    """
    zero = np.zeros_like(anchor)
    if kind == "none":
        return CoarseModel(objective, anchor, 1.0, zero, zero, 0.0)
    additive = CoarseModel(objective, anchor, 1.0, zero, wanted[1] - here[1], wanted[0] - here[0])
    if kind == "additive":
        return additive
    if not here[0] > 0.0:
        return None
    factor = wanted[0] / here[0]
    multiplicative = CoarseModel(objective, anchor, factor, (wanted[1] - factor * here[1]) / here[0], zero, 0.0)
    if kind == "multiplicative":
        return multiplicative
    return CoarseModel(
        objective,
        anchor,
        0.5 * (1.0 + factor),
        0.5 * multiplicative.slope,
        0.5 * additive.linear,
        0.5 * additive.constant,
    )
