"""Points that are drawn anew: where the residual is large, or anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pescitrain.evaluation.refresh import Array, Refresh
from pescitrain.evaluation.samples import SamplingPlan, collect_points
from pescitrain.geometry import PointSet, Sampling
from pescitrain.geometry.sampling import generator
from pescitrain.problem.terms import Data


@dataclass
class ResidualResampling(Refresh):
    """Residual-based adaptive distribution (RAD) of the interior points of every equation.

    From uniform candidates, N points are drawn without replacement with probabilities ∝ |r|^power / mean |r|^power +
    uniform, where |r| is the norm of a sample's residuals (Wu et al., Comput. Methods Appl. Mech. Engrg. 403 (2023)
    115671, k = power, c = uniform). Boundary terms and data keep their points. A draw costs a pass over the candidates,
    which counts as the closures that it is worth.
    """

    name: ClassVar[str] = "rad"
    power: float
    uniform: float

    def refresh(self, theta: Array, round: int) -> None:
        for samples in self.samples.interior:
            count = len(samples.points)
            pool = self.samples.candidates(samples, count, round)
            density = self.samples.residual_size(theta, samples, pool) ** self.power
            density = density / max(density.mean(), np.finfo(float).tiny) + self.uniform
            # The largest u^(1/p) are a draw without replacement (Efraimidis & Spirakis, 2006); in logarithms.
            random = generator(self.samples.plan.seed, f"{samples.term.label} {round}")
            with np.errstate(divide="ignore"):  # a density of zero is drawn last
                keys = np.log(random.random(len(pool))) / density
            chosen = pool.take(np.sort(np.argsort(-keys, kind="stable")[:count]))
            weights = np.full(count, pool.measure / count)
            self.samples.place(samples, PointSet(chosen.x, weights, chosen.normals, chosen.cells))


@dataclass
class FreshPoints(Refresh):
    """Uniform random points, as many as there are, for every term but data: the rows of a stochastic method."""

    name: ClassVar[str] = "fresh"

    def refresh(self, theta: Array, round: int) -> None:
        seed = self.samples.seed(round)
        for samples in self.samples.evaluator.samples:
            term, uniform = samples.term, Sampling(len(samples.points), "uniform")
            if not isinstance(term, Data):
                domain = self.samples.domain if term.place == "interior" else self.samples.whole
                self.samples.place(samples, *collect_points(term, domain, SamplingPlan(uniform, uniform, seed)))
