"""Points that are drawn anew: where the residual is large, or anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pescitrain.evaluation.refresh import Array, Refresh
from pescitrain.evaluation.samples import SamplingPlan, sequence_of_points
from pescitrain.evaluation.selection import select_largest
from pescitrain.geometry import PointSet, Sampling
from pescitrain.geometry.points import share
from pescitrain.geometry.sampling import generator, uniform


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
        comm = self.samples.evaluator.comm
        for samples in self.samples.interior:
            pool = self.samples.candidates(samples, samples.count, round)
            begin, end = share(len(pool), comm.rank, comm.size)
            own = pool.draw(begin, end)
            density = self.samples.residual_size(theta, samples, own.x) ** self.power
            mean = comm.allreduce(float(density.sum())) / len(pool)
            density = density / max(mean, np.finfo(float).tiny) + self.uniform
            # The largest u^(1/p) are a draw without replacement (Efraimidis & Spirakis, 2006); in logarithms.
            random = generator(self.samples.plan.seed, f"{samples.term.label} {round}")
            with np.errstate(divide="ignore"):  # a density of zero is drawn last
                keys = np.log(uniform(random, begin, end, 1)[:, 0]) / density
            chosen = own.take(select_largest(comm, keys, samples.count))
            weights = np.full(len(chosen), pool.measure / samples.count)
            points = PointSet(chosen.x, weights, chosen.normals, chosen.cells)
            self.samples.place_union(samples, [points], pool.measure)


@dataclass
class FreshPoints(Refresh):
    """Uniform random points, as many as there are, for every term but data: the rows of a stochastic method."""

    name: ClassVar[str] = "fresh"

    def refresh(self, theta: Array, round: int) -> None:
        seed = self.samples.seed(round)
        for samples in self.samples.evaluator.samples:
            term, sampling = samples.term, Sampling(samples.count, "uniform")
            if term.place != "points":
                domain = self.samples.domain if term.place == "interior" else self.samples.whole
                self.samples.place(samples, sequence_of_points(term, domain, SamplingPlan(sampling, sampling, seed)))
